"""Matching of an execution with the records of its run: what it has asked for, and what the record whose turn it is answers.

An execution gets the records one at a time. When a step has its turn, the execution has asked for it, by that operation and key, at
that position; or it differs from what was recorded, right there. An execution may also have stopped waiting for what it asked for,
as its task was cancelled while the result was on its way: such a record is dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ..errors import InternalError
from .records import Operation, Step, StepId
from .step_ids import position_of

if TYPE_CHECKING:
    from .records import EarlierOperation


class Awaited(msgspec.Struct, frozen=True):
    """The step is what is waited for."""


class Dropped(msgspec.Struct, frozen=True):
    """The step was asked for, and is not waited for any more."""


class Diverged(msgspec.Struct, frozen=True):
    """The step was not asked for; at its position `asked_id` was, or nothing (None). `asked` and `reason` are text."""

    recorded: Step
    asked_id: StepId | None
    asked: str
    reason: str


Match = Awaited | Dropped | Diverged


class Asked:
    """What one execution has asked for and has not had: its open operations, in the order of asking. All methods are O(1)."""

    __slots__ = ("_given_up", "_open")

    # Invariant: by position, what is waited for, in the order of asking.
    _open: dict[str, tuple[StepId, Operation]]
    # Invariant: by position, what was asked for, is not waited for any more, and whose record has not come. Disjoint from `_open`.
    _given_up: dict[str, tuple[StepId, Operation]]

    def __init__(self) -> None:
        self._open = {}
        self._given_up = {}

    def __len__(self) -> int:
        return len(self._open)

    def ask(self, step_id: StepId, operation: Operation) -> None:
        """Wait for a step. Raises `InternalError` if anything was asked for at its position before, and has not come."""
        position = position_of(step_id)
        if position in self._open or position in self._given_up:
            raise InternalError(f"step {step_id!r} was asked for twice")
        self._open[position] = (step_id, operation)

    def give_up(self, step_id: StepId) -> None:
        """Wait for a step no more; its record may come all the same."""
        position = position_of(step_id)
        asked = self._open.pop(position, None)
        if asked is None:
            raise InternalError(f"step {step_id!r} is not waited for")
        self._given_up[position] = asked

    def match(self, step: Step) -> Match:
        """Take the step whose turn it is. What it answers is open no more."""
        position = position_of(step.step_id)
        asked = self._open.get(position) or self._given_up.get(position)
        if asked == (step.step_id, step.operation):
            if self._open.pop(position, None) is not None:
                return Awaited()
            del self._given_up[position]
            return Dropped()
        return _diverged(step, asked)

    @property
    def open(self) -> tuple[tuple[StepId, Operation], ...]:
        """The step_ids and operations that are waited for, in the order of asking. A copy."""
        return tuple(self._open.values())


def _diverged(step: Step, asked: tuple[StepId, Operation | EarlierOperation] | None) -> Diverged:
    advice = "its code must do the same operations in the same order every time"
    recorded = f"{step.operation} {step.step_id!r}"
    if asked is None:
        return Diverged(step, None, "", f"the workflow did not ask for {recorded}, which is recorded: {advice}")
    shown = f"{asked[1]} {asked[0]!r}"
    return Diverged(step, asked[0], shown, f"the workflow asked for {shown}, where {recorded} is recorded: {advice}")
