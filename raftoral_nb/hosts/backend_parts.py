"""What each part of the API asks of a backend: narrow views of `base.ClusterBackend`, which provides all of them.

A part that names one of these cannot reach what is not its business, and a test can give it something small in a backend's place.
Methods whose names begin with `on_` are called on the consensus loop, the others from any other thread.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Sequence
from typing import Literal, Protocol, TypeVar

from ..core.commands import Command, Committed, Rejected
from ..core.events import ClusterEvent
from ..core.records import Difference, Failure, NodeId, RunId, Step
from ..core.run_record import Run
from ..core.state import State
from ..core.statistics import LogEntry, NodeStatistics, RunCode
from ..errors import RaftoralError
from ..threads.loop_thread import LoopThread
from ..transport.network import Links
from .asks import Answer
from .held_runs import HeldRun
from .node_life import Life
from .observers import Observers
from .recovery import DataDirectory
from .variable_waits import LookedAt

T = TypeVar("T")

NodeChange = Literal["pause", "resume", "hold", "release"]
"""The changes that can be made to a running node."""

RunEnding = bytes | Failure | RaftoralError
"""The outcome of waiting for a run: the encoded result, the run's failure, or why there will be neither."""


class Lifetime(enum.Enum):
    """The lifetime of nodes, as seen from a process that has a handle on them."""

    PROCESS = enum.auto()
    """Nodes started here, which end with this process."""
    DETACHED = enum.auto()
    """Nodes started here, which outlive this process."""
    ATTACHED = enum.auto()
    """Nodes found running, which outlive this process."""


class NodesBackend(Protocol):
    """What every part needs: which nodes there are, and the consensus loop."""

    @property
    def name(self) -> str:
        """The cluster's name."""

    @property
    def numbers(self) -> tuple[NodeId, ...]:
        """The numbers of the nodes."""

    @property
    def proposal_timeout(self) -> float:
        """The time in which a majority must acknowledge a command (seconds)."""

    @property
    def thread(self) -> LoopThread:
        """The thread of the consensus loop."""

    @property
    def observers(self) -> Observers:
        """Those who are told of events."""

    def wall_clock(self) -> float:
        """Return the time of day that this process goes by, in Unix seconds."""

    def incarnation(self, number: NodeId) -> Life | None:
        """Return the present life of a node; None if it is dead."""

    async def on_await_leader(self) -> NodeId:
        """Wait until a node acts."""


class Alive(Protocol):
    """A backend that can be asked for a node that must not be dead."""

    def alive(self, number: NodeId, done_to_it: str) -> Life:
        """Return the present life of a node; raises `NodeStateError` if it is dead."""


class Announcing(Protocol):
    """A backend that tells all handles on the cluster what one of them did."""

    def announce(self, event: ClusterEvent) -> None:
        """Publish what a handle did."""


class Proposing(Protocol):
    """A backend that commands can be proposed to."""

    def propose(self, command: Command, what: str) -> Committed | Rejected:
        """Propose a command and wait. Raises `NotAcknowledgedError` at the deadline."""

    def when_decided(self, asked: Sequence[tuple[Command, str]], callback: Callable[[list[Answer]], None]) -> None:
        """Propose commands, each with the words for it, and return; `callback(answers)` is called once, when all are decided."""


class RecordsBackend(Protocol):
    """The replicated state, as far as is known here."""

    def head(self) -> State:
        """Return the state of the most advanced running node; when none runs, the last known one."""

    def run_record(self, run_id: RunId) -> Run:
        """Return what is recorded of a run; raises `RunNotFoundError`."""


class LifeBackend(NodesBackend, RecordsBackend, Announcing, Protocol):
    """What is asked of to start the nodes, to end them, and to let go of those that outlive this process."""

    async def on_await_offers(self, *, runs: bool) -> None:
        """Wait until every living node takes runs, or none does any more."""

    @property
    def outlives(self) -> bool:
        """True if the nodes outlive this process."""

    @property
    def attached(self) -> bool:
        """True if the nodes were running before this handle."""

    def files_needed(self, count: int, *, stored: bool) -> int:
        """Return how many files so many nodes open here, sockets included; `stored` if with logs on disk."""

    def use(self, data: DataDirectory) -> None:
        """Keep the nodes' logs in a data directory. Before the start. Raises `StorageError`."""

    async def on_open(self, leave_out: Collection[NodeId] = ()) -> None:
        """Start every node but those to leave out."""

    async def on_shut(self, *, leave: bool = False) -> None:
        """End every node, or only let go of them (`leave`) if they outlive this process; whoever waits is told."""

    def end(self, left: Callable[[], float], *, leave: bool = False) -> list[str]:
        """End the threads, after `on_shut`; `left()` is how many seconds that may take. Names the user code that could not be ended."""


class SeenBackend(NodesBackend, Protocol):
    """What is asked of to look at the whole cluster."""

    def refresh(self, only: Collection[RunId] | None, entries: int) -> None:
        """Learn, before a look, what only the nodes know (of these runs, and so many log entries). Waits a little."""


class RunsBackend(NodesBackend, RecordsBackend, Proposing, Alive, Protocol):
    """What is asked of for runs: to start them, to read their records, to send them messages, to wait for their ends."""

    def hold(self, run_id: RunId) -> HeldRun:
        """Return what a handle on a run holds: as long as it does, how the run ended is known. From any thread."""

    def refresh(self, only: Collection[RunId] | None, entries: int) -> None:
        """Have the nodes looked at, if they are in other processes. Waits."""

    def node_statistics(self, number: NodeId, commit_index: int, only: Collection[RunId] | None) -> NodeStatistics:
        """Return the statistics of one node."""

    def held(self, run_id: RunId) -> Difference | None:
        """Return where the code differs from a run's record on every living node; None if it does not."""

    def when_ended(self, run_id: RunId, callback: Callable[[RunEnding], None]) -> Callable[[], None]:
        """Have `callback` called once with how the run ended; returns what forgets it."""

    def when_answered(
        self, run_id: RunId, update_id: str, callback: Callable[[Step | RunEnding], None]
    ) -> Callable[[], None]:
        """Have `callback` called with the answer to an update, or with how the run ended without; returns what forgets it."""

    def when_set(
        self, run_id: RunId, variable: str, place: LookedAt, callback: Callable[[RunEnding | None], None]
    ) -> Callable[[], None]:
        """Have `callback(None)` called when a value of a variable is recorded behind a place, or with how the run ended before that.

        Returns what forgets it.
        """

    def run_code(self, run_id: RunId) -> RunCode:
        """Return the code of a run, and where each living node is in it. Raises `RunNotFoundError`."""

    def spokesman(self) -> Life | None:
        """Return the node that knows most; None if no node can be asked."""


class RetentionBackend(NodesBackend, RecordsBackend, Proposing, Protocol):
    """What is asked of for how much is kept of finished runs."""


class NodeFaultsBackend(NodesBackend, Alive, Announcing, Protocol):
    """What is asked of for faults of single nodes."""

    def kill(self, number: NodeId, timeout: float) -> None:
        """End a node at once. Waits up to `timeout` seconds for it. Raises `NodeStateError`."""

    async def on_boot(self, number: NodeId) -> None:
        """Start a node from its journal. Raises `NodeStateError` if it is alive."""

    def change(self, number: NodeId, change: NodeChange) -> None:
        """Do something to a living node, and wait until it is done. Raises `NodeStateError`."""


class NetworkFaultsBackend(NodesBackend, Alive, Announcing, Protocol):
    """What is asked of for faults of links, and for elections."""

    @property
    def network(self) -> Links | None:
        """The links between the nodes; None before the start."""

    @property
    def leader(self) -> NodeId | None:
        """The node that acts; None while there is none."""

    def change_links(self, act: Callable[[Links], T]) -> T:
        """Have `act` do something to the links, and wait until it is done everywhere."""

    async def on_transfer(self, number: NodeId) -> None:
        """Have the leader transfer leadership to a node, until that one acts."""


class MembershipBackend(NodesBackend, Announcing, Proposing, Protocol):
    """What is asked of for nodes that join, and that leave for good."""

    def next_number(self) -> NodeId:
        """Return the lowest number that no node has or had, as far as is known here."""

    async def on_join(self, number: NodeId) -> None:
        """Start a node that is no member yet. Raises `ClusterError`."""

    def leave(self, number: NodeId, timeout: float) -> None:
        """End a node that is no member any more, and drop its journal. Waits up to `timeout` seconds for its threads."""


class NodeHandleBackend(NodesBackend, Alive, Protocol):
    """What is asked of for the handle on one node."""

    def run_record(self, run_id: RunId) -> Run:
        """Return what is recorded of a run; raises `RunNotFoundError`."""

    def entries(self, number: NodeId, last: int) -> tuple[LogEntry, ...]:
        """Return the last entries of a node's log, in words. Waits while the cluster runs."""

    def wait_until_applied(self, number: NodeId, timeout: float) -> int:
        """Wait until a node has applied what the others have now; returns its index. Raises `CompletionTimeoutError`."""


class ScenarioBackend(NodesBackend, Announcing, Protocol):
    """What is asked of while a scenario is played."""

    @property
    def leader(self) -> NodeId | None:
        """The node that acts; None while there is none."""

    async def on_await_other_leader(self, former: NodeId | None) -> NodeId:
        """Wait until a node other than `former` acts."""

    async def on_await_level(self) -> None:
        """Wait until every node that runs, and is not paused, has applied what any node has applied by now."""
