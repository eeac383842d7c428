"""A small cluster on a virtual clock that does what it is told, and says all that happens: what transcripts are made of.

Nodes, network and clock are those of the simulation, without its dice: every message takes `LATENCY`, every step `STEP_SECONDS`,
clocks agree, no disk fails. What is drawn (election timeouts) follows from the seed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ..core.apply import Applied
from ..core.cluster_events import EffectStarted, ExecutionStopped, RoleChanged
from ..core.commands import Command, Committed, Outcome
from ..core.events import ClusterEvent, EpochChanged
from ..core.records import NodeId, Record, RunId, Step, StepId
from ..errors import ClusterError, InternalError
from ..hosts.log_words import command_words
from ..limits import SNAPSHOT_LOG_BYTES
from ..raft.compaction import Compaction
from ..raft.pysyncobj_driver import LEADER
from ..raft.timing import Timing
from ..transport.memory_network import MemoryEndpoint
from ..transport.messages import AppendEntries, Message, NextIndex
from ..transport.network import Receiver
from ..virtual_time.clock import VirtualClockLoop
from .dice import SeededDice
from .faulty_network import SimulatedNetwork
from .noted_journal import NotedStore
from .paper_words import log_words, message_words
from .simulated_node import SimulatedNode

if TYPE_CHECKING:
    from ..workflow.execution.execution import Execution
    from ..workflow.execution.inbox import HandedOver

LATENCY: Final = 0.01
"""Seconds that every message takes."""

STEP_SECONDS: Final = 0.1
"""Seconds that every step of a workflow takes."""

PROPOSAL_SECONDS: Final = 5.0
"""Seconds after which a proposal without an answer is given up."""

QUIET: Final = 0.2
"""`settle` waits until nothing was said for so long (seconds); less than any election timeout."""

LONGEST_SETTLING: Final = 30.0

PASSED: Final = 0
"""A placeholder for an entry that was sent: what follows is lost."""

Note = Callable[[str, str], None]
"""A function that adds a line: who, and what."""

Lane = tuple[NodeId, NodeId]


class Stage:
    """The cluster. `lines` are what was said and not taken yet; the caller empties it.

    What is done to it takes no time, but for `advance` and `settle`. Raises `ClusterError` for what cannot be done.
    """

    def __init__(self, seed: int = 1) -> None:
        self.loop = _StageLoop(self)
        self.loop.set_exception_handler(self._unhandled)
        self.lines: list[tuple[float, str, str]] = []
        self.nodes: dict[NodeId, SimulatedNode] = {}
        self._seed = seed
        self._began = self.loop.time()
        self._founders: tuple[NodeId, ...] = ()
        self._stores: dict[NodeId, NotedStore] = {}
        self._incarnations: dict[NodeId, int] = {}
        self._network = _Network(self)
        self._underway: dict[Lane, deque[Message]] = {}
        self._repeated: dict[Lane, dict[type, tuple[Message, bool]]] = {}
        self._shown: dict[NodeId, dict[RunId, _Seen]] = {}
        # Records that had their turns, and were not told of yet.
        self._taken: dict[tuple[NodeId, RunId], list[str]] = {}
        # The entry behind which a direction is to be cut.
        self._last_to_pass: dict[Lane, int] = {}
        self._error: BaseException | None = None

    def run(self, act: Callable[[], object]) -> object:
        """Call `act()` on the loop, and await what it returns if it is a coroutine. Raises what broke meanwhile, too."""

        async def acted() -> object:
            result = act()
            return await result if isinstance(result, Coroutine) else result

        result = self.loop.run_until_complete(acted())
        if self._error is not None:
            raise self._error
        return result

    # --- what is done to it: on the loop, within `run`

    def start(self, count: int) -> None:
        """Start the nodes 1 to `count` of a new cluster."""
        if self._founders:
            raise ClusterError("the cluster was started before: nodes that are new now join")
        self._founders = tuple(range(1, count + 1))
        for number in self._founders:
            self._start_node(number)

    def join(self, number: NodeId) -> None:
        """Start a node that is no member yet."""
        if number in self._stores:
            raise ClusterError(f"node {number} was there before: it can be restarted")
        self._start_node(number)

    def restart(self, number: NodeId) -> None:
        """Start a killed node from its journal."""
        if number in self.nodes or number not in self._stores:
            raise ClusterError(f"node {number} is not one that was killed")
        self._start_node(number)

    def kill(self, number: NodeId) -> None:
        """End a node's process; its journal stays."""
        node = self.node(number)
        self.note(f"{number}", "is killed")
        del self.nodes[number]
        self._shown.pop(number, None)
        node.end()

    def node(self, number: NodeId) -> SimulatedNode:
        """Return a living node. Raises `ClusterError` if there is none of that number."""
        node = self.nodes.get(number)
        if node is None:
            raise ClusterError(f"there is no node {number}, or it was killed")
        return node

    def leader(self) -> SimulatedNode:
        """Return the node that leads the highest term. Raises `ClusterError` if none leads."""
        leading = [node for node in self.nodes.values() if node.member.replica.raft.role == LEADER]
        if not leading:
            raise ClusterError("no node leads")
        return max(leading, key=lambda node: node.member.replica.raft.term)

    def propose(self, number: NodeId, command: Command) -> None:
        """Have a node propose a command, and say what it was told about it."""
        words = command_words(command)

        def done(outcome: Outcome) -> None:
            if isinstance(outcome, Committed):
                self.note(f"{number}", f"is told: {words}: committed at {outcome.index}")
            else:
                self.note(f"{number}", f"is told: {words}: {type(outcome).__name__.lower()}: {outcome.reason}")

        self.node(number).member.propose(command, PROPOSAL_SECONDS, done)

    def cut(self, source: NodeId, target: NodeId, both: bool = True) -> None:
        """Lose every message from one node to another, and back if `both`."""
        self._network.cut(source, target, both)

    def cut_after(self, source: NodeId, target: NodeId, index: int) -> None:
        """Lose every message from one node to another that is sent after the next one with the entry at `index`."""
        self._last_to_pass[source, target] = index

    def isolate(self, number: NodeId) -> None:
        """Cut all links of a node."""
        for other in self._stores:
            if other != self.node(number).number:
                self.cut(number, other)

    def heal(self) -> None:
        """End every cut."""
        self._last_to_pass.clear()
        self._network.heal_all()

    def snapshot(self, number: NodeId) -> None:
        """Have a node make a snapshot of its state, and drop the log before."""
        member = self.node(number).member
        member.replica.compactor.begin(member.state)

    async def advance(self, seconds: float) -> None:
        """Let time pass."""
        await asyncio.sleep(seconds)

    async def settle(self) -> None:
        """Let time pass until nothing but heartbeats has been sent for a while, and no step runs."""
        waited = 0.0
        said = -1
        while said != len(self.lines):
            said = len(self.lines)
            await self.advance(QUIET)
            waited += QUIET
            if waited > LONGEST_SETTLING:
                raise ClusterError(f"there is no rest: after {LONGEST_SETTLING:g} s things still happen")

    def close(self) -> None:
        """End everything."""

        async def end() -> None:
            for node in self.nodes.values():
                node.end()
            self.nodes.clear()
            await asyncio.sleep(0.001)

        self.loop.run_until_complete(end())
        for task in asyncio.all_tasks(self.loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        self.loop.close()

    # --- what it says

    def note(self, who: str, what: str) -> None:
        """Add a line."""
        self.lines.append((self.loop.time() - self._began, who, what))

    def describe(self) -> list[str]:
        """Return how the nodes stand, a line each, and their executions."""
        found = []
        for number, store in sorted(self._stores.items()):
            node = self.nodes.get(number)
            log = log_words(store.journal)
            if node is None:
                found.append(f"{number}  dead, term {store.journal.getCurrentTerm()}; log {log}")
                continue
            raft = node.member.replica.raft
            acts = "" if node.member.acting_term is None else ", acts"
            members = "" if len(node.member.replica.members) == len(self._founders) else self._members_words(node)
            found.append(
                f"{number}  {node.member.replica.role} of term {raft.term}{acts}; log {log}; commit index "
                f"{raft.commit_index}{members}"
            )
            found += [
                f"   {run_id}: {one.status}, {one.step} records taken, {one.catch_up_queue} in its queue, {one.effects_run} "
                "effects begun here"
                for run_id, one in node.executor.statistics().items()
            ]
        return found

    @staticmethod
    def _members_words(node: SimulatedNode) -> str:
        return f"; members {' '.join(map(str, node.member.replica.members)) or 'unknown'}"

    # --- inside

    def _start_node(self, number: NodeId) -> None:
        store = self._stores.setdefault(number, NotedStore(number, partial(self.note, f"{number}")))
        self._incarnations[number] = self._incarnations.get(number, 0) + 1
        node = SimulatedNode(
            number,
            self._founders,
            self._incarnations[number],
            joins=number not in self._founders,
            seed=self._seed,
            loop=self.loop,
            store=store,
            timing=Timing(),
            rate=1.0,
            lag=0.0,
            host=self,
            guarded=True,
            paths="fast",
            step_seconds=lambda node, name: STEP_SECONDS,
            proposal_seconds=PROPOSAL_SECONDS,
            # A snapshot is made when it is asked for, and next to nothing of the log is kept behind it.
            compaction=Compaction(log_bytes=SNAPSHOT_LOG_BYTES, kept_bytes=1, piece_bytes=400),
        )
        node.executor.replace_function = partial(self._noted_effect, number)
        self.nodes[number] = node
        self.note(f"{number}", f"starts; its log: {log_words(store.journal)}")
        node.start(self._network)

    def _noted_effect(
        self, number: NodeId, run_id: RunId, step_id: StepId, fn: Callable[..., Any]
    ) -> Callable[..., Any]:
        def noted(*args: Any, **kwargs: Any) -> Any:
            value = fn(*args, **kwargs)
            self.note(f"{number}", f"{run_id}: has done {step_id}: {value!r}")
            return value

        return noted

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:  # noqa: ARG002
        self._error = self._error or context.get("exception") or InternalError(str(context.get("message")))

    # --- from the network

    def send(self, source: NodeId, target: NodeId, message: Message, send: Callable[[NodeId, Message], None]) -> None:
        """Note that a node sends a message. It is shown when it arrives, or when it is lost."""
        awaited = self._last_to_pass.get((source, target))
        if awaited == PASSED or self._network.is_cut(source, target) or target not in self.nodes:
            self._tell_message(source, target, message, lost=True)
            return
        if isinstance(message, AppendEntries) and any(index == awaited for _, index, _ in message.entries):
            self._last_to_pass[source, target] = PASSED
        self._underway.setdefault((source, target), deque()).append(message)
        send(target, message)
        # Behind its delivery, if it comes to that.
        self.loop.call_later(LATENCY + 1e-6, self._overdue, source, target, message)

    def arrived(self, source: NodeId, target: NodeId, message: Message) -> None:
        """Note that a message arrives."""
        underway = self._underway[source, target]
        while underway and underway.popleft() is not message:
            pass
        self._tell_message(source, target, message)

    def _overdue(self, source: NodeId, target: NodeId, message: Message) -> None:
        underway = self._underway[source, target]
        held_back = target in self.nodes and self.nodes[target].member.paused
        if not held_back and any(one is message for one in underway):
            underway.remove(message)
            self._tell_message(source, target, message, lost=True)

    def _tell_message(self, source: NodeId, target: NodeId, message: Message, *, lost: bool = False) -> None:
        # A heartbeat that says what the last message said, and its answer, are not told of.
        last = self._repeated.setdefault((source, target), {})
        kind = type(message)
        position: Message = message
        if isinstance(message, AppendEntries) and message.entries:
            _, index, term = message.entries[-1]
            position = AppendEntries(message.term, index, term, (), message.commit_index)
        routine = last.get(kind) == (message, lost) and isinstance(message, AppendEntries | NextIndex)
        last[kind] = position, lost
        if not routine:
            self.note(f"{source} -> {target}", message_words(message) + (" (lost)" if lost else ""))

    # --- from the nodes (node.NodeHost)

    def applied(self, node: SimulatedNode, index: int, applied: Sequence[Applied]) -> None:
        """Note that a node applied an entry."""
        for one in applied:
            answer = "" if isinstance(one.answer, Committed) else f"; refused: {one.answer.code}"
            epoch = "".join(
                f": the epoch of term {event.term} begins" for event in one.events if isinstance(event, EpochChanged)
            )
            self.note(f"{node.number}", f"applies {index}: {command_words(one.proposal.command)}{epoch}{answer}")

    def state_replaced(self, node: SimulatedNode) -> None:
        """Note that a node read a snapshot."""
        self.note(f"{node.number}", f"takes over the state of a snapshot up to {node.member.state.index}")

    def handed_over(self, node: SimulatedNode, items: Sequence[HandedOver]) -> None:
        """Note that a node's executor got records: what it makes of them is looked at in `look`."""

    def turned(self, node: SimulatedNode, execution: Execution) -> None:
        """Note which record had its turn: said in `look`."""
        if execution.had and execution.turn is not None:
            words = _record_words(execution.turn)
            self._taken.setdefault((node.number, execution.run_id), []).append(words)

    def acting_changed(self, node: SimulatedNode, term: int | None) -> None:
        """Note that a node may act, or not any more."""
        self.note(f"{node.number}", "stops acting" if term is None else f"acts in term {term}")

    def told(self, node: SimulatedNode, event: ClusterEvent) -> None:
        """Note that a node published an event."""
        match event:
            case RoleChanged(role=role, term=term):
                self.note(f"{node.number}", f"is now {role} of term {term}")
            case EffectStarted(run_id=run_id, step_id=step_id):
                self.look(at_rest=False)  # what it took before that
                self.note(f"{node.number}", f"{run_id}: begins {step_id}")
            case ExecutionStopped(run_id=run_id, status=status, reason=reason):
                self.note(f"{node.number}", f"{run_id}: {status}: {reason}")
            case _:
                pass

    def broke(self, node: SimulatedNode, error: BaseException | None) -> None:
        """Note that a node's replica broke."""
        self._error = self._error or error or InternalError(f"node {node.number} broke")

    # --- from the loop

    def look(self, *, at_rest: bool) -> None:
        """See how far executions have come; how long their queues are only `at_rest`, before the clock moves."""
        for number, node in self.nodes.items():
            known = self._shown.setdefault(number, {})
            for run_id, now in node.executor.statistics().items():
                execution = node.executor.execution(run_id)
                queue = 0 if execution is None else execution.queue_length
                if run_id not in known:
                    self.note(f"{number}", f"{run_id}: begins to execute it")
                    known[run_id] = _Seen()
                taken = self._taken.pop((number, run_id), ())
                known[run_id].look(now.status, taken, queue, at_rest, partial(self.note, f"{number}"), run_id)


class _Seen:
    """The last report of an execution."""

    def __init__(self) -> None:
        self._status = "running"
        self._waiting = 0

    def look(
        self,
        status: str,
        taken: Sequence[str],
        queue: int,
        at_rest: bool,
        note: Callable[[str], None],
        run_id: RunId,
    ) -> None:
        if taken:
            note(f"{run_id}: takes {', '.join(taken)}{f'; {queue} left in its queue' if queue else ''}")
            self._waiting = queue
        elif at_rest and queue != self._waiting:
            note(f"{run_id}: {queue} in its queue")
            self._waiting = queue
        if status != self._status:
            note(f"{run_id}: its execution is {status}")
        self._status = status


def _record_words(record: Record) -> str:
    return record.step_id if isinstance(record, Step) else type(record).__name__


class _StageLoop(VirtualClockLoop):
    """A loop that has the stage look at the nodes after every turn, and before the clock moves."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self._stage = stage

    def _run_once(self) -> None:
        super()._run_once()
        self._stage.look(at_rest=False)

    def _find_work(self, due: float | None) -> bool:
        self._stage.look(at_rest=True)
        return super()._find_work(due)


class _Network(SimulatedNetwork):
    """The network, which asks the stage about every message that leaves, and tells it of arrivals and broken links."""

    def __init__(self, stage: Stage) -> None:
        dice = SeededDice("network")
        super().__init__(stage.loop, dice, quickest=LATENCY, slowest=LATENCY, sent=lambda source, target, message: None)
        self._stage = stage

    def join(self, node: NodeId, receiver: Receiver) -> MemoryEndpoint:
        endpoint = super().join(node, _Ear(node, receiver, self._stage))
        send = endpoint.send

        def told(peer: NodeId, message: Message) -> None:
            self._stage.send(node, peer, message, send)

        endpoint.send = told  # type: ignore[method-assign]
        return endpoint


class _Ear(Receiver):
    """A listener between the network and a node."""

    def __init__(self, node: NodeId, receiver: Receiver, stage: Stage) -> None:
        self._node = node
        self._receiver = receiver
        self._stage = stage

    def connected(self, peer: NodeId) -> None:
        self._receiver.connected(peer)

    def disconnected(self, peer: NodeId) -> None:
        self._stage.note(f"{self._node}", f"loses its link to {peer}")
        self._receiver.disconnected(peer)

    def received(self, peer: NodeId, messages: Sequence[Message]) -> None:
        for message in messages:
            self._stage.arrived(peer, self._node, message)
        self._receiver.received(peer, messages)
