"""The cluster: starts and stops nodes, causes faults, and gives users their handles."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

import anyio.to_thread
import msgspec

from ..core.cluster_events import ClusterRecovered, OutputLine
from ..core.events import ClusterEvent
from ..core.records import NodeId, RunId
from ..core.statistics import ClusterLook, ClusterStatistics
from ..errors import ClusterError
from ..faults import fault_lines
from ..faults.fault_lines import Fault, parse_fault
from ..faults.player import ScenarioPlay
from ..faults.scenario import Scenario
from ..faults.targets import no_such_node
from ..hosts import collect_statistics, log_levels, open_files, options, recovery
from ..hosts.base import ClusterBackend
from ..hosts.event_stream import EventStream
from ..hosts.local import LocalBackend
from ..hosts.local_announcement import Announcement
from ..hosts.view_frame import Looker
from ..node.captured_output import capture
from ..raft.compaction import DEFAULT_COMPACTION, Compaction
from ..raft.replica import Timing
from ..threads.loop_thread import do_all, refuse_on_own_thread
from ..threads.seconds import Seconds, as_number
from ..workflow.shipping.definitions import Workflow
from . import running_clusters
from .access import ClusterAccess
from .delegation import delegate
from .find_runs import RunFinder
from .member_changes import Membership
from .network_faults import NetworkFaults
from .node import Node, NodeTable
from .node_faults import NodeFaults
from .registry import Registration, Registry
from .starting import StartsRuns
from .telemetry import Telemetry

if TYPE_CHECKING:  # few clusters serve any
    from ..observability.metrics_server import MetricsServer

T = TypeVar("T")

DEFAULT_NODES = 3
"""Nodes of a cluster that is started without a number: the fewest that keep a majority when one is lost."""

STOP_SECONDS = 2.0
"""The time `stop` waits for user code before it names that code and continues without it (seconds)."""

_names = itertools.count(1)


class StopReport(msgspec.Struct, frozen=True):
    """The remains of a `Cluster.stop`: user code that could not be interrupted, by thread and place. Normally nothing."""

    stuck: tuple[str, ...] = ()


class Cluster(StartsRuns):
    """A cluster of nodes in this process, over TCP on 127.0.0.1 (or in memory), each with a thread of its own.

    With `data_dir` it continues from that directory, or makes it: it outlives its process (`durability="process"`, a killed
    kernel) or the machine's power as well (`"disk"`, synced before it is acknowledged). Number and name of its nodes are then those
    of the directory. `leave_out` are nodes that are not started, because their files are damaged, say.

    With `processes` each node is a process of its own on this machine: steps of different nodes run on different cores, and `kill`
    is a SIGKILL. They end with this process, also when that is killed; without a `data_dir` their logs are in a temporary folder.
    With `detach`, which needs a `data_dir`, they run until somebody calls `stop`, and any process of the same user can `attach`; the end of
    a `with` block, and of the process, only lets go of them.

    `nodes` is how many (1 to `MAX_NODES`; 3 if not given); `ports` fixes their TCP ports; `proposal_timeout` is how long (seconds, or a `timedelta`) starting
    a run or registering a workflow may wait for a majority. Use it as a context manager, synchronous or asynchronous, or
    call `start` and `stop`. Methods may be called from any thread but the cluster's own; those that wait say so.
    """

    def __init__(
        self,
        nodes: int | None = None,
        *,
        name: str | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        durability: Literal["memory", "process", "disk"] | None = None,
        leave_out: Collection[NodeId] = (),
        network: Literal["tcp", "memory"] = "tcp",
        ports: Sequence[int] | None = None,
        proposal_timeout: Seconds = 10.0,
        timing: Timing | None = None,
        compaction: Compaction = DEFAULT_COMPACTION,
        log_level: str | int | None = None,
        processes: bool = False,
        detach: bool = False,
    ) -> None:
        proposal_timeout = as_number(proposal_timeout)
        data = recovery.look(data_dir, durability)
        if nodes is None:
            nodes = DEFAULT_NODES if data is None or data.found is None else len(data.found.nodes)
        options.check(
            name=name,
            nodes=nodes,
            network=network,
            ports=ports,
            leave_out=leave_out,
            proposal_timeout=proposal_timeout,
            timing=timing,
            compaction=compaction,
        )
        self._logs = log_level is not None
        if log_level is not None:
            log_levels.set_level(log_level)
        self._data = data
        if name is None and data is not None:
            name = data.path.name if data.found is None else data.found.name
        self.name = name or f"cluster-{next(_names)}"
        numbers = tuple(range(1, nodes + 1)) if data is None else data.numbers(nodes)
        self._leave_out = recovery.left_out(leave_out, numbers)
        self.recovered: ClusterRecovered | None = None
        """The report of what was found in the data directory; None without one, or in a new one. Set by `start`."""
        shared: dict[str, Any] = {
            "network": network,
            "ports": None if ports is None else dict(zip(numbers, ports, strict=True)),
            "timing": timing or Timing(),
            "compaction": compaction,
            "proposal_timeout": proposal_timeout,
            "founders": None if data is None or data.found is None else data.found.founders,
        }
        if processes or detach:
            from ..hosts.remote.connect import remote_host  # most clusters need none of it

            host: ClusterBackend = remote_host(
                self.name, numbers, data, processes=processes, detach=detach, log_level=log_level, **shared
            )
        else:
            host = self._make_host(self.name, numbers, **shared)
        self._take(host, data)

    def _take(self, host: ClusterBackend, data: recovery.DataDirectory | None) -> None:
        """Be the handle of a host."""
        self._host = host
        self._access = access = ClusterAccess(host)
        self._announcement = Announcement(host, None if data is None else data.path)
        self._registry = Registry(host)
        self._starts(self._registry)
        self._looker = Looker(host)
        self._play: ScenarioPlay | None = None
        self._change = threading.Lock()
        self._nodes = NodeTable(self, host)
        self.nodes: Mapping[NodeId, Node] = MappingProxyType(self._nodes)
        self._network_faults = NetworkFaults(access)
        self._node_faults = NodeFaults(access, self._announcement)
        self._membership = Membership(access, self._announcement, self._nodes, self._network_faults.transfer)
        self._runs = RunFinder(access)
        self._telemetry = Telemetry(access, self.statistics)
        host.when_numbers_change(self._nodes.follow_host)

    @classmethod
    def _handle_on(cls, host: ClusterBackend) -> Self:
        self = cls.__new__(cls)
        self.name = host.name
        self._logs, self._data, self._leave_out, self.recovered = False, None, frozenset(), None
        self._take(host, None)
        return self

    _make_host: Callable[..., ClusterBackend] = LocalBackend
    """The factory of the backend; on a virtual clock in `raftoral_nb.testing`."""

    @staticmethod
    def nodes_in(data_dir: str | os.PathLike[str]) -> int | None:
        """Return the number of nodes of a data directory's cluster; None if there is none. Raises `StorageError`."""
        data = recovery.look(data_dir, None)
        return None if data is None or data.found is None else len(data.found.nodes)

    # --- life

    def start(self) -> Self:
        """Start all nodes and wait until one of them acts as leader.

        Raises `ClusterError` if the cluster was started before, `PortInUseError` if a port that was asked for is taken, and
        `StorageError` if the data directory is in use, damaged or another cluster's, or cannot be written, and
        `TooManyOpenFilesError` before anything is begun, if this process may not open as many files and sockets as it takes.
        """
        refuse_on_own_thread("cluster.start()")
        with self._change:
            if self._access.status != "new":
                word = (
                    "runs already: use it, or end it with stop()" if self._access.status == "running" else "has stopped"
                )
                raise ClusterError(f"cluster {self.name!r} {word}; for a new one make another Cluster")
            self._access.status = "running"
        capture.install()
        self._telemetry.begin()
        try:
            began = time.monotonic()
            with open_files.told(f"cluster {self.name!r} cannot be started"):
                self._open()
            if not self._host.attached:  # one that has lost its majority can be attached to, and mended
                self.wait_for_leader(self._host.proposal_timeout)
            if self._data is not None:
                self._data.end()
                self.recovered = recovery.recovered(self._host.head(), time.monotonic() - began)
                if self.recovered is not None:
                    self._host.announce(self.recovered)
        except BaseException:
            self._stop(leave=self._host.attached)
            raise
        running_clusters.started(self)
        return self

    def _open(self) -> None:
        stored = self._data is not None
        needed = open_files.LOOP + stored + self._host.files_needed(len(self._access.numbers), stored=stored)
        open_files.check(needed, f"cluster {self.name!r} of {len(self._access.numbers)} nodes")
        if self._data is not None:
            self._data.begin(self._host)
            self._host.use(self._data)
        self._host.thread.start()
        self._host.thread.run(self._host.on_open, self._leave_out)
        self._announcement.put_up()

    def stop(self) -> StopReport:
        """Stop everything, within a few seconds. User code that cannot be interrupted is left and named in the report.

        Runs that have not ended are gone, unless there is a data directory: then they continue with the next cluster that is
        started there. Stopping twice does nothing. An interrupt (Ctrl-C) ends a wait, and is raised when all the rest is done.
        """
        return self._stop(leave=False)

    def _stop(self, *, leave: bool) -> StopReport:
        """Stop everything, or only let go of nodes that keep running (`leave`)."""
        refuse_on_own_thread("cluster.stop()")
        with self._change:
            if self._access.status != "running":
                self._access.status = "stopped"
                return StopReport()
            self._access.status = "stopped"
        running_clusters.stopped(self)
        play = self._play
        if play is not None:
            play.halt()
        stuck: list[str] = []
        try:
            self._shut_nodes(leave=leave)
        finally:
            left = collect_statistics.deadline(STOP_SECONDS)
            do_all(
                lambda: stuck.extend(self._host.end(left, leave=leave)),
                lambda: stuck.extend(() if play is None or play.stop(left()) else (f"scenario {play.scenario.name}",)),
                self._announcement.take_down,
                lambda: stuck.extend(
                    () if self._host.observers.close(left()) else ("a callback given to subscribe()",)
                ),
                lambda: stuck.extend(self._telemetry.end(left())),
                capture.uninstall,
                *([log_levels.reset] if self._logs else []),
            )
        return StopReport(tuple(stuck))

    def _shut_nodes(self, *, leave: bool) -> None:
        def shut() -> None:
            if self._host.thread.alive:
                with contextlib.suppress(TimeoutError, ClusterError):
                    self._host.thread.run(partial(self._host.on_shut, leave=leave), timeout=STOP_SECONDS)

        try:
            shut()
        except BaseException:  # an interrupt: perhaps it has not even begun
            shut()
            raise

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._exit()

    async def __aenter__(self) -> Self:
        return await anyio.to_thread.run_sync(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._exit)

    @property
    def running(self) -> bool:
        """True if it was started and not stopped."""
        return self._access.running

    # --- clusters that outlive the process which started them: handles come and go

    @classmethod
    def attach(cls, name: str | os.PathLike[str]) -> Self:
        """Return a handle on a cluster of processes that runs already, by its name, or by the path of its key file; it is started.

        By name are found those that you have started on this machine (`raftoral-nb ps`). A handle sees and does what any other handle on the cluster does. `leave` lets go of the cluster, which keeps running; `stop` ends it.
        Raises `UnknownClusterError` if no such cluster runs, naming those that do, `KeyFileError` for a file that is none, and
        `ClusterError` if none of its nodes can be reached.
        """
        from ..hosts.remote.connect import attached_host

        return cls._handle_on(attached_host(name)).start()

    def leave(self) -> None:
        """Let go of a cluster that outlives this process: it keeps running, can be attached to; the handle stops.

        Whoever reads or follows events here is told, as by `stop`, that the nodes stopped: to this handle they have.
        Raises `ClusterError` for any other: its nodes would end.
        """
        self._access.check_running()
        if not self._host.outlives:
            raise ClusterError(
                f"cluster {self.name!r} ends with this process and cannot be left running: end it with stop(). One that "
                "can be left is started with detach=True and a data_dir"
            )
        self._stop(leave=True)

    def _exit(self) -> None:
        """Leave the block: detach if the cluster is to outlive it, else stop."""
        self._stop(leave=self._host.outlives)

    @property
    def outlives(self) -> bool:
        """True if the cluster outlives this process: it was started with `detach`, or attached to."""
        return self._host.outlives

    @property
    def unlisted(self) -> str | None:
        """The reason why your other programs cannot find it: no key file could be written safely. None if there is one, or it has no addresses."""
        return self._announcement.problem or self._host.unlisted

    # --- leadership and faults

    @property
    def leader(self) -> NodeId | None:
        """The node that holds the latest epoch and may act now; None while there is no such node."""
        return self._host.leader

    wait_for_leader = delegate(ClusterAccess.wait_for_leader, to=lambda self: self._access)

    cut = delegate(NetworkFaults.cut, to=lambda self: self._network_faults)
    isolate = delegate(NetworkFaults.isolate, to=lambda self: self._network_faults)
    partition = delegate(NetworkFaults.partition, to=lambda self: self._network_faults)
    slow = delegate(NetworkFaults.slow, to=lambda self: self._network_faults)
    heal = delegate(NetworkFaults.heal, to=lambda self: self._network_faults)
    transfer = delegate(NetworkFaults.transfer, to=lambda self: self._network_faults)
    campaign = delegate(NetworkFaults.campaign, to=lambda self: self._network_faults)

    kill = delegate(NodeFaults.kill, to=lambda self: self._node_faults)
    restart = delegate(NodeFaults.restart, to=lambda self: self._node_faults)
    pause = delegate(NodeFaults.pause, to=lambda self: self._node_faults)
    resume = delegate(NodeFaults.resume, to=lambda self: self._node_faults)
    hold = delegate(NodeFaults.hold, to=lambda self: self._node_faults)
    release = delegate(NodeFaults.release, to=lambda self: self._node_faults)

    add = delegate(Membership.add, to=lambda self: self._membership)
    remove = delegate(Membership.remove, to=lambda self: self._membership)

    def cause(self, fault: Fault | str) -> Fault:
        """Bring about a fault that is given as data or as a line (`"slow 2 --delay 200ms"`); returns it with numbers for names.

        Raises `FaultError` for what is no fault, and what the method of that name raises.
        """
        return fault_lines.cause(self, parse_fault(fault) if isinstance(fault, str) else fault)

    def scenario(self, scenario: Scenario | str | Sequence[tuple[str | Seconds, str]]) -> ScenarioPlay:
        """Play a scenario (one of yours, a list of its steps, or the name of one in `SCENARIOS`) on a thread of its own.

        Returns at once: `wait` waits for its end, `stop` ends it. Raises `ScenarioError` if it is not a scenario,
        `NoSuchNodeError` for a node that is not there, and `ClusterError` while another one is played.
        """
        self._access.check_running()
        given: Any = scenario
        if isinstance(given, str):
            given = Scenario.built_in(given, self._access.numbers)
        elif not isinstance(given, Scenario):
            given = Scenario("unnamed", given)
        for number in sorted(given.node_numbers - set(self._access.numbers)):
            raise no_such_node(number, self._access.numbers)
        with self._change:
            if self._play is not None and self._play.status == "running":
                raise ClusterError(
                    f"scenario {self._play.scenario.name} is being played: wait for its end, or stop it first"
                )
            self._access.check_running()
            self._play = ScenarioPlay(self, self._host, given).start()
            return self._play

    @property
    def play(self) -> ScenarioPlay | None:
        """The scenario that is played, or was played last; None if there was none."""
        return self._play

    # --- workflows and runs

    @overload
    def register_workflow(
        self, name: Workflow[Any, Any] | Callable[..., Awaitable[Any]], /, *, strict: bool = False
    ) -> Registration: ...
    @overload
    def register_workflow(
        self, name: str, fn: Callable[..., Awaitable[Any]], /, *, strict: bool = False
    ) -> Registration: ...
    @overload
    def register_workflow(
        self,
        name: str,
        version: int | None,
        fn: Callable[..., Awaitable[Any]] | Workflow[Any, Any],
        *,
        strict: bool = False,
    ) -> Registration: ...
    def register_workflow(
        self, name: Any, version: Any = None, fn: Any = None, *, strict: bool = False
    ) -> Registration:
        """Ship a workflow to every node: `("order", 1, fn)`, `("order", fn)`, or a `Workflow`.

        Without a version a changed workflow takes the next one, and an unchanged one changes nothing. Waits for a majority.
        What the workflow does outside its steps is looked at: a clock, chance, a file and the like is a `NonDeterminismWarning`
        that points at the line; with `strict` it is a `NonDeterministicCodeError`, and nothing is registered. The other versions
        stay, and so do the runs that use them.
        Raises `WorkflowDefinitionError`, `CodeNotShippableError`, `WorkflowConflictError` if another code was registered under
        this version and unfinished runs use it, and `NotAcknowledgedError`.
        """
        self._access.check_running()
        return self._registry.register(name, version, fn, strict=strict)

    register_workflow_closure = register_workflow

    run = delegate(RunFinder.run, to=lambda self: self._runs)
    runs = delegate(RunFinder.runs, to=lambda self: self._runs)
    signal = delegate(RunFinder.signal, to=lambda self: self._runs)

    @property
    def workflows(self) -> Mapping[str, tuple[int, ...]]:
        """The registered versions of each workflow, ascending."""
        return collect_statistics.workflows(self._host.head())

    # --- looking at it

    def statistics(self) -> ClusterStatistics:
        """Return one consistent look at everything, as frozen data."""
        return self._seen(lambda: collect_statistics.statistics(self._host, running=self.running), None, 0)

    def _seen(self, look: Callable[[], T], only: Collection[RunId] | None, entries: int) -> T:
        if self.running:
            with contextlib.suppress(ClusterError):  # stopped meanwhile
                self._host.refresh(only, entries)
                return self._host.thread.call(look)
        return look()

    def look(self, *, runs: int = 12, entries: int = 16, records: int = 60) -> ClusterLook:
        """Return what a view shows: one cheap look, with at most so many runs, log entries per node and records per run."""
        return self._seen(
            lambda: self._looker.look(running=self.running, runs=runs, entries=entries, records=records),
            self._looker.shown(runs),
            entries,
        )

    metrics = delegate(Telemetry.metrics, to=lambda self: self._telemetry)
    serve_metrics = delegate(Telemetry.serve_metrics, to=lambda self: self._telemetry)

    @property
    def metrics_server(self) -> MetricsServer | None:
        """The server of the metrics, or the last one; None if there was none."""
        return self._telemetry.server

    def events(self) -> EventStream:
        """Typed events from this call on, as an async iterator (any anyio backend) that ends when the cluster stops."""
        return self._host.observers.stream()

    def subscribe(self, callback: Callable[[ClusterEvent], None]) -> Callable[[], None]:
        """Call `callback(event)` for every event, in order, on the cluster's observer thread; returns what ends it.

        What a callback raises is logged. A slow callback delays other callbacks, not the cluster; once `MAX_EVENTS_KEPT` events
        wait, callbacks miss some, and a warning is logged.
        """
        return self._host.observers.subscribe(callback)

    def history(self) -> tuple[tuple[float, ClusterEvent], ...]:
        """Return the latest events with their times (Unix seconds), oldest first; at most `MAX_EVENTS_KEPT`."""
        return self._host.observers.history()

    def log(self, run_id: RunId | None = None, node: NodeId | None = None) -> tuple[OutputLine, ...]:
        """Return what workflows printed and logged, and what the engine says of them; at most `MAX_OUTPUT_LINES_KEPT` lines."""
        return self._host.observers.lines(run_id, node)

    def __repr__(self) -> str:
        return f"<Cluster {self.name!r}: {len(self._access.numbers)} nodes, {self._access.status}>"
