"""`%raftoral add`: start a new node, and make it a member."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..fault_commands import fault, nodes

if TYPE_CHECKING:
    from raftoral_nb import Cluster, Fault


def _added(cluster: Cluster, _: Fault) -> str:
    return f"node {cluster.add()} joined: the cluster has {len(cluster.nodes)} nodes"


SUBCOMMAND = fault(
    "add",
    does="start a new node, and make it a member",
    examples=(
        "  %raftoral add                         start a new node, and make it a member, under a number that none had before",
    ),
    done=lambda _: "a node joined",
    offers=nodes(most=0),
    act=_added,
)
