"""The replicated state: all that the log means, as data. `apply` alone changes it."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

import msgspec

from ..limits import MAX_VALUE_BYTES
from .commands import (
    Committed,
    Rejected,
)
from .records import CachedStep, Definition, NodeId, RunId
from .run_record import Run
from .validation import Limits

# --- The state ------------------------------------------------------------------------------------------------------


class Epoch(msgspec.Struct, frozen=True):
    """One leader's right to act: `node` acts, since its `Takeover` of `term` was applied."""

    node: NodeId
    term: int


NO_EPOCH: Final = Epoch(0, 0)
"""The epoch before the first `Takeover`: no node acts."""


class ClientSession(msgspec.Struct):
    """The session of one client, so that its retried proposals are answered and not applied again."""

    last_used: int
    """The log index of its last proposal."""
    # Invariant: only rises; every number in `answers` is greater, and no number up to it is ever applied again.
    horizon: int = 0
    # Invariant: at most `Limits.session_answers`.
    answers: dict[int, Committed | Rejected] = msgspec.field(default_factory=dict)
    # Invariant: a heap of the numbers in `answers`, to find the lowest without a search.
    lowest: list[int] = msgspec.field(default_factory=list)


class Offer(msgspec.Struct, frozen=True):
    """What a node offered to do when it started."""

    token: str
    """Of that start."""
    runs: bool
    """Whether it takes runs."""
    labels: tuple[str, ...] = ()
    """Those of steps that can be bound to it."""


class Retention(msgspec.Struct, frozen=True):
    """How much is kept of the runs that have ended; those that were used longest ago go first, and the last one stays."""

    keep_runs: int
    """Finished runs."""
    keep_bytes: int
    """Bytes of finished runs: of their inputs, records, results and failures, blobs included."""


class State(msgspec.Struct):
    """All that is replicated. Only `apply` and `apply_entry` change it; everyone else reads."""

    limits: Limits = Limits()
    # Invariant: the index of the last applied entry.
    index: int = 0
    # Invariant: its term only rises; of runs without an owner, steps and ends are recorded only by its node, in its term.
    epoch: Epoch = NO_EPOCH
    # Invariant: those of the last applied entry that named members; ascending. Empty before the first such entry.
    members: tuple[NodeId, ...] = ()
    # Invariant: only rises; no node of a number up to it is ever added (again): without its log it would break its word.
    highest_member: NodeId = 0
    # Invariant: only rises; each number is reserved once, so no two nodes that join at the same time have the same.
    highest_reserved: NodeId = 0
    # Invariant: in the order in which they were first registered; at most `Limits.definitions`. A (workflow, version) that an
    # unfinished run uses is there, and keeps its fingerprint.
    definitions: dict[tuple[str, int], Definition] = msgspec.field(default_factory=dict)
    # Invariant: in start order; every unfinished run, and of the finished ones those that `keeps` lets stay.
    runs: dict[RunId, Run] = msgspec.field(default_factory=dict)
    # Invariant: the finished runs in `runs`, those that finished first, and were not asked for again since, first.
    finished: deque[RunId] = msgspec.field(default_factory=deque)
    # Invariant: none of them is in `runs`; oldest eviction first, each with the last generation; at most `Limits.evicted_run_ids`.
    evicted: OrderedDict[RunId, int] = msgspec.field(default_factory=OrderedDict)
    # Invariant: as `evicted`, and disjoint: runs that were deleted, whose ids are free.
    deleted: OrderedDict[RunId, int] = msgspec.field(default_factory=OrderedDict)
    # Invariant: of members alone; those that were not withdrawn since. See `ownership`.
    offers: dict[NodeId, Offer] = msgspec.field(default_factory=dict)
    # Invariant: only rises, by one with each assignment of a run or binding of a step.
    assignments: int = 0
    # Invariant: how many unfinished runs each node owns; none that owns none.
    owned: dict[NodeId, int] = msgspec.field(default_factory=dict)
    retention: Retention | None = None
    """What was asked for last; None if nothing was."""
    value_limit: int | None = None
    """The largest encoded value that is kept, in bytes, as it was asked for last; None if it never was."""
    # Invariant: the sum of the `kept_bytes` of the runs in `finished`.
    finished_bytes: int = 0
    # Invariant: the `blobs` of all runs, by digest, each with the number of runs that refer to it.
    blob_runs: dict[str, int] = msgspec.field(default_factory=dict)
    # Invariant: at most `Limits.sessions` (at least 1).
    sessions: dict[str, ClientSession] = msgspec.field(default_factory=dict)
    # Invariant: by its key, the one that was used last is last; within `Limits.cached_steps`, `cache_bytes` and `cache_blob_bytes`.
    cache: OrderedDict[str, CachedStep] = msgspec.field(default_factory=OrderedDict)
    # Invariant: only rises; no client born at or before it gets a session again once it has none.
    evicted_birth: int = -1
    commands: int = 0
    """Commands carried out (refused and repeated ones are not counted)."""
    entries: int = 0
    """Entries applied that carried proposals."""
    checkpoints: int = 0
    """Steps recorded."""

    @property
    def next_number(self) -> NodeId:
        """The lowest number that no node has or had, and that none is about to join under."""
        return max(self.highest_member, self.highest_reserved) + 1

    @property
    def keeps(self) -> Retention:
        """How much is kept of finished runs."""
        return self.retention or Retention(self.limits.runs_kept, self.limits.bytes_kept)

    @property
    def takers(self) -> frozenset[NodeId]:
        """The nodes that take runs."""
        return frozenset(node for node, offer in tuple(self.offers.items()) if offer.runs)

    @property
    def max_value_bytes(self) -> int:
        """The largest encoded value that is kept, in bytes."""
        return MAX_VALUE_BYTES if self.value_limit is None else self.value_limit

    def latest_version(self, workflow: str) -> int | None:
        """Return the highest registered version of `workflow`, or None. Looks at every definition."""
        return max((version for name, version in tuple(self.definitions) if name == workflow), default=None)


# --- The rules. A handler gets a well-formed command; it decides first and changes the state last. -------------------


# --- Proposals: applied at most once ----------------------------------------------------------------------------------


# --- For tests and comparisons ----------------------------------------------------------------------------------------


def summary(state: State) -> dict[str, object]:
    """Return the whole state as plain data.

    Equal on two replicas exactly if they agree, the order of runs and more included.

    Costs as much as the state is large; meant for tests and for the checks of a simulation.
    """
    found = {name: _plain(getattr(state, name)) for name in state.__struct_fields__}
    found["blob_runs"] = sorted(state.blob_runs.items())  # its order says nothing
    found["owned"] = sorted(state.owned.items())
    return found


def _plain(value: object) -> object:
    if isinstance(value, Run | ClientSession):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return [(key, _plain(item)) for key, item in value.items()]
    return list(value) if isinstance(value, deque | list) else value
