"""One node's execution of one run: it gets the records of the run one at a time, and runs until it is at rest after each.

The workflow runs on an event loop of its own (`workflow/loop`). One record and what follows from it is a *turn*. The acting node does the
same as all others, and besides begins effects at the end of turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from ...core.asked import Awaited, Diverged
from ...core.blob_refs import REFERENCE_MARK
from ...core.records import (
    CancelRecord,
    Difference,
    Failure,
    Message,
    MoveRecord,
    Operation,
    Record,
    RunId,
    Step,
    StepId,
    TimersFired,
)
from ...core.run_record import RECORD_FORMAT
from ...core.statistics import ExecutionStatistics, ExecutionStatus
from ...core.step_ids import path_of, position_of
from ...errors import ExecutionDropped, InternalError, RestlessError, UnreadableError
from ..codec import classes, failures, values
from ..codec.blobs import plain
from ..loop.run_loop import RunLoop, RunTask
from . import divergence, end_comparison, reading, waits
from .acting import ActingEffects, OpenStep, Produce, StepPlace
from .blob_waits import BlobWaits, end_value
from .branch_state import BranchState, Call, branch_of, outside_of_tasks, task_here
from .child_ends import ChildEnds
from .end_proposal import EndProposal
from .environment import ExecutionEnv, Once
from .inbox import RunContinued, RunEnded, RunStarted, StepGiven
from .mailbox import Mailbox, Queries
from .open_steps import OpenSteps
from .products import Encoded, Made, Told
from .renewal import ContinueAsNew, as_cancelled, is_cancellation
from .rights import Rights
from .run_alarm import RunAlarm
from .running_step import RunningSteps
from .taken_messages import TakenMessages

if TYPE_CHECKING:
    from .running_step import RunningStep


class Execution:
    """One node's execution of one run.

    Every method must be called on its node's thread, except `statistics` and `branches`.
    """

    asked_for_time = False
    """Whether its code was told the time (`ctx.now`)."""

    def __init__(self, started: RunStarted, around: ExecutionEnv) -> None:
        self.run_id = started.run_id
        self.definition = started.definition
        self.input = started.input
        self.generation = started.generation
        self.format = started.format
        self.started_at = started.at
        """The run's time when it began (Unix seconds)."""
        self.status: ExecutionStatus = "running"
        self.reason = ""
        self.result: bytes | None = None
        self.failure: Failure | None = None
        self.continued: bytes | None = None
        self.function: Callable[..., Any] | None = None
        """This node's copy of the workflow, once it has begun."""
        self.classes: classes.View = classes.NOTEBOOK  # once it has begun: those that its function knows
        self.difference: Difference | None = None
        """The reason why the execution cannot continue, as it is shown to people; None while it can."""
        self.done = asyncio.Event()
        """Set when this node's execution has ended, however it did."""
        self.after: Execution | None = None
        """The execution of the generation before, which comes to its end first."""
        self.seed = self.run_id if self.generation == 1 else f"{self.run_id}\n{self.generation}"
        """The seed of this run's randomness; the same on every node, and another in each generation."""
        self.loop = RunLoop(self.seed, started.at, self.run_id)
        self._taken = TakenMessages(self, around)
        self.mailbox = Mailbox(self._taken.add)
        self.queries = Queries()
        self.paused = False
        self.cancel_reason: str | None = None
        self.had = 0
        """The records that have had their turn."""
        self.steps_had = 0
        """The steps among them."""
        self.last_step_id: StepId | None = None
        self.turn: Record | None = None
        """The record whose turn was the last."""
        self.called: list[Call] = []
        """The operations that its code called and did not await yet."""
        self.dropped = False
        """True once it was ended from outside: what its code still prints is of no interest."""
        self.around = around
        # Invariant: handed over, and not had, in the order of the log.
        self._queue: deque[Record] = deque()
        # Invariant: the step_ids of all gates handed over, and how many moves are in the queue.
        self._gates: set[StepId] = set()
        self._moves_ahead = 0
        self._recorded_end: RunEnded | RunContinued | None = None
        self._open = OpenSteps()
        self.children = ChildEnds(self.loop)
        self.rights = Rights(self.run_id, around)
        self._effects = ActingEffects(self, around)
        self.held_values = self._effects.held
        self._main: RunTask | None = None
        self._in_code = False
        # Whether the code got the request to cancel the run.
        self.told_to_end = False
        self._context: contextvars.Context | None = None
        self._taking_turns = False
        self._ended = False
        self._cancelled = False
        self._alarm = RunAlarm(self, around)
        self._ending = EndProposal(self, self._effects)
        self.steps_here = RunningSteps()
        self._waits = waits.Waits()
        self.say_once = Once(lambda text: around.say(started.run_id, text))
        self._blobs = BlobWaits(around, lambda: around.goes_on(self))
        self._blobs.needs(self.input)

    # --- what is delivered

    def add(self, record: Record) -> None:
        """Receive a record of this run, behind those before it."""
        self._queue.append(record)
        if isinstance(record, Step):
            if record.value is not None and record.value[:1] == REFERENCE_MARK:
                self._blobs.needs(record.value)
            if record.operation == "patched":
                self._gates.add(record.step_id)
        elif isinstance(record, Message):
            self._blobs.needs(record.value)
        elif isinstance(record, MoveRecord):
            self._moves_ahead += 1

    def end(self, ended: RunEnded | RunContinued) -> None:
        """Receive the recorded end of the run, or of this generation of it; this execution continues to its own end."""
        self._recorded_end = ended
        if isinstance(ended, RunContinued) and self._blobs.absent:
            # What it waits for may be dropped, and never come; and the next generation waits for this one to end.
            self.stop("superseded", "the run has begun anew, and the large values of before are dropped")
        self._blobs.needs(end_value(ended))
        if isinstance(ended, RunEnded) and ended.terminated:
            self.failure = ended.failure
            self.had += len(self._queue)
            self.steps_had += sum(isinstance(record, Step) for record in self._queue)
            self._queue.clear()
            self.stop("terminated", "the run was terminated")

    def pause(self, paused: bool) -> None:
        """Begin no new step and fire no timer from here on, or do so again."""
        self.paused = paused

    def right_changed(self) -> None:
        """Note that this node may do the steps of the run, or may not any more, or under another number."""
        self._effects.stop_all(self.rights.bound_here)
        self._open.all_new()
        self._ending.forget()
        self._alarm.forget()

    def step_given(self, note: StepGiven) -> None:
        """Note to which node a step is bound."""
        if self.rights.given(note):
            self._effects.stop(note.step_id)
            self._open.all_new()

    def stop(self, status: ExecutionStatus, reason: str) -> None:
        """End this execution, though not the run."""
        if self.status == "running":
            self.status = status
            self.reason = reason
            self.dropped = True
            self.around.execution_stopped(self, reason)
            if not self._taking_turns:
                self._close()

    def drop(self) -> None:
        """End this execution, as its node stops: its code is closed, and what it still prints dropped."""
        self.dropped = True
        self._close()

    def broke(self, what: str, error: BaseException) -> None:
        """End this execution: a bug of ours was found while doing `what`."""
        self.around.broke(self, what, error)
        self.stop("diverged", f"internal error while {what}: {error}")

    # --- turns

    @property
    def has_turns(self) -> bool:
        """Whether there is anything to do for `take_turns`."""
        if self.status != "running" or self.dropped or self._lacks_value:
            return False
        return self.after is None or self.after.done.is_set()

    @property
    def _lacks_value(self) -> bool:
        """Whether what comes next needs a large value that is not here yet."""
        return bool(self._blobs.absent) and self._blobs.hold_up(self._main, self.input, self._queue, self._recorded_end)

    def take_turns(self, most: int) -> int:
        """Let up to `most` records have their turns, and begin what is to be begun when none is left; return how many had one."""
        if not self.has_turns:
            return 0
        taken = 0
        self._taking_turns = True
        try:
            if self._main is None and not self._begin():
                return 0
            with self.loop.entered():
                while self._queue and taken < most and self.status == "running":
                    if self._lacks_value:
                        break
                    taken += 1
                    self._take(self._queue.popleft())
            for step_id in self._open.to_end():  # outside of the run's loop: effects run on the node's
                self._effects.end(step_id)
            if not self._queue and self.status == "running":
                self._at_rest()
        except (Exception, ExecutionDropped) as error:
            if self.status == "running":  # else it could not read a message
                # A bug of ours. It must not take the executions of other runs along.
                self.broke("taking a turn", error)
        finally:
            self._taking_turns = False
            if self.status != "running":
                self._close()
        return taken

    @property
    def waits_for_turns(self) -> bool:
        """Whether records wait in the catch-up queue that could have their turns."""
        return bool(self._queue) and self.has_turns

    def _begin(self) -> bool:
        self.after = None
        if self.format != RECORD_FORMAT:
            reading.give_up(
                self,
                f"another version of raftoral-nb recorded this run, in format {self.format} of records, and this one executes format "
                f"{RECORD_FORMAT} alone: start it again under another run_id, and terminate this one",
            )
            return False
        try:
            coroutine, self._context = self.around.prepare(self)
        except UnreadableError as error:
            # Another node may have what it takes: this one takes no part in the run, and does not lead it.
            reading.give_up(self, str(error))
            return False
        with self.loop.entered():
            self._main = self.loop.create_branch(
                self._whole(coroutine), path="", name=f"run {self.run_id}", context=self._context
            )
            self._rest()
        return True

    def _rest(self) -> None:
        """Run the code until it is at rest. Code that never comes to rest ends here, on every node alike."""
        try:
            self.loop.run_until_rest()
        except RestlessError as error:
            self.failure = self.fail_without_record(error)
            self.result = self.continued = None  # it may have returned, and not rest in what it left behind
            self._ended = True
            self._open.close()
            self.loop.close_run()

    def _take(self, record: Record) -> None:
        """Let a record have its turn."""
        self.had += 1
        self.turn = record
        self.loop.set_time(record.at)
        match record:
            case Step():
                self._taken.recorded()
                self.steps_had += 1
                self.last_step_id = record.step_id
                self.rights.bound.pop(record.step_id, None)
                self._resolve(record)
            case Message(kind="child"):
                self.children.came(record)
            case Message():
                self.mailbox.arrive(record)
            case TimersFired():
                self._fire(record)
                return
            case CancelRecord():
                self.cancel_reason = record.reason
                if self._in_code and self._main is not None:
                    self.told_to_end = True
                    self._main.cancel(
                        f"run {self.run_id!r} was cancelled" + (f": {record.reason}" if record.reason else "")
                    )
                elif not self._ended:
                    self.mailbox.handlers.cancel(every=True)
            case MoveRecord():
                self._moves_ahead -= 1
        if self.status == "running" and not self._ended:  # an ended one takes no message
            self._rest()

    def _resolve(self, step: Step) -> None:
        match self._open.match(step):
            case Awaited():
                pass
            case Diverged(reason=reason, asked=asked, asked_id=asked_id):
                waits = self._coroutine(None if asked_id is None else self.asks.get(asked_id))
                shown = divergence.described(step)
                if self._ended:
                    reason = f"it ended without asking for the recorded step {step.step_id!r}"
                self.differ(reason, waits, asked=asked or self._what_waits(), recorded=shown)
            case _:
                child = self.children.started(step.step_id)
                if child is not None and step.failure is None and not self._ended:
                    path, name = path_of(position_of(step.step_id), 0), f"end of {child}"
                    self.loop.create_branch(self.end_child(child), path=path, name=name, context=self._context)

    def _fire(self, fired: TimersFired) -> None:
        self._alarm.forget()
        if not self._ended and not self.loop.has_set(fired.due):
            self.differ(
                "the workflow set no timer that was due then, though one is recorded to have fired: its code must do the same "
                "operations in the same order every time",
                asked=self._what_waits(),
                recorded="timers that fired",
            )
            return
        for _ in self.loop.fire(fired.at):
            if self.status == "running" and not self._ended:
                self._rest()

    def _coroutine(self, ask: OpenStep | None) -> Any:
        return divergence.code_of("" if ask is None else ask.path, self.branches)

    def _what_waits(self) -> str:
        return "the end of the workflow" if self._ended else waits.in_words(self)

    # --- the code and its end

    async def _whole(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run the code and, as `asyncio.run` does, end what it has left behind. Runs on the run's own loop."""
        self._in_code = True
        try:
            returned = await coroutine
            self._in_code = self.mailbox.handlers.open = False
            if isinstance(returned, ContinueAsNew):
                raise returned
            self.result = values.checked(returned, what=f"result of run {self.run_id!r}")
        except (GeneratorExit, ExecutionDropped):
            raise
        except ContinueAsNew as again:
            try:
                self.continued = values.checked(again.input, what=f"the next input of run {self.run_id!r}")
            except Exception as error:
                self.failure = self.fail_without_record(error)
        except BaseException as error:
            if self.status != "running":  # it was stopped by what it did, and is dropped
                return
            self.failure = self.fail_without_record(error)
            if is_cancellation(error):
                # Whichever way it was raised.
                self._cancelled = self.cancel_reason is not None
                self.failure = as_cancelled(self.failure, self.cancel_reason)
        finally:
            self._in_code = self.mailbox.handlers.open = False
        self.mailbox.handlers.cancel(every=self._cancelled)
        while not self._ended:
            # A cancellation that the code asked for and did not wait for comes here, and must not keep the run from ending.
            with contextlib.suppress(asyncio.CancelledError):
                await self.mailbox.handlers.end()
                await self.loop.end_other_tasks()
                self._ended = True

    def _at_rest(self) -> None:
        """Do what is to be done when every record that was handed over has had its turn."""
        self._taken.tell(self.rights.now())
        recorded = self._recorded_end
        if recorded is not None:
            if not self._lacks_value:
                self._meet(recorded)
            return
        term = self.may_begin()
        if self._ended:
            # What a task that was made at the very end still asks for is not begun.
            self._alarm.disarm()
            self._ending.propose(term, cancelled=self._cancelled)
            return
        for ask in () if self.paused else self._open.to_begin():
            number = term if ask.place is None else self.rights.to_begin(self, ask, ask.place, term)
            if number is not None:
                self._effects.begin(ask, number)
        if term is None:
            self._alarm.disarm()
            return
        self._alarm.arm(term)
        self._taken.note(term)

    def _meet(self, recorded: RunEnded | RunContinued) -> None:
        """Compare the end of this execution with the recorded one."""
        if not self._ended:
            ask = next(iter(self.asks.values()), None)
            reason = end_comparison.early(None if ask is None else ask.step_id)
            self.differ(reason, self._coroutine(ask), asked=self._what_waits(), recorded="the end of the run")
            return
        difference = end_comparison.difference(self.run_id, self.result, self.failure, self.continued, recorded)
        if difference:
            self.differ(difference, asked="the end of the workflow", recorded="the end of the run")
        else:
            self.status = end_comparison.status(self.continued, self.failure, cancelled=self._cancelled)

    def _close(self) -> None:
        """Let go of the code: nothing of this execution runs any more."""
        if self.done.is_set():
            return
        self._alarm.close()
        self._effects.stop_all()
        self._open.close()
        if not self.loop.dead:
            with self.loop.entered():
                self.loop.close_run()
        # An execution may be kept, to be looked at; its tasks, which never ended, are not.
        self._main = None
        self.result = None if self.result is None else plain(self.result)
        self.continued = None if self.continued is None else plain(self.continued)
        self.children.clear()
        self.done.set()
        self.queries.tell()
        self.around.execution_done(self)

    def differ(self, reason: str, waits: Any = None, *, asked: str = "", recorded: str = "") -> None:
        """End this execution, and not the run: it does not do what was recorded.

        `asked` and `recorded` say what differs, side by side; `waits` is the coroutine that asked, or None for what runs now.
        """
        python = self.definition.made_with.get("python")
        self.difference = divergence.explain(
            reason, self.function, waits, asked=asked, recorded=recorded, python=python
        )
        self.stop("diverged", reason)

    # --- operations (called by the workflow's code, in its turn)

    def here(self, what: str) -> BranchState:
        """Return the branch of the task that runs now; `what` names the operation that needs it.

        Raises `WrongTaskError` outside of the run's tasks, and inside of a step.
        """
        task = task_here(self.loop)
        if task is None:
            raise outside_of_tasks(self.run_id, what)
        return branch_of(task)

    @property
    def in_task(self) -> bool:
        """True if what runs here, on this thread, is a task of this run."""
        return task_here(self.loop) is not None

    def step(self, key: str, operation: Operation, produce: Produce) -> Awaitable[Step]:
        """Return the record of the branch's next step, when that has its turn.

        `produce(step_id)` makes the product; it runs only where and when this node acts, is cancelled when it loses the
        epoch, and may therefore run again, here or elsewhere (see `docs/promises.md`).
        """
        return self.at(self.next_id(operation, key), operation, produce)

    def next_id(self, what: str, key: str) -> StepId:
        """Return the step_id of the branch's next operation, which it is from now on.

        Raises `WrongTaskError`, `StepKeyError`.
        """
        return self.here(f"{what} {key!r}").branch.next_id(key)

    async def at(self, step_id: StepId, operation: Operation, produce: Produce, place: StepPlace | None = None) -> Step:
        """Return the same as `step`, for a step_id that was taken before, and is done in a place of its own if it has one."""
        ask = self._ask(step_id, operation, produce, place)
        try:
            return await ask.future
        except BaseException:
            self._open.give_up(ask)
            raise

    def asked_for(self, step_id: StepId, operation: Operation, produce: Produce) -> asyncio.Future[Step]:
        """Return a future of what `at` returns. It stays asked for, whatever becomes of those who wait for it."""
        return self._ask(step_id, operation, produce).future

    def _ask(self, step_id: StepId, operation: Operation, produce: Produce, place: StepPlace | None = None) -> OpenStep:
        task = task_here(self.loop)
        if task is None or self.status != "running":
            raise InternalError(f"step {step_id!r} was asked for outside of a turn")
        ask = OpenStep(step_id, operation, task.path, produce, self.loop.create_future(), place)
        self._open.ask(ask)
        return ask

    def passes_gate(self, step_id: StepId) -> bool:
        """Return whether a gate is to be waited for, or recorded: not if the run passed here with code that had none."""
        return step_id in self._gates or not self._moves_ahead

    async def end_child(self, run_id: RunId) -> None:
        """Record a request that a child end, as a step."""
        told = Told(run_id, "-", "whoever waited for it was cancelled")
        await self.step("end of a child", "cancel", lambda step_id: Made(*self.product(step_id, None), told=told))

    @property
    def may_fire(self) -> int | None:
        """The term in which timers may be fired here now; None if they may not."""
        return None if self._queue or self.status != "running" else self.may_begin()

    def may_begin(self) -> int | None:
        """Return the term in which something new may begin here; None if it may not."""
        return None if self.paused else self.rights.now()

    # --- looking at it

    @property
    def queue_length(self) -> int:
        """The length of the catch-up queue (records)."""
        return len(self._queue)

    @property
    def queue(self) -> tuple[Record, ...]:
        """The catch-up queue: the records that were handed over and have not had their turn. A copy."""
        return tuple(self._queue)

    @property
    def ended(self) -> bool:
        """True if the code has come to its end, whether that is recorded or not."""
        return self._ended

    @property
    def run_ended(self) -> bool:
        """True if the end of the run, or of this generation, was handed over."""
        return self._recorded_end is not None

    @property
    def branches(self) -> dict[str, Any]:
        """What is awaited in each branch that runs, by its path: it knows its line. A copy; from any thread."""
        return {task.path: task.get_coro() for task in self.loop.tasks()}

    @property
    def asks(self) -> Mapping[StepId, OpenStep]:
        """What it asked for and has not had, in the order of asking."""
        return self._open.by_id

    @property
    def at_rest(self) -> bool:
        """Whether its code has begun, and does not run now. From any thread."""
        return self._main is not None and not self._taking_turns

    @property
    def stuck(self) -> bool:
        """True if nothing but a request to cancel can wake it. From any thread."""
        if self.status != "running" or not self.at_rest or self._ended or self._queue or self.run_ended:
            return False
        return not waits.can_be_woken(self)

    def statistics(self, *, whole: bool = False) -> ExecutionStatistics:
        """Return the progress of this execution; the `whole` of it with what its branches wait for. May be called from any thread."""
        return self._waits.statistics(self, whole=whole)

    # --- used by the operations

    def effect_started(self, running: RunningStep) -> None:
        """Note that a step's function begins to run here."""
        self.steps_here.started(running)
        self.around.effect_started(self.run_id, running.step_id)

    def product(self, step_id: StepId, value: object, known: classes.Lookup | None = None) -> Encoded:
        """Return a value as what is recorded: encoded, or the failure of encoding it.

        It is compared with what `known` gives.
        """
        try:
            return values.checked(value, what=f"step {step_id!r} of run {self.run_id!r}", known=known), None
        except BaseException as error:
            return None, self.fail_without_record(error)

    def fail_without_record(self, error: BaseException) -> Failure:
        """Return an exception of the workflow as data, its traceback pointing at the workflow's own lines."""
        return failures.capture(error, definition_sources=self.definition.sources, say=self.say_once)

    def decode(self, step: Step) -> Any:
        """Return the value of a recorded step, or raise its failure."""
        return reading.read_step(self, step, f"step {step.step_id!r} of run {self.run_id!r}")
