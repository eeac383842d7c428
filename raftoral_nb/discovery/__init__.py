"""How a process finds a running cluster: its key file, and the identity of its processes."""
