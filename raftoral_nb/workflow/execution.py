"""One node's execution of one run: asks the replay cursor for each step, and acts only where nothing is recorded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import anyio.lowlevel

from ..errors import InternalError, Interrupted, WrongTaskError
from ..model import (
    Command,
    Difference,
    EndRun,
    Failure,
    NodeId,
    Operation,
    Outcome,
    Rejected,
    RunId,
    SetCheckpoint,
    Step,
    StepId,
)
from ..replay import Branch, Diverged, Missing, Recorded, Replay
from ..statistics import ExecutionStatistics, ExecutionStatus
from . import divergence, failures, values
from .alarms import Alarm, Alarms
from .handover import RunEnded, RunStarted
from .scopes import DECISIONS, Scope, pending

if TYPE_CHECKING:
    import random

    from ..model import StepProgress, StepRetrying
    from ..step_threads import Steps
    from .running import RunningStep

Product = tuple[bytes | None, Failure | None]
"""What a step made: an encoded value or a failure."""

_END = "end of the run"
"""Where an execution waits when its workflow has returned. No step id: those contain a slash."""

_FINAL_REFUSALS = frozenset({"stale_epoch", "stale_version", "already_recorded", "run_ended"})
"""Refusals after which a record, an epoch or the run's end is on its way to us."""


class Surroundings(Protocol):
    """What an execution needs of the executor it runs in."""

    node: NodeId
    acting: int | None
    steps: Steps
    timers: Alarms
    """On a clock that only goes forward: for waits that begin and end here."""
    alarms: Alarms
    """On the wall clock: for times that are recorded."""

    async def pass_gate(self) -> None:
        """Wait while the node is held or paused."""
        ...

    def fenced(self, scope: anyio.CancelScope) -> AbstractContextManager[None]:
        """Cancel `scope` when this node loses the epoch."""
        ...

    def propose(self, command: Command, refused: Callable[[Outcome], None]) -> None:
        """Propose a command; `refused` is called on this loop unless it was committed."""
        ...

    def is_outcome(self, error: BaseException) -> bool:
        """Whether user code raised `error` of its own accord: this task is neither being cancelled nor dropped."""
        ...

    def step_function(self, run_id: RunId, step_id: StepId, fn: Callable[..., Any]) -> Callable[..., Any]:
        """What to run for a step whose function is `fn`."""
        ...

    def effect_started(self, run_id: RunId, step_id: StepId) -> None:
        """Count and tell that a step's function begins to run here."""
        ...

    def tell(self, event: StepRetrying | StepProgress) -> None:
        """Publish an event. From any thread."""
        ...

    def say(self, run_id: RunId, text: str) -> None:
        """Write a line of the engine's own into the run's log."""
        ...

    def execution_stopped(self, execution: Execution, reason: str) -> None:
        """Tell that an execution ended otherwise than its run did."""
        ...


class BranchState:
    """A branch of an execution and the one task that may use it."""

    def __init__(self, branch: Branch, scopes: Iterable[Scope] = ()) -> None:
        self.branch = branch
        self.task_id = anyio.get_current_task().id
        self.inside: StepId | None = None
        """The step whose function is running now."""
        self.scopes = list(scopes)
        """What may interrupt this branch, outermost first."""
        self.delivered: set[Scope] = set()
        """Those whose interruption it was given."""
        self.shielded = 0
        """Above zero while nothing interrupts it."""
        self.dice: random.Random | None = None


class Execution:
    """Runs on its node's loop; every method must be called there, except `statistics`."""

    def __init__(self, started: RunStarted, around: Surroundings) -> None:
        self.run_id = started.run_id
        self.definition = started.definition
        self.input = started.input
        self.status: ExecutionStatus = "running"
        self.reason = ""
        self.result: bytes | None = None
        self.failure: Failure | None = None
        self.effects_run = 0
        self.function: Callable[..., Any] | None = None
        """This node's copy of the workflow, once it has begun."""
        self.difference: Difference | None = None
        """Of an execution that diverged: from the record, as it is shown to people."""
        self.replay = Replay()
        self.scope = anyio.CancelScope()
        self.done = anyio.Event()
        """Set when this node's execution has ended, however it did."""
        self._around = around
        self._recorded_end: RunEnded | None = None
        self._waiting: dict[str, anyio.Event] = {}
        self._refused: dict[str, Outcome] = {}
        # What is being done here now: for each cancel scope the branch and the position. A dict for its order.
        self._acts: dict[anyio.CancelScope, tuple[BranchState, str]] = {}
        # The steps whose functions run here now.
        self._running: dict[StepId, RunningStep] = {}
        self._expiries: dict[StepId, Expiry] = {}

    # --- what is handed over

    def record(self, step: Step) -> None:
        """A step of this run was recorded."""
        self.replay.record(step)
        self._wake(step.step_id)
        if step.operation in DECISIONS:
            for scope, (state, position) in tuple(self._acts.items()):
                if pending(self.replay, state, position) is not None:
                    scope.cancel()
            self.wake_all()

    def end(self, ended: RunEnded) -> None:
        """The run's end was recorded; this execution goes on to its own."""
        self._recorded_end = ended
        self.replay.end()
        self.wake_all()

    def wake_all(self) -> None:
        """Something that concerns every waiting operation changed: look again."""
        for event in self._waiting.values():
            event.set()

    def acting_changed(self) -> None:
        """This node may act, or may not any more."""
        for expiry in tuple(self._expiries.values()):
            expiry.arm()
        self.wake_all()

    def stop(self, status: ExecutionStatus, reason: str) -> None:
        """End this execution, though not the run."""
        if self.status == "running":
            self.status = status
            self.reason = reason
            self._around.execution_stopped(self, reason)
            self.scope.cancel()

    # --- steps

    async def step(
        self,
        state: BranchState,
        key: str,
        operation: Operation,
        produce: Callable[[StepId], Awaitable[Product]],
    ) -> Step:
        """The record of the branch's next step: the one that exists, or else, on the acting node, a new one.

        `produce(step_id)` makes the value; it runs only where and when this node acts, is cancelled when it loses the
        epoch, and may therefore run again, here or elsewhere (see the promises in the README).
        """
        return await self.at(state, self.next_id(state, operation, key), operation, produce)

    def next_id(self, state: BranchState, what: str, key: str) -> StepId:
        """The step_id of the branch's next operation, which it is from now on. Raises `WrongTaskError`, `StepKeyError`."""
        check_task(state, f"{what} {key!r}")
        return state.branch.next_id(key)

    async def at(
        self,
        state: BranchState,
        step_id: StepId,
        operation: Operation,
        produce: Callable[[StepId], Awaitable[Product]],
    ) -> Step:
        """The same as `step`, for a step_id that was taken before. Raises `Interrupted` if a scope of the branch is over."""
        position = step_id.partition("/")[0]
        while True:
            await self._around.pass_gate()
            over = pending(self.replay, state, position)
            if over is not None:
                state.delivered.add(over)
                self.replay.void(position)
                raise Interrupted(f"step {step_id!r} was interrupted: {over.reason}", over)
            match self.replay.ask(step_id, operation):
                case Recorded(step=step):
                    self.replay.consume(step_id)
                    return step
                case Diverged(reason=reason) as answer:
                    asked, recorded = divergence.sides(answer)
                    await self.diverge(reason, asked=asked, recorded=recorded)
                case Missing(ended=True):
                    asked = f"{operation} {step_id!r}"
                    reason = f"it asks for step {step_id!r}, but the run ended without such a step"
                    await self.diverge(reason, asked=asked, recorded="the end of the run")
                case Missing():
                    term = self._around.acting
                    if term is None:
                        await self._wait(step_id)
                    else:
                        await self._act(state, step_id, operation, produce, term)

    async def _act(
        self,
        state: BranchState,
        step_id: StepId,
        operation: Operation,
        produce: Callable[[StepId], Awaitable[Product]],
        term: int,
    ) -> None:
        """Make and record the step. Returns when it is recorded (by whomever) or the epoch is gone."""
        with anyio.CancelScope() as scope, self._around.fenced(scope):
            self._acts[scope] = (state, step_id.partition("/")[0])
            state.inside = step_id
            try:
                value, failure = await produce(step_id)
                step = Step(step_id, operation, value, failure, self._around.node, term)
                await self._until_recorded(step_id, self._checkpoint(step), lambda: self._has(step_id), term)
            finally:
                state.inside = None
                del self._acts[scope]

    def _checkpoint(self, step: Step) -> SetCheckpoint:
        return SetCheckpoint(self.run_id, step, self.definition.version)

    def _has(self, step_id: StepId) -> bool:
        return not isinstance(self.replay.ask(step_id, "compute"), Missing) or self.replay.ended

    async def _until_recorded(self, place: str, command: Command, recorded: Callable[[], bool], term: int) -> None:
        def refused(outcome: Outcome) -> None:
            self._refused[place] = outcome
            self._wake(place)

        self._around.propose(command, refused)
        while not recorded() and self._around.acting == term:
            match self._refused.pop(place, None):
                case Rejected(code=code, reason=reason) if code in ("bad_command", "unknown_run"):
                    raise InternalError(f"the record of {place!r} was refused: {reason}")
                case Rejected(code=code) if code in _FINAL_REFUSALS:
                    await self._wait(place)
                case None:
                    await self._wait(place)
                case _:
                    # No answer yet: the first record wins, so saying it again does no harm.
                    self._around.propose(command, refused)
        self._refused.pop(place, None)

    async def _wait(self, place: str) -> None:
        # By position, not by name: the record of another step at this place is what shows that this node has diverged.
        position = place.partition("/")[0]
        event = anyio.Event()
        self._waiting[position] = event
        try:
            await event.wait()
        finally:
            if self._waiting.get(position) is event:
                del self._waiting[position]

    def _wake(self, place: str) -> None:
        event = self._waiting.get(place.partition("/")[0])
        if event is not None:
            event.set()

    def _differ(self, reason: str, *, asked: str = "", recorded: str = "") -> None:
        self.difference = divergence.explain(reason, self.function, asked=asked, recorded=recorded)
        self.stop("diverged", reason)

    async def diverge(self, reason: str, *, asked: str = "", recorded: str = "") -> None:
        """End this execution, and not the run: it does not do what was recorded. Does not return.

        `asked` and `recorded` say what differs, side by side.
        """
        self._differ(reason, asked=asked, recorded=recorded)
        await anyio.lowlevel.checkpoint()  # raises the cancellation
        raise InternalError("a stopped execution went on")

    # --- the end

    async def finish(self, result: bytes | None, failure: Failure | None) -> None:
        """Record the end where this node acts, wait for the record, and compare with it."""
        self.result, self.failure = result, failure
        while self._recorded_end is None:
            await self._around.pass_gate()
            if self.replay.queue_length:
                await self.diverge(self._left_over(), asked="the end of the workflow", recorded=self._next_recorded())
            term = self._around.acting
            if term is None:
                await self._wait(_END)
                continue
            command = EndRun(self.run_id, term, self._around.node, result, failure, self.definition.version)
            with anyio.CancelScope() as scope, self._around.fenced(scope):
                await self._until_recorded(_END, command, lambda: self._recorded_end is not None, term)
        difference = self._difference(self._recorded_end)
        if difference:
            self._differ(
                difference, asked="the end of the workflow", recorded=self._next_recorded() or "the end of the run"
            )
        else:
            self.status = "completed" if failure is None else "failed"

    def _left_over(self) -> str:
        return f"it ended without asking for the recorded step {self.replay.queue[0]!r}"

    def _next_recorded(self) -> str:
        """The recorded step that this execution should ask for next; "" if there is none."""
        answer = self.replay.ask(self.replay.queue[0], "compute") if self.replay.queue_length else None
        step = answer.step if isinstance(answer, Recorded) else getattr(answer, "recorded", None)
        return "" if step is None else divergence.described(step)

    def _difference(self, recorded: RunEnded) -> str | None:
        if self.replay.queue_length:
            return self._left_over()
        if (self.failure is None) != (recorded.failure is None):
            here = "a result" if self.failure is None else f"the failure {self.failure}"
            there = "a result" if recorded.failure is None else f"the failure {recorded.failure}"
            return f"it ended with {here}, the run with {there}"
        if self.failure is not None and recorded.failure is not None:
            if self.failure.type_name != recorded.failure.type_name:
                return f"it ended with the failure {self.failure}, the run with {recorded.failure}"
            return None
        if self.result is None or recorded.result is None or self.result == recorded.result:
            return None
        what = f"result of run {self.run_id!r}"
        mine, theirs = (values.digest(values.decode(data, what=what)) for data in (self.result, recorded.result))
        return "its result differs from the recorded one" if mine and theirs and mine != theirs else None

    def fail_without_record(self, error: BaseException) -> Failure:
        """An exception of the workflow as data, its traceback pointing at the workflow's own lines."""
        return failures.capture(error, definition_sources=self.definition.sources)

    def statistics(self) -> ExecutionStatistics:
        """How far this execution has come. May be called from any thread."""
        return ExecutionStatistics(
            status=self.status,
            step=self.replay.consumed,
            last_step_id=self.replay.last_consumed,
            catch_up_queue=self.replay.queue_length,
            effects_run=self.effects_run,
            activities=tuple(running.activity() for running in tuple(self._running.values())),
        )

    # --- used by the operations

    @property
    def seed(self) -> str:
        """What this run's randomness follows from; the same on every node."""
        return self.run_id

    @property
    def around(self) -> Surroundings:
        """What this execution runs in."""
        return self._around

    def effect_started(self, running: RunningStep) -> None:
        """A step's function begins to run here."""
        self._running[running.step_id] = running
        self.effects_run += 1
        self._around.effect_started(self.run_id, running.step_id)

    def effect_ended(self, running: RunningStep) -> None:
        """It has ended, or what it does is of no interest any more."""
        running.ended = True
        if self._running.get(running.step_id) is running:
            del self._running[running.step_id]

    def expire(self, step_id: StepId, due: float) -> Expiry:
        """Have the step `step_id` recorded when the wall clock shows `due`, by whichever node acts then."""
        expiry = self._expiries[step_id] = Expiry(self, step_id, due)
        expiry.arm()
        return expiry

    def forget_expiry(self, step_id: StepId) -> None:
        """Whether it is recorded or not is of no interest any more."""
        self._expiries.pop(step_id).disarm()
        self.replay.void(step_id.partition("/")[0])

    def propose_expiry(self, step_id: StepId) -> None:
        """Record that the time is over; said again until it is known to be recorded, or that this node cannot."""
        term = self._around.acting
        if term is None or step_id not in self._expiries or self._has(step_id):
            return

        def refused(outcome: Outcome) -> None:
            match outcome:
                case Rejected(code=code) if code in _FINAL_REFUSALS or code in ("stopped", "unknown_run"):
                    return
                case _:
                    self.propose_expiry(step_id)

        value, failure = self.product(step_id, None)
        step = Step(step_id, "expiry", value, failure, self._around.node, term)
        self._around.propose(self._checkpoint(step), refused)

    def is_outcome(self, error: BaseException) -> bool:
        """See `Surroundings.is_outcome`."""
        return self._around.is_outcome(error)

    def product(self, step_id: StepId, value: object) -> Product:
        """A value as what is recorded: encoded, or the failure of encoding it."""
        try:
            data, _ = values.round_trip(value, what=f"step {step_id!r} of run {self.run_id!r}")
        except BaseException as error:
            return None, self.fail_without_record(error)
        return data, None

    def decode(self, step: Step) -> Any:
        """The value of a recorded step, or raise its failure."""
        if step.failure is not None:
            raise failures.rebuild(step.failure, step_id=step.step_id)
        if step.value is None:
            raise InternalError(f"step {step.step_id!r} has neither value nor failure")
        return values.decode(step.value, what=f"step {step.step_id!r} of run {self.run_id!r}")


class Expiry:
    """A time that passes for a run, noticed by the acting node."""

    def __init__(self, execution: Execution, step_id: StepId, due: float) -> None:
        self._execution = execution
        self._step_id = step_id
        self._due = due
        self._alarm: Alarm | None = None

    def arm(self) -> None:
        """Wait for the time, if this node acts."""
        self.disarm()
        around = self._execution.around
        if around.acting is not None:
            self._alarm = around.alarms.call_at(self._due, partial(self._execution.propose_expiry, self._step_id))

    def disarm(self) -> None:
        """Wait no more."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None


def check_task(state: BranchState, what: str) -> None:
    """Refuse an operation from a task that is not the branch's own, or from within a step."""
    try:
        task_id = anyio.get_current_task().id
    except RuntimeError:  # on a thread without a loop
        task_id = -1
    if task_id != state.task_id:
        raise WrongTaskError(
            f"ctx: {what} was called from another task than the workflow's own (asyncio.gather, create_task, a task "
            "group). The order of such calls is not the same on every node. Await operations one after another, run "
            "branches with `await ctx.gather(branch_a, branch_b)`, or do the parallel work inside one ctx.compute step."
        )
    if state.inside is not None:
        raise WrongTaskError(
            f"ctx: {what} was called inside the step {state.inside!r}. A step is recorded as a whole: return its value, "
            "and call the next operation after it (of a function that is itself a @step, call `.fn`)."
        )
