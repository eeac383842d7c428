"""The cluster: starts and stops nodes, causes faults, and gives users their handles."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Any, Literal, Self, TypeVar, overload

import anyio.to_thread
import msgspec

from . import collect, current, logs
from .errors import (
    ClusterError,
    CompletionTimeoutError,
    NodeStateError,
    NonDeterminismError,
    NoSuchNodeError,
    NotAcknowledgedError,
    RaftoralError,
    RunNotFoundError,
    WorkflowFailedError,
)
from .incarnation import Incarnation
from .model import (
    MAX_NODES,
    ClusterEvent,
    Command,
    Committed,
    EffectStarted,
    EpochChanged,
    NodeChanged,
    NodeId,
    Outcome,
    OutputLine,
    Rejected,
    RunId,
    Unknown,
    WorkflowCompleted,
    WorkflowFailed,
)
from .node import Node
from .observers import Observers
from .raft.journal import Journals
from .raft.memory import MemoryNetwork
from .raft.network import Network
from .raft.replica import Timing
from .raft.tcp import TcpNetwork
from .raft.wire import new_key
from .registry import Registration, Registry
from .run import Ending, WorkflowRun
from .state import Applied, Run, State
from .statistics import ClusterStatistics
from .threads import LoopThread, refuse_on_own_thread
from .workflow import values
from .workflow.definitions import Workflow
from .workflow.execution import Execution
from .workflow.output import capture

I = TypeVar("I")  # noqa: E741 - input and output are I and O everywhere
O = TypeVar("O")  # noqa: E741

STOP_SECONDS = 2.0
"""How long `stop` waits for user code before it names it and goes on without."""

_names = itertools.count(1)


class StopReport(msgspec.Struct, frozen=True):
    """What `Cluster.stop` left behind: user code that could not be interrupted, by thread and place. Normally nothing."""

    stuck: tuple[str, ...] = ()


class Cluster:
    """A cluster of nodes in this process, over TCP on 127.0.0.1 (or in memory), each with a thread of its own.

    `nodes` is how many (1 to `MAX_NODES`); `ports` fixes their TCP ports; `proposal_timeout` is how long (seconds) starting
    a run or registering a workflow may wait for a majority. Use it as a context manager, synchronous or asynchronous, or
    call `start` and `stop`. Methods may be called from any thread but the cluster's own; those that wait say so.
    """

    def __init__(
        self,
        nodes: int = 3,
        *,
        name: str | None = None,
        network: Literal["tcp", "memory"] = "tcp",
        ports: Sequence[int] | None = None,
        proposal_timeout: float = 10.0,
        timing: Timing | None = None,
        log_level: str | int | None = None,
    ) -> None:
        given: object = nodes  # a notebook's code is not type-checked
        if isinstance(given, bool) or not isinstance(given, int) or not 1 <= nodes <= MAX_NODES:
            raise ClusterError(f"a cluster has 1 to {MAX_NODES} nodes, got {nodes!r}")
        if ports is not None and len(ports) != nodes:
            raise ClusterError(f"{nodes} nodes need {nodes} ports, got {len(ports)}")
        if network not in ("tcp", "memory"):
            raise ClusterError(f"network is 'tcp' or 'memory', got {network!r}")
        if log_level is not None:
            logs.set_level(log_level)
        self.name = name or f"cluster-{next(_names)}"
        self._proposal_timeout = proposal_timeout
        self._timing = timing or Timing()
        self._network_kind = network
        self._ports = ports
        self._numbers = tuple(range(1, nodes + 1))
        self.nodes: Mapping[NodeId, Node] = MappingProxyType({number: Node(self, number) for number in self._numbers})
        self._status: Literal["new", "running", "stopped"] = "new"
        self._change = threading.Lock()
        self._journals = Journals()
        self._dice = random.Random()
        self._incarnations: dict[NodeId, Incarnation] = {}
        self._incarnation_numbers = dict.fromkeys(self._numbers, 0)
        self._gone: list[Incarnation] = []
        self._consensus = LoopThread(f"{self.name}-consensus")
        self._observers = Observers(self.name)
        self._registry = Registry(self)
        self._network: Network | None = None
        # The rest belongs to the consensus loop.
        self._acting: dict[NodeId, int] = {}
        self._leader_waiters: list[asyncio.Future[None]] = []
        self._applied_waiters: list[tuple[NodeId, int, asyncio.Future[None]]] = []
        self._waiting: dict[RunId, list[Callable[[Ending], None]]] = {}
        self._last_state = State()
        self._told_index = 0
        self._last_actor: NodeId | None = None
        self.counters = collect.Counters()

    # --- life

    def start(self) -> Self:
        """Start all nodes and wait until one of them acts as leader.

        Raises `ClusterError` if the cluster was started before, `PortInUseError` if a port that was asked for is taken.
        """
        refuse_on_own_thread("cluster.start()")
        with self._change:
            if self._status != "new":
                word = "runs already: use it, or end it with stop()" if self._status == "running" else "has stopped"
                raise ClusterError(f"cluster {self.name!r} {word}; for a new one make another Cluster")
            self._status = "running"
        capture.install()
        try:
            self._consensus.start()
            self._consensus.run(self._open)
            self.wait_for_leader(self._proposal_timeout)
        except BaseException:
            self.stop()
            raise
        current.started(self)
        return self

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        if self._network_kind == "memory":
            self._network = MemoryNetwork(loop)
        else:
            ports = None if self._ports is None else dict(zip(self._numbers, self._ports, strict=True))
            self._network = TcpNetwork(new_key(), ports)
        for number in self._numbers:
            await self._boot(number)

    async def _boot(self, number: NodeId) -> None:
        assert self._network is not None
        if number in self._incarnations:  # another thread was quicker
            raise NodeStateError(f"node {number} is alive; kill it first, then restart it")
        self._incarnation_numbers[number] += 1
        count = self._incarnation_numbers[number]
        incarnation = Incarnation(
            number,
            self._numbers,
            count,
            host=self,
            consensus=self._consensus,
            loop=asyncio.get_running_loop(),
            journal=self._journals.of(number),
            dice=self._dice,
            timing=self._timing,
            name=self.name,
        )
        self._incarnations[number] = incarnation
        try:
            await incarnation.start(self._network)
        except BaseException:
            self._retire(number)
            raise
        self.tell(NodeChanged(number, "started" if count == 1 else "restarted"))

    def stop(self) -> StopReport:
        """Stop everything, within a few seconds. User code that cannot be interrupted is left and named in the report.

        Runs that have not ended are gone: this cluster's memory is all there was of them. Stopping twice does nothing.
        """
        refuse_on_own_thread("cluster.stop()")
        with self._change:
            if self._status != "running":
                self._status = "stopped"
                return StopReport()
            self._status = "stopped"
        current.stopped(self)
        try:
            if self._consensus.alive:
                self._consensus.run(self._shut, timeout=STOP_SECONDS)
        except (TimeoutError, ClusterError):
            pass
        finally:
            deadline = collect.deadline(STOP_SECONDS)
            stuck: list[str] = []
            for incarnation in self._gone:
                stuck.extend(incarnation.join(deadline()))
            self._consensus.stop(STOP_SECONDS)
            if not self._observers.close(deadline()):
                stuck.append("a callback given to subscribe()")
            capture.uninstall()
        return StopReport(tuple(stuck))

    async def _shut(self) -> None:
        for number in tuple(self._incarnations):
            self._retire(number)
            self.tell(NodeChanged(number, "stopped"))
        if self._network is not None:
            await self._network.close()
        for callbacks in tuple(self._waiting.values()):
            for callback in tuple(callbacks):
                callback(ClusterError(f"cluster {self.name!r} was stopped before the run ended"))
        self._waiting.clear()
        for waiter in self._leader_waiters:
            if not waiter.done():
                waiter.set_exception(ClusterError(f"cluster {self.name!r} was stopped"))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await anyio.to_thread.run_sync(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.stop)

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._status == "running"

    # --- leadership and faults

    @property
    def leader(self) -> NodeId | None:
        """The node that holds the latest epoch and may act now; None while there is no such node."""
        acting = [
            (term, number)
            for number, term in tuple(self._acting.items())
            if (incarnation := self._incarnations.get(number)) is not None and not incarnation.member.paused
        ]
        return max(acting)[1] if acting else None

    def wait_for_leader(self, timeout: float = 10.0) -> NodeId:
        """Wait until a node acts as leader and return its number. Raises `NotAcknowledgedError` after `timeout` seconds."""
        self._check_running()
        try:
            return self._consensus.run(self._await_leader, timeout=timeout)
        except TimeoutError:
            alive = [number for number in self._numbers if self.nodes[number].alive and not self.nodes[number].paused]
            raise NotAcknowledgedError(
                f"no leader within {timeout} s: {len(alive)} of {len(self._numbers)} nodes run ({alive}), and a majority "
                "must; restart or resume some",
                may_commit=False,
            ) from None

    async def _await_leader(self) -> NodeId:
        while (leader := self.leader) is None:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._leader_waiters.append(waiter)
            try:
                await waiter
            finally:
                self._leader_waiters.remove(waiter)
        return leader

    def kill(self, node: NodeId | Literal["leader"]) -> NodeId:
        """Drop everything of a node except its journal, at once; returns its number.

        Raises `NoSuchNodeError`, or `NodeStateError` if it is dead already.
        """
        number = self._number(node)
        incarnation = self._alive(number, "killed")
        if not self._consensus.call(self._retire, number):
            raise NodeStateError(f"node {number} is dead and cannot be killed; restart it first")
        self.tell(NodeChanged(number, "killed"))
        if not incarnation.join(STOP_SECONDS / 4):
            self._gone.remove(incarnation)  # nothing is left of it that stop() would have to name
        return number

    def restart(self, node: NodeId) -> NodeId:
        """Start a dead node again from its journal; it catches up by itself. Raises `NodeStateError` if it is alive."""
        number = self._number(node)
        if self._incarnations.get(number) is not None:
            raise NodeStateError(f"node {number} is alive; kill it first, then restart it")
        self._consensus.run(self._boot, number)
        return number

    def pause(self, node: NodeId | Literal["leader"]) -> NodeId:
        """Freeze a node as a hung process would be: messages wait, timers and operations stop; a running step goes on."""
        number = self._number(node)
        incarnation = self._alive(number, "paused")
        if incarnation.member.paused:
            raise NodeStateError(f"node {number} is paused already; resume it")
        self._consensus.call(incarnation.pause)
        self.tell(NodeChanged(number, "paused"))
        return number

    def resume(self, node: NodeId) -> NodeId:
        """End `pause`. What waited is processed before timers that came due. Raises `NodeStateError` if it is not paused."""
        number = self._number(node)
        incarnation = self._alive(number, "resumed")
        if not incarnation.member.paused:
            raise NodeStateError(f"node {number} is not paused")
        self._consensus.call(incarnation.resume)
        self.tell(NodeChanged(number, "resumed"))
        return number

    def hold(self, node: NodeId | Literal["leader"]) -> NodeId:
        """Stop a node's execution of workflows while its log goes on: its catch-up queues grow."""
        number = self._number(node)
        incarnation = self._alive(number, "held")
        if incarnation.held:
            raise NodeStateError(f"node {number} is held already; release it")
        incarnation.hold()
        with contextlib.suppress(TimeoutError, ClusterError):
            incarnation.thread.call(_nothing, timeout=1.0)  # the gate is closed when this returns, unless a workflow blocks
        self.tell(NodeChanged(number, "held"))
        return number

    def release(self, node: NodeId) -> NodeId:
        """End `hold`: the node drains its catch-up queues. Raises `NodeStateError` if it is not held."""
        number = self._number(node)
        incarnation = self._alive(number, "released")
        if not incarnation.held:
            raise NodeStateError(f"node {number} is not held")
        incarnation.release()
        self.tell(NodeChanged(number, "released"))
        return number

    # --- workflows and runs

    @overload
    def register_workflow(self, name: Workflow[Any, Any] | Callable[..., Awaitable[Any]], /) -> Registration: ...
    @overload
    def register_workflow(self, name: str, fn: Callable[..., Awaitable[Any]], /) -> Registration: ...
    @overload
    def register_workflow(
        self, name: str, version: int | None, fn: Callable[..., Awaitable[Any]] | Workflow[Any, Any]
    ) -> Registration: ...
    def register_workflow(self, name: Any, version: Any = None, fn: Any = None) -> Registration:
        """Ship a workflow to every node: `("order", 1, fn)`, `("order", fn)`, or a `Workflow`.

        Without a version a changed workflow takes the next one, and an unchanged one changes nothing. Waits for a majority.
        Raises `WorkflowDefinitionError`, `CodeNotShippableError`, `WorkflowConflictError` if another code was registered under
        this version and unfinished runs use it, and `NotAcknowledgedError`.
        """
        self._check_running()
        return self._registry.register(name, version, fn)

    register_workflow_closure = register_workflow

    @overload
    def start_workflow(
        self, workflow: Workflow[I, O], input: I, /, *, version: int | None = None, run_id: str | None = None
    ) -> WorkflowRun[O]: ...
    @overload
    def start_workflow(
        self, workflow: str, version: int, input: Any, /, *, run_id: str | None = None
    ) -> WorkflowRun[Any]: ...
    @overload
    def start_workflow(
        self,
        workflow: str | Workflow[Any, O] | Callable[..., Awaitable[O]],
        input: Any = None,
        /,
        *,
        version: int | None = None,
        run_id: str | None = None,
    ) -> WorkflowRun[O]: ...
    def start_workflow(
        self, workflow: Any, *args: Any, version: int | None = None, run_id: str | None = None, **named: Any
    ) -> WorkflowRun[Any]:
        """Start a run and return its handle as soon as a majority has recorded it.

        `workflow` is a registered name, a `Workflow` or a function (registered first if need be); then the input, or version
        and input. With a `run_id`, starting the same run again returns it. Raises `WorkflowNotFoundError`, `InputTypeError`,
        `ValueNotShippableError`, `RunConflictError` and `NotAcknowledgedError`.
        """
        self._check_running()
        return self._registry.start(workflow, args, version=version, run_id=run_id, named=named)

    def run(self, run_id: RunId) -> WorkflowRun[Any]:
        """A handle on a run. Raises `RunNotFoundError`."""
        record = self._run_record(run_id)
        return WorkflowRun(self, run_id, record.definition.workflow, record.definition.version)

    def runs(self) -> tuple[WorkflowRun[Any], ...]:
        """All runs whose records are held, in the order they were started."""
        return tuple(
            WorkflowRun(self, run_id, record.definition.workflow, record.definition.version)
            for run_id, record in tuple(self._head().runs.items())
        )

    @property
    def workflows(self) -> Mapping[str, tuple[int, ...]]:
        """The registered versions of each workflow, ascending."""
        return collect.workflows(self._head())

    # --- looking at it

    def statistics(self) -> ClusterStatistics:
        """One consistent look at everything, as frozen data."""
        if self.running:
            try:
                return self._consensus.call(collect.statistics, self)
            except ClusterError:
                pass  # stopped meanwhile
        return collect.statistics(self)

    def events(self) -> AsyncIterator[ClusterEvent]:
        """Typed events from now on, as an async iterator (any anyio backend) that ends when the cluster stops."""
        return self._observers.stream()

    def subscribe(self, callback: Callable[[ClusterEvent], None]) -> Callable[[], None]:
        """Call `callback(event)` for every event, in order, on the cluster's observer thread; returns what ends it.

        What a callback raises is logged. A slow callback delays other callbacks, not the cluster.
        """
        return self._observers.subscribe(callback)

    def history(self) -> tuple[tuple[float, ClusterEvent], ...]:
        """The latest events with their times (Unix seconds), oldest first; at most `MAX_EVENTS_KEPT`."""
        return self._observers.history()

    def log(self, run_id: RunId | None = None, node: NodeId | None = None) -> tuple[OutputLine, ...]:
        """What workflows printed and logged, and what the engine says of them; at most `MAX_OUTPUT_LINES_KEPT` lines."""
        return self._observers.lines(run_id, node)

    def __repr__(self) -> str:
        return f"<Cluster {self.name!r}: {len(self._numbers)} nodes, {self._status}>"

    # --- from the incarnations (incarnation.IncarnationHost)

    def entry_applied(self, index: int, applied: Sequence[Applied]) -> None:
        """Whoever waits for a node to get here is told; the first node to apply an entry makes its events known."""
        for who, wanted, waiter in self._applied_waiters:
            incarnation = self._incarnations.get(who)
            if incarnation is not None and incarnation.member.state.index >= wanted and not waiter.done():
                waiter.set_result(None)
        if index <= self._told_index:
            return
        self._told_index = index
        for one in applied:
            for event in one.events:
                match event:
                    case EpochChanged(node=actor):
                        if self._last_actor not in (None, actor):
                            self.counters.leader_changes += 1
                        self._last_actor = actor
                    case WorkflowCompleted(run_id=run_id, result=result):
                        self._end_waits(run_id, result)
                    case WorkflowFailed(run_id=run_id, failure=failure):
                        self._end_waits(run_id, failure)
                    case _:
                        pass
                self.tell(event)

    def acting_changed(self, node: NodeId, term: int | None) -> None:
        """Keep who acts."""
        if term is None:
            self._acting.pop(node, None)
            return
        self._acting[node] = term
        for waiter in self._leader_waiters:
            if not waiter.done():
                waiter.set_result(None)

    def node_failed(self, node: NodeId) -> None:
        """A broken node counts as killed."""
        if node in self._incarnations:
            self._retire(node)
            self.tell(NodeChanged(node, "killed"))

    def tell(self, event: ClusterEvent) -> None:
        """Publish an event."""
        if isinstance(event, EffectStarted):
            self.counters.effects_run += 1
        self._observers.publish(event)

    def write(self, line: OutputLine) -> None:
        """Keep a line of output."""
        self._observers.write(line)

    # --- inside

    def _check_running(self) -> None:
        if self._status != "running":
            word = "is not started: call start()" if self._status == "new" else "has stopped: make a new one"
            raise ClusterError(f"cluster {self.name!r} {word}")

    def _number(self, node: NodeId | str) -> NodeId:
        self._check_running()
        if node == "leader":
            return self.wait_for_leader(self._proposal_timeout)
        if node not in self.nodes or isinstance(node, bool):
            raise NoSuchNodeError(f"there is no node {node!r}: the nodes are {', '.join(map(str, self._numbers))}")
        return int(node)

    def _alive(self, number: NodeId, done_to_it: str) -> Incarnation:
        incarnation = self._incarnations.get(number)
        if incarnation is None:
            raise NodeStateError(f"node {number} is dead and cannot be {done_to_it}; restart it first")
        return incarnation

    def _incarnation(self, number: NodeId) -> Incarnation | None:
        return self._incarnations.get(number)

    def _retire(self, number: NodeId) -> bool:
        """End a node; False if it had ended already."""
        incarnation = self._incarnations.pop(number, None)
        if incarnation is not None:
            self._last_state = max(self._last_state, incarnation.member.state, key=lambda state: state.index)
            incarnation.close()
            self._gone.append(incarnation)
        for who, _, waiter in self._applied_waiters:
            if who == number and not waiter.done():
                waiter.set_exception(NodeStateError(f"node {number} was stopped while it was waited for"))
        return incarnation is not None

    def _head(self) -> State:
        """The state of the most advanced living node; when none lives, the last one that was."""
        states = [incarnation.member.state for incarnation in tuple(self._incarnations.values())]
        return max([*states, self._last_state], key=lambda state: state.index)

    def _run_record(self, run_id: RunId) -> Run:
        record = self._head().runs.get(run_id)
        if record is None:
            raise RunNotFoundError(f"no run {run_id!r} is known: it was never started, or its records were evicted")
        return record

    def _when_ended(self, run_id: RunId, callback: Callable[[Ending], None]) -> Callable[[], None]:
        """Have `callback(ending)` called once, on the consensus loop or right now; returns what forgets it."""
        if not self.running:
            callback(self._ending_after_stop(run_id))
            return _nothing

        def watch() -> None:
            record = self._head().runs.get(run_id)
            if record is None:
                callback(RunNotFoundError(f"no run {run_id!r} is known: its records were evicted"))
            elif record.result is not None:
                callback(record.result)
            elif record.failure is not None:
                callback(record.failure)
            else:
                self._waiting.setdefault(run_id, []).append(callback)

        def forget() -> None:
            callbacks = self._waiting.get(run_id, [])
            if callback in callbacks:
                callbacks.remove(callback)

        try:
            self._consensus.call(watch)
        except ClusterError:
            callback(self._ending_after_stop(run_id))
        return lambda: self._consensus.post(forget)

    def _ending_after_stop(self, run_id: RunId) -> Ending:
        record = self._head().runs.get(run_id)
        ending = None if record is None else record.result if record.result is not None else record.failure
        return ClusterError(f"cluster {self.name!r} stopped before the run ended") if ending is None else ending

    def _end_waits(self, run_id: RunId, ending: Ending) -> None:
        for callback in self._waiting.pop(run_id, ()):
            callback(ending)

    def _wait_until_applied(self, number: NodeId, timeout: float) -> int:
        self._number(number)
        incarnation = self._alive(number, "waited for")

        async def wait() -> int:
            target = self._head().index
            if incarnation.member.state.index < target:
                waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                entry = (number, target, waiter)
                self._applied_waiters.append(entry)
                try:
                    await waiter
                finally:
                    self._applied_waiters.remove(entry)
            return incarnation.member.state.index

        try:
            return self._consensus.run(wait, timeout=timeout)
        except TimeoutError:
            raise CompletionTimeoutError(
                f"node {number} has not applied what the others have within {timeout} s; does it reach the leader?"
            ) from None

    def _node_result(self, number: NodeId, run_id: RunId, timeout: float | None) -> Any:
        self._number(number)
        incarnation = self._alive(number, "asked")

        self._run_record(run_id)

        async def wait() -> Execution:
            execution = await incarnation.executor.await_execution(run_id)
            await execution.done.wait()
            return execution

        try:
            execution = incarnation.thread.run(wait, timeout=timeout)
        except TimeoutError:
            raise CompletionTimeoutError(
                f"node {number} has not finished its execution of run {run_id!r} within {timeout} s"
            ) from None
        if execution.status in ("diverged", "superseded"):
            raise NonDeterminismError(f"node {number} stopped executing run {run_id!r}: {execution.reason}")
        if execution.status == "failed" and execution.failure is not None:
            raise WorkflowFailedError(run_id, execution.failure)
        if execution.status == "running" or execution.result is None:
            raise NodeStateError(f"node {number} was stopped before its execution of run {run_id!r} ended")
        return values.decode(execution.result, what=f"result of run {run_id!r} on node {number}")

    def _propose(self, command: Command, what: str) -> Committed | Rejected:
        """Propose a command by way of whichever node can, and wait. Raises `NotAcknowledgedError` at the deadline."""
        outcome = self._consensus.run(self._ask, command)
        if isinstance(outcome, Committed) or (isinstance(outcome, Rejected) and outcome.code not in _NOT_TAKEN):
            return outcome
        raise NotAcknowledgedError(
            f"{what} was not acknowledged within {self._proposal_timeout} s: {outcome.reason}; a majority of the "
            f"{len(self._numbers)} nodes must run and reach each other",
            may_commit=isinstance(outcome, Unknown),
        )

    async def _ask(self, command: Command) -> Outcome:
        # Every command that comes this way says the same thing when it is said twice, so another node may say it again.
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._proposal_timeout
        sent = False
        while True:
            incarnation = self._spokesman()
            left = deadline - loop.time()
            if incarnation is None or left <= 0:
                reason = "no node runs, or all are paused" if incarnation is None else "the time is up"
                return Unknown(reason) if sent else Rejected(reason, "no_leader")
            outcome = await incarnation.ask(command, left)
            if isinstance(outcome, Committed) or (isinstance(outcome, Rejected) and outcome.code not in _NOT_TAKEN):
                return outcome
            sent = sent or isinstance(outcome, Unknown)

    def _spokesman(self) -> Incarnation | None:
        leader = self.leader
        if leader is not None:
            return self._incarnations[leader]
        awake = [one for one in self._incarnations.values() if not one.member.paused]
        return awake[0] if awake else None


_NOT_TAKEN = frozenset({"stopped", "no_leader"})


def _nothing() -> None:
    pass


__all__ = ["Cluster", "ClusterStatistics", "RaftoralError", "StopReport"]
