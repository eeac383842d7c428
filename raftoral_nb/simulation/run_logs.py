"""The records of every run, as the log has them, and a check of what executors are handed: just these, in this order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from ..core.records import MoveRecord, NodeId, Record, RunId, Step
from ..workflow.execution.inbox import (
    RecordAdded,
    RecordsAdded,
    RunContinued,
    RunDropped,
    RunStarted,
    RunSwitched,
)

if TYPE_CHECKING:
    from collections.abc import Hashable

    from ..workflow.execution.inbox import HandedOver
    from .watched import WatchedNode

SAME_RECORDS: Final = "every node sees the same records"

Violated = Callable[[str, str, "Hashable"], None]


def life(run_id: RunId, generation: int) -> str:
    """Return what names the records of one generation of a run."""
    return run_id if generation == 1 else f"{run_id}, generation {generation}"


class _Delivered(msgspec.Struct):
    """The records that one incarnation of a node was handed."""

    # By run: how many of its present life, and which life that is.
    counts: dict[RunId, int] = {}
    lives: dict[RunId, str] = {}
    # By life, the same.
    handed: dict[str, int] = {}


class RunLogs:
    """The account of records. `violated(invariant, text, place)` is told what is wrong."""

    def __init__(self, violated: Violated) -> None:
        self.total = 0
        """The records that the log has, of all runs and generations."""
        self._violated = violated
        self._records: dict[str, list[Record]] = {}
        self._generations: dict[RunId, int] = {}
        # By life of a run that was dropped: the index at which it was.
        self._dropped: dict[str, int] = {}
        self._delivered: dict[tuple[NodeId, int], _Delivered] = {}

    def life(self, run_id: RunId) -> str:
        """Return the name of the present life of a run."""
        return life(run_id, self._generations.get(run_id, 1))

    def generation(self, run_id: RunId) -> int:
        """Return the generation that a run is in."""
        return self._generations.get(run_id, 1)

    def records(self, of: str) -> Sequence[Record]:
        """Return the records of a life, in the order of the log."""
        return self._records.get(of, ())

    def added(self, run_id: RunId, record: Record) -> None:
        """Note that a record was added to a run."""
        self._records.setdefault(self.life(run_id), []).append(record)
        self.total += 1

    def moved(self, run_id: RunId, version: int) -> None:
        """Note that a run was moved to another version."""
        known = self.records(self.life(run_id))
        self.added(run_id, MoveRecord(version, known[-1].at if known else 0.0))

    def started(self, run_id: RunId, generation: int) -> None:
        """Note that a run was started: in its first generation, or in the one behind those of the run that had its id before."""
        self._generations[run_id] = generation

    def dropped(self, run_id: RunId, index: int) -> None:
        """Note that the records of a run were dropped by the entry at an index."""
        for generation in range(1, self.generation(run_id) + 1):
            self._dropped.setdefault(life(run_id, generation), index)

    def installed(self, node: WatchedNode) -> None:
        """Note that a snapshot took the place of a node's state: what it left out, as its runs were dropped, is as good as delivered."""
        delivered = self._delivered.setdefault((node.number, node.incarnation.number), _Delivered())
        for name, index in self._dropped.items():
            if index <= node.member.state.index:
                self._skip(node, delivered, name)

    def continued(self, run_id: RunId, generation: int, records: Sequence[Record]) -> None:
        """Note that a run began anew, with these records."""
        self._generations[run_id] = generation
        self._records[self.life(run_id)] = list(records)
        self.total += len(records)

    def handed_over(self, node: WatchedNode, items: Sequence[HandedOver]) -> None:
        """Check what an executor is handed: a run's records, in order, none left out and none twice."""
        delivered = self._delivered.setdefault((node.number, node.incarnation.number), _Delivered())
        for item in items:
            match item:
                case RunStarted(run_id=run_id, generation=generation):
                    # What a snapshot left out, as it belonged to generations that are over, is as good as delivered.
                    for past in range(1, generation):
                        self._skip(node, delivered, life(run_id, past))
                    if run_id in delivered.counts:
                        self._violated(SAME_RECORDS, f"node {node.number} started {run_id!r} twice", run_id)
                    delivered.lives[run_id] = life(run_id, generation)
                    delivered.counts[run_id] = 0
                case RecordAdded(run_id=run_id, record=record):
                    self._delivered_one(node, delivered, run_id, record)
                case RecordsAdded(run_id=run_id, records=records):
                    for record in records:
                        self._delivered_one(node, delivered, run_id, record)
                case RunContinued(run_id=run_id, generation=generation, records=records):
                    delivered.lives[run_id], delivered.counts[run_id] = life(run_id, generation), 0
                    for record in records:
                        self._delivered_one(node, delivered, run_id, record)
                case RunSwitched(run_id=run_id, records=records):
                    self._switched(node, delivered, run_id, records)
                case RunDropped(run_id=run_id):
                    delivered.counts.pop(run_id, None)
                case _:
                    pass

    def _skip(self, node: WatchedNode, delivered: _Delivered, name: str) -> None:
        missing = len(self.records(name))
        node.records_handed_over += missing - delivered.handed.get(name, 0)
        delivered.handed[name] = missing

    def _delivered_one(self, node: WatchedNode, delivered: _Delivered, run_id: RunId, record: Record) -> None:
        position = delivered.counts.get(run_id, 0)
        name = delivered.lives.get(run_id, run_id)
        known = self.records(name)
        if position >= len(known) or not _same(known[position], record):
            self._violated(
                SAME_RECORDS,
                f"node {node.number} was handed {named(record)} as number {position} of run {run_id!r}",
                (node.number, run_id, position),
            )
        delivered.counts[run_id] = delivered.handed[name] = position + 1
        node.records_handed_over += 1

    def _switched(self, node: WatchedNode, delivered: _Delivered, run_id: RunId, records: Sequence[Record]) -> None:
        """Check a move: the run is executed with other code from its top, with what was handed before and, it may be, the move."""
        name, count = delivered.lives.get(run_id, run_id), delivered.counts.get(run_id, 0)
        known = self.records(name)[: len(records)]
        as_known = len(known) == len(records) and all(map(_same, known, records))
        if not as_known or len(records) - count not in (0, 1):
            self._violated(
                SAME_RECORDS,
                f"node {node.number} moved run {run_id!r} with {len(records)} records, and had been handed {count}",
                (node.number, run_id, "moved"),
            )
        node.records_handed_over += len(records) - count
        delivered.counts[run_id] = delivered.handed[name] = len(records)


def _same(known: Record, other: Record) -> bool:
    if isinstance(known, MoveRecord):
        return isinstance(other, MoveRecord) and known.version == other.version
    return known == other


def named(record: Record) -> str:
    """Return a record as text, without its value."""
    return f"step {record.step_id!r}" if isinstance(record, Step) else type(record).__name__
