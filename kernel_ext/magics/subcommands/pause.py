"""`%raftoral pause`: freeze a node, as a hung process."""

from __future__ import annotations

from ..node_commands import on_node

SUBCOMMAND = on_node(
    "pause",
    ("leader", "follower"),
    does="freeze a node, as a hung process",
    examples=(
        "  %raftoral pause 3                     freeze a node, as a hung process (or: pause leader)",
        "  %raftoral pause order-1               begin no new step of it (or: resume order-1)",
    ),
    done="paused",
    run=lambda run: run.pause(),
    done_to_run="is paused: no new step of it begins",
)
