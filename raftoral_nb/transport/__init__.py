"""What travels between nodes, and how: messages, authenticated frames, networks, and faults of links."""
