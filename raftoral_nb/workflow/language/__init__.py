"""The operations of a workflow's context, one module each; `context` has a method for each of them."""
