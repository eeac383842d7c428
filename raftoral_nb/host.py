"""The engine room of a cluster: its nodes and whoever waits for them, on the consensus thread."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

from . import collect
from .answers import Answers
from .collect import Counters
from .errors import (
    ClusterError,
    CompletionTimeoutError,
    NodeStateError,
    NotAcknowledgedError,
    RunNotFoundError,
    StorageError,
)
from .failed_disks import FailedDisks
from .incarnation import Incarnation
from .model import (
    CheckpointSet,
    ClusterEvent,
    Command,
    Committed,
    EffectStarted,
    EpochChanged,
    ExecutionStopped,
    Failure,
    NodeChanged,
    NodeId,
    Outcome,
    OutputLine,
    Rejected,
    RunHeld,
    RunId,
    TransferAsked,
    Unknown,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowTerminated,
)
from .observers import Observers
from .raft.compaction import Compaction
from .raft.journal import Journals
from .raft.library import Dice
from .raft.memory import MemoryNetwork
from .raft.network import Network
from .raft.replica import Timing
from .raft.tcp import TcpNetwork
from .raft.wire import new_key
from .run import Ending
from .state import Applied, Run, State
from .threads import LoopThread

NetworkKind = Literal["tcp", "memory"]

_NOT_TAKEN = frozenset({"stopped", "no_leader"})
"""Rejections that say only that the node that was asked could not pass the command on."""


class Host:
    """Owns the consensus thread, the network, the journals and the incarnations of one cluster.

    Methods whose names begin with `on_` are called on the consensus loop; the others may be called from any other thread,
    and those that wait say so.
    """

    def __init__(
        self,
        name: str,
        numbers: Sequence[NodeId],
        *,
        network: NetworkKind,
        ports: Mapping[NodeId, int] | None,
        timing: Timing,
        compaction: Compaction,
        proposal_timeout: float,
        founders: Sequence[NodeId] | None = None,
    ) -> None:
        self.name = name
        self.numbers = tuple(numbers)
        self._founders = self.numbers if founders is None else tuple(founders)
        self.thread = self._make_thread()
        self.observers = Observers(name)
        self.counters = Counters()
        self.journals = Journals()
        """Where the nodes' logs are; in place of memory, a data directory's, set before the nodes are started."""
        self.disks = FailedDisks(self.on_boot, self.incarnation, self.tell)
        self.network: Network | None = None
        self.key = new_key()
        """Proves that somebody belongs to the cluster, where its network can be reached by others."""
        self.proposal_timeout = proposal_timeout
        self.starts = dict.fromkeys(self.numbers, 0)
        """How often each node was started."""
        self.gone: list[Incarnation] = []
        """Ended incarnations whose threads may still run user code."""
        self._network_kind = network
        self._ports = ports
        self.timing = timing
        self._compaction = compaction
        self._dice: Dice = random.Random()
        self._incarnations: dict[NodeId, Incarnation] = {}
        self._booting: set[NodeId] = set()
        # The rest belongs to the consensus loop.
        self._acting: dict[NodeId, int] = {}
        self._leader_waiters: list[asyncio.Future[None]] = []
        self._applied_waiters: list[tuple[NodeId, int, asyncio.Future[None]]] = []
        self._waiting: dict[RunId, list[Callable[[Ending], None]]] = {}
        self.answers = Answers()
        self._last_state = State()
        self._told_index = 0
        self._shut = False
        self._last_actor: NodeId | None = None

    def _make_thread(self) -> LoopThread:
        """Where consensus runs."""
        return LoopThread(f"{self.name}-consensus")

    # --- nodes, on the consensus loop

    async def on_open(self, leave_out: Collection[NodeId] = ()) -> None:
        """Make the network and start every node but those to leave out. Raises `PortInUseError`, `StorageError`."""
        loop = asyncio.get_running_loop()
        if self._network_kind == "memory":
            self.network = MemoryNetwork(loop)
        else:
            self.network = TcpNetwork(self.key, self._ports, tell=self.tell)
        for number in self.numbers:
            if number not in leave_out:
                await self.on_boot(number)

    async def on_boot(self, number: NodeId) -> None:
        """Start a node from its journal. Raises `NodeStateError` if it is alive, and `StorageError`."""
        if number in self._incarnations or number in self._booting:  # another thread was quicker
            raise NodeStateError(f"node {number} is alive; kill it first, then restart it")
        self._booting.add(number)
        try:
            await self._boot(number)
        finally:
            self._booting.discard(number)

    async def _boot(self, number: NodeId) -> None:
        assert self.network is not None
        await self.journals.open(number)
        if self._shut:
            self.journals.close(number)
            raise ClusterError(f"cluster {self.name!r} was stopped")
        self.starts[number] += 1
        count = self.starts[number]
        incarnation = self._incarnations[number] = self._incarnate(number, count)
        try:
            await incarnation.start(self.network)
        except BaseException:
            self.on_retire(number)
            raise
        self.disks.works(number)
        self.tell(NodeChanged(number, "started" if count == 1 else "restarted"))

    def _incarnate(self, number: NodeId, count: int) -> Incarnation:
        """The incarnation of a node that starts for the `count`-th time."""
        surroundings: dict[str, Any] = {"loop": asyncio.get_running_loop(), **self._surroundings(number)}
        return self._make_incarnation(
            number,
            self._founders,
            count,
            joins=number not in self._founders,
            host=self,
            consensus=self.thread,
            journal=self.journals.of(number),
            dice=self._dice,
            timing=self.timing,
            compaction=self._compaction,
            name=self.name,
            **surroundings,
        )

    _make_incarnation: Callable[..., Incarnation] = Incarnation

    def _surroundings(self, number: NodeId) -> dict[str, Any]:  # noqa: ARG002 - other hosts give each node its own
        """What a node's incarnation gets in place of a thread, a clock and so on of its own."""
        return {}

    async def on_join(self) -> NodeId:
        """Start a node that is no member yet, under a number that none had before; returns it."""
        number = max(*self.starts, self.head().highest_member) + 1
        self.starts[number] = 0
        await self.on_boot(number)
        self.numbers = (*self.numbers, number)
        return number

    def on_leave(self, number: NodeId) -> None:
        """End a node that is no member any more, and drop its journal."""
        self.on_retire(number)
        self.journals.forget(number)
        self.numbers = tuple(one for one in self.numbers if one != number)

    async def on_shut(self) -> None:
        """End every node and the network; whoever waits is told."""
        self._shut = True
        self.disks.forget()
        for number in tuple(self._incarnations):
            self.on_retire(number)
            self.tell(NodeChanged(number, "stopped"))
        if self.network is not None:
            await self.network.close()
        for callbacks in tuple(self._waiting.values()):
            for callback in tuple(callbacks):
                callback(ClusterError(f"cluster {self.name!r} was stopped before the run ended"))
        self._waiting.clear()
        for waiter in self._leader_waiters:
            if not waiter.done():
                waiter.set_exception(ClusterError(f"cluster {self.name!r} was stopped"))

    async def on_await_leader(self) -> NodeId:
        """Wait until a node acts."""
        while (leader := self.leader) is None:
            await self._leader_change()
        return leader

    async def on_await_other_leader(self, former: NodeId | None) -> NodeId:
        """Wait until a node other than `former` acts."""
        while (leader := self.leader) is None or leader == former:
            await self._leader_change()
        return leader

    async def on_transfer(self, number: NodeId) -> None:
        """Have the leader hand over to a node, again and again if need be, until that one acts."""
        asked: NodeId | None = None
        while (leader := self.leader) != number:
            leading = self._incarnations.get(leader) if leader is not None else None
            if leading is not None:
                if asked != leader:
                    self.tell(TransferAsked(leading.node, number))
                asked = leader
                leading.member.yield_leadership(number)
            # The request may be lost on its way, and the node may lose its election.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.timing.retry):
                    await self._leader_change()

    async def _leader_change(self) -> None:
        """Wait until a node begins to act."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._leader_waiters.append(waiter)
        try:
            await waiter
        finally:
            self._leader_waiters.remove(waiter)

    @property
    def leader(self) -> NodeId | None:
        """The node that holds the latest epoch and may act now; None while there is no such node. From any thread."""
        acting = [
            (term, number)
            for number, term in tuple(self._acting.items())
            if (incarnation := self._incarnations.get(number)) is not None and not incarnation.member.paused
        ]
        return max(acting)[1] if acting else None

    # --- from the incarnations (incarnation.IncarnationHost)

    def entry_applied(self, index: int, applied: Sequence[Applied]) -> None:
        """Whoever waits for a node to get here is told; the first node to apply an entry makes its events known."""
        self._tell_applied_waiters()
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
                    case WorkflowFailed() | WorkflowCancelled() | WorkflowTerminated():
                        self._end_waits(event.run_id, event.failure)
                    case CheckpointSet(run_id=run_id, step=step):
                        self.answers.recorded(run_id, step)
                    case _:
                        pass
                self.tell(event)

    def _tell_applied_waiters(self) -> None:
        for who, wanted, waiter in self._applied_waiters:
            incarnation = self._incarnations.get(who)
            if incarnation is not None and incarnation.member.state.index >= wanted and not waiter.done():
                waiter.set_result(None)

    def state_replaced(self, node: NodeId) -> None:
        """Whoever waits for a node to get here, or for a run that ended in what was skipped, is told."""
        self._tell_applied_waiters()
        runs = self._incarnations[node].member.state.runs
        for run_id in tuple(self._waiting):
            ending = _ending(runs.get(run_id))
            if ending is not None:
                self._end_waits(run_id, ending)
        self.answers.look(self._incarnations[node].member.state)

    def acting_changed(self, node: NodeId, term: int | None) -> None:
        """Keep who acts."""
        if term is None:
            self._acting.pop(node, None)
            return
        self._acting[node] = term
        for waiter in self._leader_waiters:
            if not waiter.done():
                waiter.set_result(None)

    def node_failed(self, node: NodeId, error: BaseException) -> None:
        """A broken node counts as killed. One whose disk failed starts again, from what is stored, as soon as it can."""
        if node in self._incarnations:
            self.on_retire(node)
            self.tell(NodeChanged(node, "killed"))
            if isinstance(error, StorageError):
                self.disks.failed(node, error)

    def tell(self, event: ClusterEvent) -> None:
        """Publish an event."""
        if isinstance(event, EffectStarted):
            self.counters.effects_run += 1
        self.observers.publish(event)
        if isinstance(event, ExecutionStopped) and event.difference is not None and collect.held(self, event.run_id):
            self.observers.publish(RunHeld(event.run_id, event.difference))

    def write(self, line: OutputLine) -> None:
        """Keep a line of output."""
        self.observers.write(line)

    # --- looking at nodes and runs

    def incarnation(self, number: NodeId) -> Incarnation | None:
        """The living incarnation of a node."""
        return self._incarnations.get(number)

    def alive(self, number: NodeId, done_to_it: str) -> Incarnation:
        """The living incarnation of a node; raises `NodeStateError` if it is dead."""
        incarnation = self._incarnations.get(number)
        if incarnation is None:
            raise NodeStateError(f"node {number} is dead and cannot be {done_to_it}; restart it first")
        return incarnation

    def on_retire(self, number: NodeId) -> bool:
        """End a node; False if it had ended already."""
        incarnation = self._incarnations.pop(number, None)
        if incarnation is not None:
            self._last_state = max(self._last_state, incarnation.member.state, key=lambda state: state.index)
            incarnation.close()
            self.journals.close(number)
            self.gone.append(incarnation)
        for who, _, waiter in self._applied_waiters:
            if who == number and not waiter.done():
                waiter.set_exception(NodeStateError(f"node {number} was stopped while it was waited for"))
        return incarnation is not None

    def forget_ended(self) -> None:
        """Let go of ended incarnations of which nothing runs any more: `stop` need not name them, and they hold a state."""
        for incarnation in tuple(self.gone):
            if not incarnation.join(0.0):
                with contextlib.suppress(ValueError):  # another thread was quicker
                    self.gone.remove(incarnation)
                    incarnation.free()

    def head(self) -> State:
        """The state of the most advanced living node; when none lives, the last one that was."""
        states = [incarnation.member.state for incarnation in tuple(self._incarnations.values())]
        return max([*states, self._last_state], key=lambda state: state.index)

    def run_record(self, run_id: RunId) -> Run:
        """What is recorded of a run; raises `RunNotFoundError`."""
        record = self.head().runs.get(run_id)
        if record is None:
            raise RunNotFoundError(f"no run {run_id!r} is known: it was never started, or its records were evicted")
        return record

    def when_ended(self, run_id: RunId, callback: Callable[[Ending], None]) -> Callable[[], None]:
        """Have `callback(ending)` called once, on the consensus loop or right now; returns what forgets it."""
        if not self.thread.alive:
            callback(self._ending_after_stop(run_id))
            return _nothing

        def watch() -> None:
            record = self.head().runs.get(run_id)
            if self._shut:
                callback(self._ending_after_stop(run_id))
            elif record is None:
                callback(RunNotFoundError(f"no run {run_id!r} is known: its records were evicted"))
            elif (ending := _ending(record)) is not None:
                callback(ending)
            else:
                self._waiting.setdefault(run_id, []).append(callback)

        def forget() -> None:
            callbacks = self._waiting.get(run_id, [])
            if callback in callbacks:
                callbacks.remove(callback)

        try:
            self.thread.call(watch)
        except ClusterError:
            callback(self._ending_after_stop(run_id))
        return lambda: self.thread.post(forget)

    def _ending_after_stop(self, run_id: RunId) -> Ending:
        ending = _ending(self.head().runs.get(run_id))
        return ClusterError(f"cluster {self.name!r} stopped before the run ended") if ending is None else ending

    def _end_waits(self, run_id: RunId, ending: Ending) -> None:
        for callback in self._waiting.pop(run_id, ()):
            callback(ending)

    def wait_until_applied(self, number: NodeId, timeout: float) -> int:
        """Wait until a node has applied what the others have now; returns its index. Raises `CompletionTimeoutError`."""
        incarnation = self.alive(number, "waited for")

        async def wait() -> int:
            if self._incarnations.get(number) is not incarnation:
                raise NodeStateError(f"node {number} was stopped while it was waited for")
            return await self._on_await_applied(incarnation, self.head().index)

        try:
            return self.thread.run(wait, timeout=timeout)
        except TimeoutError:
            raise CompletionTimeoutError(
                f"node {number} has not applied what the others have within {timeout} s; does it reach the leader?"
            ) from None

    async def on_await_level(self) -> None:
        """Wait until every node that runs, and is not paused, has applied what any node has applied by now."""
        target = self.head().index
        for incarnation in tuple(self._incarnations.values()):
            with contextlib.suppress(NodeStateError):  # one that dies meanwhile does not run
                if self._incarnations.get(incarnation.node) is incarnation and not incarnation.member.paused:
                    await self._on_await_applied(incarnation, target)

    async def _on_await_applied(self, incarnation: Incarnation, target: int) -> int:
        if incarnation.member.state.index < target:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            entry = (incarnation.node, target, waiter)
            self._applied_waiters.append(entry)
            try:
                await waiter
            finally:
                self._applied_waiters.remove(entry)
        return incarnation.member.state.index

    def propose(self, command: Command, what: str) -> Committed | Rejected:
        """Propose a command by way of whichever node can, and wait. Raises `NotAcknowledgedError` at the deadline."""
        outcome = self.thread.run(self.on_ask, command)
        if isinstance(outcome, Committed) or (isinstance(outcome, Rejected) and outcome.code not in _NOT_TAKEN):
            return outcome
        raise NotAcknowledgedError(
            f"{what} was not acknowledged within {self.proposal_timeout} s: {outcome.reason}; a majority of the "
            f"{len(self.numbers)} nodes must run and reach each other",
            may_commit=isinstance(outcome, Unknown),
        )

    async def on_ask(self, command: Command) -> Outcome:
        """Propose a command by way of whichever node can; its outcome within `proposal_timeout`."""
        # Every command that comes this way says the same thing when it is said twice, so another node may say it again.
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.proposal_timeout
        sent = False
        while True:
            incarnation = self.spokesman()
            left = deadline - loop.time()
            if incarnation is None or left <= 0:
                reason = "no node runs, or all are paused" if incarnation is None else "the time is up"
                return Unknown(reason) if sent else Rejected(reason, "no_leader")
            outcome = await incarnation.ask(command, left)
            if isinstance(outcome, Committed) or (isinstance(outcome, Rejected) and outcome.code not in _NOT_TAKEN):
                return outcome
            sent = sent or isinstance(outcome, Unknown)

    def spokesman(self) -> Incarnation | None:
        """The node that knows most: the one that acts, or any that is awake; None if there is none. From any thread."""
        leader = self.leader
        if leader is not None and (acting := self._incarnations.get(leader)) is not None:
            return acting
        awake = [one for one in tuple(self._incarnations.values()) if not one.member.paused]
        return awake[0] if awake else None


def _ending(record: Run | None) -> bytes | Failure | None:
    """How a run ended; None if it has not, or is not known."""
    if record is None:
        return None
    return record.failure if record.result is None else record.result


def _nothing() -> None:
    pass
