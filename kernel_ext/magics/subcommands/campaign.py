"""`%raftoral campaign`: have nodes campaign in the same moment."""

from __future__ import annotations

from ..fault_commands import fault, nodes, place_list

SUBCOMMAND = fault(
    "campaign",
    does="have nodes campaign in the same moment",
    examples=(
        "  %raftoral campaign 2 3                have nodes ask for votes in the same moment; without numbers: all followers",
    ),
    done=lambda done: f"told to campaign: {place_list(done)}",
    offers=nodes("follower"),
)
