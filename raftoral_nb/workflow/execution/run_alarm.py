"""The alarm of one execution: it notices when the earliest of the run's timers is due, and has that recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from . import recording
from .acting import propose

if TYPE_CHECKING:
    from ..loop.run_loop import RunLoop
    from .alarms import Alarm
    from .environment import ExecutionEnv


class TimedExecution(recording.RecordingExecution, Protocol):
    """The part of an `Execution` that its alarm needs."""

    loop: RunLoop

    @property
    def may_fire(self) -> int | None:
        """The term in which its timers may be fired now; None if they may not."""
        ...

    def broke(self, what: str, error: BaseException) -> None:
        """End the execution: a bug of ours was found in it."""
        ...


class RunAlarm:
    """The alarm of one execution. Only the acting node arms it; however many timers a run has, there is one."""

    def __init__(self, execution: TimedExecution, around: ExecutionEnv) -> None:
        self._execution = execution
        self._around = around
        self._alarm: Alarm | None = None
        # Invariant: the due time that `_alarm` is set for; None if that is None.
        self._at: float | None = None
        # Invariant: the due time whose timers this node has proposed to fire, and the term; None if that is known to be recorded.
        self._firing: tuple[float, int] | None = None

    def arm(self, term: int) -> None:
        """Notice when the earliest timer is due. Does nothing while a proposal to fire some is under way: that changes what is earliest."""
        due = self._execution.loop.next_due
        if due is None or (self._firing is not None and self._firing[1] == term):
            self.disarm()
        elif self._at != due:
            self.disarm()
            self._at = due
            self._alarm = self._around.alarms.call_at(due, self._ring)

    def disarm(self) -> None:
        """Notice nothing until it is armed again."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._at = None

    def forget(self) -> None:
        """Note that what was proposed is recorded, or that this node may not record it any more."""
        self._firing = None

    def close(self) -> None:
        """Notice nothing any more, and propose nothing again: the execution is over."""
        self.disarm()
        self.forget()

    def _ring(self) -> None:
        """Propose to fire the timers that are due."""
        self._alarm = self._at = None
        due, term = self._execution.loop.next_due, self._execution.may_fire
        if due is None or term is None:
            return  # it is armed again when the execution has had its records
        firing = self._firing = (due, term)
        command = recording.timers_command(self._execution, due, term)
        propose(
            self._around,
            command,
            lambda: self._firing == firing,
            lambda reason: self._execution.broke("firing timers", RuntimeError(reason)),
        )
