"""`%raftoral hold`: stop only a node's execution; its catch-up queue grows."""

from __future__ import annotations

from ..node_commands import on_node

SUBCOMMAND = on_node(
    "hold",
    ("leader", "follower"),
    does="stop only a node's execution; its catch-up queue grows",
    examples=(
        "  %raftoral hold 3                      stop only its execution of workflows: its catch-up queue grows (or: hold leader)",
    ),
    done="held; its catch-up queues grow until it is released",
)
