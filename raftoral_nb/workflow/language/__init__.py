"""The operations of a workflow's context, one module each."""
