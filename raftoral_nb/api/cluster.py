"""The cluster, as users have it in hand: it starts and stops nodes, causes faults, starts runs, and gives the handles on them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

import anyio.to_thread

from ..core.cluster_events import ClusterRecovered
from ..core.records import NodeId
from ..core.statistics import RetentionStatistics
from ..executors import executor_table
from ..executors.executor_table import ExecutorFactory
from ..faults import fault_lines
from ..faults.fault_lines import Fault, parse_fault
from ..faults.player import ScenarioPlay
from ..hosts import collect_statistics, log_levels, options, recovery
from ..hosts import spread as spreading
from ..hosts.base import ClusterBackend
from ..hosts.local import LocalBackend
from ..hosts.local_announcement import Announcement
from ..hosts.view_frame import Looker
from ..raft.compaction import DEFAULT_COMPACTION, Compaction
from ..raft.replica import Timing
from ..threads.seconds import Seconds, as_number
from ..workflow.language.context import WorkflowContext
from ..workflow.shipping.definitions import Workflow
from .access import ClusterAccess
from .cached_steps import CachedSteps
from .cluster_life import ClusterLife, Founding, StopReport
from .delegation import delegate
from .find_runs import RunFinder
from .looks import Looks
from .member_changes import Membership
from .network_faults import NetworkFaults
from .node import Node, NodeTable
from .node_faults import NodeFaults
from .observing import Observing
from .registry import Registration, Registry
from .run import WorkflowRun
from .run_retention import RunRetention
from .scenario_plays import ScenarioPlays
from .start_runs import RunStarter, StartAsked
from .telemetry import Telemetry
from .value_limit import ValueLimit

if TYPE_CHECKING:  # few clusters serve any
    from ..observability.metrics_server import MetricsServer
    from ..storage.codec import Codec

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741 - input and output are I and O everywhere
O = TypeVar("O")  # noqa: E741

DEFAULT_NODES = 3
"""Nodes of a cluster that is started without a number: the fewest that keep a majority when one is lost."""

_names = itertools.count(1)


class Cluster:
    """A cluster of nodes in this process, over TCP on 127.0.0.1 (or in memory), each with a thread of its own.

    With `data_dir` it continues from that directory, or makes it: it outlives its process (`durability="process"`, a killed
    kernel) or the machine's power as well (`"disk"`, synced before it is acknowledged). Number and name of its nodes are then those
    of the directory. `leave_out` are nodes that are not started, because their files are damaged, say.

    With `processes` each node is a process of its own on this machine: steps of different nodes run on different cores, and `kill`
    is a SIGKILL. They end with this process, also when that is killed; without a `data_dir` their logs are in a temporary folder.
    With `detach`, which needs a `data_dir`, they run until somebody calls `stop`, and any process of the same user can `attach`; the end of
    a `with` block, and of the process, only lets go of them.

    `nodes` is how many (1 to `MAX_NODES`; 3 if not given); `ports` fixes their TCP ports; `proposal_timeout` is how long (seconds, or a `timedelta`) starting
    a run or registering a workflow may wait for a majority. `keep_runs` and `keep_bytes` bound what is kept of runs that have ended
    (`set_retention`; 1,000 runs and 1 GB if never said), `max_value_bytes` how large a value may be (`set_max_value_bytes`; 1 GiB if never said);
    sizes are numbers, or text such as `"3GB"`. `executors` are functions by name, each of which makes a
    `concurrent.futures.Executor` for a node, or addresses of Dask schedulers, for steps with `on=` that name. A `codec` goes around all that the data directory holds of your data, such
    as `Encryption(key)`, or several in a list; give the same each time.

    With `spread_runs` each run has an owner, the node that does its steps, so that runs use the cores of all nodes that are processes; else the
    leader does all steps. It is the default with `processes`. `labels` are those of nodes by number, such as `{3: ["gpu"]}`, for steps with
    `where=`.

    Use it as a context manager, synchronous or asynchronous, or call `start` and `stop`. Methods may be called from any thread but the cluster's own; those that wait say so. One that ends in
    `_async` does the same as that without, and is awaited, on any event loop but the cluster's own, under asyncio and trio.
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
        keep_runs: int | None = None,
        keep_bytes: int | str | None = None,
        max_value_bytes: int | str | None = None,
        executors: Mapping[str, ExecutorFactory | str] | None = None,
        codec: Codec | Sequence[Codec] | None = None,
        spread_runs: bool | None = None,
        labels: Mapping[NodeId, Sequence[str]] | None = None,
    ) -> None:
        proposal_timeout = as_number(proposal_timeout)
        data = recovery.look(data_dir, durability, codec)
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
        if log_level is not None:
            log_levels.set_level(log_level)
        if name is None and data is not None:
            name = data.path.name if data.found is None else data.found.name
        self.name = name or f"cluster-{next(_names)}"
        numbers = tuple(range(1, nodes + 1)) if data is None else data.numbers(nodes)
        kept = options.retention(keep_runs, keep_bytes), options.value_limit(max_value_bytes)
        spread = spreading.spread(spread_runs, labels, processes=processes or detach)
        founding = Founding(data, recovery.left_out(leave_out, numbers), log_level is not None, *kept, spread.runs)
        shared: dict[str, Any] = {
            "network": network,
            "ports": None if ports is None else dict(zip(numbers, ports, strict=True)),
            "timing": timing or Timing(),
            "compaction": compaction,
            "proposal_timeout": proposal_timeout,
            "executors": executor_table.checked(executors),
            "spread": spread,
            "founders": None if data is None or data.found is None else data.found.founders,
        }
        if processes or detach:
            from ..hosts.remote.connect import remote_host  # most clusters need none of it

            host: ClusterBackend = remote_host(
                self.name, numbers, data, processes=processes, detach=detach, log_level=log_level, **shared
            )
        else:
            host = self._make_host(self.name, numbers, **shared)
        self._take(host, founding, (executor_table.OWN_WORKERS, *shared["executors"]))

    def _take(self, host: ClusterBackend, founding: Founding, executors: tuple[str, ...] | None = None) -> None:
        """Be the handle of a host. `executors` are the names that are known here."""
        self._host = host
        self._access = access = ClusterAccess(host)
        self._announcement = Announcement(host, None if founding.data is None else founding.data.path)
        self._registry = Registry(host, executors)
        self._starter = RunStarter(host, self._registry)
        self._looks = Looks(access, lambda running: collect_statistics.statistics(host, running=running), Looker(host))
        self._nodes = NodeTable(self, host)
        self.nodes: Mapping[NodeId, Node] = MappingProxyType(self._nodes)
        self._network_faults = NetworkFaults(access)
        self._node_faults = NodeFaults(access, self._announcement)
        self._membership = Membership(access, self._announcement, self._nodes, self._network_faults.transfer)
        self._runs = RunFinder(access)
        self._cached_steps = CachedSteps(access)
        self._telemetry = Telemetry(access, self._looks.statistics)
        self._observing = Observing(access)
        self._plays = ScenarioPlays(self, access)
        self._retention = RunRetention(access, founding.retention)
        self._value_limit = ValueLimit(access, founding.value_limit)
        kept = (self._retention, self._value_limit)
        self._life = ClusterLife(access, founding, self._announcement, self._telemetry, self._plays, kept)
        host.when_numbers_change(self._nodes.follow_host)

    @classmethod
    def _handle_on(cls, host: ClusterBackend) -> Self:
        self = cls.__new__(cls)
        self.name = host.name
        self._take(host, Founding())
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
        self._life.start(self)
        return self

    def stop(self) -> StopReport:
        """Stop everything, within a few seconds. User code that cannot be interrupted is left and named in the report.

        Runs that have not ended are gone, unless there is a data directory: then they continue with the next cluster that is
        started there. Stopping twice does nothing. An interrupt (Ctrl-C) ends a wait, and is raised when all the rest is done.
        """
        return self._life.end(self, leave=False)

    def _exit(self) -> None:
        """Leave the block: detach if the cluster is to outlive it, else stop."""
        self._life.end(self, leave=self._host.outlives)

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

    @property
    def recovered(self) -> ClusterRecovered | None:
        """The report of what `start` found in the data directory; None without one, in a new one, and before."""
        return self._life.recovered

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
        self._life.leave(self)

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

    scenario = delegate(ScenarioPlays.scenario, to=lambda self: self._plays)

    @property
    def play(self) -> ScenarioPlay | None:
        """The scenario that is played, or was played last; None if there was none."""
        return self._plays.last

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

    @overload
    def start_workflow(
        self, workflow: Workflow[I, O], input: I, /, *, version: int | None = None, run_id: str | None = None
    ) -> WorkflowRun[O]: ...
    @overload
    def start_workflow(
        self,
        workflow: Callable[[WorkflowContext, I], Awaitable[O]],
        input: I,
        /,
        *,
        version: int | None = None,
        run_id: str | None = None,
    ) -> WorkflowRun[O]: ...
    @overload
    def start_workflow(
        self,
        workflow: Callable[[WorkflowContext, None], Awaitable[O]],
        /,
        *,
        version: int | None = None,
        run_id: str | None = None,
    ) -> WorkflowRun[O]: ...
    @overload
    def start_workflow(
        self, workflow: str, version: int, input: Any, /, *, run_id: str | None = None
    ) -> WorkflowRun[Any]: ...
    @overload
    def start_workflow(
        self, workflow: str, input: Any = None, /, *, version: int | None = None, run_id: str | None = None
    ) -> WorkflowRun[Any]: ...
    def start_workflow(
        self, workflow: Any, *args: Any, version: int | None = None, run_id: str | None = None, **named: Any
    ) -> WorkflowRun[Any]:
        """Start a run and return its handle as soon as a majority has recorded it.

        `workflow` is a registered name, a `Workflow` or a function (registered first if need be); then the input, or version
        and input. With a `run_id`, starting the same run again returns it; without one every start is a run of its own, whoever else
        starts any at that time. Raises `WorkflowNotFoundError`, `InputTypeError`, `ValueNotShippableError`, `RunConflictError` and
        `NotAcknowledgedError`.
        """
        self._access.check_running()
        return self._starter.start(StartAsked.given(workflow, args, named, version=version, run_id=run_id))

    @overload
    async def start_workflow_async(
        self, workflow: Workflow[I, O], input: I, /, *, version: int | None = None, run_id: str | None = None
    ) -> WorkflowRun[O]: ...
    @overload
    async def start_workflow_async(
        self,
        workflow: Callable[[WorkflowContext, I], Awaitable[O]],
        input: I,
        /,
        *,
        version: int | None = None,
        run_id: str | None = None,
    ) -> WorkflowRun[O]: ...
    @overload
    async def start_workflow_async(
        self,
        workflow: Callable[[WorkflowContext, None], Awaitable[O]],
        /,
        *,
        version: int | None = None,
        run_id: str | None = None,
    ) -> WorkflowRun[O]: ...
    @overload
    async def start_workflow_async(
        self, workflow: str, version: int, input: Any, /, *, run_id: str | None = None
    ) -> WorkflowRun[Any]: ...
    @overload
    async def start_workflow_async(
        self, workflow: str, input: Any = None, /, *, version: int | None = None, run_id: str | None = None
    ) -> WorkflowRun[Any]: ...
    async def start_workflow_async(
        self, workflow: Any, *args: Any, version: int | None = None, run_id: str | None = None, **named: Any
    ) -> WorkflowRun[Any]:
        """Do as `start_workflow`, and let the caller's loop run meanwhile: `run = await cluster.start_workflow_async(order, "tea")`.

        Starts that are awaited at the same time are recorded together. Raises the same, and `BlockingCallError` on one of the
        cluster's own threads. One that is cancelled while it waits may have been started; with a `run_id` it can be asked for again.
        """
        self._access.check_running()
        return await self._starter.start_async(StartAsked.given(workflow, args, named, version=version, run_id=run_id))

    @overload
    def start_many(
        self,
        workflow: Workflow[I, O],
        inputs: Iterable[I],
        /,
        *,
        version: int | None = None,
        run_ids: Iterable[str] | None = None,
    ) -> tuple[WorkflowRun[O], ...]: ...
    @overload
    def start_many(
        self,
        workflow: Callable[[WorkflowContext, I], Awaitable[O]],
        inputs: Iterable[I],
        /,
        *,
        version: int | None = None,
        run_ids: Iterable[str] | None = None,
    ) -> tuple[WorkflowRun[O], ...]: ...
    @overload
    def start_many(
        self,
        workflow: str,
        inputs: Iterable[Any],
        /,
        *,
        version: int | None = None,
        run_ids: Iterable[str] | None = None,
    ) -> tuple[WorkflowRun[Any], ...]: ...
    def start_many(
        self,
        workflow: Any,
        inputs: Iterable[Any],
        /,
        *,
        version: int | None = None,
        run_ids: Iterable[str] | None = None,
    ) -> tuple[WorkflowRun[Any], ...]:
        """Start a run for each input, together, and return their handles in that order: `cluster.start_many(order, ["tea", "coffee"])`.

        Takes hardly longer than one start. Each is as `start_workflow` would start it, with the `run_ids` at the same positions, if
        there are any; a hundred thousand inputs are in memory all at once. If some cannot be started the others are, and
        `NotAllStartedError` has both: handles in `runs`, reasons in `refusals`. Raises `WorkflowNotFoundError` and `BadArgumentError`, and
        starts nothing, for what all have in common. An interrupt ends the wait; starts that are on their way go on.

        >>> from raftoral_nb.testing import workflow_test
        >>> async def order(ctx, item):
        ...     return await ctx.compute("make", str.upper, item)
        >>> with workflow_test() as test:
        ...     runs = test.cluster.start_many(order, ["tea", "coffee"])
        ...     [run.run_id for run in runs], [run.wait_for_completion() for run in runs]
        (['order-1', 'order-2'], ['TEA', 'COFFEE'])
        """
        self._access.check_running()
        return self._starter.start_many(workflow, inputs, version, run_ids)

    @overload
    async def start_many_async(
        self,
        workflow: Workflow[I, O],
        inputs: Iterable[I],
        /,
        *,
        version: int | None = None,
        run_ids: Iterable[str] | None = None,
    ) -> tuple[WorkflowRun[O], ...]: ...
    @overload
    async def start_many_async(
        self,
        workflow: Callable[[WorkflowContext, I], Awaitable[O]],
        inputs: Iterable[I],
        /,
        *,
        version: int | None = None,
        run_ids: Iterable[str] | None = None,
    ) -> tuple[WorkflowRun[O], ...]: ...
    @overload
    async def start_many_async(
        self,
        workflow: str,
        inputs: Iterable[Any],
        /,
        *,
        version: int | None = None,
        run_ids: Iterable[str] | None = None,
    ) -> tuple[WorkflowRun[Any], ...]: ...
    async def start_many_async(
        self,
        workflow: Any,
        inputs: Iterable[Any],
        /,
        *,
        version: int | None = None,
        run_ids: Iterable[str] | None = None,
    ) -> tuple[WorkflowRun[Any], ...]:
        """Do as `start_many`, and let the caller's loop run meanwhile. `inputs` is read on another thread.

        Raises the same, and `BlockingCallError` on one of the cluster's own threads. When it is cancelled some may have been started.
        """
        self._access.check_running()
        return await self._starter.start_many_async(workflow, inputs, version, run_ids)

    run = delegate(RunFinder.run, to=lambda self: self._runs)
    runs = delegate(RunFinder.runs, to=lambda self: self._runs)
    signal = delegate(RunFinder.signal, to=lambda self: self._runs)
    cached_steps = delegate(CachedSteps.cached_steps, to=lambda self: self._cached_steps)
    clear_cache = delegate(CachedSteps.clear_cache, to=lambda self: self._cached_steps)

    set_retention = delegate(RunRetention.set_retention, to=lambda self: self._retention)
    set_max_value_bytes = delegate(ValueLimit.set_max_value_bytes, to=lambda self: self._value_limit)

    @property
    def max_value_bytes(self) -> int:
        """The largest encoded value that is kept, in bytes; see `set_max_value_bytes`."""
        return self._value_limit.read()

    @property
    def retention(self) -> RetentionStatistics:
        """How many finished runs are kept and how many bytes of them, and how many there are; see `set_retention`."""
        return self._retention.read()

    @property
    def workflows(self) -> Mapping[str, tuple[int, ...]]:
        """The registered versions of each workflow, ascending."""
        return collect_statistics.workflows(self._host.head())

    # --- looking at it

    statistics = delegate(Looks.statistics, to=lambda self: self._looks)
    look = delegate(Looks.look, to=lambda self: self._looks)
    metrics = delegate(Telemetry.metrics, to=lambda self: self._telemetry)
    serve_metrics = delegate(Telemetry.serve_metrics, to=lambda self: self._telemetry)

    @property
    def metrics_server(self) -> MetricsServer | None:
        """The server of the metrics, or the last one; None if there was none."""
        return self._telemetry.server

    events = delegate(Observing.events, to=lambda self: self._observing)
    subscribe = delegate(Observing.subscribe, to=lambda self: self._observing)
    history = delegate(Observing.history, to=lambda self: self._observing)
    log = delegate(Observing.log, to=lambda self: self._observing)

    def __repr__(self) -> str:
        return f"<Cluster {self.name!r}: {len(self._access.numbers)} nodes, {self._access.status}>"
