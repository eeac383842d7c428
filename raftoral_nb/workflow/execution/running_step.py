"""The step and branch that run now.

The context of the branch that user code is in, and the step whose function it is in.

Both are context variables, so that they are found from within ordinary functions, on worker threads too.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final

from ...core.cluster_events import StepProgress
from ...core.records import NodeId, RunId, StepId
from ...core.statistics import StepActivity
from ...errors import BadArgumentError, WrongTaskError
from ...limits import MAX_PROGRESS_CHARS
from ...threads.seconds import Seconds
from ..codec import values
from .step_saving import Saving, SavingExecution, StepSaver, Told
from .telling import Sender

PROGRESS_SECONDS: Final = 0.1
"""The least time between two progress events of one step (seconds). What comes in between shows in the statistics only."""

CONTINUES: Final = "continues from its last checkpoint"
"""What is told of a step that looked at its last checkpoint, and says nothing else of its progress."""

CONTEXT: ContextVar[Any] = ContextVar("raftoral_context", default=None)
"""The `WorkflowContext` of the branch that runs here, or None."""

_making: Final = threading.Lock()
"""Held while a step's saver is made, or its attempt ends."""

STEP: ContextVar[RunningStep | None] = ContextVar("raftoral_step", default=None)
"""The step whose function runs here."""


class RunningStep:
    """A step whose function is running, as that function sees it: get it with `current_step()`."""

    def __init__(
        self,
        node: NodeId,
        run_id: RunId,
        step_id: StepId,
        attempt: int,
        clock: Callable[[], float],
        tell: Callable[[StepProgress], None],
        sender: Sender,
        execution: SavingExecution,
    ) -> None:
        self.node = node
        self.run_id = run_id
        self.step_id = step_id
        self.attempt = attempt
        """Counts the calls of the function from 1, on this node and in this epoch."""
        self.ended = False
        self.failure: str | None = None
        """How the attempt before failed; None if this is the first."""
        self._clock = clock
        self._tell = tell
        self.sender = sender
        self._execution = execution
        self._term = execution.rights.now(step_id)
        # Invariant: set once, by whichever thread first needs it.
        self._made: StepSaver | None = None
        self._continues = False
        self._told_at = -math.inf
        # One object, replaced as a whole: it is read from other threads.
        self._progress: tuple[float | None, str] = (None, "")

    @property
    def key(self) -> str:
        """The name the workflow gave the step."""
        return self.step_id.partition("/")[2]

    @property
    def idempotency_key(self) -> str:
        """`run_id/step_id`: the same however often and wherever this step's function runs. Give it to the called service."""
        return f"{self.run_id}/{self.step_id}"

    def progress(self, fraction: float, text: str = "") -> None:
        """Say how far the step has come: from 0 to 1, with a few words. Shown live; nothing of it is recorded or replicated.

        May be called as often as wanted and from any thread: an event is published at most every `PROGRESS_SECONDS`, and the
        statistics have the latest. Raises `BadArgumentError` if `fraction` is no number from 0 to 1. Does nothing once the
        step's result is not needed any more (its timeout passed, or another node does it).
        """
        fraction, text = checked_progress(fraction, text)
        if self.ended:
            return
        self._progress = (fraction, text)
        now = self._clock()
        if fraction >= 1.0 or now - self._told_at >= PROGRESS_SECONDS:
            self._told_at = now
            self._tell(StepProgress(self.node, self.run_id, self.step_id, fraction, text))

    def checkpoint(self, value: Any, every: Seconds | None = None) -> Saving:
        """Save how far the step has come, for the next attempt at it, which finds the value in `last`.

            begin = current_step().last or 0
            for epoch in range(begin, 40):
                train(epoch)
                current_step().checkpoint(epoch + 1)

        The next attempt may be a retry, another leader's, or one after the whole cluster was stopped, if it has a `data_dir`. The value is
        encoded at once, so it may be changed afterwards. It is recorded by a majority at most `every` seconds (1 by default, or a
        `timedelta`; 0: each time, one after the other): the latest counts, what came in between is not recorded. When an attempt
        fails and another follows, what was last is recorded before that begins.

        It returns before anything is recorded, and blocks nobody. If its node dies in that moment, the next attempt finds the checkpoint before.
        `await` what it returns, or call its `wait()` on the thread of a synchronous function, to go on only when a
        majority has recorded this value or a later one; one that is not due yet is not waited for (`every=0`: each is due).

        Not a record of the run: it is dropped when the step's result is recorded. From any thread. Does nothing once the step's result is
        not needed any more (its timeout passed, or another node does it). Raises `ValueNotShippableError`, as a step's result would, and
        `BadArgumentError` if `every` is no number of seconds. What is awaited raises `NotAcknowledgedError` if it cannot be recorded.
        """
        return self._saver().take(value, every)

    def save(self, data: bytes, least: float, told: Told) -> None:
        """Do what `checkpoint` does with a value that is encoded already: its function runs on an executor.

        `told` is called when the function need wait no longer, with the reason if it was not saved.
        """
        self._saver().take_encoded(data, least).then(told)

    def continues(self) -> None:
        """Note that the function looked at what an attempt before saved."""
        self._continues = True

    @property
    def last(self) -> Any:
        """The last checkpoint of the attempts before this one, on whichever node; None if there is none.

        Decoded anew each time: what is done to it stays with the step. Does not follow this attempt's own checkpoints. Raises
        `ValueNotShippableError` if it does not unpickle here.
        """
        known = self._saver().known
        if known is None:
            return None
        self._continues = True
        what = f"the last checkpoint of step {self.step_id!r} of run {self.run_id!r}"
        return values.decode(known.value, what=what, view=self._execution.classes)

    @property
    def has_last(self) -> bool:
        """True if an attempt before this one left a checkpoint, which may be None."""
        return self._saver().known is not None

    def _saver(self) -> StepSaver:
        saver = self._made
        if saver is None:  # when it is first needed: most steps save nothing
            with _making:
                saver = self._made
                if saver is None:
                    term = None if self.ended else self._term
                    saver = self._made = StepSaver(self._execution, self.step_id, term)
        return saver

    def end(self) -> StepSaver | None:
        """Note that the attempt has ended, or that nothing waits for it; return what it saved with, if it saved anything."""
        with _making:
            self.ended = self.sender.ended = True
            saver = self._made
        if saver is not None:
            saver.close()
        return saver

    def signal(self, run_id: RunId, name: str, value: Any = None) -> Awaitable[None]:
        """Send another run (or this one) a signal, while the step runs: `await current_step().signal(...)` in an async function.

        In a synchronous function, on its worker thread, it blocks until a majority has recorded it; what it returns need not be awaited. It
        is under way as soon as it is called, also if it is not awaited: then the step's end waits for it. Its id follows from
        `idempotency_key`, its name and its number, so a repeated attempt, on whichever node, sends it once: of two that differ the first is
        the one that was sent. Leaves no record in this run; `ctx.signal` does, between the steps. Raises `RunNotFoundError`, `RunEndedError`,
        `SignalRefusedError`, `StepKeyError`, `ValueNotShippableError`, and `NotAcknowledgedError` if the step is not needed any more.
        """
        return self.sender.signal(run_id, name, value)

    def cancel(self, run_id: RunId, reason: str = "") -> Awaitable[None]:
        """Ask another run to end, while the step runs. Blocks, is awaited, and raises as `signal` does."""
        return self.sender.cancel(run_id, reason)

    def activity(self) -> StepActivity:
        """Return the step's statistics. From any thread."""
        fraction, text = self._progress
        if not text and self._continues:
            text = CONTINUES
        return StepActivity(
            step_id=self.step_id,
            attempt=self.attempt,
            fraction=fraction,
            text=text,
            failure=self.failure,
        )


class RunningSteps:
    """The steps of one execution whose functions run here, and those that are to be tried again. Read from any thread."""

    def __init__(self) -> None:
        self.begun = 0
        """How many functions were called."""
        self._running: dict[StepId, RunningStep] = {}
        # Invariant: steps that failed here and are tried again, with the attempt that failed last.
        self._failed: dict[StepId, StepActivity] = {}
        # Invariant: of steps whose latest attempt has ended and saved something, until that is settled.
        self._savers: dict[StepId, StepSaver] = {}

    def started(self, running: RunningStep) -> None:
        """Note that a function begins to run."""
        before = self._failed.get(running.step_id)
        running.failure = None if before is None else before.failure
        self._running[running.step_id] = running
        self.begun += 1

    def ended(self, running: RunningStep) -> None:
        """Note that it has ended, or that nothing waits for it any more."""
        saver = running.end()
        if saver is not None:
            self._savers[running.step_id] = saver
        if self._running.get(running.step_id) is running:
            del self._running[running.step_id]

    def failed(self, step_id: StepId, attempt: int, failure: str, again_at: float) -> None:
        """Note that an attempt failed, and when another one follows (Unix seconds)."""
        self._failed[step_id] = StepActivity(
            step_id=step_id, attempt=attempt, fraction=None, text="", failure=failure, again_at=again_at
        )

    async def settle(self, step_id: StepId) -> None:
        """Wait until what the attempt that has ended passed to `checkpoint` last is saved: another attempt follows."""
        saver = self._savers.pop(step_id, None)
        if saver is not None:
            await saver.flush()

    def over(self, step_id: StepId) -> None:
        """Note that a step's function is not tried again."""
        self._failed.pop(step_id, None)
        self._savers.pop(step_id, None)

    def activities(self) -> tuple[StepActivity, ...]:
        """Return what they do, with those that wait to be tried again. From any thread."""
        running = {one.step_id: one.activity() for one in tuple(self._running.values())}
        return tuple({**self._failed.copy(), **running}.values())


def current_step() -> RunningStep:
    """Return the step whose function is running: its `idempotency_key`, its `attempt`, its `progress(...)`, `checkpoint(...)` and `signal(...)`.

    For the function of a step and whatever that calls, on its worker thread too; on an executor (`on=`) without signals. Raises `WrongTaskError` elsewhere.
    """
    running = STEP.get()
    if running is None:
        raise WrongTaskError(
            "no step is running here: current_step() and ctx.progress() belong in the function that a step runs "
            '(`await ctx.compute("fit", fit)`), not between the steps, nor into threads that the function starts'
        )
    return running


def checked_progress(fraction: object, text: object) -> tuple[float, str]:
    """Return what a step says of its progress, as it is shown. Raises `BadArgumentError` if it is none."""
    try:
        number = float(fraction)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not 0.0 <= number <= 1.0:
        raise BadArgumentError(f"progress is a number from 0 to 1, such as 0.4; got {fraction!r}")
    if not isinstance(text, str):
        raise BadArgumentError(f"what progress says is text, such as 'epoch 4'; got {type(text).__name__}")
    return number, text[:MAX_PROGRESS_CHARS]
