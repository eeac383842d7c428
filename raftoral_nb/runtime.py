"""The original's single-node form."""

from __future__ import annotations

from typing import Any

from .cluster import Cluster
from .errors import ClusterError


class WorkflowRuntime(Cluster):
    """A cluster as Raftoral's users know it: `WorkflowRuntime.new_single_node(1)`, then register, start, wait."""

    @classmethod
    def new_single_node(cls, node_id: int = 1, **options: Any) -> WorkflowRuntime:
        """Start a cluster of one node, which is numbered 1. `options` are those of `Cluster`."""
        if node_id != 1:
            raise ClusterError(f"the only node of a single-node cluster is number 1, not {node_id!r}")
        return cls(nodes=1, **options).start()
