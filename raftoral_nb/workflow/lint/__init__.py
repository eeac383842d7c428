"""The look at a workflow's code before it runs."""
