"""Messages between nodes and their transport: authenticated frames, networks, and faults of links."""
