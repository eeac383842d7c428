"""Matching of one node's execution of a run with the recorded steps: the replay cursor and the catch-up queue.

Every node runs every workflow's code from the top. At each operation it asks here whether that step is recorded. If it
is, the execution takes the recorded value (*consumes* the step) and no effect is run; if not, the acting node computes
it and the others wait for the record. The catch-up queue is nothing but a view: recorded steps minus consumed ones.

A step_id is a *position* (branch path and ordinal, `2.1.0`), a slash and a key. Code that is deterministic asks the same
key at the same position on every node and in every replay; if it asks for another, it has diverged, and that is found by
looking up the position alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from ..errors import InternalError, StepKeyError
from ..limits import MAX_NAME_CHARS, MAX_STEP_ID_CHARS
from .records import Operation, Step, StepId

if TYPE_CHECKING:
    from collections.abc import Iterable

# --- Names of steps ---------------------------------------------------------------------------------------------------

# Control characters and line breaks garble every view; half surrogates cannot be encoded.
_UNUSABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def check_key(key: str) -> None:
    """Raise `StepKeyError` unless `key` can name a step: text of 1 to 256 characters, none a control character."""
    given: object = key  # a notebook's code is not type-checked
    if not isinstance(given, str):
        raise StepKeyError(f'a step\'s key is text, such as "charge"; got {type(given).__name__}')
    if not key or key.isspace():
        raise StepKeyError('a step\'s key must not be empty: name what the step does, such as "charge"')
    if len(key) > MAX_NAME_CHARS:
        raise StepKeyError(f"the step's key {key[:40]!r}... has {len(key)} characters; at most {MAX_NAME_CHARS} may be")
    if found := _UNUSABLE.search(key):
        raise StepKeyError(
            f"the step's key {key!r} has the character {found[0]!r}, which is not printable: leave it out"
        )


class Branch:
    """The namer of the steps of one line of a workflow's code: the root, or one branch of a parallel operation.

    The same operations in the same order get the same names on every node. Not shared between tasks: each parallel
    branch has its own, so that their names do not depend on which of them happens to run first.
    """

    __slots__ = ("awaited_by", "ordinal", "path")

    awaited_by: Branch | None
    """The branch that waits, at an operation, until this one has ended; None of the root, and in a task group."""
    path: str
    """Empty for the root; `2.1.` for branch 1 of the root's operation 2."""
    # Invariant: the number of operations that were named on this branch.
    ordinal: int

    def __init__(self, path: str = "", awaited_by: Branch | None = None) -> None:
        self.path = path
        self.ordinal = 0
        self.awaited_by = awaited_by

    def __repr__(self) -> str:
        return f"Branch({self.path!r}, ordinal={self.ordinal})"

    def peek_id(self, key: str) -> StepId:
        """Return the step_id that the next operation would get under `key`. Raises `StepKeyError`."""
        check_key(key)
        step_id = f"{self.path}{self.ordinal}/{key}"
        if len(step_id) > MAX_STEP_ID_CHARS:
            raise StepKeyError(
                f"step {key!r} lies too deep: its step_id has {len(step_id)} characters, and {MAX_STEP_ID_CHARS} may be"
            )
        return step_id

    def next_id(self, key: str) -> StepId:
        """Return the step_id of the next operation, which it is from now on.

        Raises `StepKeyError`, which takes no ordinal.
        """
        step_id = self.peek_id(key)
        self.ordinal += 1
        return step_id

    def child(self, index: int) -> Branch:
        """Return branch `index` (from 0) of the operation that was named last. Raises `InternalError` if none was."""
        if not self.ordinal or index < 0:
            raise InternalError(f"{self!r} has no operation that could have a branch {index}")
        return Branch(f"{self.path}{self.ordinal - 1}.{index}.", self)


# --- Answers ----------------------------------------------------------------------------------------------------------


class Recorded(msgspec.Struct, frozen=True):
    """The step is recorded: take its value or failure."""

    step: Step


class Missing(msgspec.Struct, frozen=True):
    """The step is not recorded yet; or, if the run has `ended`, it never will be."""

    ended: bool


class Diverged(msgspec.Struct, frozen=True):
    """Another step than the one asked for was recorded at that position. `reason` is text."""

    asked_id: StepId
    asked_operation: Operation
    recorded: Step | None
    reason: str


Answer = Recorded | Missing | Diverged

_NOT_YET: Final = Missing(ended=False)
_NEVER: Final = Missing(ended=True)

# --- The cursor -------------------------------------------------------------------------------------------------------


class Replay:
    """The recorded steps that one node's execution of one run has received, and those it has consumed.

    All operations but `queue` are O(1).

    `steps` (in record order) and `ended` are what is recorded at the start; the rest is delivered as it is applied.
    """

    __slots__ = ("_at", "_latest", "_places", "_queue", "_steps", "_void", "consumed", "ended", "last_consumed")

    # Invariant: every step delivered.
    _steps: dict[StepId, Step]
    # Invariant: the first step delivered at each position.
    _at: dict[str, Step]
    # Invariant: the same positions, with the number of steps delivered before.
    _places: dict[str, int]
    # Invariant: by path of a branch, the highest ordinal of its operations of which anything is recorded, at whatever depth.
    _latest: dict[str, int]
    # Invariant: positions whose steps do not count; none of them is in `_queue`.
    _void: set[str]
    # Invariant: the steps of `_steps` that were neither consumed nor dropped, in record order.
    _queue: dict[StepId, Step]
    # Invariant: len(_steps) - len(_queue).
    consumed: int
    last_consumed: StepId | None
    # Invariant: once true, stays true, and nothing is delivered any more.
    ended: bool

    def __init__(self, steps: Iterable[Step] = (), *, ended: bool = False) -> None:
        self._steps = {}
        self._at = {}
        self._places = {}
        self._latest = {}
        self._void = set()
        self._queue = {}
        self.consumed = 0
        self.last_consumed = None
        self.ended = False
        for step in steps:
            self.record(step)
        self.ended = ended

    def record(self, step: Step) -> None:
        """Deliver a recorded step, in record order. Raises `InternalError` if it was before, or the run has ended."""
        if self.ended:
            raise InternalError(f"step {step.step_id!r} was handed over after the run's end")
        if step.step_id in self._steps:
            raise InternalError(f"step {step.step_id!r} was handed over twice")
        position = _position(step.step_id)
        if position not in self._at:
            self._at[position] = step
            self._places[position] = len(self._steps)
            self._note_latest(position)
        self._steps[step.step_id] = step
        if position in self._void:
            self.consumed += 1
        else:
            self._queue[step.step_id] = step

    def _note_latest(self, position: str) -> None:
        parts = position.split(".")
        for last in range(0, len(parts), 2):
            if not parts[last].isdigit():
                return  # a name that no branch of ours gave
            path = "".join(f"{part}." for part in parts[:last])
            self._latest[path] = max(int(parts[last]), self._latest.get(path, 0))

    def end(self) -> None:
        """Say that the run's end is recorded: what is missing now stays missing."""
        self.ended = True

    def skip(self) -> None:
        """Count what is in the queue as consumed: it will not be asked for, as the execution was ended from outside."""
        self.consumed += len(self._queue)
        self._queue.clear()

    def ask(self, step_id: StepId, operation: Operation) -> Answer:
        """Look up whether the step is recorded, and as what was asked for.

        Changes nothing; a consumed step is still recorded.
        """
        step = self._at.get(_position(step_id))
        if step is None:
            return _NEVER if self.ended else _NOT_YET
        if step.step_id == step_id and step.operation == operation:
            return Recorded(step)
        return Diverged(
            step_id,
            operation,
            step,
            f"the workflow asked for {operation} {step_id!r}, where {step.operation} {step.step_id!r} is recorded: "
            "its code must do the same operations in the same order every time",
        )

    def consume(self, step_id: StepId) -> Step:
        """Take a recorded step out of the queue. Raises `InternalError` if it is not recorded, or was consumed."""
        step = self._queue.pop(step_id, None)
        if step is None:
            problem = "was consumed before" if step_id in self._steps else "is not recorded"
            raise InternalError(f"step {step_id!r} cannot be consumed: it {problem}")
        self.consumed += 1
        self.last_consumed = step_id
        return step

    def recorded_at(self, position: str) -> tuple[int, Step] | None:
        """Return the step recorded at a position (a step_id without its key), and the number of steps before it."""
        step = self._at.get(position)
        return None if step is None else (self._places[position], step)

    def is_past(self, branch: Branch) -> bool:
        """Return whether code was recorded to have continued from where `branch` is.

        Something is there, below that, or behind it.

        Behind a branch are also the operations of the branches that wait for it to end.
        """
        inner: Branch | None = branch
        while inner is not None:
            if self._latest.get(inner.path, -1) >= inner.ordinal:
                return True
            inner = inner.awaited_by
        return False

    def void(self, position: str) -> None:
        """Drop what is recorded at `position`, or will be: it will not be asked for. Counts as consumed."""
        self._void.add(position)
        step = self._at.get(position)
        if step is not None and self._queue.pop(step.step_id, None) is not None:
            self.consumed += 1

    @property
    def queue(self) -> tuple[StepId, ...]:
        """The catch-up queue: recorded and not consumed, in record order. A copy, as long as the queue."""
        return tuple(self._queue)

    @property
    def queue_length(self) -> int:
        """The number of steps in the catch-up queue."""
        return len(self._queue)

    @property
    def recorded(self) -> int:
        """The number of recorded steps received."""
        return len(self._steps)


def _position(step_id: StepId) -> str:
    """Return the branch path and ordinal: the step_id without its key."""
    return step_id.partition("/")[0]
