"""The data that a cluster gives to monitoring systems: metrics and traces."""
