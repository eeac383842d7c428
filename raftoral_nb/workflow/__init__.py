"""What runs workflows on a node: context and its operations, executor, code shipping, captured output."""
