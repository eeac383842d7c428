"""The event loop on which a workflow runs: no thread, no selector, no clock; the same order on every node."""
