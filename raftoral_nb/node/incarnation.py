"""One incarnation of a node: a member on the consensus loop and an executor on the node's own thread, joined here."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from ..core.apply import Applied
from ..core.blob_refs import BlobRef
from ..core.cluster_events import OutputLine, RoleChanged, SnapshotInstalled
from ..core.commands import ChangeMembers, Command, Committed, OfferNode, Outcome, Unknown, WithdrawNode
from ..core.events import ClusterEvent, NodeOffered
from ..core.held_keys import HeldKey
from ..core.records import CachedStep, Definition, Difference, Failure, NodeId, RunId, StepId, StepState
from ..core.state import State
from ..core.statistics import STUCK
from ..raft.compaction import DEFAULT_COMPACTION, Compaction
from ..raft.held_values import HeldValues
from ..raft.journal import MemoryJournal
from ..raft.member import Member
from ..raft.pysyncobj_driver import Dice
from ..raft.replica import RoleName, Timing
from ..threads.loop_thread import LoopThread
from ..threads.step_threads import Steps, StepThreads
from ..transport.network import Network
from ..workflow.execution.elsewhere import StepsElsewhere
from ..workflow.execution.inbox import ActingChanged, HandedOver, ValueLimitChanged
from ..workflow.execution.products import Encoded
from . import execution_queries
from .absent_nodes import AbsentNodes
from .execution_queries import ExecutionEnd
from .executor import PROPOSAL_SECONDS, Executor
from .hand_over import difference, handed_over
from .offering import Offering

FOLLOWER_HAND_OVER = 0.005
"""The time for which a follower's records are gathered before its thread is woken for them (seconds): nothing waits for
a follower, and each wake-up competes for the GIL with what the acting node waits for.
"""

CATCH_UP_SECONDS, CATCH_UP_SECONDS_AN_ENTRY, MAX_CATCH_UP_SECONDS = 0.25, 0.0002, 5.0
"""The time for which the first records of a node are gathered that starts beside one that is likely to lead: some, and more for a longer
log (seconds). Else all of them would replay all runs while somebody waits for the next step of one.
"""


_ABOUT_OFFERS = frozenset({OfferNode, WithdrawNode, ChangeMembers})


def catch_up_seconds(entries: int) -> float:
    """Return how long the first records of a node wait that is likely to follow, with so many entries in its log."""
    if not entries:
        return FOLLOWER_HAND_OVER
    return min(MAX_CATCH_UP_SECONDS, CATCH_UP_SECONDS + CATCH_UP_SECONDS_AN_ENTRY * entries)


class IncarnationEnv(Protocol):
    """The environment of an incarnation: what it needs of its cluster."""

    def entry_applied(self, index: int, applied: Sequence[Applied]) -> None:
        """Note that a node applied an entry (consensus loop)."""
        ...

    def state_replaced(self, node: NodeId) -> None:
        """Note that a node's state was replaced by one that is further on (consensus loop)."""
        ...

    def acting_changed(self, node: NodeId, term: int | None) -> None:
        """Note that a node may act from here on, or may not any more (consensus loop)."""
        ...

    def node_failed(self, node: NodeId, error: BaseException) -> None:
        """Note that a node's replica broke, or its disk failed, and it was stopped (consensus loop)."""
        ...

    def tell(self, event: ClusterEvent) -> None:
        """Publish an event (any thread)."""
        ...

    def write(self, line: OutputLine) -> None:
        """Keep a line of output (any thread)."""
        ...


class ClosedWithNode(StepsElsewhere, Protocol):
    """The runners of steps that name an executor, which end with the node."""

    def close(self) -> None:
        """End all of them. From any thread."""
        ...

    def drop_kept(self) -> None:
        """Have `close` end what outlives a node as well. From any thread."""
        ...


class Poster(Protocol):
    """A queue of calls, which are made in order: a thread with a loop, or what stands for one in a simulation."""

    def post(self, fn: Callable[..., object], *args: Any) -> None:
        """Call `fn(*args)` there soon, in order; nothing happens before it was started and after it was stopped."""
        ...


class Incarnation:
    """From a node's start to its kill or the cluster's stop. Made and called on the consensus loop unless said otherwise."""

    def __init__(
        self,
        node: NodeId,
        nodes: Sequence[NodeId],
        number: int,
        *,
        host: IncarnationEnv,
        consensus: Poster,
        loop: asyncio.AbstractEventLoop,
        journal: MemoryJournal,
        dice: Dice,
        timing: Timing,
        name: str,
        guarded: bool = True,
        thread: LoopThread | None = None,
        steps: Steps | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        proposal_seconds: float = PROPOSAL_SECONDS,
        look_again: float = math.inf,
        compaction: Compaction = DEFAULT_COMPACTION,
        joins: bool = False,
        first: bool = False,
        first_hand_over: float = FOLLOWER_HAND_OVER,
        executors: ClosedWithNode | None = None,
        takes_runs: bool = False,
        labels: Sequence[str] = (),
    ) -> None:
        self.node = node
        self.number = number
        self.held = False
        self._host = host
        # In the order in which they were asked, which is the order they are answered in when the node is paused.
        self._asking: dict[asyncio.Future[None], None] = {}
        # Invariant: what was applied and is not delivered yet, in order.
        self._handing_over: list[HandedOver] = []
        self._hand_over_timer: asyncio.TimerHandle | None = None
        self._gathered_for = first_hand_over
        self._consensus = consensus
        self._loop = loop
        self.thread = LoopThread(f"{name}-node-{node}") if thread is None else thread
        self.steps: Steps = StepThreads(f"{name}-node-{node}-step") if steps is None else steps
        self._executors = executors
        self.executor = Executor(node, self, self.steps, clock, wall_clock, proposal_seconds, look_again, executors)
        self.member = Member(
            node,
            nodes,
            journal=journal,
            loop=loop,
            dice=dice,
            timing=timing,
            listener=self,
            compaction=compaction,
            joins=joins,
            first=first,
            guarded=guarded,
        )
        self.executor.large_values.held = self.member.blobs.held.by_key

        # A token of this start: with a log on a disk, the number of starts counts from 1 in each process.
        token = f"{node}.{number}.{int(dice.random() * 2**48):012x}" if takes_runs or labels else ""
        self.offering = Offering(node, token, takes_runs, labels, self.member, wall_clock)
        self.absent = AbsentNodes(self.member, loop, timing, wall_clock)

    async def start(self, network: Network) -> None:
        """Start the node's thread and join the network."""
        self.thread.start()
        self.thread.post(self._start_executor)
        await self.member.join(network)
        self.offering.look()

    def _start_executor(self) -> None:
        self._main = asyncio.get_running_loop().create_task(self.executor.main(), name="executor")

    def close(self) -> None:
        """End the consensus side at once, and let the execution side act no more; `join` ends that."""
        self.executor.closed = True
        self.offering.close()
        self.absent.close()
        self.member.close()
        if self._hand_over_timer is not None:
            self._hand_over_timer.cancel()
            self._hand_over_timer = None

    def drop_kept(self) -> None:
        """Let nothing of its steps outlive it: no other node will ask for it. Before `close`."""
        if self._executors is not None:
            self._executors.drop_kept()

    def join(self, timeout: float) -> tuple[str, ...]:
        """Wait up to `timeout` seconds for the node's thread; names the user code that still runs. From any thread."""
        ended = self.thread.stop(timeout)
        self.steps.close()
        if self._executors is not None:
            self._executors.close()
        stuck = list(self.steps.stuck())
        if not ended:
            stuck.insert(0, f"workflow on node {self.node}: {self.thread.where() or 'between two steps'}")
        return tuple(stuck)

    def free(self) -> None:
        """Release what this incarnation held, bit by bit, after `join` left nothing running.

        From any thread but the loop's.

        Left to the last reference or to the garbage collector, a large state is freed at once, and all threads wait for that.
        """
        parts: list[object] = list(self.member.state.runs.values())
        self.member.state = State()
        parts += self.executor.forget()
        while parts:
            parts.pop()

    async def ask(self, command: Command, timeout: float) -> Outcome:
        """Propose a command; its outcome within `timeout` seconds, or `Unknown` as soon as this node is paused."""
        (outcome,) = await self.ask_all([command], timeout)
        return outcome

    async def ask_all(self, commands: Sequence[Command], timeout: float) -> list[Outcome]:
        """Propose commands together, in order; their outcomes within `timeout` seconds, those that are open `Unknown` once this node is paused."""
        if not commands:
            return []
        outcomes: dict[int, Outcome] = {}
        decided: asyncio.Future[None] = self._loop.create_future()

        def done(position: int, outcome: Outcome) -> None:
            outcomes[position] = outcome
            if len(outcomes) == len(commands) and not decided.done():
                decided.set_result(None)

        tickets = [
            self.member.propose(command, timeout, partial(done, position)) for position, command in enumerate(commands)
        ]
        self._asking[decided] = None
        try:
            await decided
        finally:
            self._asking.pop(decided, None)
            for ticket in tickets:
                ticket.cancel()
        # A frozen node answers nobody, and its clock stands still.
        return [outcomes.get(position, Unknown("the node was paused")) for position in range(len(commands))]

    # --- what handles ask (hosting.Life)

    @property
    def paused(self) -> bool:
        """True if it is frozen."""
        return self.member.paused

    @property
    def log_length(self) -> int:
        """Entries of its log, with those that a snapshot stands for."""
        return self.member.log_length

    @property
    def commit_index(self) -> int:
        """The last entry that it knows to be committed."""
        return self.member.replica.raft.commit_index

    def stands_still(self, run_id: RunId) -> tuple[bool, Difference | None]:
        """Return why its execution of a run cannot continue, if it cannot."""
        execution = self.executor.execution(run_id)
        if execution is None or execution.status not in STUCK:
            return False, None
        return True, execution.difference

    def query(self, run_id: RunId, name: str, args: bytes, timeout: float | None) -> Encoded:
        """Return the answer of its execution of a run to a query. Waits. Raises TimeoutError and `QueryFailedError`."""
        return self.thread.run(execution_queries.answer, self.executor, run_id, name, args, timeout=timeout)

    def objection(self, run_id: RunId, name: str, value: bytes, timeout: float | None) -> Failure | None:
        """Return what a run's validator of an update says against a value. Waits. Raises TimeoutError."""
        return self.thread.run(execution_queries.objection, self.executor, run_id, name, value, timeout=timeout)

    def execution_end(self, run_id: RunId, timeout: float | None) -> ExecutionEnd:
        """Return the end of its execution of a run. Waits. Raises TimeoutError."""
        return self.thread.run(execution_queries.end, self.executor, run_id, timeout=timeout)

    def campaign(self) -> None:
        """Try to become the leader now."""
        self.member.campaign()

    def hand_over(self, target: NodeId) -> None:
        """Have a leader make another node lead."""
        self.member.yield_leadership(target)

    # --- faults

    def pause(self) -> None:
        """Freeze, as a hung process would; a synchronous step that is running continues."""
        self.member.pause()
        for asking in tuple(self._asking):
            if not asking.done():
                asking.set_result(None)
        self.thread.post(self.executor.close_gate, "pause")

    def resume(self) -> None:
        """End `pause`."""
        # First what waited, which may say that another node leads: the executor must not act before it has heard that.
        self.member.resume()
        self.thread.post(self.executor.open_gate, "pause")
        self.absent.look()

    def hold(self) -> None:
        """Stop executing workflows, while the log continues and the catch-up queues grow."""
        self.held = True
        self.thread.post(self.executor.close_gate, "hold")
        if self.offering.token:
            self._consensus.post(self.offering.hold, True)

    def release(self) -> None:
        """End `hold`."""
        self.held = False
        self.thread.post(self.executor.open_gate, "hold")
        if self.offering.token:
            self._consensus.post(self.offering.hold, False)

    # --- from the member (raft.member.MemberListener), on the consensus loop

    def applied(self, index: int, applied: Sequence[Applied]) -> None:
        """Deliver what was applied to the executor, then let the cluster know."""
        state, token = self.member.state, self.offering.token
        items = [
            item for one in applied for event in one.events if (item := handed_over(event, state, token)) is not None
        ]
        if items:
            self._handing_over.extend(items)
            if self.member.acting_term is not None or (token and self._waited_for(items)):
                self._hand_over()
            else:
                self._hand_over_soon()
        self._host.entry_applied(index, applied)
        if state.offers or token:
            self._look_at_offers(applied)

    def _waited_for(self, items: Sequence[HandedOver]) -> bool:
        """Return whether something here waits for any of these: this node owns the run, or a step is bound to a label."""
        runs = self.member.state.runs
        for item in items:
            run = None if isinstance(item, ActingChanged | ValueLimitChanged) else runs.get(item.run_id)
            if run is not None and (run.owner == self.node or run.bound):
                return True
        return False

    def _look_at_offers(self, applied: Sequence[Applied]) -> None:
        """Have looked again at who takes runs, if an entry changes that."""
        about = [one for one in applied if type(one.proposal.carried) in _ABOUT_OFFERS]
        # What was refused changes nothing. Two nodes that are no members would else have each other ask again, for ever.
        events = [event for one in about if isinstance(one.answer, Committed) for event in one.events]
        if not events:
            return
        self.offering.look()
        self.absent.look()
        if any(isinstance(event, NodeOffered) and event.runs and event.node != self.node for event in events):
            self.thread.post(self.executor.other_offers)

    def state_replaced(self, old: State, new: State) -> None:
        """Deliver what happened in between to the executor, then let the cluster know."""
        self._handing_over.extend(difference(old, new, self.offering.token))
        if self._handing_over and not old.index:
            self._hand_over_soon()
        elif self._handing_over:
            self._hand_over()
        if old.index:
            self._host.tell(SnapshotInstalled(self.node, new.index))
        self._host.state_replaced(self.node)
        self.offering.look()
        if old.index and old.offers != new.offers:
            self.thread.post(self.executor.other_offers)

    def acting_changed(self, term: int | None) -> None:
        """Deliver the right to act to the executor, behind every record that precedes it."""
        self._handing_over.append(ActingChanged(term))
        self._hand_over()
        self._host.acting_changed(self.node, term)
        self.absent.look()

    def _hand_over_soon(self) -> None:
        if self._hand_over_timer is None:
            self._hand_over_timer = self._loop.call_later(self._gathered_for, self._hand_over)

    def _hand_over(self) -> None:
        self._gathered_for = FOLLOWER_HAND_OVER
        if self._hand_over_timer is not None:
            self._hand_over_timer.cancel()
            self._hand_over_timer = None
        items, self._handing_over = self._handing_over, []
        self.thread.post(self.executor.hand_over, items)

    def link_changed(self, peer: NodeId, up: bool) -> None:
        """Note since when a node cannot be reached."""
        self.absent.link_changed(peer, up)

    def role_changed(self, role: RoleName, term: int) -> None:
        """Tell the cluster."""
        self._host.tell(RoleChanged(self.node, role, term))

    def failed(self, error: BaseException) -> None:
        """Tell the cluster."""
        self._host.node_failed(self.node, error)

    # --- from the executor (workflow.executor.ExecutorHost), on the node's thread

    def propose(self, command: Command, timeout: float, done: Callable[[Outcome], None]) -> None:
        """Propose a command on the consensus loop."""
        self._consensus.post(self.member.propose, command, timeout, done)

    def holds_blob(self, digest: str) -> bool:
        """Return whether the node has stored a blob."""
        return self.member.blobs.holds(digest)

    def fetch_blob(self, ref: BlobRef, ready: Callable[[], None]) -> None:
        """Have a blob fetched from another node; `ready()` is called on the consensus loop."""
        self._consensus.post(self.member.blobs.fetch, ref.digest, ref.size, ready)

    @property
    def max_value_bytes(self) -> int:
        """The largest value that the cluster keeps, by this node's state, in bytes. From any thread."""
        return self.member.max_value_bytes

    def bring_held(self, key: HeldKey, done: Callable[[bytes | None], None]) -> None:
        """Look whether a held value is there; `done(its reference, or None)` is called on the consensus loop."""
        self._consensus.post(self.member.blobs.bring_held, key, done)

    def drop_held(self, drop: Callable[[HeldValues], object]) -> None:
        """Have `drop` let go of what the node holds, on the consensus loop."""
        self._consensus.post(drop, self.member.blobs.held)

    def post(self, fn: Callable[..., object], *args: Any) -> None:
        """Call something on the node's own loop."""
        self.thread.post(fn, *args)

    def arm(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call something later, on the consensus loop."""
        self._consensus.post(self._loop.call_later, seconds, callback)

    def tell(self, event: ClusterEvent) -> None:
        """Publish an event."""
        self._host.tell(event)

    def write(self, line: OutputLine) -> None:
        """Keep a line of output."""
        self._host.write(line)

    def yield_leadership(self) -> None:
        """Have another node lead."""
        self._consensus.post(self.member.yield_leadership)

    def definition(self, workflow: str, version: int | None) -> Definition | None:
        """Return the definition of a workflow in this node's state.

        Called on the node's thread while the state changes.
        """
        known = self.member.state.definitions
        if version is None:
            versions = [number for name, number in tuple(known) if name == workflow]
            version = max(versions, default=0)
        return known.get((workflow, version))

    def step_state(self, run_id: RunId, step_id: StepId) -> StepState | None:
        """Return what an open step has saved last, in this node's state.

        Called from any thread while the state changes. Whoever acts has applied all that was saved before its epoch.
        """
        run = self.member.state.runs.get(run_id)
        return None if run is None else run.step_states.get(step_id)

    def cached_step(self, key: str) -> CachedStep | None:
        """Return what is in the cache of steps, in this node's state. Called from any thread while the state changes."""
        return self.member.state.cache.get(key)
