"""The steps that an execution has asked for and has not had, with what is to be done about them at the end of the turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...core.asked import Asked, Awaited, Match

if TYPE_CHECKING:
    from ...core.records import Step, StepId
    from .acting import OpenStep


class OpenSteps:
    """Open steps of one execution. Used on its node's thread alone, `by_id` excepted."""

    def __init__(self) -> None:
        self._asked = Asked()
        # Invariant: what `_asked` has open, by step_id, in the order of asking.
        self._by_id: dict[StepId, OpenStep] = {}
        # Invariant: asked for since they were given out last.
        self._new: list[OpenStep] = []
        # Invariant: had or given up since they were given out last.
        self._over: list[StepId] = []

    @property
    def by_id(self) -> Mapping[StepId, OpenStep]:
        """What is waited for, in the order of asking. Not a copy."""
        return self._by_id

    def ask(self, step: OpenStep) -> None:
        """Wait for a step. Raises `InternalError` if its position was asked for before, and has not come."""
        self._asked.ask(step.step_id, step.operation)
        self._by_id[step.step_id] = step
        self._new.append(step)

    def give_up(self, step: OpenStep) -> None:
        """Wait for a step no more; its record may come all the same. Does nothing if that has come."""
        if self._by_id.get(step.step_id) is step:
            del self._by_id[step.step_id]
            self._asked.give_up(step.step_id)
            self._over.append(step.step_id)

    def match(self, record: Step) -> Match:
        """Take the step whose turn it is, and give it to what waits for it."""
        found = self._asked.match(record)
        if isinstance(found, Awaited):
            step = self._by_id.pop(record.step_id)
            self._over.append(record.step_id)
            if not step.future.done():
                step.future.set_result(record)
        return found

    def all_new(self) -> None:
        """Have all of them begin again: another epoch has begun."""
        self._new = list(self._by_id.values())

    def to_begin(self) -> list[OpenStep]:
        """Give out those that were asked for since this was asked last, and are waited for."""
        new, self._new = self._new, []
        return [step for step in new if self._by_id.get(step.step_id) is step]

    def to_end(self) -> list[StepId]:
        """Give out those that came, or were given up, since this was asked last."""
        over, self._over = self._over, []
        return over

    def close(self) -> None:
        """Wait for none any more; their records may come all the same."""
        for step in tuple(self._by_id.values()):
            self.give_up(step)
        self._new.clear()
