"""`%raftoral remove`: take a node out for good."""

from __future__ import annotations

from ..fault_commands import fault, nodes, place_list

SUBCOMMAND = fault(
    "remove",
    does="take a node out for good",
    examples=(
        "  %raftoral remove 2                    take a node out for good, dead or alive (or: remove leader, remove dead)",
    ),
    done=lambda done: f"{place_list(done)} removed: it is no longer a member, and its log is deleted",
    offers=nodes("leader", "follower", "dead", most=1),
)
