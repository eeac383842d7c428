"""The parts of a node that checks and clients need: one of a simulation, or of a real cluster under test."""

from __future__ import annotations

import asyncio
from typing import Protocol

from ..core.records import NodeId
from ..node.executor import Executor
from ..node.incarnation import Incarnation
from ..raft.journal import MemoryJournal
from ..raft.member import Member


class Clock(Protocol):
    """The clock of a node."""

    def time(self) -> float:
        """Return the seconds since some moment."""
        ...


class WatchedNode(Protocol):
    """One incarnation of a node that is being watched."""

    records_handed_over: int
    """The number of records delivered, counted by the checker."""

    @property
    def number(self) -> NodeId:
        """The node's number."""
        ...

    @property
    def incarnation(self) -> Incarnation:
        """Its engine."""
        ...

    @property
    def member(self) -> Member:
        """Its consensus side."""
        ...

    @property
    def executor(self) -> Executor:
        """Its execution side."""
        ...

    @property
    def journal(self) -> MemoryJournal:
        """Its log."""
        ...

    @property
    def clock(self) -> Clock:
        """Its clock."""
        ...

    @property
    def main(self) -> asyncio.Task[None] | None:
        """The executor's task, once it was begun."""
        ...
