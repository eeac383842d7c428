"""What travels between nodes, and how: messages, authenticated frames, networks, and faults of links.

A frame that fails its check is refused in `frames`, ends its connection in `connection`, and is counted in `strangers`.
"""
