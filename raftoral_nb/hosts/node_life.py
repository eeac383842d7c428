"""A node from its start to its end, as the handles of a cluster see it. Part of `base`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..core.commands import Command, Outcome
from ..core.records import Difference, Failure, NodeId, RunId
from ..node.execution_queries import ExecutionEnd
from ..workflow.execution.products import Encoded


class Life(Protocol):
    """A node from its start to its end, as handles see it. Properties may be read from any thread."""

    @property
    def node(self) -> NodeId:
        """The node's number."""
        ...

    @property
    def paused(self) -> bool:
        """True if it is frozen."""
        ...

    @property
    def held(self) -> bool:
        """True if its execution of workflows is stopped."""
        ...

    @property
    def log_length(self) -> int:
        """Entries of its log, as far as is known here."""
        ...

    @property
    def commit_index(self) -> int:
        """The last entry that it knows to be committed, as far as is known here."""
        ...

    def stands_still(self, run_id: RunId) -> tuple[bool, Difference | None]:
        """Return whether its execution of an unfinished run differed from the record, and where."""
        ...

    def campaign(self) -> None:
        """Try to become the leader now (consensus loop)."""
        ...

    def hand_over(self, target: NodeId) -> None:
        """Have a leader transfer leadership to another node (consensus loop)."""
        ...

    async def ask_all(self, commands: Sequence[Command], timeout: float) -> list[Outcome]:
        """Propose commands together, in order; returns their outcomes within `timeout` seconds, once `head` shows them (consensus loop)."""
        ...

    def query(self, run_id: RunId, name: str, args: bytes, timeout: float | None) -> Encoded:
        """Return what its execution of a run answers to a query. Waits; not on the cluster's own threads. Raises TimeoutError."""
        ...

    def objection(self, run_id: RunId, name: str, value: bytes, timeout: float | None) -> Failure | None:
        """Return what a run's validator of an update says against a value; None if nothing, or if it is not this node that is to ask it.

        Waits; not on the cluster's own threads. Raises TimeoutError.
        """
        ...

    def execution_end(self, run_id: RunId, timeout: float | None) -> ExecutionEnd:
        """Return what its execution of a run came to. Waits; not on the cluster's own threads. Raises TimeoutError."""
        ...
