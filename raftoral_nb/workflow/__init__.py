"""Workflows: the context and its operations, execution, code shipping, checks of code."""
