"""What a replica tells the node it belongs to."""

from __future__ import annotations

from typing import Protocol

from ..model import NodeId
from ..state import State


class ReplicaListener(Protocol):
    """What a replica tells the node it belongs to. Called on the consensus loop; must not raise or call back."""

    def committed(self, index: int, data: bytes) -> None:
        """An entry is committed: apply it. Called once per entry and incarnation, in order."""
        ...

    def was_member(self, node: NodeId) -> bool:
        """Whether a node of that number, or of a higher one, has been a member before."""
        ...

    def state_replaced(self, state: State) -> None:
        """A snapshot was installed: the entries up to its index are in `state`, and will not come through `committed`."""
        ...

    def raft_changed(self) -> None:
        """Role, term, leader or applied index may have changed."""
        ...

    def broke(self, error: BaseException) -> None:
        """Something was raised that never should be: this replica must not go on."""
        ...
