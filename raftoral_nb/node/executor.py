"""A node's execution side: executes every run, on the node's own loop, from what the consensus side delivers."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Literal, Protocol

from ..core.blob_refs import BlobRef
from ..core.cluster_events import (
    EffectStarted,
    ExecutionStopped,
    NodeBlocked,
    OutputLine,
)
from ..core.commands import Command, Committed, Outcome
from ..core.events import ClusterEvent
from ..core.records import CachedStep, Definition, Failure, NodeId, RunId, StepId, StepState
from ..core.run_record import RECORD_FORMAT
from ..core.statistics import STUCK, ExecutionStatistics
from ..errors import ExecutionDropped, RaftoralError, UnreadableError
from ..limits import MAX_FUNCTIONS_KEPT
from ..threads.step_threads import Steps
from ..workflow.codec import values
from ..workflow.execution.alarms import Alarms
from ..workflow.execution.elsewhere import StepsElsewhere
from ..workflow.execution.execution import Execution
from ..workflow.execution.inbox import (
    ActingChanged,
    HandedOver,
    OwnerChanged,
    PauseChanged,
    RecordAdded,
    RecordsAdded,
    RunContinued,
    RunDropped,
    RunEnded,
    RunStarted,
    RunSwitched,
    StepGiven,
    ValueLimitChanged,
)
from ..workflow.execution.large_values import HoldingNode, LargeValues
from ..workflow.execution.products import Encoded
from ..workflow.execution.running_step import CONTEXT
from ..workflow.language import messages, unawaited
from ..workflow.language.context import WorkflowContext
from ..workflow.loop import asyncio_patches
from ..workflow.loop.run_loop import RunLoop
from ..workflow.shipping import arithmetic, definitions
from ..workflow.shipping.definitions import Loaded
from . import process_pools
from .captured_output import LineSink, Stream, capture, capturing, current_execution
from .stepping_aside import SteppingAside
from .watchdog import Watchdog

logger = logging.getLogger(__name__)

TURNS_AT_ONCE = 100
"""Turns that executions may take before others get to use the node's loop."""

PROPOSAL_SECONDS = 30.0
"""The time that one proposal of a record may take before it is proposed again."""


class ExecutorEnv(HoldingNode, Protocol):
    """The environment of an executor: what it needs of its node.

    `propose` and `arm` reach the consensus loop; all may be called from anywhere.
    """

    def propose(self, command: Command, timeout: float, done: Callable[[Outcome], None]) -> None:
        """Propose a command; `done(outcome)` is called on the consensus loop."""
        ...

    def post(self, fn: Callable[..., object], *args: Any) -> None:
        """Call `fn(*args)` on the executor's own loop, soon."""
        ...

    def arm(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call `callback` after `seconds`, on a loop that workflows cannot block."""
        ...

    def tell(self, event: ClusterEvent) -> None:
        """Publish an event."""
        ...

    def write(self, line: OutputLine) -> None:
        """Keep a line of captured output."""
        ...

    def yield_leadership(self) -> None:
        """Have another node lead."""
        ...

    def holds_blob(self, digest: str) -> bool:
        """Return whether this node has stored a blob."""
        ...

    def fetch_blob(self, ref: BlobRef, ready: Callable[[], None]) -> None:
        """Have a blob fetched from another node; `ready()` is called on the consensus loop when it is here."""
        ...

    def definition(self, workflow: str, version: int | None) -> Definition | None:
        """Return this node's definition of a workflow, in its latest version if None is given; None if it has none."""
        ...

    def step_state(self, run_id: RunId, step_id: StepId) -> StepState | None:
        """Return what an open step has saved last, in this node's state."""
        ...

    def cached_step(self, key: str) -> CachedStep | None:
        """Return what is in the cache of steps, in this node's state."""
        ...


class Executor:
    """The executor of runs.

    `main` must run on the node's loop; every other method must be called there unless it says otherwise.
    """

    def __init__(
        self,
        node: NodeId,
        host: ExecutorEnv,
        steps: Steps,
        clock: Callable[[], float],
        wall_clock: Callable[[], float] = time.time,
        proposal_seconds: float = PROPOSAL_SECONDS,
        look_again: float = math.inf,
        executors: StepsElsewhere | None = None,
    ) -> None:
        self.node = node
        self.executors = executors
        self._proposal_seconds = proposal_seconds
        self._wall_clock = wall_clock
        self.steps = steps
        self.acting: int | None = None
        self.effects_run = 0
        self.binds = True
        self.closed = False
        """Set, from any thread, before the node's loop is told to end."""
        self.large_values = LargeValues(host)
        self.replace_function: Callable[[RunId, StepId, Callable[..., Any]], Callable[..., Any]] | None = None
        """The function that says what to run in place of a step's function; for tests."""
        self._host = host
        self._executions: dict[RunId, Execution] = {}
        # Invariant: the latest used last; at most MAX_FUNCTIONS_KEPT.
        self._functions: dict[str, Loaded] = {}
        self._closed_gates: set[str] = set()
        self._aside = SteppingAside(self)
        # Invariant: executions for which something has changed since they took their turns last. A dict for its order.
        self._ready: dict[Execution, None] = {}
        # Invariant: by an execution that has not ended here, that of the next generation, which waits for it. A run may have begun
        # anew several times since: each waits for the one before.
        self._next: dict[Execution, Execution] = {}
        self._running = False
        # Invariant: tasks of effects that run. A dict for its order.
        self._effects: dict[asyncio.Task[None], None] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._called_soon = False
        self._sinks: dict[Execution, LineSink] = {}
        self._arrival = asyncio.Event()
        self.timers = Alarms(clock, host.arm, host.post)
        self.alarms = Alarms(wall_clock, host.arm, host.post, look_again)
        self._watchdog = Watchdog(
            host.arm, clock, self._blocked, lambda run_id: None, driver=RunLoop.run_until_rest.__code__
        )

    @property
    def blocked(self) -> str | None:
        """The place where a workflow blocks this node's thread now. May be read from any thread."""
        blocked = self._watchdog.blocked
        return None if blocked is None else blocked.where

    async def main(self) -> None:
        """Execute what is delivered, until cancelled."""
        self._loop = asyncio.get_running_loop()
        self._running = True
        try:
            self._let_take_turns()
            await self._loop.create_future()
        finally:
            self._drop_all()
            if self._effects:
                await asyncio.wait(tuple(self._effects))

    def _drop_all(self) -> None:
        """Run nothing any more. Not in `main`, whose frame lives on in the traceback of its cancellation, with all that it names."""
        self._running = False
        for execution in (*self._next, *self._executions.values()):
            execution.drop()
            _drop_those_before(execution)
        for task in tuple(self._effects):
            task.cancel()

    def hand_over(self, items: Sequence[HandedOver]) -> None:
        """Take, in order, what happened. To be called on the node's loop, outside of a task or in one."""
        for item in items:
            self._take(item)
        self._let_take_turns()

    def _take(self, item: HandedOver) -> None:
        execution: Execution
        match item:
            case RunStarted():
                execution = self._begin(item)
            case ActingChanged(term=term):
                self._act(term)
                return
            case ValueLimitChanged():
                self.large_values.limit_changed()
                return
            case _ if item.run_id not in self._executions:
                return  # it began, ended and was dropped in one entry
            case RecordAdded(run_id=run_id, record=record):
                execution = self._executions[run_id]
                execution.add(record)
            case RecordsAdded(run_id=run_id, records=records):
                execution = self._executions[run_id]
                for record in records:
                    execution.add(record)
            case RunSwitched(run_id=run_id, definition=definition):
                before = self._executions[run_id]
                started = RunStarted(run_id, definition, item.input, item.generation, item.at, item.format)
                execution = self._begin(started)
                execution.paused, execution.rights = before.paused, before.rights.moved()
                self._let_wait(execution, before.after)
                for record in item.records:
                    execution.add(record)
                before.stop("superseded", f"the run was moved to version {definition.version}")
                self._aside.forget(run_id)
            case PauseChanged(run_id=run_id, paused=paused):
                execution = self._executions[run_id]
                execution.pause(paused)
            case OwnerChanged(run_id=run_id, number=number):
                execution = self._executions[run_id]
                if execution.rights.assign(number):
                    execution.right_changed()
                    self._aside.look([execution])
            case StepGiven(run_id=run_id):
                execution = self._executions[run_id]
                execution.step_given(item)
            case RunEnded(run_id=run_id):
                execution = self._executions[run_id]
                execution.end(item)
            case RunContinued(run_id=run_id):
                before = self._executions[run_id]
                before.end(item)
                self._ready[before] = None
                # It waits for the one before to come to its end here, then takes its place.
                started = RunStarted(run_id, item.definition, item.input, item.generation, item.at, before.format)
                execution = self._begin(started)
                execution.paused, execution.rights.assigned = before.paused, before.rights.assigned
                self._let_wait(execution, before)
                for record in item.records:
                    execution.add(record)
            case RunDropped(run_id=run_id):
                execution = self._executions.pop(run_id)
                execution.stop("superseded", "its records were dropped")
                _drop_those_before(execution)
                self._aside.forget(run_id)
        self._ready[execution] = None

    def _begin(self, started: RunStarted) -> Execution:
        execution = self._executions[started.run_id] = Execution(started, self)
        self._arrival.set()
        self._arrival = asyncio.Event()
        return execution

    def _let_wait(self, execution: Execution, before: Execution | None) -> None:
        """Have an execution wait for that of the generation before to come to its end here."""
        if before is not None and not before.done.is_set():
            execution.after = before
            self._next[before] = execution

    def _let_take_turns(self) -> None:
        """Let executions take their turns, a limited number at once, so that steps on this loop get to run too."""
        left = TURNS_AT_ONCE
        while self._ready and not self._closed_gates and self._running and not self.closed:
            if left <= 0:
                if not self._called_soon and self._loop is not None:
                    self._called_soon = True
                    self._loop.call_soon(self._again, context=contextvars.Context())
                return
            execution = next(iter(self._ready))
            del self._ready[execution]
            left -= 1 + self._let_take(execution, left)
            if execution.waits_for_turns:
                self._ready[execution] = None

    def _again(self) -> None:
        self._called_soon = False
        self._let_take_turns()

    def _let_take(self, execution: Execution, most: int) -> int:
        run_id, code = execution.run_id, getattr(execution.function, "__code__", None)
        around = self._watchdog.begin(run_id, None if code is None else code.co_filename)
        try:
            return execution.take_turns(most)
        finally:
            self._watchdog.end(run_id, around)

    # --- what an execution needs (environment.ExecutionEnv)

    def wall_clock(self) -> float:
        """Return the time of day by this node's clock, in Unix seconds."""
        return self._wall_clock()

    def spawn(self, fn: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `fn()` in a task of the node's own loop, in the current context."""
        if self._loop is not None and self._running:
            task = self._loop.create_task(fn())
            self._effects[task] = None
            task.add_done_callback(self._effects.pop)

    def prepare(self, execution: Execution) -> tuple[Coroutine[Any, Any, Any], contextvars.Context]:
        """Return what an execution is to run, and the context to run it in. Raises `UnreadableError`."""
        definition, run_id = execution.definition, execution.run_id

        def write(stream: Stream, text: str) -> None:
            if not execution.dropped:
                self._write(run_id, stream, text)

        capture.ensure()
        context = contextvars.Context()
        sink = self._sinks[execution] = LineSink(write)
        context.run(current_execution.set, sink)
        try:
            loaded = context.run(self._loaded, definition)
            execution.function = loaded.function
            execution.classes = loaded.classes.for_run(lambda text: self.say(run_id, text))
            context.run(arithmetic.apply, definition.arithmetic or {})
            what = f"the input of run {run_id!r}"
            value = context.run(values.decode, execution.input, what=what, view=execution.classes)
        except (RaftoralError, ImportError) as error:
            raise UnreadableError(str(error)) from error
        ctx = WorkflowContext(execution, self.node)
        context.run(CONTEXT.set, ctx)
        return self._code(execution, ctx, value), context

    async def _code(self, execution: Execution, ctx: WorkflowContext, value: Any) -> Any:
        """Run the workflow's function, on the run's own loop."""
        assert execution.function is not None
        try:
            returned = await execution.function(ctx, value)
            unawaited.check_end(execution)
        except (GeneratorExit, ExecutionDropped):
            raise
        except BaseException as error:
            told = unawaited.explained(execution, error)
            if told is error:
                raise
            raise told from error
        else:
            return returned
        finally:
            unawaited.let_go(execution)

    def propose(self, command: Command, refused: Callable[[Outcome], None]) -> None:
        """Propose a command; `refused` is called on this loop unless it was committed."""

        def done(outcome: Outcome) -> None:
            # A committed record comes back through the hand-over, in its place among the others.
            if not isinstance(outcome, Committed):
                self._host.post(refused, outcome)

        self._host.propose(command, self._proposal_seconds, done)

    def ask(self, command: Command, done: Callable[[Outcome], None]) -> None:
        """Propose a command; `done(outcome)` is called once, on the consensus loop. From any thread."""
        self._host.propose(command, self._proposal_seconds, done)

    def holds_blob(self, digest: str) -> bool:
        """Return whether this node has stored a blob."""
        return self._host.holds_blob(digest)

    def fetch_blob(self, ref: BlobRef, ready: Callable[[], None]) -> None:
        """Have a blob fetched from another node; `ready()` is called on this loop when it is here."""
        self._host.fetch_blob(ref, lambda: self._host.post(ready))

    def goes_on(self, execution: Execution) -> None:
        """Let an execution take the turns that it could not take before."""
        if self._running and not execution.dropped:
            self._ready[execution] = None
            self._let_take_turns()

    def post(self, fn: Callable[[], object]) -> None:
        """Call `fn()` on the node's own loop, soon. From any thread."""
        self._host.post(fn)

    def step_state(self, run_id: RunId, step_id: StepId) -> StepState | None:
        """Return what an attempt at an open step saved last, as far as this node has applied the log. From any thread."""
        return self._host.step_state(run_id, step_id)

    def cached_step(self, key: str) -> CachedStep | None:
        """Return what is in the cache of steps, as far as this node has applied the log. From any thread."""
        return self._host.cached_step(key)

    def is_outcome(self, error: BaseException) -> bool:
        """Return whether user code raised `error` of its own accord: this task is neither being cancelled nor dropped.

        Nothing that user code raises may leave its task otherwise than as an outcome: it would end all the others with it.
        """
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            return False  # whatever it made of that: nobody waits for what it does
        return not (self.closed and isinstance(error, (asyncio.CancelledError, GeneratorExit)))

    def step_function(self, run_id: RunId, step_id: StepId, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function to run for a step whose function is `fn`."""
        return fn if self.replace_function is None else self.replace_function(run_id, step_id, fn)

    def workflow(self, workflow: str, version: int | None) -> Loaded | None:
        """Return this node's copy of a registered workflow; None if there is none, or it cannot be loaded here."""
        definition = self._host.definition(workflow, version)
        try:
            return None if definition is None else self._loaded(definition)
        except RaftoralError:
            return None  # its own runs say why

    def effect_started(self, run_id: RunId, step_id: StepId) -> None:
        """Count and tell that a step's function begins to run here."""
        self.effects_run += 1
        self._host.tell(EffectStarted(self.node, run_id, step_id))

    def tell(self, event: ClusterEvent) -> None:
        """Publish an event. From any thread."""
        self._host.tell(event)

    def broke(self, execution: Execution, what: str, error: BaseException) -> None:
        """Log a bug of ours, found in an execution while doing `what`."""
        logger.error(
            "node %d: its execution of run %r broke while %s", self.node, execution.run_id, what, exc_info=error
        )

    def execution_done(self, execution: Execution) -> None:
        """Note that an execution runs no code any more, however it ended."""
        sink = self._sinks.pop(execution, None)
        if sink is not None:
            sink.close()
        if not self.closed and execution.status not in {*STUCK, "running"}:
            self.large_values.run_over(execution.run_id)
        after = self._next.pop(execution, None)
        if after is not None and not self.closed:
            self._ready[after] = None
            self._host.post(self._let_take_turns)

    def execution_stopped(self, execution: Execution, reason: str) -> None:
        """Tell that an execution ended otherwise than its run did."""
        status = execution.status
        if self.closed:
            return
        if execution.format != RECORD_FORMAT and execution.run_ended:
            return  # it is over, and only not executed once more
        if status in ("diverged", "unreadable", "superseded"):
            self.say(execution.run_id, f"node {self.node} stopped executing this run ({status}): {reason}")
            self._host.tell(ExecutionStopped(self.node, execution.run_id, status, reason, execution.difference))
            if self._executions.get(execution.run_id) is execution:
                self._aside.look([execution])

    # --- gates

    def close_gate(self, name: str) -> None:
        """Let no record have its turn here, and no effect begin, until `open_gate(name)`."""
        self._closed_gates.add(name)

    def open_gate(self, name: str) -> None:
        """Undo `close_gate`."""
        self._closed_gates.discard(name)
        if not self._closed_gates and self._ready:
            self._host.post(self._let_take_turns)

    # --- looking at it

    def statistics(self) -> Mapping[RunId, ExecutionStatistics]:
        """Return every execution, in the order they started. May be called from any thread."""
        return {run_id: execution.statistics() for run_id, execution in tuple(self._executions.items())}

    def execution(self, run_id: RunId) -> Execution | None:
        """Return this node's execution of a run. May be called from any thread."""
        return self._executions.get(run_id)

    async def await_execution(self, run_id: RunId) -> Execution:
        """Return this node's execution of a run, as soon as it has heard of it."""
        while (execution := self._executions.get(run_id)) is None:
            await self._arrival.wait()
        return execution

    def forget(self) -> list[Execution]:
        """Forget every execution, and give them to the caller, which frees them.

        After the node's loop has ended, from any thread.
        """
        executions = list(self._executions.values())
        self._executions.clear()
        self._next.clear()
        self._ready.clear()
        self._sinks.clear()
        return executions

    def query(self, execution: Execution, name: str, args: bytes) -> Encoded:
        """Call the function of a query on an execution and return an encoded value or a failure.

        Raises if `args` do not unpickle.
        """
        write = capturing(lambda stream, text: self._write(execution.run_id, stream, text))
        with write, execution.loop.reading():
            given = values.decode(args, what=f"the arguments of the query {name!r}", view=execution.classes)
            return messages.answer_query(execution, name, given)

    def objection(self, run_id: RunId, name: str, value: bytes) -> Failure | None:
        """Return what the validator of an update says against a value; None if nothing, or if it is not this node that is to ask it.

        Raises if `value` does not unpickle.
        """
        execution = self._executions.get(run_id)
        if self.acting is None or execution is None or not execution.mailbox.handlers.validates(name):
            return None
        with capturing(lambda stream, text: self._write(run_id, stream, text)):
            given = values.decode(value, what=f"the value of the update {name!r}", view=execution.classes)
            return messages.objection(execution, name, given)

    # --- inside

    def _act(self, term: int | None) -> None:
        self.acting = term
        if term is not None:
            self.large_values.keep_only(self._executions.values())
        for execution in self._executions.values():
            if execution.rights.assigned == 0:
                execution.right_changed()
            if execution.status == "running":
                self._ready[execution] = None
        self._aside.look(self._executions.values())

    def other_offers(self) -> None:
        """Note that another node takes runs from here on: it may be able to continue what this one cannot."""
        self._aside.other_offers(self._executions.values())

    def yield_leadership(self) -> None:
        """Have another node lead."""
        self._host.yield_leadership()

    def _loaded(self, definition: Definition) -> Loaded:
        """Return this node's copy of a workflow; one that was not used for long is made anew."""
        loaded = self._functions.pop(definition.digest, None)
        if loaded is None:
            process_pools.install()
            asyncio_patches.install()
            loaded = definitions.load_all(definition)
            while len(self._functions) >= MAX_FUNCTIONS_KEPT:
                del self._functions[next(iter(self._functions))]
        self._functions[definition.digest] = loaded
        return loaded

    def _blocked(self, run_id: RunId, where: str) -> None:
        self.say(
            run_id,
            f"node {self.node} is blocked at {where}: the workflow has kept its thread for over a second; "
            "move the work into `await ctx.compute(key, fn)`, which runs a synchronous fn on a thread of its own",
        )
        self._host.tell(NodeBlocked(self.node, run_id, where))

    def say(self, run_id: RunId, text: str) -> None:
        """Write a line of the engine's own into the run's log."""
        self._write(run_id, "engine", text)

    def _write(self, run_id: RunId, stream: Stream | Literal["engine"], text: str) -> None:
        self._host.write(OutputLine(self._wall_clock(), self.node, run_id, stream, text))


def _drop_those_before(execution: Execution) -> None:
    """Drop the executions of earlier generations that have not come to their ends."""
    before = execution.after
    while before is not None:
        before.drop()
        before = before.after
