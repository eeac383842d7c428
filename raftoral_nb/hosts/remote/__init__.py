"""Nodes in processes of their own, and the handle of a cluster of them.

A node's process (`node_process`) runs the engine as it is, with one node (`node_backend`), and serves clients over its own port
(`server`). A notebook is a client of every node (`rpc`): it follows the log from one of them and keeps a copy of the
replicated state (`remote_backend`), so that everything about runs is answered here, and asks the nodes for what only they know.
"""
