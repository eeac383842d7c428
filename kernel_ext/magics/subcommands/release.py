"""`%raftoral release`: end a hold; the queue drains."""

from __future__ import annotations

from ..node_commands import on_node

SUBCOMMAND = on_node(
    "release",
    ("held",),
    does="end a hold; the queue drains",
    examples=("  %raftoral release 3                   ... and let it drain",),
    done="released; its catch-up queues drain",
)
