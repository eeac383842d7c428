"""A time that passes for a run, noticed and recorded by whichever node acts then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ...core.commands import Outcome, Rejected, SetCheckpoint
from ...core.records import Step, StepId
from .environment import FINAL_REFUSALS, ExecutionEnv
from .products import Encoded

if TYPE_CHECKING:
    from .alarms import Alarm


class RecordingExecution(Protocol):
    """The part of an `Execution` that is needed to record that a time is over."""

    @property
    def around(self) -> ExecutionEnv:
        """The environment of the execution."""
        ...

    def has(self, step_id: StepId) -> bool:
        """Return whether there is a record at the step's position, or never will be."""
        ...

    def product(self, step_id: StepId, value: object) -> Encoded:
        """Return a value encoded for the record."""
        ...

    def checkpoint(self, step: Step) -> SetCheckpoint:
        """Return the command that records a step."""
        ...


class Expiry:
    """The expiry of a wait: it has a step recorded when the wall clock shows `due`."""

    def __init__(self, execution: RecordingExecution, step_id: StepId, due: float) -> None:
        self._execution = execution
        self._step_id = step_id
        self._due = due
        self._alarm: Alarm | None = None
        self._forgotten = False

    def arm(self) -> None:
        """Wait for the time, if this node acts."""
        self._disarm()
        around = self._execution.around
        if around.acting is not None:
            self._alarm = around.alarms.call_at(self._due, self._propose)

    def forget(self) -> None:
        """Forget an expiry: no operation waits for its record any more."""
        self._forgotten = True
        self._disarm()

    def _disarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _propose(self) -> None:
        """Record that the time is over; said again until it is known to be recorded, or that this node cannot."""
        execution = self._execution
        around = execution.around
        term = around.acting
        if term is None or self._forgotten or execution.has(self._step_id):
            return

        def refused(outcome: Outcome) -> None:
            match outcome:
                case Rejected(code=code) if code in FINAL_REFUSALS or code in ("stopped", "unknown_run"):
                    return
                case _:
                    self._propose()

        value, failure = execution.product(self._step_id, None)
        step = Step(self._step_id, "expiry", value, failure, around.node, term, around.wall_clock())
        around.propose(execution.checkpoint(step), refused)
