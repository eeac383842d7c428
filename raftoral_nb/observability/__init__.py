"""What a cluster tells to monitoring systems: metrics and traces."""
