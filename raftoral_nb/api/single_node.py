"""The original's single-node form."""

from __future__ import annotations

from typing import Any, Self

from ..errors import ClusterError
from .cluster import Cluster


class WorkflowRuntime(Cluster):
    """A cluster as Raftoral's users know it: `WorkflowRuntime.new_single_node(1)`, then register, start, wait.

    As a context manager it stops at the end; one that runs already, as `new_single_node` gives it, is entered as it is.
    """

    @classmethod
    def new_single_node(cls, node_id: int = 1, **options: Any) -> Self:
        """Start a cluster of one node, which is numbered 1. `options` are those of `Cluster`."""
        if node_id != 1:
            raise ClusterError(f"the only node of a single-node cluster is number 1, not {node_id!r}")
        return cls(nodes=1, **options).start()

    def __enter__(self) -> Self:
        return self if self.running else super().__enter__()

    async def __aenter__(self) -> Self:
        return self if self.running else await super().__aenter__()
