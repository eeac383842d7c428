"""One node's execution of one run: it gets the records of the run one at a time, and runs until it is at rest after each.

The workflow runs on an event loop of its own (`workflow/loop`). One record and what follows from it is a *turn*. The acting node does the
same as all others, and besides begins effects at the end of turns.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from ...core.asked import Asked, Awaited, Diverged
from ...core.commands import (
    Command,
    ContinueRun,
    EndRun,
    FireTimers,
    NoteTaken,
    SetCheckpoint,
    StartChild,
    TellRun,
)
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
from ...errors import ExecutionDropped, InternalError, RestlessError, UnreadableError, WrongTaskError
from ..codec import classes, failures, values
from ..loop.run_loop import RunLoop, RunTask
from . import divergence, end_comparison, reading
from .branch_state import BranchState, Call
from .effects import Ask, Effects, Produce, propose
from .environment import ExecutionEnv, Once
from .inbox import RunContinued, RunEnded, RunStarted
from .mailbox import Mailbox, Queries
from .products import Encoded, Made, Told
from .renewal import ContinueAsNew, is_cancellation
from .running_step import STEP

if TYPE_CHECKING:
    from .alarms import Alarm
    from .running_step import RunningStep

NOTE_TAKEN_AFTER = 200
"""Messages that are taken before the acting node says so, where nothing else is recorded meanwhile."""


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
        self.status: ExecutionStatus = "running"
        self.reason = ""
        self.result: bytes | None = None
        self.failure: Failure | None = None
        self.continued: bytes | None = None
        self.effects_run = 0
        self.function: Callable[..., Any] | None = None
        """This node's copy of the workflow, once it has begun."""
        self.classes: classes.View = classes.NOTEBOOK  # once it has begun: those that its function knows
        self.difference: Difference | None = None
        """The reason why the execution cannot continue, as it is shown to people; None while it can."""
        self.done = anyio.Event()
        """Set when this node's execution has ended, however it did."""
        self.after: Execution | None = None
        """The execution of the generation before, which comes to its end first."""
        self.loop = RunLoop(self.seed, started.at)
        self.mailbox = Mailbox()
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
        self._around = around
        # Invariant: handed over, and not had, in the order of the log.
        self._queue: deque[Record] = deque()
        # Invariant: the step_ids of all gates handed over, and how many moves are in the queue.
        self._gates: set[StepId] = set()
        self._moves_ahead = 0
        self._recorded_end: RunEnded | RunContinued | None = None
        self._asked = Asked()
        # Invariant: what `_asked` has open, by step_id, in the order of asking.
        self._asks: dict[StepId, Ask] = {}
        # Invariant: asked for since effects were begun last.
        self._new_asks: list[Ask] = []
        # Invariant: steps whose effects, if any, are to be stopped at the end of the turn.
        self._over: list[StepId] = []
        # Invariant: attached children whose start was given up, by the step that starts them.
        self._abandoned: dict[StepId, RunId] = {}
        self._effects = Effects(self, around)
        self._joins: dict[RunId, list[asyncio.Future[Message]]] = {}
        self._main: RunTask | None = None
        self._in_code = False
        self._context: contextvars.Context | None = None
        self._taking_turns = False
        self._ended = False
        self._cancelled = False
        self._alarm: Alarm | None = None
        self._alarm_at: float | None = None
        # The due time that is proposed to fire, and the term in which.
        self._firing: tuple[float, int] | None = None
        self._ending_in: int | None = None
        self._told_taken = 0
        # The steps whose functions run here now.
        self._running: dict[StepId, RunningStep] = {}
        self.say_once = Once(lambda text: around.say(started.run_id, text))

    # --- what is delivered

    def add(self, record: Record) -> None:
        """Receive a record of this run, behind those before it."""
        self._queue.append(record)
        if isinstance(record, Step):
            if record.operation == "patched":
                self._gates.add(record.step_id)
        elif isinstance(record, MoveRecord):
            self._moves_ahead += 1

    def end(self, ended: RunEnded | RunContinued) -> None:
        """Receive the recorded end of the run, or of this generation of it; this execution continues to its own end."""
        self._recorded_end = ended
        if isinstance(ended, RunEnded) and ended.terminated:
            self.failure = ended.failure
            self.had += len(self._queue)
            self.steps_had += sum(isinstance(record, Step) for record in self._queue)
            self._queue.clear()
            self.stop("terminated", "the run was terminated")

    def pause(self, paused: bool) -> None:
        """Begin no new step and fire no timer from here on, or do so again."""
        self.paused = paused

    def acting_changed(self) -> None:
        """Note that this node may act, or may not any more."""
        self._effects.end_all()
        self._new_asks = list(self._asks.values())
        self._firing = self._ending_in = None

    def stop(self, status: ExecutionStatus, reason: str) -> None:
        """End this execution, though not the run."""
        if self.status == "running":
            self.status = status
            self.reason = reason
            self.dropped = True
            self._around.execution_stopped(self, reason)
            if not self._taking_turns:
                self._close()

    def drop(self) -> None:
        """End this execution, as its node stops: its code is closed, and what it still prints dropped."""
        self.dropped = True
        self._close()

    def broke(self, what: str, error: BaseException) -> None:
        """End this execution: a bug of ours was found while doing `what`."""
        self._around.broke(self, what, error)
        self.stop("diverged", f"internal error while {what}: {error}")

    # --- turns

    @property
    def has_turns(self) -> bool:
        """Whether there is anything to do for `take_turns`."""
        return self.status == "running" and not self.dropped and (self.after is None or self.after.done.is_set())

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
                    taken += 1
                    self._take(self._queue.popleft())
            self._end_effects()
            if not self._queue and self.status == "running":
                self._at_rest()
        except Exception as error:
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
                "an earlier version of raftoral-nb recorded this run, whose records are replayed otherwise: start it again "
                "under another run_id, or open the data directory with that version to let it end",
            )
            return False
        try:
            coroutine, self._context = self._around.prepare(self)
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

    def _end_effects(self) -> None:
        """Stop the effects of steps that came, or that nobody waits for any more. Outside of the run's loop: they run on the node's."""
        over, self._over = self._over, []
        for step_id in over:
            self._effects.end(step_id)

    def _rest(self) -> None:
        """Run the code until it is at rest. Code that never comes to rest ends here, on every node alike."""
        try:
            self.loop.run_until_rest()
        except RestlessError as error:
            self.failure = self.fail_without_record(error)
            self._ended = True
            self._over += self._asks
            self._asks.clear()
            self.loop.close_run()

    def _take(self, record: Record) -> None:
        """Let a record have its turn."""
        self.had += 1
        self.turn = record
        self.loop.set_time(record.at)
        match record:
            case Step():
                self.steps_had += 1
                self.last_step_id = record.step_id
                self._resolve(record)
            case Message(kind="child"):
                for future in self._joins.pop(record.name, ()):
                    if not future.done():
                        future.set_result(record)
            case Message():
                self.mailbox.arrive(record)
            case TimersFired():
                self._fire(record)
                return
            case CancelRecord():
                self.cancel_reason = record.reason
                if self._in_code and self._main is not None:
                    self._main.cancel(
                        f"run {self.run_id!r} was cancelled" + (f": {record.reason}" if record.reason else "")
                    )
            case MoveRecord():
                self._moves_ahead -= 1
        if self.status == "running":
            self._rest()

    def _resolve(self, step: Step) -> None:
        match self._asked.match(step):
            case Awaited():
                ask = self._asks.pop(step.step_id)
                self._over.append(step.step_id)
                if not ask.future.done():
                    ask.future.set_result(step)
            case Diverged(reason=reason, asked=asked, asked_id=asked_id):
                waits = self._coroutine(None if asked_id is None else self._asks.get(asked_id))
                shown = divergence.described(step)
                if self._ended:
                    reason = f"it ended without asking for the recorded step {step.step_id!r}"
                self.differ(reason, waits, asked=asked or self._what_waits(), recorded=shown)
            case _:
                if (
                    (child := self._abandoned.pop(step.step_id, None)) is not None
                    and step.failure is None
                    and not self._ended
                ):
                    path = path_of(position_of(step.step_id), 0)
                    self.loop.create_branch(
                        self.end_child(child), path=path, name=f"end of {child}", context=self._context
                    )

    def _fire(self, fired: TimersFired) -> None:
        self._firing = None
        if not self._ended and not self.loop.has_set(fired.due):
            self.differ(
                "the workflow set no timer that was due then, though one is recorded to have fired: its code must do the same "
                "operations in the same order every time",
                asked=self._what_waits(),
                recorded="timers that fired",
            )
            return
        for _ in self.loop.fire(fired.at):
            if self.status == "running":
                self._rest()

    def _coroutine(self, ask: Ask | None) -> Any:
        """Return the coroutine of the branch that asked; of the one that made it, if there is no code of the user's in it."""
        path, branches = "" if ask is None else ask.path, self.branches
        makers = sorted((one for one in branches if path.startswith(one)), key=len, reverse=True)
        shown = (branches[one] for one in makers if divergence.place(branches[one])[0])
        return next(shown, branches.get(path))

    def _what_waits(self) -> str:
        """Return what the execution waits for, as text."""
        if self._ended:
            return "the end of the workflow"
        asked = [f"{ask.operation} {ask.step_id!r}" for ask in self._asks.values()]
        asked += [f"{getter.kind} {' or '.join(map(repr, getter.names))}" for getter in self.mailbox.getters]
        asked += [f"the end of the child {run_id!r}" for run_id in self._joins]
        if self.loop.next_due is not None:
            asked.append("a time to come")
        return ", ".join(asked[:5]) or "nothing"

    # --- the code and its end

    async def _whole(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run the code and, as `asyncio.run` does, end what it has left behind. Runs on the run's own loop."""
        self._in_code = True
        try:
            returned = await coroutine
            self._in_code = False
            if isinstance(returned, ContinueAsNew):
                raise returned
            self.result = values.round_trip(returned, what=f"result of run {self.run_id!r}")[0]
        except (GeneratorExit, ExecutionDropped):
            raise
        except ContinueAsNew as again:
            self.continued, self.failure = self._next_input(again.input)
        except BaseException as error:
            if self.status != "running":  # it was stopped by what it did, and is dropped
                return
            self.failure = self.fail_without_record(error)
            if self.cancel_reason is not None and is_cancellation(error):
                self._cancelled = True
                self.failure = self._as_cancelled(self.failure)
        finally:
            self._in_code = False
        left = [task for task in self.loop.tasks() if task is not self.loop.current]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
        await self.loop.shutdown_asyncgens()
        self._ended = True

    def _at_rest(self) -> None:
        """Do what is to be done when every record that was handed over has had its turn."""
        recorded = self._recorded_end
        if recorded is not None:
            self._meet(recorded)
            return
        term = self.may_begin()
        if term is None:
            self._disarm()
            return
        if self._ended:
            # What a task that was made at the very end still asks for is not begun.
            self._propose_end(term)
            return
        asks, self._new_asks = self._new_asks, []
        for ask in asks:
            if self._asks.get(ask.step_id) is ask:
                self._effects.begin(ask, term)
        self._arm(term)
        if self.mailbox.taken - self._told_taken >= NOTE_TAKEN_AFTER:
            self._told_taken = self.mailbox.taken
            version, node = self.definition.version, self._around.node
            note = NoteTaken(self.run_id, self._told_taken, node, term, version, self.generation)
            propose(
                self._around, note, lambda: self._around.acting == term and self.status == "running", lambda _: None
            )

    def _meet(self, recorded: RunEnded | RunContinued) -> None:
        """Compare the end of this execution with the recorded one."""
        if not self._ended:
            asks = [ask.step_id for ask in self._asks.values()]
            if asks:
                reason = f"it asks for step {asks[0]!r}, but the run ended without such a step"
            else:
                reason = "the run has ended, and the code still waits for something"
            ask = next(iter(self._asks.values()), None)
            self.differ(reason, self._coroutine(ask), asked=self._what_waits(), recorded="the end of the run")
            return
        difference = end_comparison.difference(self.run_id, self.result, self.failure, self.continued, recorded)
        if difference:
            self.differ(difference, asked="the end of the workflow", recorded="the end of the run")
        elif self.continued is not None:
            self.status = "continued"
        elif self.failure is None:
            self.status = "completed"
        else:
            self.status = "cancelled" if self._cancelled else "failed"

    def _propose_end(self, term: int) -> None:
        self._disarm()
        if self._ending_in == term:
            return
        self._ending_in = term
        node, at, version = self._around.node, self._around.alarms.clock(), self.definition.version
        command: Command
        if self.continued is not None:
            left = self.mailbox.left
            command = ContinueRun(self.run_id, term, node, self.generation, self.continued, at, version, self.had, left)
        else:
            command = EndRun(
                self.run_id, term, node, self.result, self.failure, version, self._cancelled, self.generation, at
            )

        def wanted() -> bool:
            return self._around.acting == term and self._recorded_end is None and self.status == "running"

        propose(self._around, command, wanted, lambda reason: self.broke("recording the end", RuntimeError(reason)))

    def _close(self) -> None:
        """Let go of the code: nothing of this execution runs any more."""
        if self.done.is_set():
            return
        self._disarm()
        self._effects.end_all()
        self._asks.clear()
        self._new_asks.clear()
        if not self.loop.dead:
            with self.loop.entered():
                self.loop.close_run()
        # An execution may be kept, to be looked at; its tasks, which never ended, are not.
        self._main = None
        self._joins.clear()
        self.done.set()
        self.queries.tell()
        self._around.execution_done(self)

    def differ(self, reason: str, waits: Any = None, *, asked: str = "", recorded: str = "") -> None:
        """End this execution, and not the run: it does not do what was recorded.

        `asked` and `recorded` say what differs, side by side; `waits` is the coroutine that asked, or None for what runs now.
        """
        self.difference = divergence.explain(reason, self.function, waits, asked=asked, recorded=recorded)
        self.stop("diverged", reason)

    # --- timers

    def _arm(self, term: int) -> None:
        """Have this node notice when the earliest timer of the run is due."""
        due = self.loop.next_due
        if due is None or (self._firing is not None and self._firing[1] == term):
            self._disarm()
        elif self._alarm_at != due:
            self._disarm()
            self._alarm_at = due
            self._alarm = self._around.alarms.call_at(due, self._due)

    def _disarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._alarm_at = None

    def _due(self) -> None:
        """Propose to fire the timers that are due."""
        self._alarm = self._alarm_at = None
        due, term = self.loop.next_due, self.may_begin()
        if due is None or term is None or self._queue or self.status != "running":
            return  # looked at again when the queue is empty
        firing = self._firing = (due, term)
        at, node, version = max(self._around.alarms.clock(), due), self._around.node, self.definition.version
        command = FireTimers(self.run_id, due, at, node, term, version, self.generation, self.mailbox.taken)
        broken = lambda reason: self.broke("firing timers", RuntimeError(reason))  # noqa: E731
        propose(self._around, command, lambda: self._firing == firing and self.status == "running", broken)

    # --- operations (called by the workflow's code, in its turn)

    def here(self, what: str) -> BranchState:
        """Return the branch of the task that runs now; `what` names the operation that needs it.

        Raises `WrongTaskError` outside of the run's tasks, and inside of a step.
        """
        task = self._task_here()
        if task is None:
            running = STEP.get()
            if running is not None and running.run_id == self.run_id:
                raise WrongTaskError(
                    f"ctx: {what} was called inside the step {running.step_id!r}. A step is recorded as a whole: return its value, "
                    "and call the next operation after it (a function that is itself a @step is called as what it is)."
                )
            raise WrongTaskError(
                f"ctx: {what} was called outside of the run's own tasks (in a thread, in a callback, in a query, or after the "
                "workflow has ended): call it in the workflow's function, or in a task that the workflow made"
            )
        return self.branch(task)

    @property
    def in_task(self) -> bool:
        """True if what runs here, on this thread, is a task of this run."""
        return self._task_here() is not None

    def branch(self, task: RunTask) -> BranchState:
        """Return the branch of a task."""
        state = task.state
        if state is None:
            state = task.state = BranchState(task.path)
        found: BranchState = state
        return found

    def _task_here(self) -> RunTask | None:
        try:
            return self.loop.current if asyncio.get_running_loop() is self.loop else None
        except RuntimeError:  # on a thread without a loop
            return None

    async def step(self, key: str, operation: Operation, produce: Produce) -> Step:
        """Return the record of the branch's next step, when that has its turn.

        `produce(step_id)` makes the product; it runs only where and when this node acts, is cancelled when it loses the
        epoch, and may therefore run again, here or elsewhere (see the promises in the README).
        """
        return await self.at(self.next_id(operation, key), operation, produce)

    def next_id(self, what: str, key: str) -> StepId:
        """Return the step_id of the branch's next operation, which it is from now on.

        Raises `WrongTaskError`, `StepKeyError`.
        """
        return self.here(f"{what} {key!r}").branch.next_id(key)

    async def at(self, step_id: StepId, operation: Operation, produce: Produce) -> Step:
        """Return the same as `step`, for a step_id that was taken before."""
        ask = self._ask(step_id, operation, produce)
        try:
            return await ask.future
        except BaseException:
            if self._asks.get(step_id) is ask:
                del self._asks[step_id]
                self._asked.give_up(step_id)
                self._over.append(step_id)
            raise

    def asked_for(self, step_id: StepId, operation: Operation, produce: Produce) -> asyncio.Future[Step]:
        """Return a future of what `at` returns. It stays asked for, whatever becomes of those who wait for it."""
        return self._ask(step_id, operation, produce).future

    def _ask(self, step_id: StepId, operation: Operation, produce: Produce) -> Ask:
        task = self._task_here()
        if task is None or self.status != "running":
            raise InternalError(f"step {step_id!r} was asked for outside of a turn")
        future: asyncio.Future[Step] = self.loop.create_future()
        ask = Ask(step_id, operation, task.path, produce, future)
        self._asked.ask(step_id, operation)
        self._asks[step_id] = ask
        self._new_asks.append(ask)
        return ask

    def passes_gate(self, step_id: StepId) -> bool:
        """Return whether a gate is to be waited for, or recorded.

        If not, the run passed here with code that had no such gate: a move lies ahead, and no record of the gate.
        """
        return step_id in self._gates or not self._moves_ahead

    def child_end(self, run_id: RunId) -> asyncio.Future[Message]:
        """Return a future of the end of a child. To be called in the turn in which its start is recorded."""
        future: asyncio.Future[Message] = self.loop.create_future()
        self._joins.setdefault(run_id, []).append(future)
        return future

    def abandon_child(self, step_id: StepId, run_id: RunId) -> None:
        """Have a child end that was started for one that had stopped waiting for its start, should that be recorded."""
        self._abandoned[step_id] = run_id

    async def end_child(self, run_id: RunId) -> None:
        """Record a request that a child end, as a step."""
        told = Told(run_id, "-", "whoever waited for it was cancelled")
        await self.step("end of a child", "cancel", lambda step_id: Made(*self.product(step_id, None), told=told))

    def may_begin(self) -> int | None:
        """Return the term in which something new may begin here; None if it may not."""
        return None if self.paused else self._around.acting

    # --- commands

    def command(self, ask: Ask, made: Made, term: int) -> Command:
        """Return the command that records what was made."""
        at, node, taken = self._around.alarms.clock(), self._around.node, self.mailbox.taken
        step = Step(ask.step_id, ask.operation, made.value, made.failure, node, term, at, made.message_id)
        version, generation = self.definition.version, self.generation
        if made.child is not None:
            child = made.child
            return StartChild(
                self.run_id,
                step,
                generation,
                child.run_id,
                child.workflow,
                child.version,
                child.input,
                child.detached,
                version,
                child.digest,
                RECORD_FORMAT,
                taken,
            )
        if made.told is not None:
            told = made.told
            return TellRun(
                self.run_id, step, told.run_id, told.signal_id, told.name, told.value, version, generation, taken
            )
        return SetCheckpoint(self.run_id, step, version, generation, taken)

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

    def statistics(self) -> ExecutionStatistics:
        """Return the progress of this execution. May be called from any thread."""
        return ExecutionStatistics(
            status=self.status,
            problem=self.reason or None,
            step=self.steps_had,
            last_step_id=self.last_step_id,
            catch_up_queue=len(self._queue),
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

    def fail_without_record(self, error: BaseException) -> Failure:
        """Return an exception of the workflow as data, its traceback pointing at the workflow's own lines."""
        return failures.capture(error, definition_sources=self.definition.sources, say=self.say_once)

    def _as_cancelled(self, failure: Failure) -> Failure:
        """Return the failure of a run that ends with its cancellation, whichever way that was raised."""
        name, reason = values.type_name(asyncio.CancelledError), self.cancel_reason or ""
        return msgspec.structs.replace(failure, type_name=name, message=reason, exception=None)

    def _next_input(self, value: object) -> Encoded:
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
