"""A node's execution side: executes every run, on the node's own loop, from what the consensus side delivers."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Protocol

import anyio

from ..core.cluster_events import EffectStarted, ExecutionStopped, NodeBlocked, OutputLine, StepProgress, StepRetrying
from ..core.commands import Command, Committed, Outcome
from ..core.records import Definition, NodeId, RunId, StepId
from ..core.statistics import STUCK, ExecutionStatistics
from ..errors import RaftoralError, UnreadableError
from ..limits import MAX_FUNCTIONS_KEPT
from ..threads.step_threads import Steps
from ..workflow.codec import values
from ..workflow.execution import reading
from ..workflow.execution.alarms import Alarms
from ..workflow.execution.execution import Execution
from ..workflow.execution.inbox import (
    ActingChanged,
    CancelAsked,
    HandedOver,
    MessageArrived,
    PauseChanged,
    RunContinued,
    RunDropped,
    RunEnded,
    RunStarted,
    RunSwitched,
    StepRecorded,
    StepsRecorded,
)
from ..workflow.execution.interruption import ContinueAsNew, is_cancellation
from ..workflow.execution.products import Encoded
from ..workflow.execution.running_step import CONTEXT
from ..workflow.language import messages, unawaited
from ..workflow.language.context import WorkflowContext
from ..workflow.shipping import arithmetic, definitions
from ..workflow.shipping.definitions import Loaded
from . import process_pools
from .captured_output import Stream, capturing
from .watchdog import Watchdog

logger = logging.getLogger(__name__)

PROPOSAL_SECONDS = 30.0
"""The time that one proposal of a record may take before it is proposed again."""


class ExecutorEnv(Protocol):
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

    def tell(self, event: EffectStarted | StepRetrying | StepProgress | NodeBlocked | ExecutionStopped) -> None:
        """Publish an event."""
        ...

    def write(self, line: OutputLine) -> None:
        """Keep a line of captured output."""
        ...

    def yield_leadership(self) -> None:
        """Have another node lead."""
        ...

    def definition(self, workflow: str, version: int | None) -> Definition | None:
        """Return this node's definition of a workflow, in its latest version if None is given; None if it has none."""
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
    ) -> None:
        self.node = node
        self._proposal_seconds = proposal_seconds
        self._wall_clock = wall_clock
        self.steps = steps
        self.acting: int | None = None
        self.effects_run = 0
        self.closed = False
        """Set, from any thread, before the node's loop is told to end."""
        self.replace_function: Callable[[RunId, StepId, Callable[..., Any]], Callable[..., Any]] | None = None
        """The function that says what to run in place of a step's function; for tests."""
        self._host = host
        self._executions: dict[RunId, Execution] = {}
        # A dict for its order: what is cancelled first must not depend on where objects lie in memory.
        self._fenced: dict[anyio.CancelScope, None] = {}
        # Invariant: the latest used last; at most MAX_FUNCTIONS_KEPT.
        self._functions: dict[str, Loaded] = {}
        self._closed_gates: set[str] = set()
        self._stepped_aside: set[RunId] = set()
        self._gate: anyio.Event | None = None
        # Invariant: what is in it comes before whatever is delivered next.
        self._inbox: deque[HandedOver] = deque()
        self._mail: anyio.Event | None = None
        self._arrival = anyio.Event()
        self.timers = Alarms(clock, host.arm, host.post)
        self.alarms = Alarms(wall_clock, host.arm, host.post, look_again)
        self._watchdog = Watchdog(host.arm, clock, self._blocked, lambda run_id: None)

    @property
    def blocked(self) -> str | None:
        """The place where a workflow blocks this node's thread now. May be read from any thread."""
        blocked = self._watchdog.blocked
        return None if blocked is None else blocked.where

    async def main(self) -> None:
        """Execute what is delivered, until cancelled."""
        async with anyio.create_task_group() as group:
            while True:
                while self._inbox:
                    self._take(self._inbox.popleft(), group)
                self._mail = anyio.Event()
                await self._mail.wait()

    def hand_over(self, items: Sequence[HandedOver]) -> None:
        """Take, in order, what happened. May be called outside of a task."""
        for item in items:
            # A record only wakes who waits for it: it need not pass through the task, unless something before it does.
            if isinstance(item, StepRecorded) and not self._inbox:
                self._executions[item.run_id].record(item.step)
            else:
                self._inbox.append(item)
        if self._inbox and self._mail is not None:
            self._mail.set()

    def _take(self, item: HandedOver, group: anyio.abc.TaskGroup) -> None:
        match item:
            case StepRecorded(run_id=run_id, step=step):
                self._executions[run_id].record(step)
            case StepsRecorded(run_id=run_id, steps=steps):
                for step in steps:
                    self._executions[run_id].record(step)
            case RunStarted():
                self._begin(item, group)
            case RunSwitched(run_id=run_id, definition=definition):
                before = self._executions[run_id]
                execution = self._begin(RunStarted(run_id, definition, item.input, item.generation), group)
                execution.take_over(before)
                for step in item.steps:
                    execution.record(step)
                before.stop("superseded", f"the run was moved to version {definition.version}")
                self._stepped_aside.discard(run_id)
            case MessageArrived(run_id=run_id, message=message):
                self._executions[run_id].mailbox.arrive(message)
            case CancelAsked(run_id=run_id, reason=reason):
                self._executions[run_id].cancel(reason)
            case PauseChanged(run_id=run_id, paused=paused):
                self._executions[run_id].pause(paused)
            case RunEnded(run_id=run_id):
                self._executions[run_id].end(item)
            case RunContinued(run_id=run_id):
                before = self._executions[run_id]
                before.end(item)
                # It waits for the one before to come to its end here, then takes its place.
                started = RunStarted(run_id, item.definition, item.input, item.generation)
                self._begin(started, group).follow(before)
            case RunDropped(run_id=run_id):
                self._executions.pop(run_id).stop("superseded", "its records were evicted")
                self._stepped_aside.discard(run_id)
            case ActingChanged(term=term):
                self._act(term)

    def _begin(self, started: RunStarted, group: anyio.abc.TaskGroup) -> Execution:
        execution = self._executions[started.run_id] = Execution(started, self)
        self._arrival.set()
        self._arrival = anyio.Event()
        group.start_soon(self._execute, execution, name=f"run {started.run_id}")
        return execution

    # --- what an execution needs (environment.ExecutionEnv)

    def wall_clock(self) -> float:
        """Return the time of day by this node's clock, in Unix seconds."""
        return self._wall_clock()

    async def pass_gate(self) -> None:
        """Wait while the node is held or paused."""
        while self._closed_gates:
            if self._gate is None:
                self._gate = anyio.Event()
            await self._gate.wait()

    @contextmanager
    def fenced(self, scope: anyio.CancelScope) -> Iterator[None]:
        """Cancel `scope` when this node loses the epoch."""
        self._fenced[scope] = None
        try:
            yield
        finally:
            del self._fenced[scope]

    def propose(self, command: Command, refused: Callable[[Outcome], None]) -> None:
        """Propose a command; `refused` is called on this loop unless it was committed."""

        def done(outcome: Outcome) -> None:
            # A committed record comes back through the hand-over, in its place among the others.
            if not isinstance(outcome, Committed):
                self._host.post(refused, outcome)

        self._host.propose(command, self._proposal_seconds, done)

    def is_outcome(self, error: BaseException) -> bool:
        """Return whether user code raised `error` of its own accord: this task is neither being cancelled nor dropped.

        Nothing that user code raises may leave its task otherwise than as an outcome: it would end all the others with it.
        """
        if not isinstance(error, (anyio.get_cancelled_exc_class(), GeneratorExit)):
            return True
        return not self.closed and anyio.current_effective_deadline() > -math.inf

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

    def tell(self, event: StepRetrying | StepProgress) -> None:
        """Publish an event. From any thread."""
        self._host.tell(event)

    def execution_stopped(self, execution: Execution, reason: str) -> None:
        """Tell that an execution ended otherwise than its run did."""
        status = execution.status
        if status in ("diverged", "unreadable", "superseded"):
            self.say(execution.run_id, f"node {self.node} stopped executing this run ({status}): {reason}")
            self._host.tell(ExecutionStopped(self.node, execution.run_id, status, reason, execution.difference))
            self._step_aside()

    # --- gates

    def close_gate(self, name: str) -> None:
        """Let no operation of any context begin or end here, until `open_gate(name)`."""
        self._closed_gates.add(name)

    def open_gate(self, name: str) -> None:
        """Undo `close_gate`."""
        self._closed_gates.discard(name)
        if not self._closed_gates and self._gate is not None:
            self._gate.set()
            self._gate = None

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
        return executions

    def query(self, execution: Execution, name: str, args: bytes) -> Encoded:
        """Call the function of a query on an execution and return an encoded value or a failure.

        Raises if `args` do not unpickle.
        """
        with capturing(lambda stream, text: self._write(execution.run_id, stream, text)):
            given = values.decode(args, what=f"the arguments of the query {name!r}", view=execution.classes)
            return messages.answer_query(execution, name, given)

    # --- inside

    def _act(self, term: int | None) -> None:
        self.acting = term
        for scope in tuple(self._fenced):
            scope.cancel()
        for execution in self._executions.values():
            execution.acting_changed()
        self._step_aside()

    def _step_aside(self) -> None:
        """Transfer leadership if an execution cannot continue here: its run would be stuck.

        At most once per run: should every node have diverged from it, leadership must come to rest somewhere.
        """
        if self.acting is None:
            return
        stuck = [
            run_id
            for run_id, execution in self._executions.items()
            if execution.status in STUCK and not execution.replay.ended and run_id not in self._stepped_aside
        ]
        for run_id in stuck:
            self._stepped_aside.add(run_id)
            self.say(
                run_id, f"node {self.node} cannot go on with this run, and so not lead it: it lets another node lead"
            )
        if stuck:
            self._host.yield_leadership()

    async def _execute(self, execution: Execution) -> None:
        def write(stream: Stream, text: str) -> None:
            self._write(execution.run_id, stream, text)

        try:
            with execution.scope, capturing(write):
                await execution.turn()
                await self.pass_gate()
                result, failure, continued, cancelled = None, None, None, False
                try:
                    returned = await self._run(execution)
                    if isinstance(returned, ContinueAsNew):
                        raise returned
                    result = values.round_trip(returned, what=f"result of run {execution.run_id!r}")[0]
                except BaseException as error:
                    if not self.is_outcome(error) or isinstance(error, UnreadableError):
                        raise
                    if isinstance(error, ContinueAsNew):
                        continued, failure = execution.next_input(error.input)
                    else:
                        failure, cancelled = execution.fail_without_record(error), is_cancellation(error)
                        if cancelled and execution.cancel_reason is not None:
                            failure = execution.as_cancelled(failure)
                await execution.finish(result, failure, cancelled=cancelled, continued=continued)
        except UnreadableError as error:
            # Another node may have what it takes: this one takes no part in the run, and does not lead it.
            reading.give_up(execution, str(error))
        except Exception as error:
            # A bug of ours. It must not take the executions of other runs along.
            logger.exception("node %d: its execution of run %r broke", self.node, execution.run_id)
            execution.stop("diverged", f"internal error: {error}")
        finally:
            execution.done.set()
            execution.queries.tell()

    async def _run(self, execution: Execution) -> Any:
        definition = execution.definition
        try:
            loaded = self._loaded(definition)
            fn = execution.function = loaded.function
            execution.classes = loaded.classes.for_run(lambda text: self.say(execution.run_id, text))
            arithmetic.apply(definition.arithmetic or {})  # in this task's own context, as below
            what = f"the input of run {execution.run_id!r}"
            value = values.decode(execution.input, what=what, view=execution.classes)
        except (RaftoralError, ImportError) as error:
            raise UnreadableError(str(error)) from error
        ctx: WorkflowContext = WorkflowContext(execution, self.node)
        CONTEXT.set(ctx)  # this task's own: it is seen by the workflow and whatever that calls
        execution.branches[""] = coro = fn(ctx, value)
        try:
            returned = await self._watchdog.watched(coro, execution.run_id)
            await unawaited.check_end(execution, ctx._state)
        except BaseException as error:
            if not self.is_outcome(error):
                raise
            told = await unawaited.explained(execution, ctx._state, error)
            if told is error:
                raise
            raise told from error
        else:
            return returned
        finally:
            del execution.branches[""]
            unawaited.let_go(ctx._state)

    def _loaded(self, definition: Definition) -> Loaded:
        """Return this node's copy of a workflow; one that was not used for long is made anew."""
        loaded = self._functions.pop(definition.digest, None)
        if loaded is None:
            process_pools.install()
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
