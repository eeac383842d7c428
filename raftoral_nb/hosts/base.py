"""The backend that handles ask, wherever the nodes are: in this process (`local`), or in others (`remote`).

The replicated state as this process knows it, who leads, who waits for what, and where events go are the same for both. What is
done to a node, and what only a node itself can tell, differs.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from ..core.apply import Applied
from ..core.cluster_events import EffectStarted, ExecutionStopped, OutputLine, RunHeld, TransferAsked
from ..core.commands import Command, Committed, Outcome, Rejected, Unknown
from ..core.events import (
    CheckpointSet,
    ClusterEvent,
    EpochChanged,
    NodeOffered,
    NodeWithdrawn,
    RunDeleted,
    RunEvicted,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowStarted,
    WorkflowTerminated,
)
from ..core.records import Difference, NodeId, RunId, Step
from ..core.run_record import Run
from ..core.state import State
from ..core.statistics import LogEntry, LoggedEntry, LogTail, NodeStatistics, RunCode
from ..errors import (
    ClusterError,
    CompletionTimeoutError,
    NodeStateError,
    NotAcknowledgedError,
)
from ..raft.replica import Timing
from ..threads.loop_thread import LoopThread
from ..transport.frames import new_key
from ..transport.network import Links
from .asks import Answer, Asks, is_decided
from .backend_parts import Lifetime, NodeChange, RunEnding
from .held_runs import HeldRun, HeldRuns, ending, not_found
from .node_life import Life
from .observers import Observers
from .update_answers import Answers
from .variable_waits import LookedAt, VariableWaits, values_behind
from .waiters import Waiters

if TYPE_CHECKING:
    from .recovery import DataDirectory

T = TypeVar("T")

AT_ONCE = 0.05
"""A wait that is shorter (seconds) is none to people: with no node to be asked there is none."""


class Counters:
    """The counters that no log holds. Written on the cluster's threads, read from any."""

    def __init__(self) -> None:
        self.effects_run = 0
        self.leader_changes = 0


class ClusterBackend(ABC):
    """A cluster as its handles know it.

    Methods whose names begin with `on_` are called on the consensus loop; the others may be called from any other thread,
    and those that wait say so. Each part of the API sees as much of it as it needs (`backend_parts`).
    """

    numbers: tuple[NodeId, ...]
    network: Links | None
    _incarnations: Mapping[NodeId, Life]

    def __init__(
        self,
        name: str,
        numbers: Sequence[NodeId],
        *,
        timing: Timing,
        proposal_timeout: float,
        lifetime: Lifetime = Lifetime.PROCESS,
    ) -> None:
        self.name = name
        self.numbers = tuple(numbers)
        self.timing = timing
        self.proposal_timeout = proposal_timeout
        self.key = new_key()
        """The key that proves membership of the cluster, where others can reach its network."""
        self.lifetime = lifetime
        self.thread = self._make_thread()
        self.observers = Observers(name)
        self.counters = Counters()
        self.answers = Answers()
        self.held_runs = HeldRuns()
        self._asks = Asks(self, self.thread)
        self._variable_waits = VariableWaits()
        self.starts = dict.fromkeys(self.numbers, 0)
        """The number of times each node was started."""
        # The rest belongs to the consensus loop.
        self._acting: dict[NodeId, int] = {}
        self._leader_waits = Waiters()
        self._offer_waits = Waiters()
        self._waiting: dict[RunId, list[Callable[[RunEnding], None]]] = {}
        self._told_index = 0
        self._shut = False
        self._last_actor: NodeId | None = None
        self._numbers_watcher: Callable[[], None] = _nothing

    @property
    def outlives(self) -> bool:
        """True if the nodes outlive this process."""
        return self.lifetime is not Lifetime.PROCESS

    @property
    def attached(self) -> bool:
        """True if the nodes were running before this handle."""
        return self.lifetime is Lifetime.ATTACHED

    @property
    def unlisted(self) -> str | None:
        """The reason why the host has no key file, where it wanted one; None if it has one, or writes none itself."""
        return None

    def _make_thread(self) -> LoopThread:
        """Make the thread that consensus runs on, or what stands for it here."""
        return LoopThread(f"{self.name}-consensus")

    # --- what is done differently

    @abstractmethod
    def files_needed(self, count: int, *, stored: bool) -> int:
        """Return how many files so many nodes open here, sockets included; `stored` if with logs on disk."""

    @abstractmethod
    def use(self, data: DataDirectory) -> None:
        """Keep the nodes' logs in a data directory. Before the start. Raises `StorageError`."""

    @abstractmethod
    async def on_open(self, leave_out: Collection[NodeId] = ()) -> None:
        """Start every node but those to leave out."""

    @abstractmethod
    async def on_shut(self, *, leave: bool = False) -> None:
        """End every node, or only let go of them (`leave`) if they outlive this process; whoever waits is told."""

    @abstractmethod
    def end(self, left: Callable[[], float], *, leave: bool = False) -> list[str]:
        """End the threads, after `on_shut`, and let go of what was used; names the user code that could not be ended.

        `left()` says how many seconds that may still take, and `leave` is what `on_shut` was told. Waits.
        """

    @abstractmethod
    def kill(self, number: NodeId, timeout: float) -> None:
        """End a node at once; only its journal stays. Waits up to `timeout` seconds for it. Raises `NodeStateError`."""

    @abstractmethod
    async def on_boot(self, number: NodeId) -> None:
        """Start a node from its journal. Raises `NodeStateError` if it is alive."""

    @abstractmethod
    async def on_join(self, number: NodeId) -> None:
        """Start a node that is no member yet, under a number that was reserved for it. Raises `ClusterError`."""

    @abstractmethod
    def leave(self, number: NodeId, timeout: float) -> None:
        """End a node that is no member any more, and drop its journal. Waits up to `timeout` seconds for its threads."""

    @abstractmethod
    def change(self, number: NodeId, change: NodeChange) -> None:
        """Do something to a living node, and wait until it is done. Raises `NodeStateError`."""

    @abstractmethod
    def change_links(self, act: Callable[[Links], T]) -> T:
        """Have `act` do something to the links, on the consensus loop, and wait until it is done everywhere."""

    @abstractmethod
    async def on_await_applied(self, number: NodeId, target: int) -> int:
        """Wait until a node has applied the log up to an index; returns how far it is. Raises `NodeStateError` if it dies."""

    @abstractmethod
    def head(self) -> State:
        """Return the state of the most advanced running node; when none runs, the last known one. From any thread."""

    def next_number(self) -> NodeId:
        """Return the lowest number that no node has or had, nor another is about to join under, as far as is known here. From any thread."""
        return max(self.head().next_number, *(number + 1 for number in (*self.numbers, *tuple(self.starts))))

    @abstractmethod
    def refresh(self, only: Collection[RunId] | None, entries: int) -> None:
        """Learn, before a look, what only the nodes know (of these runs, and so many log entries). Waits a little."""

    @abstractmethod
    def node_statistics(self, number: NodeId, commit_index: int, only: Collection[RunId] | None) -> NodeStatistics:
        """Return one node's statistics, on the consensus loop or after the stop; `commit_index` is the leader's."""

    @abstractmethod
    def tail(self, number: NodeId, most: int, described: Callable[[tuple[bytes, int, int]], LoggedEntry]) -> LogTail:
        """Return the end of a node's log, on the consensus loop or after the stop."""

    @abstractmethod
    def entries(self, number: NodeId, last: int) -> tuple[LogEntry, ...]:
        """Return the last entries of a node's log, in words. Waits while the cluster runs."""

    @abstractmethod
    def run_code(self, run_id: RunId) -> RunCode:
        """Return the code of a run, and where each living node is in it. Raises `RunNotFoundError`."""

    def wall_clock(self) -> float:
        """Return the time of day that this process goes by, in Unix seconds."""
        return time.time()

    # --- who leads, on the consensus loop

    async def on_await_leader(self) -> NodeId:
        """Wait until a node acts."""
        while (leader := self.leader) is None:
            await self._leader_waits.change()
        return leader

    async def on_await_other_leader(self, former: NodeId | None) -> NodeId:
        """Wait until a node other than `former` acts."""
        while (leader := self.leader) is None or leader == former:
            await self._leader_waits.change()
        return leader

    async def on_transfer(self, number: NodeId) -> None:
        """Have the leader transfer leadership to a node, again and again if need be, until that one acts."""
        asked: NodeId | None = None
        while (leader := self.leader) != number:
            leading = self._incarnations.get(leader) if leader is not None else None
            if leading is not None:
                if asked != leader:
                    self.announce(TransferAsked(leading.node, number))
                asked = leader
                leading.hand_over(number)
            # The request may be lost on its way, and the node may lose its election.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.timing.retry):
                    await self._leader_waits.change()

    @property
    def leader(self) -> NodeId | None:
        """The node that holds the latest epoch and may act now; None while there is no such node. From any thread."""
        acting = [
            (term, number)
            for number, term in tuple(self._acting.items())
            if (incarnation := self._incarnations.get(number)) is not None and not incarnation.paused
        ]
        return max(acting)[1] if acting else None

    def acting_changed(self, node: NodeId, term: int | None) -> None:
        """Keep who acts (consensus loop)."""
        if term is None:
            self._acting.pop(node, None)
            return
        self._acting[node] = term
        self._leader_waits.tell()

    async def on_await_offers(self, *, runs: bool) -> None:
        """Wait until every living node takes runs, or none does any more, as those of before may have."""
        while self.head().takers.intersection(self._incarnations) != (set(self._incarnations) if runs else set()):
            await self._offer_waits.change()

    # --- what happens, on the consensus loop

    def entry_applied(self, index: int, applied: Sequence[Applied]) -> None:
        """Note an applied entry: the first time it is heard of, publish its events."""
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
                    case NodeOffered() | NodeWithdrawn():
                        self._offer_waits.tell()
                    case WorkflowStarted() | RunDeleted() | RunEvicted():
                        self.held_runs.told(event)
                    case WorkflowCompleted(run_id=run_id, result=result):
                        self.held_runs.told(event)
                        self._end_waits(run_id, result)
                    case WorkflowFailed() | WorkflowCancelled() | WorkflowTerminated():
                        self.held_runs.told(event)
                        self._end_waits(event.run_id, event.failure)
                    case CheckpointSet(run_id=run_id, step=step):
                        self.answers.recorded(run_id, step)
                        self._variable_waits.recorded(run_id, step)
                    case _:
                        pass
                self.tell(event)

    def _state_skipped(self, state: State) -> None:
        """Tell the waiters of runs that ended, or even are gone, by entries which a state has replaced."""
        self._offer_waits.tell()
        self.held_runs.skipped(state)
        head = self.head()
        for run_id in tuple(self._waiting):
            found = ending(state.runs.get(run_id))
            if found is not None:
                self._end_waits(run_id, found)
            elif run_id not in head.runs:
                self._end_waits(run_id, self._ending_gone(run_id))
        self.answers.look(state)
        self._variable_waits.skipped()

    def _end_all_waits(self) -> None:
        """Tell all waiters that the cluster ends, or is let go of."""
        for callbacks in tuple(self._waiting.values()):
            for callback in tuple(callbacks):
                callback(ClusterError(f"cluster {self.name!r} was stopped before the run ended"))
        self._waiting.clear()
        for waiters in (self._leader_waits, self._offer_waits):
            waiters.fail(ClusterError(f"cluster {self.name!r} was stopped"))

    def when_numbers_change(self, callback: Callable[[], None]) -> None:
        """Have `callback()` called, on the consensus loop, when somebody else has changed which nodes there are. Once, before the start."""
        self._numbers_watcher = callback

    # --- telling, from any thread

    def tell(self, event: ClusterEvent) -> None:
        """Publish an event."""
        if isinstance(event, EffectStarted):
            self.counters.effects_run += 1
        self.observers.publish(event)
        if isinstance(event, ExecutionStopped) and event.difference is not None and self.held(event.run_id):
            self.observers.publish(RunHeld(event.run_id, event.difference))

    def announce(self, event: ClusterEvent) -> None:
        """Publish what a handle did: whoever else has handles on the cluster is told as well."""
        self.tell(event)

    def write(self, line: OutputLine) -> None:
        """Keep a line of output."""
        self.observers.write(line)

    # --- looking at nodes and runs

    def incarnation(self, number: NodeId) -> Life | None:
        """Return the present life of a node; None if it is dead."""
        return self._incarnations.get(number)

    def alive(self, number: NodeId, done_to_it: str) -> Life:
        """Return the present life of a node; raises `NodeStateError` if it is dead."""
        incarnation = self.incarnation(number)
        if incarnation is None:
            raise NodeStateError(f"node {number} is dead and cannot be {done_to_it}; restart it first")
        return incarnation

    def run_record(self, run_id: RunId) -> Run:
        """Return what is recorded of a run; raises `RunNotFoundError`."""
        record = self.head().runs.get(run_id)
        if record is None:
            raise not_found(self.head(), run_id)
        return record

    def hold(self, run_id: RunId) -> HeldRun:
        """Return what a handle on a run holds: as long as it does, how the run ended is known here. From any thread."""
        return self.held_runs.hold(run_id, self.head())

    def held(self, run_id: RunId) -> Difference | None:
        """Return where the code differs from an unfinished run's record, if it does on every living node; else None.

        Such a run stands still. From any thread.
        """
        record = self.head().runs.get(run_id)
        alive = [one for number in self.numbers if (one := self.incarnation(number)) is not None]
        if record is None or not record.unfinished or not alive:
            return None
        found = [one.stands_still(run_id) for one in alive]
        return found[0][1] if all(still for still, _ in found) else None

    def when_ended(self, run_id: RunId, callback: Callable[[RunEnding], None]) -> Callable[[], None]:
        """Have `callback(ending)` called once, on the consensus loop or right now; returns what forgets it."""
        if not self.thread.alive:
            callback(self._ending_after_stop(run_id))
            return _nothing

        def watch() -> None:
            record = self.head().runs.get(run_id)
            if self._shut:
                callback(self._ending_after_stop(run_id))
            elif record is None:
                callback(self._ending_gone(run_id))
            elif (found := ending(record)) is not None:
                callback(found)
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

    def when_answered(
        self, run_id: RunId, update_id: str, callback: Callable[[Step | RunEnding], None]
    ) -> Callable[[], None]:
        """Have `callback(step)` called, on the consensus loop or right now, with the answer to an update; `callback(ending)` at the run's end.

        An answer that is recorded comes before the end that follows it. Returns what forgets it.
        """
        # One that was sent before may have been answered already.
        self.thread.call(lambda: self.answers.watch(self.head(), run_id, update_id, callback))
        forget_end = ClusterBackend.when_ended(self, run_id, callback)

        def forget() -> None:
            self.thread.post(self.answers.forget, run_id, update_id, callback)
            forget_end()

        return forget

    def when_set(
        self, run_id: RunId, variable: str, place: LookedAt, callback: Callable[[RunEnding | None], None]
    ) -> Callable[[], None]:
        """Have `callback(None)` called, on the consensus loop or right now, when a value of a variable is recorded behind `place`.

        Or `callback(ending)` when the run ends first. Returns what forgets it.
        """
        if not self.thread.alive:
            callback(self._ending_after_stop(run_id))
            return _nothing

        def changed() -> None:
            forget()
            callback(None)

        def end(ending: RunEnding) -> None:
            forget()
            callback(ending)

        def watch() -> None:
            record = self.head().runs.get(run_id)
            if record is None or self._shut:
                callback(self._ending_after_stop(run_id))
            elif (found := ending(record)) is not None:
                callback(found)
            elif values_behind(record, variable, place)[0]:
                callback(None)
            else:
                self._variable_waits.watch(run_id, variable, changed)
                self._waiting.setdefault(run_id, []).append(end)

        def forget() -> None:
            self._variable_waits.forget(run_id, variable, changed)
            callbacks = self._waiting.get(run_id, [])
            if end in callbacks:
                callbacks.remove(end)

        try:
            self.thread.call(watch)
        except ClusterError:
            callback(self._ending_after_stop(run_id))
        return lambda: self.thread.post(forget)

    def _ending_after_stop(self, run_id: RunId) -> RunEnding:
        known = (ending(self.head().runs.get(run_id)), self.held_runs.ended(run_id))
        problem = ClusterError(f"cluster {self.name!r} stopped before the run ended")
        return next((found for found in known if found is not None), problem)

    def _ending_gone(self, run_id: RunId) -> RunEnding:
        """Return how a run ended that is not known any more, as far as somebody held it."""
        found = self.held_runs.ended(run_id)
        return not_found(self.head(), run_id) if found is None else found

    def _end_waits(self, run_id: RunId, found: RunEnding) -> None:
        for callback in self._waiting.pop(run_id, ()):
            callback(found)

    def wait_until_applied(self, number: NodeId, timeout: float) -> int:
        """Wait until a node has applied what the others have now; returns its index. Raises `CompletionTimeoutError`."""
        incarnation = self.alive(number, "waited for")

        async def wait() -> int:
            if self.incarnation(number) is not incarnation:
                raise NodeStateError(f"node {number} was stopped while it was waited for")
            return await self.on_await_applied(number, self.head().index)

        try:
            return self.thread.run(wait, timeout=timeout)
        except TimeoutError:
            raise CompletionTimeoutError(
                f"node {number} has not applied what the others have within {timeout:g} s; does it reach the leader?"
            ) from None

    async def on_await_level(self) -> None:
        """Wait until every node that runs, and is not paused, has applied what any node has applied by now."""
        target = self.head().index
        for incarnation in tuple(self._incarnations.values()):
            with contextlib.suppress(NodeStateError):  # one that dies meanwhile does not run
                if self.incarnation(incarnation.node) is incarnation and not incarnation.paused:
                    await self.on_await_applied(incarnation.node, target)

    # --- proposing

    def propose(self, command: Command, what: str) -> Committed | Rejected:
        """Propose a command by way of whichever node can, and wait. Raises `NotAcknowledgedError` at the deadline."""
        answer = self.answer(*self.thread.run(self._on_ask_timed, command, what))
        if isinstance(answer, NotAcknowledgedError):
            raise answer
        return answer

    async def _on_ask_timed(self, command: Command, what: str) -> tuple[Outcome, str, float]:
        clock = asyncio.get_running_loop().time
        began = clock()
        return await self.on_ask(command), what, clock() - began

    def when_decided(self, asked: Sequence[tuple[Command, str]], callback: Callable[[list[Answer]], None]) -> None:
        """Propose commands, each with the words for it, and return at once; `callback(answers)` is called once, when all are decided.

        On the consensus loop, or on the thread that stops it; it must not wait. Raises `ClusterError`, and calls nothing, if the
        cluster has stopped.
        """
        self._asks.put(asked, callback)

    def answer(self, outcome: Outcome, what: str, waited: float) -> Committed | Rejected | NotAcknowledgedError:
        """Return an outcome as it is told to whoever asked for `what`, and waited so many seconds."""
        if is_decided(outcome):
            return outcome
        assert not isinstance(outcome, Committed)  # nothing that was carried out is open
        said = waited < AT_ONCE or outcome.reason == _no_answer(self.proposal_timeout)
        within = "" if said else f" within {waited:.3g} s"
        return NotAcknowledgedError(
            f"{what} was not acknowledged{within}: {outcome.reason}; a majority of the {len(self.numbers)} nodes must run and "
            "reach each other",
            may_commit=isinstance(outcome, Unknown),
        )

    async def on_ask(self, command: Command) -> Outcome:
        """Propose a command by way of whichever node can; returns its outcome within `proposal_timeout`."""
        (outcome,) = await self.on_ask_all([command])
        return outcome

    async def on_ask_all(self, commands: Sequence[Command]) -> list[Outcome]:
        """Propose commands, in order and together, by way of whichever node can; returns their outcomes within `proposal_timeout`."""
        # Every command that comes this way says the same thing when it is said twice, so another node may say it again.
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.proposal_timeout
        outcomes: dict[int, Outcome] = {}
        left = list(range(len(commands)))
        while left:
            incarnation = self.spokesman()
            seconds = deadline - loop.time()
            if incarnation is None or seconds <= 0:
                reason = "no node runs, or all are paused" if incarnation is None else _no_answer(self.proposal_timeout)
                for position in left:
                    sent = isinstance(outcomes.get(position), Unknown)
                    outcomes[position] = Unknown(reason) if sent else Rejected(reason, "no_leader")
                break
            found = await incarnation.ask_all([commands[position] for position in left], seconds)
            for position, outcome in zip(left, found, strict=True):
                # One that was sent before may still commit, whatever a node that could not pass it on says now.
                if is_decided(outcome) or not isinstance(outcomes.get(position), Unknown):
                    outcomes[position] = outcome
            left = [position for position, outcome in zip(left, found, strict=True) if not is_decided(outcome)]
        return [outcomes[position] for position in range(len(commands))]

    def spokesman(self) -> Life | None:
        """Return the node that knows most: the one that acts, or any that is awake; None if there is none.

        From any thread.
        """
        leader = self.leader
        if leader is not None and (acting := self._incarnations.get(leader)) is not None:
            return acting
        return next((one for one in tuple(self._incarnations.values()) if not one.paused), None)


def _no_answer(seconds: float) -> str:
    return f"no answer within {seconds:g} s"


def _nothing() -> None:
    pass
