"""Cells that last: what a cell reads, binds and changes, how that is recorded, and how it is restored. Knows nothing of IPython."""
