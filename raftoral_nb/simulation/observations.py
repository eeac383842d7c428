"""What an execution has come to after each of its turns: the same on every node, in every incarnation, live and in replay."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ..core.records import RunId
from .diaries import DIARY, Diary
from .run_logs import life

if TYPE_CHECKING:
    from collections.abc import Hashable

    from ..workflow.execution.execution import Execution
    from .watched import WatchedNode

SAME_TURNS: Final = "every execution of a run sees the same"

Violated = Callable[[str, str, "Hashable"], None]


class Observation(msgspec.Struct, frozen=True):
    """What an execution has come to after a turn."""

    time: float
    next_due: float | None
    open: tuple[str, ...]
    """The steps that are waited for, in the order of asking."""
    waiting: tuple[int, ...]
    """The numbers of the messages that nobody has taken."""
    tasks: tuple[str, ...]
    ended: bool
    entries: int
    """The length of its diary."""
    seen: bytes
    """The digest of the diary."""


class DiaryReader:
    """A reader of one execution's diary, which reads each entry once."""

    def __init__(self) -> None:
        self._digest = blake2b(digest_size=12)
        self._read = 0

    def read(self, diary: Diary | None) -> tuple[int, bytes]:
        """Return the length of the diary and its digest."""
        if diary is not None:
            for entry in diary.seen[self._read :]:
                self._digest.update(repr(entry).encode())
                self._read += 1
        return self._read, self._digest.digest()


def diary_of(execution: Execution) -> Diary | None:
    """Return the diary that a workflow keeps; None if it keeps none, or has not begun to."""
    find: Callable[[], Any] | None = execution.queries.functions.get(DIARY)
    found = None if find is None else find()
    return found if isinstance(found, Diary) else None


def observed(execution: Execution, reader: DiaryReader) -> Observation:
    """Look at an execution that is at rest; `reader` is the one that has read its diary so far."""
    entries, seen = reader.read(diary_of(execution))
    return Observation(
        execution.loop.time(),
        execution.loop.next_due,
        tuple(execution.asks),
        execution.mailbox.left,
        tuple(task.path for task in execution.loop.tasks()),
        execution.ended,
        entries,
        seen,
    )


class Observations:
    """All observations of a simulation. `violated(invariant, text, place)` is told what differs from what was seen first."""

    def __init__(self, violated: Violated) -> None:
        self.turns = 0
        """The turns that were looked at."""
        self.compared = 0
        """Those that another execution of the same run had had before."""
        self._violated = violated
        self._first: dict[tuple[str, int, int], tuple[str, Observation]] = {}
        self._readers: weakref.WeakKeyDictionary[Execution, DiaryReader] = weakref.WeakKeyDictionary()
        self._received: dict[str, list[str]] = {}

    def received(self, of: str) -> list[str]:
        """Return the messages that the code of a life of a run has received, as the execution that is ahead of the others knows it."""
        return self._received.get(of, [])

    def turned(self, node: WatchedNode, execution: Execution) -> None:
        """Look at an execution after a turn of it."""
        # With something left to run, this was no end of a turn (that it must be is for what is seen to tell).
        if execution.status != "running" or execution.loop._ready:
            return
        reader = self._readers.get(execution)
        if reader is None:
            reader = self._readers[execution] = DiaryReader()
        now = observed(execution, reader)
        self.turns += 1
        who = f"node {node.number}, incarnation {node.incarnation.number}"
        name, diary = life(execution.run_id, execution.generation), diary_of(execution)
        place = name, execution.definition.version, execution.had
        if diary is not None and len(diary.received) > len(self.received(name)):
            self._received[name] = list(diary.received)
        known = self._first.setdefault(place, (who, now))
        if known[1] is now:
            return
        self.compared += 1
        if known[1] != now:
            self._violated(
                SAME_TURNS, f"{_where(execution)}: {who} and {known[0]} differ: {_parts(now, known[1])}", name
            )


def _where(execution: Execution) -> RunId:
    return f"run {execution.run_id!r}, generation {execution.generation}, record {execution.had}"


def _parts(one: Observation, other: Observation) -> str:
    """Return how two observations differ."""
    differ = [name for name in Observation.__struct_fields__ if getattr(one, name) != getattr(other, name)]
    return ", ".join(f"{name} {getattr(one, name)!r} and {getattr(other, name)!r}" for name in differ)
