"""`%raftoral kill`: end a node; only its journal (log, term, vote) stays."""

from __future__ import annotations

from ..node_commands import on_node

SUBCOMMAND = on_node(
    "kill",
    ("leader", "follower"),
    does="end a node; only its journal (log, term, vote) stays",
    examples=("  %raftoral kill leader                 end the leading node (or: kill 2); only its journal stays",),
    done="killed",
)
