"""`%raftoral transfer`: hand leadership to a node."""

from __future__ import annotations

from ..fault_commands import fault, nodes, place_list

SUBCOMMAND = fault(
    "transfer",
    does="hand leadership to a node",
    examples=("  %raftoral transfer 3                  hand leadership to a node, and wait until it leads",),
    done=lambda done: f"{place_list(done)} leads",
    offers=nodes("follower", most=1),
)
