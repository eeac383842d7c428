"""One node's execution of one run: asks the replay cursor for each step, and acts only where nothing is recorded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import msgspec

from ...core.commands import Command, ContinueRun, EndRun, Outcome, Rejected, SetCheckpoint, StartChild
from ...core.records import Difference, Failure, Operation, Step, StepId
from ...core.replay import Diverged, Missing, Recorded, Replay
from ...core.statistics import ExecutionStatistics, ExecutionStatus
from ...errors import CancelledRunError, InternalError, Interrupted
from ..codec import classes, failures, values
from . import divergence, end_comparison, reading
from .branch_state import BranchState, check_task
from .environment import FINAL_REFUSALS, ExecutionEnv, Once
from .expiry import Expiry
from .inbox import RunContinued, RunEnded, RunStarted
from .interruption import Interruptions
from .mailbox import Mailbox, Queries
from .products import Encoded, Made, Product
from .scopes import DECISIONS, UNINTERRUPTED, pending

if TYPE_CHECKING:
    from .running_step import RunningStep

END = "end of the run"
"""The place where an execution waits when its workflow has returned. No step id: those contain a slash."""


class Execution:
    """One node's execution of one run.

    It runs on its node's loop; every method must be called there, except `statistics`.
    """

    def __init__(self, started: RunStarted, around: ExecutionEnv) -> None:
        self.run_id = started.run_id
        self.definition = started.definition
        self.input = started.input
        self.generation = started.generation
        self.status: ExecutionStatus = "running"
        self.reason = ""
        self.result: bytes | None = None
        self.failure: Failure | None = None
        self.continued: bytes | None = None
        self.effects_run = 0
        self.function: Callable[..., Any] | None = None
        """This node's copy of the workflow, once it has begun."""
        self.classes: classes.View = classes.NOTEBOOK  # once it has begun: those that its function knows
        self.branches: dict[str, Any] = {}  # by path, what is awaited in each that runs: it knows its line
        self.difference: Difference | None = None
        """The reason why the execution cannot continue, as it is shown to people; None while it can."""
        self.replay = Replay()
        self.scope = anyio.CancelScope()
        self.done = anyio.Event()
        """Set when this node's execution has ended, however it did."""
        self.after: Execution | None = None
        """The execution of the generation before, which comes to its end first."""
        self.mailbox = Mailbox()
        self.paused = False
        self.cancel_reason: str | None = None
        self.queries = Queries()
        self._interrupted = Interruptions()
        self._around = around
        self._recorded_end: RunEnded | RunContinued | None = None
        self._waiting: dict[str, anyio.Event] = {}
        self._refused: dict[str, Outcome] = {}
        # What is being done here now: for each cancel scope the branch and the position. A dict for its order.
        self._acts: dict[anyio.CancelScope, tuple[BranchState, str]] = {}
        # Of those, what a request to cancel the run may interrupt.
        self._interruptible: dict[anyio.CancelScope, tuple[BranchState, str]] = {}
        # The steps whose functions run here now.
        self._running: dict[StepId, RunningStep] = {}
        self._expiries: dict[StepId, Expiry] = {}
        self.say_once = Once(lambda text: around.say(started.run_id, text))

    # --- what is delivered

    def record(self, step: Step) -> None:
        """Receive a recorded step of this run."""
        if step.message_id is not None:
            self.mailbox.taken(step.message_id)
        self.replay.record(step)
        self._wake(step.step_id)
        if step.operation in DECISIONS:
            for scope, (state, position) in tuple(self._acts.items()):
                if pending(self.replay, state, position) is not None:
                    scope.cancel()
            self.wake_all()

    def end(self, ended: RunEnded | RunContinued) -> None:
        """Receive the recorded end of the run, or of this generation of it; this execution continues to its own end."""
        self._recorded_end = ended
        self.replay.end()
        self.wake_all()
        if isinstance(ended, RunEnded) and ended.terminated:
            self.failure = ended.failure
            self.replay.skip()
            self.stop("terminated", "the run was terminated")

    def cancel(self, reason: str) -> None:
        """Interrupt what the run waits for, wherever that was not done yet: the run is to end."""
        self.cancel_reason = reason
        for scope, (state, _) in tuple(self._interruptible.items()):
            if self._may_interrupt(state):
                scope.cancel()

    def pause(self, paused: bool) -> None:
        """Begin no new step from here on, or do so again."""
        self.paused = paused
        self.wake_all()

    def wake_all(self) -> None:
        """Let every waiting operation look again, as something changed that concerns all."""
        for event in self._waiting.values():
            event.set()

    def acting_changed(self) -> None:
        """Note that this node may act, or may not any more."""
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

    def follow(self, before: Execution) -> None:
        """Be the generation after `before`: begin when that has come to its end."""
        self.after = before
        self.take_over(before)
        self.mailbox.forget("child")

    def take_over(self, before: Execution) -> None:
        """Heed what `before`, in whose place this is, was told and has not heeded for good."""
        self.paused, self.cancel_reason = before.paused, before.cancel_reason
        self.mailbox.inherit(before.mailbox)

    async def turn(self) -> None:
        """Wait for the execution of the generation before to end."""
        if self.after is not None:
            await self.after.done.wait()
            self.after = None

    # --- steps

    async def step(
        self,
        state: BranchState,
        key: str,
        operation: Operation,
        produce: Callable[[StepId], Awaitable[Product]],
    ) -> Step:
        """Return the record of the branch's next step: the one that exists, or else, on the acting node, a new one.

        `produce(step_id)` makes the value; it runs only where and when this node acts, is cancelled when it loses the
        epoch, and may therefore run again, here or elsewhere (see the promises in the README).
        """
        return await self.at(state, self.next_id(state, operation, key), operation, produce)

    def next_id(self, state: BranchState, what: str, key: str) -> StepId:
        """Return the step_id of the branch's next operation, which it is from now on.

        Raises `WrongTaskError`, `StepKeyError`.
        """
        check_task(state, f"{what} {key!r}")
        return state.branch.next_id(key)

    async def at(
        self,
        state: BranchState,
        step_id: StepId,
        operation: Operation,
        produce: Callable[[StepId], Awaitable[Product]],
    ) -> Step:
        """Return the same as `step`, for a step_id that was taken before.

        Raises `Interrupted` if a scope of the branch is over, and `CancelledRunError` if the request to cancel the run
        interrupted the step, which was recorded in its place.
        """
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
                    if step.cancelled:
                        self._interrupted.add(position)
                        raise CancelledRunError(self.run_id, "" if step.failure is None else step.failure.message)
                    return step
                case Diverged(reason=reason) as answer:
                    asked, recorded = divergence.sides(answer)
                    await self.diverge(reason, asked=asked, recorded=recorded)
                case Missing(ended=True):
                    asked = f"{operation} {step_id!r}"
                    reason = f"it asks for step {step_id!r}, but the run ended without such a step"
                    await self.diverge(reason, asked=asked, recorded="the end of the run")
                case Missing():
                    term = self.may_begin()
                    if term is None:
                        await self._wait(step_id)
                    else:
                        await self._act(state, step_id, operation, produce, term)

    def may_begin(self) -> int | None:
        """Return the term in which something new may begin here; None if it may not."""
        return None if self.paused else self._around.acting

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
            made = Made()
            try:
                made = await self._make(state, step_id, operation, produce)
                command = self._record(step_id, operation, made, term)
                await self._until_recorded(step_id, command, lambda: self.has(step_id), term)
            finally:
                state.inside = None
                del self._acts[scope]
                if made.message_id is not None:
                    self.mailbox.release(made.message_id)

    async def _make(
        self,
        state: BranchState,
        step_id: StepId,
        operation: Operation,
        produce: Callable[[StepId], Awaitable[Product]],
    ) -> Made:
        """Return what `produce` makes; or that the request to cancel came before it or interrupted it."""
        if operation in UNINTERRUPTED or not (self.cancel_reason is not None and self._may_interrupt(state)):
            with anyio.CancelScope() as scope:
                if operation not in UNINTERRUPTED:
                    self._interruptible[scope] = (state, step_id)
                try:
                    product = await produce(step_id)
                    return product if isinstance(product, Made) else Made(*product)
                finally:
                    self._interruptible.pop(scope, None)
        return Made(failure=self.as_cancelled(Failure("", "")), cancelled=True)

    def _may_interrupt(self, state: BranchState) -> bool:
        """Return whether a request to cancel the run may interrupt what the branch does now."""
        return not state.shielded and not self._interrupted.cover(state.branch.path)

    def _record(self, step_id: StepId, operation: Operation, made: Made, term: int) -> Command:
        at, node = self._around.wall_clock(), self._around.node
        step = Step(
            step_id, operation, made.value, made.failure, node, term, at, made.message_id, cancelled=made.cancelled
        )
        if (child := made.child) is None:
            return self.checkpoint(step)
        return StartChild(
            self.run_id,
            step,
            self.generation,
            child.run_id,
            child.workflow,
            child.version,
            child.input,
            child.detached,
            self.definition.version,
            child.digest,
        )

    def checkpoint(self, step: Step) -> SetCheckpoint:
        """Return the command that records a step."""
        return SetCheckpoint(self.run_id, step, self.definition.version, self.generation)

    def has(self, step_id: StepId) -> bool:
        """Return whether there is a record at the step's position, or never will be."""
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
                case Rejected(code=code) if code in FINAL_REFUSALS:
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
        if (event := self._waiting.get(place.partition("/")[0])) is not None:
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

    async def finish(
        self,
        result: bytes | None,
        failure: Failure | None,
        *,
        cancelled: bool = False,
        continued: bytes | None = None,
    ) -> None:
        """Record the end where this node acts, wait for the record, and compare with it.

        `cancelled` says that the failure is the run's cancellation; `continued` is the input with which it begins anew.
        """
        if self._stopped():  # code that was stopped, and went on to an end of its own
            return
        self.result, self.failure, self.continued = result, failure, continued
        while not self._end_recorded():
            await self._around.pass_gate()
            if self._end_recorded():  # while the node was held
                break
            if self.replay.queue_length:
                await self.diverge(self._left_over(), asked="the end of the workflow", recorded=self._next_recorded())
            term = self.may_begin()
            if term is None:
                await self._wait(END)
                continue
            command = self._last_command(term, cancelled=cancelled)
            with anyio.CancelScope() as scope, self._around.fenced(scope):
                await self._until_recorded(END, command, self._end_recorded, term)
        recorded = self._recorded_end
        if self._stopped() or recorded is None:  # stopped while it waited; the loop leaves with a record
            return
        difference = self._difference(recorded)
        if difference:
            self._differ(
                difference, asked="the end of the workflow", recorded=self._next_recorded() or "the end of the run"
            )
        elif continued is not None:
            self.status = "continued"
        elif failure is None:
            self.status = "completed"
        else:
            self.status = "cancelled" if cancelled and self.cancel_reason is not None else "failed"

    def _left_over(self) -> str:
        return f"it ended without asking for the recorded step {self.replay.queue[0]!r}"

    def _next_recorded(self) -> str:
        """Return the recorded step that this execution should ask for next; "" if there is none."""
        answer = self.replay.ask(self.replay.queue[0], "compute") if self.replay.queue_length else None
        step = answer.step if isinstance(answer, Recorded) else getattr(answer, "recorded", None)
        return "" if step is None else divergence.described(step)

    def _stopped(self) -> bool:
        return self.status != "running"

    def _last_command(self, term: int, *, cancelled: bool) -> Command:
        node, at, version = self._around.node, self._around.wall_clock(), self.definition.version
        if self.continued is not None:
            return ContinueRun(self.run_id, term, node, self.generation, self.continued, at, version)
        return EndRun(self.run_id, term, node, self.result, self.failure, version, cancelled, self.generation, at)

    def _end_recorded(self) -> bool:
        return self._recorded_end is not None

    def _difference(self, recorded: RunEnded | RunContinued) -> str | None:
        if self.replay.queue_length:
            return self._left_over()
        return end_comparison.difference(self.run_id, self.result, self.failure, self.continued, recorded)

    def fail_without_record(self, error: BaseException) -> Failure:
        """Return an exception of the workflow as data, its traceback pointing at the workflow's own lines."""
        return failures.capture(error, definition_sources=self.definition.sources, say=self.say_once)

    def statistics(self) -> ExecutionStatistics:
        """Return the progress of this execution. May be called from any thread."""
        return ExecutionStatistics(
            status=self.status,
            problem=self.reason or None,
            step=self.replay.consumed,
            last_step_id=self.replay.last_consumed,
            catch_up_queue=self.replay.queue_length,
            effects_run=self.effects_run,
            activities=tuple(running.activity() for running in tuple(self._running.values())),
        )

    # --- used by the operations

    @property
    def seed(self) -> str:
        """The seed of this run's randomness; the same on every node, and another in each generation."""
        return self.run_id if self.generation == 1 else f"{self.run_id}\n{self.generation}"

    @property
    def around(self) -> ExecutionEnv:
        """The environment of this execution."""
        return self._around

    def effect_started(self, running: RunningStep) -> None:
        """Note that a step's function begins to run here."""
        self._running[running.step_id] = running
        self.effects_run += 1
        self._around.effect_started(self.run_id, running.step_id)

    def effect_ended(self, running: RunningStep) -> None:
        """Note that it has ended, or that nothing waits for it any more."""
        running.ended = True
        if self._running.get(running.step_id) is running:
            del self._running[running.step_id]

    def expire(self, step_id: StepId, due: float) -> Expiry:
        """Have the step `step_id` recorded when the wall clock shows `due`, by whichever node acts then."""
        self.replay.void(step_id.partition("/")[0])  # nobody asks for it as for a step: it is looked at where it lies
        expiry = self._expiries[step_id] = Expiry(self, step_id, due)
        expiry.arm()
        return expiry

    def forget_expiry(self, step_id: StepId) -> None:
        """Forget an expiry: no operation waits for its record any more."""
        self._expiries.pop(step_id).forget()

    def is_outcome(self, error: BaseException) -> bool:
        """See `ExecutionEnv.is_outcome`."""
        return self._around.is_outcome(error)

    def product(self, step_id: StepId, value: object, known: classes.Lookup | None = None) -> Encoded:
        """Return a value as what is recorded: encoded, or the failure of encoding it.

        It is compared with what `known` gives.
        """
        try:
            return values.round_trip(value, what=f"step {step_id!r} of run {self.run_id!r}", known=known)[0], None
        except BaseException as error:
            return None, self.fail_without_record(error)

    def as_cancelled(self, failure: Failure) -> Failure:
        """Return the failure of a run that ends with its cancellation, whichever way that was raised."""
        name, reason = values.type_name(CancelledRunError), self.cancel_reason or ""
        return msgspec.structs.replace(failure, type_name=name, message=reason, exception=None)

    def next_input(self, value: object) -> Encoded:
        """Return the encoded input with which the run begins anew, or the failure of encoding it."""
        try:
            return values.round_trip(value, what=f"the next input of run {self.run_id!r}")[0], None
        except BaseException as error:
            return None, self.fail_without_record(error)

    def decode(self, step: Step) -> Any:
        """Return the value of a recorded step, or raise its failure."""
        if step.failure is not None:
            raise failures.rebuild(step.failure, step_id=step.step_id, view=self.classes)
        if step.value is None:
            raise InternalError(f"step {step.step_id!r} has neither value nor failure")
        return reading.read(self, step.value, f"step {step.step_id!r} of run {self.run_id!r}")
