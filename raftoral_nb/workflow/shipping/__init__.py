"""A definition of a workflow, and what travels with it."""
