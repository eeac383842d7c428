"""What a step saves while it runs, so that the next attempt at it continues from there: on this node, on another, in another process.

Saving is sparse: at most one command every so many seconds and one at a time, with the latest value. What came in between is never sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from ...core.blob_refs import reference
from ...core.commands import Committed, Outcome, Rejected, SaveStepState
from ...errors import NotAcknowledgedError, RaftoralError
from ...limits import MAX_STEP_STATES
from ...threads.seconds import seconds
from ..codec import values
from .environment import FINAL_REFUSALS
from .telling import Sending

if TYPE_CHECKING:
    from ...core.records import Definition, RunId, StepId, StepState
    from ..codec.classes import View
    from .environment import ExecutionEnv, Once
    from .rights import Rights

SAVE_SECONDS: Final = 1.0
"""The least time between two saved checkpoints of one step, unless it says otherwise (seconds)."""

_RULES: Final = frozenset({"bad_command", "too_many_step_states"})
"""Codes of refusals of what was to be saved, whoever asks."""

_FINAL: Final = FINAL_REFUSALS | _RULES | {"unknown_run", "stopped", "older_step_state", "value_too_large"}
"""Codes of refusals after which nothing more can be saved of this attempt."""


class SavingExecution(Protocol):
    """The part of an `Execution` that is needed to save what its steps pass to `checkpoint`."""

    run_id: RunId
    generation: int
    definition: Definition
    around: ExecutionEnv
    rights: Rights
    classes: View
    say_once: Once


Told = Callable[[BaseException | None, bool], None]
"""Takes why a checkpoint was not saved, or None, and `Saving.by_rule`."""


class Saving(Sending):
    """A checkpoint on its way. Nobody need wait for it."""

    def __await__(self) -> Any:
        """Wait until a majority has recorded it, or a later one, if it was due; raise why not."""
        return super().__await__()

    def wait(self) -> None:
        """Block a synchronous function, on its own thread, for what awaiting it would wait for.

        Where an event loop runs (in an async function, and in a `workflow_test`) it does not block: await it there. Raises
        `NotAcknowledgedError` if nothing is heard for a minute, or the attempt is not needed any more.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            super().wait()

    by_rule = False
    """True if it was refused for what it is, and not because its attempt, or its node, has no say any more."""

    def then(self, told: Told) -> None:
        """Call `told` when it needs no more waiting. On whichever thread finishes it."""
        self.looked_at = True
        self._future.add_done_callback(lambda future: told(future.exception(), self.by_rule))

    def finish(self, error: RaftoralError | None = None) -> None:
        """Note that it needs no more waiting, or why it was not saved."""
        if error is None:
            self._future.set_result(None)
        else:
            self._future.set_exception(error)


async def bring(around: ExecutionEnv, saved: StepState) -> None:
    """Wait until this node has what an attempt before saved, if that is large."""
    ref = reference(saved.value)
    if ref is not None and not around.holds_blob(ref.digest):
        came = asyncio.Event()
        around.fetch_blob(ref, came.set)
        await came.wait()


def least_seconds(every: object) -> float:
    """Return the least time between two recorded checkpoints (seconds), as `checkpoint(..., every=)` says it. Raises `BadArgumentError`."""
    return SAVE_SECONDS if every is None else max(0.0, seconds(every, "checkpoint(..., every=...)"))


def what_is_saved(run_id: RunId, step_id: StepId) -> str:
    """Return the name of a step's checkpoint in messages."""
    return f"a checkpoint of step {step_id!r} of run {run_id!r}"


class StepSaver:
    """What one attempt at a step saves. From any thread; its commands are sent one at a time, in order."""

    def __init__(self, execution: SavingExecution, step_id: StepId, term: int | None) -> None:
        self._execution = execution
        self._around = execution.around
        self._step_id = step_id
        self._what = what_is_saved(execution.run_id, step_id)
        self._term = term
        self.known: StepState | None = self._around.step_state(execution.run_id, step_id)
        """What an attempt before saved last."""
        self._number = 0 if self.known is None else self.known.number
        self._lock = threading.Lock()
        # Invariant: the latest value that is not on its way, and those who wait for it. Nobody waits for one that is not there.
        self._latest: bytes | None = None
        self._waiting: list[Saving] = []
        # Invariant: those who wait for what is on its way; None if nothing is.
        self._under_way: list[Saving] | None = None
        self._every = SAVE_SECONDS
        self._sent_at = -math.inf
        self._armed = False
        # Invariant: no value is taken once it is closed; what was taken before is sent only while it is flushed.
        self._closed = term is None
        self._flushed = False

    def take(self, value: object, every: object) -> Saving:
        """See `RunningStep.checkpoint`."""
        least = least_seconds(every)
        return self.take_encoded(values.encode(value, what=self._what, most=self._around.large_values.most), least)

    def take_encoded(self, data: bytes, least: float) -> Saving:
        """Take a value that is encoded already, as a step on an executor does it; `least` is its `every`, in seconds."""
        what = self._what
        saving, command, due = Saving(what), None, False
        with self._lock:
            closed = self._closed
            if not closed:
                self._latest, self._every = data, least
                due = self._due()
                if due:
                    self._waiting.append(saving)
                command = self._next()
        if closed:
            saving.finish(NotAcknowledgedError(f"{what} is not needed any more", may_commit=False))
        elif not due:
            saving.finish()
        self._send(command)
        return saving

    def close(self) -> None:
        """Take no more: the attempt has ended, or nothing waits for it any more."""
        with self._lock:
            self._closed = True

    async def flush(self) -> None:
        """Send what was not sent, after `close`, and wait until it is known to be saved, or that it cannot be."""
        saving = Saving("the last checkpoint")
        with self._lock:
            self._flushed = True
            if self._latest is not None:
                self._waiting.append(saving)
            elif self._under_way is not None:
                self._under_way.append(saving)
            else:
                return
            command = self._next()
        self._send(command)
        with contextlib.suppress(RaftoralError):  # then the next attempt begins with what was saved before
            await saving

    def _due(self) -> bool:
        return self._flushed or self._around.timers.clock() >= self._sent_at + self._every

    def _next(self) -> SaveStepState | None:
        """Return what is to be sent now, which is under way then. With the lock held."""
        if self._latest is None or self._under_way is not None or (self._closed and not self._flushed):
            return None
        if not self._due():
            if not self._armed:
                self._armed = True
                self._around.post(self._arm)
            return None
        self._number += 1
        self._sent_at = self._around.timers.clock()
        value, self._latest = self._latest, None
        self._under_way, self._waiting = self._waiting, []
        execution, around = self._execution, self._around
        assert self._term is not None  # it is not closed
        return SaveStepState(
            execution.run_id,
            self._step_id,
            self._number,
            value,
            around.node,
            self._term,
            execution.definition.version,
            execution.generation,
            around.wall_clock(),
        )

    def _arm(self) -> None:
        self._around.timers.call_at(self._sent_at + self._every, self._ring)

    def _ring(self) -> None:
        with self._lock:
            self._armed = False
            command = self._next()
        self._send(command)

    def _send(self, command: SaveStepState | None) -> None:
        if command is None:
            return

        def done(outcome: Outcome) -> None:
            match outcome:
                case Committed():
                    self._saved()
                case Rejected(code=code, reason=reason) if code in _FINAL:
                    self._give_up(reason, code)
                case _ if self._is_saved(command.number):
                    self._saved()  # no answer came in time, and what came by the log says it
                case _ if self._closed and not self._flushed:
                    self._give_up(outcome.reason, "")
                case _:
                    self._around.ask(command, done)

        self._around.ask(command, done)

    def _is_saved(self, number: int) -> bool:
        known = self._around.step_state(self._execution.run_id, self._step_id)
        return known is not None and known.number >= number

    def _saved(self) -> None:
        with self._lock:
            saved, self._under_way = self._under_way, None
            command = self._next()
        for saving in saved or ():
            saving.finish()
        self._send(command)

    def _give_up(self, reason: str, code: str) -> None:
        with self._lock:
            self._closed, self._flushed, self._latest = True, False, None
            left = [*(self._under_way or ()), *self._waiting]
            self._under_way, self._waiting = None, []
        if code == "too_many_step_states":
            self._execution.say_once(
                f"steps save no more checkpoints: {MAX_STEP_STATES} open steps of this run have one (MAX_STEP_STATES)"
            )
        for saving in left:
            saving.by_rule = code in _RULES
            saving.finish(NotAcknowledgedError(f"{saving.what} was not saved: {reason}", may_commit=not code))
