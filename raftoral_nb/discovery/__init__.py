"""Discovery of running clusters: key files, and the identity of processes."""
