"""One node's execution of one run."""
