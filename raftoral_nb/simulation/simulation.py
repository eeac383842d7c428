"""One simulation: a cluster of real nodes on a virtual clock, clients, faults, and the checks, all decided by a seed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec

from ..api.running_clusters import current_cluster
from ..core.apply import Applied
from ..core.cluster_events import EffectStarted, ExecutionStopped, RoleChanged
from ..core.commands import Committed, Outcome
from ..core.events import ClusterEvent
from ..core.records import NodeId
from ..errors import ClusterError
from ..raft.compaction import Compaction
from ..raft.replica import Timing
from ..transport.messages import Message
from ..virtual_time.clock import VirtualClockLoop
from ..virtual_time.nested_loop import without_outer_loop
from . import final_checks, hazards, language, workload
from .dice import SeededDice
from .disk import PowerCut, Store, disk_store, whole_store
from .faults import FAULT_SECONDS, Plan, PlannedFault, plan
from .faulty import Faulty
from .faulty_network import SimulatedNetwork
from .invariants import TORN_APART, Checker, Violation
from .joining import Joining
from .simulated_node import SimulatedNode
from .tap import GETS, SENDS, message_words

if TYPE_CHECKING:
    from ..workflow.execution.inbox import HandedOver

CLIENTS = 4
CLIENT_SECONDS = FAULT_SECONDS + 3.0
LONGEST_HEALED_STEP = 0.4
LIVE_SECONDS = 30.0
"""After everything is healed: within so many virtual seconds all must be well."""
LEAST_SECONDS = 60.0

HistoryItem = tuple[float, NodeId, str, str]
"""When (virtual seconds since the beginning), on which node (0: none), what, and details."""


class Result(msgspec.Struct, frozen=True):
    """What came of one seed."""

    seed: int
    plan: Plan
    without: str | None
    """The rule of the guard that was missing; `hazards.ALL`: all of it."""
    seconds: float
    """Virtual seconds that passed."""
    faults: dict[str, int]
    """Faults that took place, by kind."""
    did: dict[str, int]
    """What else took place, by the names of `final_checks.done`."""
    acknowledged: int
    """Commands that clients were told to be committed, and records of steps and ends that nodes were."""
    runs: int
    leaders: int
    """Terms that had a leader."""
    recovery: float
    """Virtual seconds from the healing (or the clients' end, which is later) until all was well."""
    leader_recovery: float
    """Virtual seconds from the healing until the last time that a node began to act; 0 if the leader stayed."""
    lost_records: int
    torn_records: int
    violations: tuple[Violation, ...]
    history: tuple[HistoryItem, ...]
    digest: str
    """The same for the same history."""


def simulate(
    seed: int,
    *,
    nodes: int | None = None,
    schedule: str | None = None,
    without: str | None = None,
    faults: Sequence[PlannedFault] | None = None,
    planned: Plan | None = None,
    messages: tuple[float, float] | None = None,
) -> Result:
    """Run one seed. Not reentrant; where a loop runs already, as in a notebook's cell, that one stands still meanwhile.

    `without` names a rule of the guard to leave out (`hazards.ALL`: every one). `faults` in place of those of its plan serve to
    run a shrunk schedule, `planned` in place of the whole plan to bring a situation about. Between the `messages` seconds
    (virtual), messages are in the history too; the digest is the same with and without them. Raises `ClusterError` if a
    rule is left out while a cluster runs in this process: it would be left out there as well.
    """
    if without is not None and (running := current_cluster()) is not None:
        raise ClusterError(
            f"cluster {running.name!r} runs in this process, and would be without the guard's rule as well: stop it first"
        )
    if planned is None:
        planned = plan(seed, nodes=nodes, schedule=schedule)
    if faults is not None:
        planned = msgspec.structs.replace(planned, faults=tuple(faults))
    with without_outer_loop():
        return _simulate(seed, planned, without, messages)


def _simulate(seed: int, planned: Plan, without: str | None, messages: tuple[float, float] | None) -> Result:
    loop = VirtualClockLoop()
    with _quiet(), hazards.without(without):
        try:
            simulation = Simulation(loop, seed, planned, without=without, messages=messages)
            workload.current.append(simulation)
            try:
                loop.run_until_complete(simulation.run())
            finally:
                workload.current.pop()
            simulation.end()
            loop.run_until_complete(asyncio.sleep(0.001))
            return simulation.result()
        finally:
            for task in asyncio.all_tasks(loop):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
            loop.close()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What breaks in a simulation is in its report."""
    loggers = [logging.getLogger(f"raftoral_nb.raft.{name}") for name in ("member", "replica")]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled


class Simulation:
    """A cluster under a plan. Is all that its nodes, its clients and its checker need of their surroundings."""

    def __init__(
        self,
        loop: VirtualClockLoop,
        seed: int,
        planned: Plan,
        *,
        without: str | None,
        messages: tuple[float, float] | None = None,
    ) -> None:
        self.loop = loop
        self.seed = seed
        self.plan = planned
        self.without = without
        self._messages = messages
        self.numbers = tuple(range(1, planned.nodes + 1))
        self.nodes: dict[NodeId, SimulatedNode] = {}
        self.lost: frozenset[NodeId] = frozenset()
        self.large = planned.conditions.large
        self.acknowledged = 0
        self.history: list[HistoryItem] = []
        self._began = loop.time()
        conditions = planned.conditions
        self.checker = Checker(lambda: self.elapsed)
        self.network = SimulatedNetwork(
            loop,
            SeededDice(seed, "network"),
            quickest=conditions.quickest,
            slowest=conditions.slowest,
            sent=self._sent,
            note=None if messages is None else self._note_message,
        )
        make_store = disk_store if SeededDice(seed, "store").happens(0.6) else whole_store
        self.stores: dict[NodeId, Store] = {
            number: make_store(number, self.checker, SeededDice(seed, "disk", number)) for number in self.numbers
        }
        dice = SeededDice(seed, "clocks")
        self._rates = {number: 1.0 + conditions.clock_spread * dice.between(-1, 1) for number in self.numbers}
        default = Timing()
        self._timing = Timing(
            heartbeat=conditions.pace * conditions.beat * default.heartbeat,
            election_min=conditions.pace * default.election_min,
            election_max=conditions.pace * default.election_max,
        )
        dice = SeededDice(seed, "compaction")
        # From a snapshot every few entries, in many pieces, to hardly any.
        self._compaction = Compaction(
            log_bytes=round(1000 * 2.0 ** dice.between(0, 7)),
            kept_bytes=round(200 * 2.0 ** dice.between(0, 7)),
            piece_bytes=round(100 * 2.0 ** dice.between(0, 7)),
        )
        self._incarnations = dict.fromkeys(self.numbers, 0)
        self._attempts: dict[str, int] = {}
        self._values = 0
        self.did: Counter[str] = Counter()
        self._done_once: set[str] = set()
        self._client_dice = {client: SeededDice(seed, "choice", client) for client in range(1, CLIENTS + 1)}
        self._client_node: dict[int, NodeId] = {}
        self._recovery = 0.0
        self._healed_at = 0.0
        self._acts_since = 0.0
        self.clients = workload.Clients(self, CLIENTS, CLIENT_SECONDS)
        self.faulty = Faulty(self)
        self.joining = Joining(self)
        self.moved = False
        """Whether the members are others than in the beginning, or were."""
        self._founders = self.numbers
        self._make_store = make_store
        loop.set_exception_handler(self._unhandled)

    # --- the run of things

    @property
    def elapsed(self) -> float:
        """Virtual seconds since the beginning."""
        return self.loop.time() - self._began

    async def run(self) -> None:
        """From the start of the nodes to the end of the checks."""
        for number in self.numbers:
            self.start_node(number)
        self.faulty.schedule(self.plan.faults)
        self.loop.call_at(self._began + FAULT_SECONDS + 1.0, self._heal)
        await self.clients.run()
        healed = max(CLIENT_SECONDS, self.elapsed)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LIVE_SECONDS):
                await self.joining.done()
        living = len(self.numbers) - len(self.lost)
        problem = final_checks.unwell(self.nodes, living)
        while problem is not None and self.elapsed < healed + LIVE_SECONDS:
            await asyncio.sleep(0.25)
            problem = final_checks.unwell(self.nodes, living)
        self._recovery = self.elapsed - healed
        if problem is not None:
            self.checker.violated("all is well after the healing", f"after {LIVE_SECONDS:g} s {problem}", "liveness")
        else:
            before = {number: node.member.acting_term for number, node in self.nodes.items()}
            await asyncio.sleep(max(2.0, LEAST_SECONDS - self.elapsed))
            after = {number: node.member.acting_term for number, node in self.nodes.items()}
            if before != after:
                self.checker.violated("a healthy leader stays", f"the acting terms were {before} and became {after}")
        final_checks.check(self.nodes, self.checker, self.clients)

    def _heal(self) -> None:
        self._healed_at = self.elapsed
        self.faulty.heal()

    def end(self) -> None:
        """Stop every node."""
        for node in list(self.nodes.values()):
            node.end()

    def start_node(self, number: NodeId) -> None:
        """Start a node from what its disk holds."""
        if number in self.nodes or number in self.lost or number not in self.numbers:
            return
        self._incarnations[number] += 1
        node = SimulatedNode(
            number,
            self._founders,
            self._incarnations[number],
            joins=number not in self._founders,
            seed=self.seed,
            loop=self.loop,
            store=self.stores[number],
            timing=self._timing,
            rate=self._rates[number],
            lag=self.plan.conditions.lag,
            host=self,
            guarded=self.without != hazards.ALL,
            step_seconds=self._step_seconds,
            proposal_seconds=self.plan.conditions.patience,
            compaction=self._compaction,
        )
        self.nodes[number] = node
        self.checker.journals[number] = node.journal
        self.note(number, "started", f"incarnation {self._incarnations[number]}, {len(node.journal)} entries")
        node.start(self.network)

    def end_node(self, number: NodeId, why: str) -> None:
        """The node's process is gone."""
        node = self.nodes.pop(number, None)
        if node is not None:
            self.note(number, why, "")
            node.end()

    def new_node(self) -> NodeId:
        """Start a node that is no member yet; returns its number, which nobody had before."""
        number = max(self._incarnations) + 1
        self.moved = True
        self.stores[number] = self._make_store(number, self.checker, SeededDice(self.seed, "disk", number))
        self._rates[number] = 1.0
        self._incarnations[number] = 0
        self.numbers = (*self.numbers, number)
        self.start_node(number)
        return number

    def lose_disk(self, number: NodeId) -> None:
        """A node's process ends, and its disk is gone: nobody of that number ever comes back."""
        self._end_for_good(number)
        self.checker.disk_lost(number)

    def forget(self, number: NodeId) -> None:
        """A node is no member any more."""
        self.note(number, "removed", "")
        self._end_for_good(number)
        self.checker.removed(number)

    def _end_for_good(self, number: NodeId) -> None:
        self.moved = True
        self.numbers = tuple(one for one in self.numbers if one != number)
        self.end_node(number, "lost its disk")

    def note(self, node: NodeId, what: str, details: str) -> None:
        """Add to the history."""
        self.history.append((round(self.elapsed, 6), node, what, details))

    @property
    def acting(self) -> NodeId | None:
        """The node that acts in the highest term."""
        found = [(node.member.acting_term, number) for number, node in self.nodes.items() if node.member.acting_term]
        return max(found)[1] if found else None

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:  # noqa: ARG002
        error = context.get("exception")
        if isinstance(error, PowerCut):
            self.faulty.power_cut(error.node)
            return
        self.checker.violated("nothing is raised that nobody handles", f"{context.get('message')}: {error!r}")

    def result(self) -> Result:
        """What came of it."""
        digest = blake2b(digest_size=16)
        for item in self.history:
            if item[2] not in (SENDS, GETS):
                digest.update(repr(item).encode())
        checker = self.checker
        damage = [store.damage for store in self.stores.values()]
        return Result(
            seed=self.seed,
            plan=self.plan,
            without=self.without,
            seconds=self.elapsed,
            faults=dict(self.faulty.counts),
            did=final_checks.done(checker, self.clients, self.did),
            acknowledged=self.acknowledged + len(checker.records) + len(checker.ended),
            runs=len(checker.ended),
            leaders=checker.leaders,
            recovery=self._recovery,
            leader_recovery=max(0.0, self._acts_since - self._healed_at),
            lost_records=sum(lost for lost, _ in damage),
            torn_records=sum(torn for _, torn in damage),
            violations=tuple(checker.violations),
            history=tuple(self.history),
            digest=digest.hexdigest(),
        )

    def _sent(self, source: NodeId, target: NodeId, message: Message) -> None:
        self.checker.sent(source, target, message, self._incarnations[source])
        if self._messages is not None:
            self._note_message(source, SENDS, f"to node {target}: {message_words(message)}")

    def _note_message(self, node: NodeId, what: str, details: str) -> None:
        if self._messages is not None and self._messages[0] <= self.elapsed <= self._messages[1]:
            self.note(node, what, details)

    # --- from the nodes (node.NodeHost)

    def applied(self, node: SimulatedNode, index: int, applied: Sequence[Applied]) -> None:
        """A node applied an entry."""
        new = index not in self.checker.committed
        self.checker.applied(node, index, applied)
        if new:
            for one in applied:
                id_ = one.proposal.id
                name = "" if id_ is None else f" {id_.client}/{id_.number}"
                self.note(node.number, "committed", f"{index}: {_described(one)}{name}")

    def handed_over(self, node: SimulatedNode, items: Sequence[HandedOver]) -> None:
        """A node's executor was handed records."""
        self.checker.handed_over(node, items)

    def acting_changed(self, node: SimulatedNode, term: int | None) -> None:
        """A node may act, or not any more."""
        self.note(
            node.number, "acts" if term is not None else "acts no more", "" if term is None else f"in term {term}"
        )
        if term is not None:
            self._acts_since = self.elapsed
        self.checker.acting_changed(node, term)

    def told(self, node: SimulatedNode, event: ClusterEvent) -> None:
        """A node published an event."""
        match event:
            case RoleChanged(role=role, term=term):
                self.note(node.number, role, f"term {term}")
                self.checker.role_changed(node, role, term)
            case EffectStarted(run_id=run_id, step_id=step_id):
                self.note(node.number, "effect", f"{run_id} {step_id}")
                self.checker.effect_started(node, event)
            case ExecutionStopped(run_id=run_id, status=status, reason=reason):
                self.note(node.number, status, f"{run_id}: {reason}")
                if status == "superseded":  # a snapshot took the place of what it still had to do
                    return
                self.checker.violated(
                    "no execution differs", f"{run_id!r} on node {node.number} {status}: {reason}", run_id
                )
            case _:
                pass

    def broke(self, node: SimulatedNode, error: BaseException | None) -> None:
        """A node's replica broke."""
        torn_apart = isinstance(error, pickle.UnpicklingError | EOFError)
        invariant = TORN_APART if torn_apart else "no replica breaks"
        self.checker.violated(invariant, f"node {node.number}: {error!r}", node.number)
        self.loop.call_soon(self.end_node, node.number, "broke")

    def state_replaced(self, node: SimulatedNode) -> None:
        """A node read a snapshot, its own or another's."""
        self.note(node.number, "snapshot", f"read up to {node.member.state.index}")
        self.checker.installed(node)
        # A log that has nothing but what stands for a snapshot was replaced by another node's.
        self.did[final_checks.INSTALLED] += len(node.journal) == 1 and not node.journal[0][0]

    # --- from the clients (workload.World)

    def node_for(self, client: int) -> SimulatedNode | None:
        """Mostly the node that the client asked last."""
        able = [number for number, node in self.nodes.items() if not node.member.paused]
        if not able:
            return None
        dice = self._client_dice[client]
        number = self._client_node.get(client)
        if number not in able or dice.happens(0.2):
            number = self._client_node[client] = dice.pick(sorted(able))
        return self.nodes[number]

    def answered(self, client: int, node: NodeId, what: str, outcome: Outcome, took: float, limit: float) -> None:
        """A client was told what became of a command, `took` seconds (of the node's clock) after it asked."""
        if isinstance(outcome, Committed):
            self.acknowledged += 1
            self.checker.acknowledged(self.nodes.get(node), what, outcome.index)
            self.note(node, "answered", f"client {client}: {what}: committed at {outcome.index}")
        else:
            self.note(node, "answered", f"client {client}: {what}: {type(outcome).__name__} {outcome.reason}")
        if took > limit + 0.01:
            self.checker.violated("proposals end by their deadline", f"{what} took {took:.3f} s of {limit:g}")

    # --- from the steps (workload.Effects)

    def new_value(self, what: str) -> int:
        """A number that no other effect got."""
        if what.endswith(language.ONCE):
            if what in self._done_once:
                self.checker.violated("at most once", f"the effect {what!r} was there twice", what)
            self._done_once.add(what)
        self._values += 1
        return self._values

    def seconds(self, what: str) -> float:
        """How long an asynchronous step takes at this attempt."""
        attempt = self._attempts[what] = self._attempts.get(what, 0) + 1
        seconds = workload.effect_seconds(self.seed, what, attempt)
        self.did[final_checks.HUNG] += seconds >= workload.HANGS and not self._healed_at
        # When all is healed no step hangs any more: what recovery takes then is the engine's own.
        return min(seconds, LONGEST_HEALED_STEP) if self._healed_at else seconds

    def _step_seconds(self, node: NodeId, name: str) -> float:  # noqa: ARG002
        return self.seconds(name)


def _described(one: Applied) -> str:
    command = one.proposal.command
    name = type(command).__name__
    answer = "" if isinstance(one.answer, Committed) else f" ({one.answer.code})"
    for field in ("term", "run_id"):
        if hasattr(command, field):
            name += f" {getattr(command, field)}"
    step = getattr(command, "step", None)
    if step is not None:
        name += f" {step.step_id}"
    found = getattr(command, "definition", None)
    if found is not None:
        name += f" {found.workflow}={found.fingerprint}"
    return name + answer
