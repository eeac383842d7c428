"""`%raftoral isolate`: cut all links of a node."""

from __future__ import annotations

from ..fault_commands import fault, nodes, place_list

SUBCOMMAND = fault(
    "isolate",
    does="cut all links of a node",
    examples=("  %raftoral isolate leader              cut all links of a node (or: isolate 2)",),
    done=lambda done: f"{place_list(done)} isolated: nothing passes to or from it until it is healed",
    offers=nodes("leader", "follower", most=1),
)
