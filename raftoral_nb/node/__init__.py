"""One node: its executor, its incarnation, and what passes between its two threads."""
