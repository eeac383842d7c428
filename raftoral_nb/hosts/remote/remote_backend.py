"""The handle's side of a cluster whose nodes are in other processes: it follows the log, and asks the nodes for the rest."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

from ...core.cluster_events import NodeChanged
from ...core.commands import Command, Outcome, RegisterWorkflow
from ...core.events import ClusterEvent
from ...core.records import NodeId, RunId
from ...core.state import State
from ...core.statistics import LogEntry, LoggedEntry, LogTail, NodeStatistics, RunCode
from ...discovery.process_identity import Process
from ...errors import ClusterError, NodeStateError, RaftoralError, StorageError
from ...executors import executor_table
from ...executors.executor_table import ExecutorFactory
from ...limits import MAX_EVENTS_KEPT
from ...raft.compaction import Compaction
from ...raft.replica import Timing
from ...threads.loop_thread import do_all
from ...transport.network import Links
from .. import history
from ..backend_parts import Lifetime, NodeChange
from ..base import ClusterBackend
from ..recovery import DataDirectory
from ..spread import NOT_SPREAD, Spread
from .announcement import KeyFileOfProcesses
from .background import Tasks
from .child_process import Child, kill_process
from .connections import Connections
from .following import LogFollower
from .installation import Installation
from .launching import Launcher
from .looking import StatusObserver
from .messages import (
    Address,
    AwaitApplied,
    Boot,
    ChangeLinks,
    ChangeNode,
    Forget,
    Hello,
    NodeLook,
    Status,
    Stop,
    Welcome,
)
from .news import NewsFollower
from .process_table import ProcessTable
from .remote_blobs import RemoteBlobs
from .remote_links import RemoteLinks
from .remote_node import RemoteLife
from .rpc import Calls, answers_to

T = TypeVar("T")

CHANGE_SECONDS = 5.0
"""The time a node may take for what it is told to do; nobody waits longer for one whose process hangs, or is stopped."""

END_SECONDS = 1.5
"""The time nodes' processes get to end by themselves when the cluster is stopped."""


FILES_OF_A_CHILD: Final = 4
"""Files that are open here for a node's process while it starts: pipes, its log, and a connection to it."""


class RemoteBackend(ClusterBackend):
    """A cluster of processes, started here or found running. Its thread only talks with them.

    It decides what is done to nodes. Its parts do the rest: what lies on the disk (`Installation`), where the nodes are (`ProcessTable`),
    how they are started (`Launcher`), the lines to them (`Connections`), what they tell (`NewsFollower`), the log (`LogFollower`), and
    what they must be asked for (`StatusObserver`).
    """

    network: RemoteLinks
    _incarnations: dict[NodeId, RemoteLife]

    def __init__(
        self,
        name: str,
        numbers: Sequence[NodeId],
        *,
        timing: Timing,
        proposal_timeout: float,
        network: str = "tcp",
        ports: dict[NodeId, int] | None = None,
        compaction: Compaction,
        founders: Sequence[NodeId] | None = None,
        detach: bool = False,
        log_level: str | int | None = None,
        found: KeyFileOfProcesses | None = None,
        executors: Mapping[str, ExecutorFactory] = MappingProxyType({}),
        spread: Spread = NOT_SPREAD,
    ) -> None:
        lifetime = Lifetime.ATTACHED if found is not None else Lifetime.DETACHED if detach else Lifetime.PROCESS
        super().__init__(name, numbers, timing=timing, proposal_timeout=proposal_timeout, lifetime=lifetime)
        if network != "tcp":
            raise ClusterError("nodes in processes of their own talk over TCP: leave network='memory' out")
        self.network = RemoteLinks()
        self._compaction = compaction
        self._executors = executor_table.shipped(executors)
        self._spread = spread
        self._founders = self.numbers if founders is None else tuple(founders)
        self._incarnations = {}
        self._booting: set[NodeId] = set()
        self._tasks = Tasks(name)
        self._installation = Installation(found)
        self._processes = ProcessTable()
        self._connections = Connections(name, self, self._installation, self._processes, self._tasks)
        self._launcher = Launcher(
            self, self._installation, self._processes, self._connections, ports=ports or {}, log_level=log_level
        )
        self._news = NewsFollower(self, self._connections, quiet=found is not None)
        self._log = LogFollower(self, self._connections.failed)
        self._blobs = RemoteBlobs(self)
        self._observer = StatusObserver(self.thread, self._connections, self._incarnations, self.network)

    @property
    def unlisted(self) -> str | None:
        """The reason why there is no key file, where one was wanted."""
        return self._installation.unlisted

    # --- the cluster's life

    def files_needed(self, count: int, *, stored: bool) -> int:  # noqa: ARG002 - logs are the processes' own
        """Return the number of files: a connection to each node, and pipes for processes that are started."""
        return count * (1 if self.attached else FILES_OF_A_CHILD)

    def use(self, data: DataDirectory) -> None:
        """Keep the nodes' logs in a data directory. Before the start. Raises `StorageError`."""
        self._installation.use(data, self.name, self.numbers)

    async def on_open(self, leave_out: Collection[NodeId] = ()) -> None:
        """Start every node but those to leave out; or find those that run. Raises what keeps a node from starting."""
        announced = self._installation.announced
        if announced is None:
            self._installation.found(
                self.name,
                self.key,
                self.numbers,
                founders=self._founders,
                timing=self.timing,
                compaction=self._compaction,
                proposal_timeout=self.proposal_timeout,
                outlives=self.outlives,
                executors=self._executors,
                spread=self._spread,
            )
            await self._launcher.launch_all([number for number in self.numbers if number not in leave_out])
        else:
            await self._find_cluster(announced)
        self._tasks.spawn(self._log.follow())

    async def _find_cluster(self, announced: KeyFileOfProcesses) -> None:
        self.key = announced.content.key
        addresses = self._processes.addresses
        addresses.update(announced.addresses)
        self._processes.processes.update(announced.processes)
        problems: list[BaseException] = []
        tried: set[NodeId] = set()
        while trying := sorted(set(addresses) - tried):  # those whom one meets tell of others
            tried.update(trying)
            outcomes = await asyncio.gather(
                *(self._connections.meet(number) for number in trying), return_exceptions=True
            )
            problems += [one for one in outcomes if isinstance(one, BaseException)]
        if not self._connections.calls:
            why = "; ".join(map(str, problems)) or "its key file names no nodes"
            raise ClusterError(f"no node of cluster {self.name!r} can be reached: {why}")
        for number in sorted(set(addresses) - set(self._connections.calls)):
            self._connections.redial(number)
        await self._log.catch_up()
        past = self._news.past()
        for run in tuple(self.head().runs.values()):
            past.extend(history.history(run))
        past.sort(key=lambda one: one[0])
        self.observers.recall(past[-MAX_EVENTS_KEPT:])

    async def on_shut(self, *, leave: bool = False) -> None:
        """End every node, or let go of them; whoever waits is told."""
        self._shut = self._connections.shut = True
        self._log.end()
        self._tasks.cancel()
        calls = tuple(self._connections.calls.items())
        if not leave:
            for _, one in calls:
                one.ask(Stop())
            if calls:
                await asyncio.wait([one.lost for _, one in calls], timeout=END_SECONDS)
        for number, one in calls:
            self._connections.expected.add(number)
            one.close()
        # Whoever listens here has heard the last, whether the nodes keep running or not.
        for number in [number for number, _ in calls] or self.numbers:
            self.tell(NodeChanged(number, "stopped"))
        if calls:
            await asyncio.wait([one.lost for _, one in calls], timeout=END_SECONDS)
        self._end_all_waits()

    def end(self, left: Callable[[], float], *, leave: bool = False) -> list[str]:
        """After `on_shut`: see that the processes are gone, and clear away what was theirs."""
        if leave:
            do_all(self._processes.leave, lambda: self.thread.stop(left()))
        else:
            do_all(
                lambda: self._processes.end(self._installation.listed_processes, left),
                lambda: self.thread.stop(left()),
                self._installation.clear_away,
            )
        return []

    async def on_ask_all(self, commands: Sequence[Command]) -> list[Outcome]:
        """Do as any backend does; code that a node could not load is not proposed at all."""
        for command in commands:
            if isinstance(command, RegisterWorkflow):
                self._processes.refuse_other_pythons(command.definition.workflow, self._connections.calls)
        return await super().on_ask_all(commands)

    # --- what is done to nodes and links

    def kill(self, number: NodeId, timeout: float) -> None:
        """End a node's process at once (SIGKILL). Raises `NodeStateError` for one of another host."""
        self.alive(number, "killed")
        calls, child, process = self.thread.call(self._on_kill, number)
        if child is not None:
            child.kill()
        elif process is not None:
            kill_process(process.pid)
        if calls is not None:
            with contextlib.suppress(TimeoutError, ClusterError):
                self.thread.run(calls.await_end, timeout=timeout)
        self.announce(NodeChanged(number, "killed"))

    def _on_kill(self, number: NodeId) -> tuple[Calls | None, Child | None, Process | None]:
        child, process = self._processes.to_kill(number)
        self._connections.expected.add(number)
        return self._connections.calls.get(number), child, process

    async def on_boot(self, number: NodeId) -> None:
        """Start a node's process again, on what its log keeps. Raises `NodeStateError` if it is alive, or was elsewhere."""
        if number in self._incarnations:
            raise NodeStateError(f"node {number} is alive; kill it first, then restart it")
        if (calls := self._connections.calls.get(number)) is not None:
            status: Status = (await calls.ask(Boot())).body
            self.take_status(number, calls, status)
            return
        self._installation.refuse_elsewhere(f"node {number} cannot be restarted from here")
        if number in self._booting:  # another thread was quicker
            raise NodeStateError(f"node {number} is being started already")
        self._booting.add(number)
        try:
            await self._launcher.launch(number)
        finally:
            self._booting.discard(number)
        await self._launcher.introduce([number])

    async def on_join(self, number: NodeId) -> None:
        """Start a node that is no member yet, under a number that was reserved for it. Raises `NodeStateError`."""
        self._installation.refuse_elsewhere("no node can be added from here")
        self._installation.add_folder(number)
        self.starts[number] = 0
        try:
            await self._launcher.launch(number)
        except BaseException:
            self._undo_join(number)
            raise
        if number not in self.numbers:
            self.numbers = (*self.numbers, number)
        await self._launcher.introduce([number])

    def _undo_join(self, number: NodeId) -> None:
        """Undo the join of a node that could not be started, or met: nothing of it stays."""
        child = self._on_left(number)
        if child is not None:
            child.kill()
        self.starts.pop(number, None)
        with contextlib.suppress(StorageError):  # what is told is why it could not be started
            self._installation.drop_folder(number)

    def leave(self, number: NodeId, timeout: float) -> None:
        """End a node that is no member any more, and drop its log, where it can be reached from here."""
        with contextlib.suppress(TimeoutError, NodeStateError):
            self.thread.run(self._on_leave, number, timeout=timeout)
        child = self.thread.call(self._on_left, number)
        if child is not None and not child.wait(timeout):
            child.kill()
        self._installation.drop_folder(number)

    def _on_left(self, number: NodeId) -> Child | None:
        """Forget a node (consensus loop); its process, if it was started here, is still to be ended."""
        self.removed(number)
        return self._processes.children.pop(number, None)

    async def _on_leave(self, number: NodeId) -> None:
        self._connections.expected.add(number)
        for other, calls in tuple(self._connections.calls.items()):
            if other != number:
                calls.ask(Forget(number))
        if (leaving := self._connections.calls.get(number)) is not None:
            await leaving.ask(Stop())
            await leaving.lost

    def change(self, number: NodeId, change: NodeChange) -> None:
        """Do something to a living node, and wait until it is done. Raises `NodeStateError`."""
        life = self.alive(number, "changed")

        async def ask() -> None:
            status: Status = (await life.calls.ask(ChangeNode(change))).body
            self.take_status(number, life.calls, status)

        try:
            self.thread.run(ask, timeout=CHANGE_SECONDS)
        except TimeoutError:
            raise NodeStateError(
                f"node {number} did not answer within {CHANGE_SECONDS:g} s: its process hangs, or is stopped. Kill the node, "
                "then restart it"
            ) from None

    def change_links(self, act: Callable[[Links], T]) -> T:
        """Have `act` do something to the links; the nodes at their ends carry it out, and are waited for.

        A node that hangs is waited for no longer than `CHANGE_SECONDS`: it does it when it continues.
        """

        async def on_loop() -> T:
            done = act(self.network)
            change = self.network.taken()
            if change is not None:
                # One that dies meanwhile is told when it is back.
                await answers_to([calls.ask(change) for calls in self._connections.calls.values()], CHANGE_SECONDS)
            return done

        return self.thread.run(on_loop)

    async def on_await_applied(self, number: NodeId, target: int) -> int:
        """Wait until a node has applied the log up to an index; returns how far it is. Raises `NodeStateError` if it dies."""
        life = self.alive(number, "waited for")
        index: int = (await life.calls.ask(AwaitApplied(target))).body
        return index

    # --- the lines to nodes (connections.ConnectionsEnv, launching.LauncherEnv)

    def lines(self) -> Sequence[tuple[NodeId, Calls]]:
        """Return the lines to the nodes, on the thread that asks them."""
        return tuple(self._connections.calls.items())

    def data_folder(self) -> Path | None:
        """Return the folder in which the nodes keep their logs, if they share one."""
        shared = self._installation.shared
        return None if shared is None or not shared.data_dir else Path(shared.data_dir)

    def is_node(self, number: NodeId) -> bool:
        """Tell whether the cluster has that node."""
        return number in self.numbers

    async def met(self, number: NodeId, calls: Calls, welcome: Welcome) -> None:
        """Follow a node over a new line. While the past is learned, wait until all of it is told."""
        again = self._processes.met(number, welcome)
        self.starts[number] = welcome.incarnation
        if self._installation.shared is None:
            self._installation.shared = welcome.shared
            self.timing = welcome.shared.timing
            self.proposal_timeout = welcome.shared.proposal_timeout
        self.network.learn(_links_of(welcome))
        self.take_status(number, calls, welcome.status)
        told = self._news.told.get(number, 0) if again else 0
        self._tasks.spawn(self._news.follow(number, calls, told, welcome.status_number))
        for other, address in welcome.elsewhere.items():
            self.moved(other, address)
        if self._news.quiet:
            await self._news.on_told(number, calls, welcome.told)

    def launched(self, number: NodeId) -> None:
        """Forget what a node's former process told, and its failures: it has a new process."""
        self._news.told.pop(number, None)  # it begins another event log
        self._connections.backoff.forget(number)

    def lost(self, number: NodeId) -> None:
        """Note that the line to a node is gone: it counts as dead until it is met again."""
        self._observer.lost(number)
        self._incarnations.pop(number, None)
        self.acting_changed(number, None)
        self._log.source_changed()
        self._news.lost()

    def found_dead(self, number: NodeId) -> None:
        """Note that a node's process has ended by itself."""
        if number not in self._news.killed:
            self.announce(NodeChanged(number, "killed"))

    # --- what nodes tell (news.NewsEnv)

    def take_status(self, number: NodeId, calls: Calls, status: Status) -> None:
        """Take a node's status."""
        life = self._incarnations.get(number)
        if not status.alive:
            self._incarnations.pop(number, None)
        elif life is None or life.calls is not calls:
            self._incarnations[number] = RemoteLife(self, calls, number, status)
        else:
            life.status = status
        self.starts[number] = max(self.starts.get(number, 0), status.incarnation)
        self.acting_changed(number, status.acting)
        self._log.source_changed()

    def moved(self, number: NodeId, address: Address) -> None:
        """Note a node's new address: one that another handle started, or that joined by itself."""
        self._processes.addresses[number] = address
        if number not in self.numbers:
            self.starts.setdefault(number, 0)
            self.numbers = tuple(sorted((*self.numbers, number)))
            self._numbers_watcher()
        met = number in self._connections.calls
        if not met and not self._news.quiet and not self._shut and not self._processes.runs_here(number):
            self._processes.found_elsewhere(number)
            self._connections.expected.discard(number)
            self._connections.redial(number)

    def removed(self, number: NodeId) -> None:
        """Drop a node that is no longer a member."""
        self.numbers = tuple(one for one in self.numbers if one != number)
        self._connections.expected.add(number)
        self._processes.forget(number)
        self._observer.forget(number)
        self._connections.backoff.forget(number)
        self._installation.drop(number)
        self._numbers_watcher()

    def links_changed(self) -> None:
        """Another handle did something to the links: ask what they are."""
        self._tasks.spawn(self._learn_links())

    async def _learn_links(self) -> None:
        for calls in tuple(self._connections.calls.values()):
            with contextlib.suppress(RaftoralError):
                links = RemoteLinks()
                links.learn(_links_of((await calls.ask(Hello())).body))
                self.network.become(links)
                return

    def announce(self, event: ClusterEvent) -> None:
        """Publish what was done here, and have a node tell the other handles."""
        if isinstance(event, NodeChanged) and event.change == "killed":
            self._news.killed.add(event.node)
        self.tell(event)
        self.thread.post(self._news.share, event)

    # --- the log (following.LogEnv)

    def source(self) -> RemoteLife | None:
        """Return the node from which the log is read: the one that acts, or any that is awake."""
        life = self.spokesman()
        return None if life is None else self._incarnations.get(life.node)

    def entry_recalled(self, index: int) -> None:
        """Note that an entry was applied that is from before: nobody is told what happened by it."""
        self._told_index = index

    def state_replaced_up_to(self, index: int, state: State) -> None:
        """Note that a state came in place of the entries up to an index."""
        self._told_index = index
        self._state_skipped(state)

    def head(self) -> State:
        """Return the state as it is known here. From any thread."""
        return self._log.state

    async def on_reached(self, index: int) -> None:
        """Wait until the log is applied here up to an index."""
        await self._log.on_reached(index)

    async def on_await_leader(self) -> NodeId:
        """Wait until a node acts, and all that it had applied by then is known here."""
        while True:
            leader = await super().on_await_leader()
            life = self._incarnations.get(leader)
            with contextlib.suppress(NodeStateError):  # it died meanwhile
                if life is not None:
                    await self.on_reached((await life.calls.ask(Hello())).applied)
                    return leader

    # --- looking at nodes and runs

    @property
    def looks(self) -> Mapping[NodeId, NodeLook]:
        """The last known status of each node, as it said itself."""
        return self._observer.looks

    def incarnation(self, number: NodeId) -> RemoteLife | None:
        """Return the present life of a node; None if it is dead."""
        return self._incarnations.get(number)

    def alive(self, number: NodeId, done_to_it: str) -> RemoteLife:
        """Return the present life of a node; raises `NodeStateError` if it is dead."""
        super().alive(number, done_to_it)
        return self._incarnations[number]

    def refresh(self, only: Collection[RunId] | None, entries: int) -> None:
        """Before a look: ask every node what only it knows. Waits a little."""
        self._observer.refresh(only, entries)

    def node_statistics(self, number: NodeId, commit_index: int, only: Collection[RunId] | None) -> NodeStatistics:
        """Return one node's statistics, as it said when it was looked at last; `commit_index` is the leader's."""
        return self._observer.node_statistics(
            number, commit_index, only, starts=self.starts.get(number, 0), numbers=self.numbers
        )

    def tail(self, number: NodeId, most: int, described: Callable[[tuple[bytes, int, int]], LoggedEntry]) -> LogTail:
        """Return the end of a node's log, as it was when it was looked at last."""
        del described, most
        return self._observer.tail(number)

    def run_code(self, run_id: RunId) -> RunCode:
        """Return the code of a run, and where each living node is in it. Waits a little. Raises `RunNotFoundError`."""
        return self._observer.run_code(run_id, self.run_record(run_id).definition)

    def entries(self, number: NodeId, last: int) -> tuple[LogEntry, ...]:
        """Return the last entries of a node's log, in words; of a dead node, those in its data directory."""
        found = self._observer.entries(number, last)
        return self._installation.stored_entries(number, last) if found is None else found


def _links_of(welcome: Welcome) -> ChangeLinks:
    """Return what a node says of the links when it is met."""
    return ChangeLinks(tuple((a, b, True) for a, b in welcome.cuts), tuple((a, b, d) for a, b, d in welcome.delays))
