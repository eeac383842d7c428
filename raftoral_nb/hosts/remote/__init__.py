"""Nodes in processes of their own, and the handle of a cluster of them.

A node's process (`program`) runs the engine as it is, with one node (`node_host`), and serves clients over its own port
(`serving`). A notebook is a guest of every node (`calls`): it follows the log from one of them and keeps a copy of the
replicated state (`remote_host`), so that everything about runs is answered here, and asks the nodes for what only they know.
"""
