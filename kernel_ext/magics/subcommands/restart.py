"""`%raftoral restart`: start a killed node from its journal."""

from __future__ import annotations

from ..node_commands import on_node

SUBCOMMAND = on_node(
    "restart",
    ("dead",),
    does="start a killed node from its journal",
    examples=("  %raftoral restart 2                   start it again from its journal",),
    done="restarted",
)
