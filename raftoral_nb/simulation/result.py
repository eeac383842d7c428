"""The result of a simulation, as data."""

from __future__ import annotations

import msgspec

from ..core.records import NodeId
from .faults import Plan
from .invariants import Violation
from .paths import Paths

HistoryItem = tuple[float, NodeId, str, str]
"""The time when (virtual seconds since the beginning), on which node (0: none), what, and details."""


class Result(msgspec.Struct, frozen=True):
    """The result of one seed."""

    seed: int
    plan: Plan
    without: str | None
    """The rule of the guard that was missing; `hazards.ALL`: all of it."""
    paths: Paths
    """The way that messages took."""
    seconds: float
    """Virtual seconds that passed."""
    faults: dict[str, int]
    """Faults that took place, by kind."""
    did: dict[str, int]
    """The counts of what else took place, by the names of `final_checks.done`."""
    acknowledged: int
    """Commands that clients were told to be committed, and records of steps and ends that nodes were."""
    runs: int
    leaders: int
    """Terms that had a leader."""
    recovery: float
    """Virtual seconds from the healing (or the clients' end, which is later) until all was well."""
    leader_recovery: float
    """Virtual seconds from the healing until the last time that a node began to act; 0 if the leader stayed."""
    lost_records: int
    torn_records: int
    violations: tuple[Violation, ...]
    history: tuple[HistoryItem, ...]
    digest: str
    """The same for the same history."""
