"""The backend of a cluster in this process: its nodes and the tasks that wait for them, on the consensus thread."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ..core.apply import Applied
from ..core.cluster_events import NodeChanged
from ..core.records import NodeId, RunId
from ..core.state import State
from ..core.statistics import LogEntry, LoggedEntry, LogTail, NodeStatistics, RunCode
from ..errors import ClusterError, NodeStateError, StorageError
from ..executors.executor_table import ExecutorFactory
from ..executors.node_executors import NodeExecutors
from ..node.incarnation import Incarnation, catch_up_seconds
from ..node.time_of_day import LOOK_AGAIN, TimeOfDay
from ..raft.compaction import Compaction
from ..raft.journal import Journals
from ..raft.pysyncobj_driver import Dice
from ..raft.replica import Timing
from ..threads.loop_thread import do_all
from ..threads.step_threads import StepThreads
from ..transport.memory_network import MemoryNetwork
from ..transport.network import Links, Network
from ..transport.tcp_network import TcpNetwork
from . import code_positions, collect_statistics, log_words, open_files
from .backend_parts import NodeChange
from .base import ClusterBackend
from .disk_retry import FailedDisks
from .open_files import for_nodes
from .spread import NOT_SPREAD, Spread

if TYPE_CHECKING:
    from .recovery import DataDirectory

T = TypeVar("T")

NetworkKind = Literal["tcp", "memory"]


class LocalBackend(ClusterBackend):
    """The owner of the consensus thread, the network, the journals and the incarnations of one cluster.

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
        executors: Mapping[str, ExecutorFactory] = MappingProxyType({}),
        spread: Spread = NOT_SPREAD,
    ) -> None:
        super().__init__(name, numbers, timing=timing, proposal_timeout=proposal_timeout)
        self._founders = self.numbers if founders is None else tuple(founders)
        self.journals = Journals()
        """The nodes' logs: in memory, or those of a data directory, set before the nodes are started."""
        self.disks = FailedDisks(self.on_boot, self.incarnation, self.tell)
        self.network: Network | None = None
        self.time_of_day = TimeOfDay()
        """The clock of all its nodes: one that is killed and restarted here goes by the same."""
        self.gone: list[Incarnation] = []
        """Ended incarnations whose threads may still run user code."""
        self._network_kind = network
        self._ports = ports
        self._compaction = compaction
        self._executors = executors
        self._spread = spread
        self._dice: Dice = random.Random()
        self._incarnations: dict[NodeId, Incarnation] = {}
        self._booting: set[NodeId] = set()
        # Invariant: nodes whose journals are open for an incarnation that is still to be made.
        self._opened: set[NodeId] = set()
        self._first: NodeId | None = None
        # The rest belongs to the consensus loop.
        self._applied_waiters: list[tuple[NodeId, int, asyncio.Future[None]]] = []
        self._last_state = State()

    # --- the cluster's life

    def files_needed(self, count: int, *, stored: bool) -> int:
        """Return how many files so many nodes have open here, sockets included."""
        members = max(len(self.numbers), len(self._founders))
        return for_nodes(count, members=members, tcp=self._network_kind == "tcp", stored=stored)

    def use(self, data: DataDirectory) -> None:
        """Keep the nodes' logs in a data directory. Before the start. Raises `StorageError`."""
        self.journals = data.take(self.name, self.numbers)

    def end(self, left: Callable[[], float], *, leave: bool = False) -> list[str]:  # noqa: ARG002 - nodes of this process end with it
        """End the threads, after `on_shut`, and let go of the journals; names the user code that could not be ended."""
        stuck: list[str] = []
        do_all(
            *(partial(self._join, incarnation, left, stuck) for incarnation in self.gone),
            lambda: self.thread.stop(left()),
            self.journals.end,
        )
        return stuck

    @staticmethod
    def _join(incarnation: Incarnation, left: Callable[[], float], stuck: list[str]) -> None:
        stuck.extend(incarnation.join(left()))

    # --- what is done to nodes and links

    def kill(self, number: NodeId, timeout: float) -> None:
        """End a node at once; only its journal stays. Waits up to `timeout` seconds for its threads."""
        incarnation = self.alive(number, "killed")
        if not self.thread.call(self.on_retire, number):
            raise NodeStateError(f"node {number} is dead and cannot be killed; restart it first")
        self.announce(NodeChanged(number, "killed"))
        incarnation.join(timeout)
        self.forget_ended()

    def change(self, number: NodeId, change: NodeChange) -> None:
        """Do something to a living node, and wait until it is done. Raises `NodeStateError`."""
        incarnation = self.alive(number, "changed")
        match change:
            case "pause":
                self.thread.call(incarnation.pause)
            case "resume":
                self.thread.call(incarnation.resume)
            case "hold":
                incarnation.hold()
                with contextlib.suppress(TimeoutError, ClusterError):
                    # The gate is closed when this returns, unless a workflow blocks.
                    incarnation.thread.call(_nothing, timeout=1.0)
            case "release":
                incarnation.release()

    def change_links(self, act: Callable[[Links], T]) -> T:
        """Have `act` do something to the links, on the consensus loop."""

        def on_loop() -> T:
            assert self.network is not None, "a running cluster has a network"
            return act(self.network)

        return self.thread.call(on_loop)

    # --- nodes, on the consensus loop

    async def on_open(self, leave_out: Collection[NodeId] = ()) -> None:
        """Make the network and start every node but those to leave out. Raises `PortInUseError`, `StorageError`."""
        self.network = self._make_network(asyncio.get_running_loop())
        starting = [number for number in self.numbers if number not in leave_out]
        await self._open_journals(starting)
        self._first = self._furthest(starting)
        for number in starting:
            await self.on_boot(number)
        self._first = None

    async def _open_journals(self, numbers: Sequence[NodeId]) -> None:
        """Open the journals of nodes that start together, together. Raises what kept the first of them from being opened."""
        outcomes = await asyncio.gather(*(self.journals.open(number) for number in numbers), return_exceptions=True)
        self._opened.update(
            number for number, outcome in zip(numbers, outcomes, strict=True) if not isinstance(outcome, BaseException)
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    def _furthest(self, numbers: Sequence[NodeId]) -> NodeId | None:
        """Return the node whose log can win an election, of nodes that start together; None if members run elsewhere.

        It need not wait for the silence of a leader: there can be none.
        """
        journals = {number: self.journals.of(number) for number in numbers}
        members = {member for one in journals.values() for member in one.members or self._founders}
        if not members.issubset(self.numbers):
            return None

        def log(number: NodeId) -> tuple[int, int, int]:
            journal = journals[number]
            return journal.term_at(journal.last_index) or 0, journal.last_index, -number

        return max(members.intersection(numbers), key=log, default=None)

    def _make_network(self, loop: asyncio.AbstractEventLoop) -> Network:
        if self._network_kind == "memory":
            return MemoryNetwork(loop)
        return TcpNetwork(self.key, self._ports, tell=self.tell)

    @property
    def everybody(self) -> tuple[NodeId, ...]:
        """The nodes that nodes of this host may have links to."""
        return self.numbers

    async def on_boot(self, number: NodeId) -> None:
        """Start a node from its journal. Raises `NodeStateError` if it is alive, and `StorageError`."""
        if number in self._incarnations or number in self._booting:  # another thread was quicker
            raise NodeStateError(f"node {number} is alive; kill it first, then restart it")
        self._check_files(number)
        self._booting.add(number)
        try:
            await self._boot(number)
        finally:
            self._booting.discard(number)

    def _check_files(self, number: NodeId) -> None:
        """Raise `TooManyOpenFilesError` if there are too few for one node more."""
        needed = self.files_needed(1, stored=type(self.journals) is not Journals)
        if needed and self._network_kind == "tcp":
            # The others' ends of its connections; and if it joins, they are as many as the members were.
            needed += len(self._incarnations) + (number not in self.numbers)
        open_files.check(needed, f"node {number}")

    async def _boot(self, number: NodeId) -> None:
        assert self.network is not None
        if number not in self._opened:
            await self.journals.open(number)
        self._opened.discard(number)
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
        """Return the incarnation of a node that starts for the `count`-th time."""
        surroundings: dict[str, Any] = {"loop": asyncio.get_running_loop(), **self._surroundings(number)}
        return self._make_incarnation(
            number,
            self._founders,
            count,
            joins=number not in self._founders,
            first=number == self._first,
            first_hand_over=self._first_hand_over(number),
            host=self,
            consensus=self.thread,
            journal=self.journals.of(number),
            dice=self._dice,
            timing=self.timing,
            compaction=self._compaction,
            name=self.name,
            takes_runs=self._spread.runs,
            labels=self._spread.labels_of(number),
            **surroundings,
        )

    def _first_hand_over(self, number: NodeId) -> float:
        """Return for how long a node that starts gathers its first records: those of the one that is likely to lead go before."""
        likely_follows = self._first not in (None, number)
        return catch_up_seconds(self.journals.of(number).last_index if likely_follows else 0)

    _make_incarnation: Callable[..., Incarnation] = Incarnation

    def _surroundings(self, number: NodeId) -> dict[str, Any]:
        """Return what a node's incarnation gets in place of a thread, a clock and so on of its own."""
        steps = StepThreads(f"{self.name}-node-{number}-step")
        executors = NodeExecutors(f"{self.name}-node-{number}", self._executors, steps)
        return {"wall_clock": self.time_of_day, "look_again": LOOK_AGAIN, "steps": steps, "executors": executors}

    def wall_clock(self) -> float:
        """Return the time of day that its nodes go by, in Unix seconds."""
        return self.time_of_day()

    async def on_join(self, number: NodeId) -> None:
        """Start a node that is no member yet, under a number that was reserved for it."""
        self.starts[number] = 0
        try:
            await self.on_boot(number)
        except BaseException:
            self._undo_join(number)
            raise
        self.numbers = (*self.numbers, number)

    def _undo_join(self, number: NodeId) -> None:
        """Undo the join of a node that could not be started: nothing of it stays."""
        self.starts.pop(number, None)
        with contextlib.suppress(StorageError):  # what is told is why it could not be started
            self.journals.forget(number)

    def leave(self, number: NodeId, timeout: float) -> None:
        """End a node that is no member any more, and drop its journal; waits for its threads."""
        incarnation = self.incarnation(number)
        self.thread.call(self._on_leave, number)
        if incarnation is not None:
            incarnation.join(timeout)
        self.forget_ended()

    def _on_leave(self, number: NodeId) -> None:
        self.on_retire(number)
        self.journals.forget(number)
        self.numbers = tuple(one for one in self.numbers if one != number)

    async def on_shut(self, *, leave: bool = False) -> None:  # noqa: ARG002 - nodes of this process end with it
        """End every node and the network; whoever waits is told."""
        self._shut = True
        self.disks.forget()
        for number, incarnation in tuple(self._incarnations.items()):
            if self._is_forgotten:
                incarnation.drop_kept()
            self.on_retire(number)
            self.tell(NodeChanged(number, "stopped"))
        if self.network is not None:
            await self.network.close()
        self._end_all_waits()

    @property
    def _is_forgotten(self) -> bool:
        """Whether runs that have not ended are gone with the cluster."""
        return type(self.journals) is Journals

    # --- from the incarnations (incarnation.IncarnationHost)

    def entry_applied(self, index: int, applied: Sequence[Applied]) -> None:
        """Tell the waiters for this index; the first node to apply an entry publishes its events."""
        self._tell_applied_waiters()
        super().entry_applied(index, applied)

    def _tell_applied_waiters(self) -> None:
        for who, wanted, waiter in self._applied_waiters:
            incarnation = self._incarnations.get(who)
            if incarnation is not None and incarnation.member.state.index >= wanted and not waiter.done():
                waiter.set_result(None)

    def state_replaced(self, node: NodeId) -> None:
        """Tell the waiters for this index, and for runs that ended in what was skipped."""
        self._tell_applied_waiters()
        self._state_skipped(self._incarnations[node].member.state)

    def node_failed(self, node: NodeId, error: BaseException) -> None:
        """Count a broken node as killed. One whose disk failed starts again, from what is stored, when it can."""
        if node in self._incarnations:
            self.on_retire(node)
            self.tell(NodeChanged(node, "killed"))
            if isinstance(error, StorageError):
                self.disks.failed(node, error)

    # --- looking at nodes and runs

    def incarnation(self, number: NodeId) -> Incarnation | None:
        """Return the living incarnation of a node."""
        return self._incarnations.get(number)

    def alive(self, number: NodeId, done_to_it: str) -> Incarnation:
        """Return the living incarnation of a node; raises `NodeStateError` if it is dead."""
        incarnation = self.incarnation(number)
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
        """Return the state of the most advanced running node; when none runs, the last known one."""
        states = [incarnation.member.state for incarnation in tuple(self._incarnations.values())]
        return max([*states, self._last_state], key=lambda state: state.index)

    async def on_await_applied(self, number: NodeId, target: int) -> int:
        """Wait until a node has applied the log up to an index; returns how far it is. Raises `NodeStateError` if it dies."""
        incarnation = self.alive(number, "waited for")
        if incarnation.member.state.index < target:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            entry = (number, target, waiter)
            self._applied_waiters.append(entry)
            try:
                await waiter
            finally:
                self._applied_waiters.remove(entry)
        return incarnation.member.state.index

    def refresh(self, only: Collection[RunId] | None, entries: int) -> None:
        """Do nothing: all of it is in this process."""

    def node_statistics(self, number: NodeId, commit_index: int, only: Collection[RunId] | None) -> NodeStatistics:
        """Return one node's statistics, on the consensus loop or after the stop; `commit_index` is the leader's."""
        return collect_statistics.node(
            number,
            self.incarnation(number),
            self.journals.of(number),
            starts=self.starts[number],
            storage_error=self.disks.reason(number),
            links=lambda connected: collect_statistics.links_of(self.network, number, self.everybody, connected),
            commit_index=commit_index,
            only=only,
        )

    def tail(self, number: NodeId, most: int, described: Callable[[tuple[bytes, int, int]], LoggedEntry]) -> LogTail:
        """Return the end of a node's log, on the consensus loop or after the stop."""
        journal = self.journals.of(number)
        return LogTail(
            first_index=journal.first_index,
            last_index=journal.last_index,
            entries=tuple(described(entry) for entry in journal.tail(most)),
        )

    def entries(self, number: NodeId, last: int) -> tuple[LogEntry, ...]:
        """Return the last entries of a node's log, in words. Waits while the cluster runs."""
        if self.thread.alive:
            with contextlib.suppress(ClusterError):  # stopped meanwhile
                return self.thread.call(self.log_words, number, last)
        return self.log_words(number, last)

    def log_words(self, number: NodeId, last: int) -> tuple[LogEntry, ...]:
        """Return the last entries of a node's log, oldest first, on the consensus loop or after the stop."""
        journal = self.journals.of(number)
        incarnation = self.incarnation(number)
        commit = journal.getRaftCommitIndex() if incarnation is None else incarnation.member.replica.raft.commit_index
        return log_words.entries(journal.tail(last), commit)

    def run_code(self, run_id: RunId) -> RunCode:
        """Return the code of a run, and where each living node is in it. Raises `RunNotFoundError`."""
        found = {number: one.executor.execution(run_id) for number in self.numbers if (one := self.incarnation(number))}
        return code_positions.code(
            self.run_record(run_id).definition, {number: one for number, one in found.items() if one is not None}
        )


def _nothing() -> None:
    pass
