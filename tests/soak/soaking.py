"""A real cluster over TCP under load and faults, watched by the checks of the simulation.

The simulation's own checker, clients and final checks are used. What is real here: sockets, threads, time. The checker is
called from several threads, so every call holds one lock; entries are accounted for on the consensus thread before they
are handed over to a node's thread, so no check can see a record too early.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from raftoral_nb import (
    Cluster,
    NodeStateError,
    NonDeterminismError,
    NotAcknowledgedError,
    RunNotFoundError,
    WorkflowFailedError,
)
from raftoral_nb.core.apply import Applied
from raftoral_nb.core.cluster_events import EffectStarted, ExecutionStopped, RoleChanged
from raftoral_nb.core.commands import Committed, Outcome
from raftoral_nb.core.events import ClusterEvent
from raftoral_nb.core.records import NodeId
from raftoral_nb.core.state import State
from raftoral_nb.hosts import local as host_module
from raftoral_nb.limits import MAX_NODES
from raftoral_nb.node.incarnation import Incarnation
from raftoral_nb.raft.compaction import Compaction
from raftoral_nb.raft.journal import Journals, MemoryJournal
from raftoral_nb.simulation import effects, final_checks, workload
from raftoral_nb.simulation.disk import WholeJournal
from raftoral_nb.simulation.effects import LABEL
from raftoral_nb.simulation.invariants import Checker
from raftoral_nb.workflow.execution.inbox import HandedOver
from raftoral_nb.workflow.language.context import WorkflowContext
from tests.cluster.helpers import engine, in_thread
from tests.soak.breaking import Faults

CLIENTS = 12
"""Of the simulation's clients: they register, start and wait at any node, and what they saw must be linearizable."""

WORKERS = 2
"""Threads that start workflows through the public API, one after the other, and wait for their results."""

STEPS = 60
"""Of a workflow that a worker starts."""

LIVE_SECONDS = 60.0
"""After everything is healed: the test gives up when by then not all is well."""

SMALL = Compaction(log_bytes=64 * 1024, kept_bytes=16 * 1024)
"""So that nodes that were away sometimes need a snapshot."""


class Report(msgspec.Struct, frozen=True):
    """What came of one soak."""

    seed: int
    nodes: int
    seconds: float
    acknowledged: int
    runs: int
    leaders: int
    snapshots: int
    faults: Mapping[str, int]
    without_leader: float
    """The longest time (s) that no node acted, while a majority was up."""
    problems: tuple[str, ...]

    def __str__(self) -> str:
        faults = ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        return (
            f"{self.nodes} nodes for {self.seconds:.0f} s (seed {self.seed}): {self.acknowledged:,} commands acknowledged, "
            f"{self.runs} runs, {self.leaders} terms with a leader, {self.snapshots} snapshots installed; "
            f"{sum(self.faults.values())} faults ({faults}); longest time without a leader {self.without_leader:.3f} s"
        )


async def sum_up(ctx: WorkflowContext, start: int) -> int:
    """A workflow of small steps."""
    total = 0
    for number in range(start, start + STEPS):
        total += await ctx.compute("square", square, number)
    return total


async def square(number: int) -> int:
    await asyncio.sleep(0.003)
    return number * number


class Watched:
    """An incarnation as the simulation's checks know nodes (`simulation.watched.WatchedNode`)."""

    def __init__(self, incarnation: Incarnation, journal: MemoryJournal, clock: asyncio.AbstractEventLoop) -> None:
        self.records_handed_over = 0
        self.number = incarnation.node
        self.incarnation = incarnation
        self.member = incarnation.member
        self.executor = incarnation.executor
        self.journal = journal
        self.clock = clock

    @property
    def main(self) -> asyncio.Task[None] | None:
        return getattr(self.incarnation, "_main", None)


class WatchedJournals(Journals):
    """Journals that tell the checker what they do."""

    def __init__(self, checker: Checker) -> None:
        super().__init__()
        self._checker = checker

    def of(self, node: NodeId) -> MemoryJournal:
        journal = self._checker.journals.get(node)
        if journal is None:
            journal = self._checker.journals[node] = WholeJournal(node, self._checker)
        return journal


class Soak:
    """One cluster, its load, its faults and its checks. Is what the clients need of their surroundings (`workload.World`)."""

    def __init__(self, seed: int, nodes: int, seconds: float) -> None:
        self.seed = seed
        self.acknowledged = 0
        self.lock = threading.RLock()
        self.snapshots = 0
        self.large = 0.0
        self._seconds = seconds
        self._began = time.monotonic()
        self.checker = Checker(lambda: self.elapsed, virtual=False)
        # Every other seed has owners of runs; some steps name a label, which all nodes have.
        labels = {number: [LABEL] for number in range(1, MAX_NODES + 1)}
        spread = self.takes_runs = seed % 2 == 0
        self.cluster = Cluster(nodes, proposal_timeout=5.0, compaction=SMALL, spread_runs=spread, labels=labels)
        self.host = engine(self.cluster)
        self.host.journals = WatchedJournals(self.checker)
        self._choice = random.Random(f"{seed} choice")
        self._asked: dict[int, NodeId] = {}
        self._values = itertools.count(1)
        self._done_once: set[str] = set()
        self._attempts: Counter[str] = Counter()
        self._saved: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._no_leader_since: float | None = None
        self._without_leader = 0.0
        self._majority_lost = True
        self.clients = workload.Clients(self, CLIENTS, seconds)

    # --- the run of things

    def run(self) -> Report:
        """Start, load, break, heal, check."""
        with self._watching():
            with self.cluster:
                self.host.thread.call(self._begin)
                loads = [in_thread(self._clients), *(in_thread(self._worker(number)) for number in range(WORKERS))]
                faults = Faults(self, random.Random(f"{self.seed} faults"))
                faults.cause(self._seconds)
                self.host.thread.call(self._set_majority_lost, True)
                for load in loads:
                    load()
                self._settle()
                self.host.thread.call(final_checks.check, self.nodes, self.checker, self.clients)
            with self.lock:
                return Report(
                    seed=self.seed,
                    nodes=len(self.cluster.nodes),
                    seconds=self.elapsed,
                    acknowledged=self.acknowledged + len(self.checker.records) + len(self.checker.ended),
                    runs=len(self.checker.ended),
                    leaders=self.checker.leaders,
                    snapshots=self.snapshots,
                    faults=dict(faults.counts),
                    without_leader=self._without_leader,
                    problems=tuple(map(str, self.checker.violations)),
                )

    @contextlib.contextmanager
    def _watching(self) -> Iterator[None]:
        effects.current.append(self)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(host_module.LocalBackend, "_make_incarnation", watched_by(self))
            try:
                yield
            finally:
                effects.current.pop()

    def _begin(self) -> None:
        self._set_majority_lost(False)

        def unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            self.violated(
                "nothing is raised that nobody handles", f"{context['message']}: {context.get('exception')!r}"
            )

        asyncio.get_running_loop().set_exception_handler(unhandled)

    def _clients(self) -> None:
        self.host.thread.run(self.clients.run)

    def _worker(self, worker: int) -> Callable[[], None]:
        def work() -> None:
            for number in itertools.count():
                if self.elapsed >= self._seconds:
                    return
                start, run_id = 1000 * worker + number, f"worker-{worker}-{number}"
                while True:
                    try:
                        run = self.cluster.start_workflow(sum_up, start, run_id=run_id)
                        break
                    except NotAcknowledgedError:
                        continue  # the same start again: it may have been recorded, and counts once
                result = run.wait_for_completion(LIVE_SECONDS)
                expected = sum(value * value for value in range(start, start + STEPS))
                if result != expected:
                    self.violated("runs end with their result", f"{run_id}: {result} in place of {expected}")

        return work

    def _settle(self) -> None:
        """Wait until all is well: every run ended, on every node, and all nodes level under one leader."""
        for run in self.cluster.runs():
            with contextlib.suppress(WorkflowFailedError):  # as planned, and the same on every node, which is checked
                run.wait_for_completion(LIVE_SECONDS)
            for number, node in self.cluster.nodes.items():
                try:
                    node.result(run.run_id, LIVE_SECONDS)
                except (WorkflowFailedError, RunNotFoundError):
                    pass  # as planned; or evicted meanwhile, as few are kept
                except (NonDeterminismError, NodeStateError) as error:
                    self.violated("no execution differs", f"{run.run_id} on node {number}: {error}")
        try:
            self.host.thread.run(self._until_well, timeout=LIVE_SECONDS)
        except TimeoutError:
            problem = self.host.thread.call(final_checks.unwell, self.nodes, len(self.cluster.nodes))
            self.violated("all is well after the healing", f"after {LIVE_SECONDS:g} s {problem}")

    async def _until_well(self) -> None:
        while final_checks.unwell(self.nodes, len(self.cluster.nodes)) is not None:
            self._changed.clear()
            await self._changed.wait()

    def violated(self, invariant: str, text: str) -> None:
        with self.lock:
            self.checker.violated(invariant, text)

    # --- leadership, on the consensus loop

    def look(self) -> None:
        """Something changed."""
        self._changed.set()
        now = time.monotonic()
        if self._no_leader_since is not None and not self._majority_lost:
            self._without_leader = max(self._without_leader, now - self._no_leader_since)
        if self.host.leader is not None or self._majority_lost:
            self._no_leader_since = None
        elif self._no_leader_since is None:
            self._no_leader_since = now

    def _set_majority_lost(self, lost: bool) -> None:
        """While a majority is gone nobody can lead, and the time does not count; what came before does."""
        self.look()
        self._majority_lost = lost
        self._no_leader_since = None
        self.look()

    @contextlib.contextmanager
    def majority_lost(self) -> Iterator[None]:
        """While a majority is gone nobody can lead, and the time does not count."""
        self.host.thread.call(self._set_majority_lost, True)
        yield
        self.host.thread.call(self._set_majority_lost, False)

    # --- what clients need (workload.World, effects.Effects)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    @property
    def nodes(self) -> Mapping[NodeId, Watched]:
        living = self.host._incarnations.items()
        return {number: one.watched for number, one in living}  # type: ignore[attr-defined]

    def node_for(self, client: int) -> Watched | None:
        able = [number for number, node in self.nodes.items() if not node.member.paused]
        if not able:
            return None
        number = self._asked.get(client)
        if number not in able or self._choice.random() < 0.2:
            number = self._asked[client] = self._choice.choice(sorted(able))
        return self.nodes[number]

    def answered(self, client: int, node: NodeId, what: str, outcome: Outcome, took: float, limit: float) -> None:
        if isinstance(outcome, Committed):
            self.acknowledged += 1
            with self.lock:
                self.checker.acknowledged(self.nodes.get(node), what, outcome.index)

    def new_value(self, what: str) -> int:
        if what.endswith(effects.ONCE):
            with self.lock:
                if what in self._done_once:
                    self.checker.violated("at most once", f"the effect {what!r} was there twice", what)
                self._done_once.add(what)
        return next(self._values)

    def seconds(self, what: str) -> float:
        self._attempts[what] += 1
        return 0.2 * effects.effect_seconds(self.seed, what, self._attempts[what])

    def continued(self, what: str, piece: int) -> None:
        with self.lock:
            if piece < self._saved[what]:
                self.checker.violated(effects.CONTINUES, f"{what!r} begins at {piece}, not {self._saved[what]}", what)

    def saved(self, what: str, piece: int) -> None:
        with self.lock:
            self._saved[what] = max(piece, self._saved[what])


def watched_by(soak: Soak) -> type[Incarnation]:
    """The engine's class of incarnations, which tells the checker everything before it goes on."""
    checker, lock = soak.checker, soak.lock

    class WatchedIncarnation(Incarnation):
        def __init__(self, *args: Any, **named: Any) -> None:
            super().__init__(*args, **named)
            self.watched = Watched(self, named["journal"], named["loop"])
            hand_over = self.executor.hand_over

            def handed_over(items: Sequence[HandedOver]) -> None:
                with lock:
                    checker.handed_over(self.watched, items)
                hand_over(items)

            self.executor.hand_over = handed_over  # type: ignore[method-assign]

        def applied(self, index: int, applied: Sequence[Applied]) -> None:
            with lock:
                checker.applied(self.watched, index, applied)
            super().applied(index, applied)
            soak.look()

        def state_replaced(self, old: State, new: State) -> None:
            with lock:
                checker.installed(self.watched)
            soak.snapshots += old.index > 0
            super().state_replaced(old, new)

        def acting_changed(self, term: int | None) -> None:
            with lock:
                checker.acting_changed(self.watched, term)
            super().acting_changed(term)
            soak.look()

        def pause(self) -> None:
            super().pause()
            soak.look()

        def resume(self) -> None:
            super().resume()
            soak.look()

        def failed(self, error: BaseException) -> None:
            soak.violated("no replica breaks", f"node {self.node}: {error}")
            super().failed(error)

        def tell(self, event: ClusterEvent) -> None:
            self._told(event)
            super().tell(event)

        def role_changed(self, role: Any, term: int) -> None:
            self._told(RoleChanged(self.node, role, term))
            super().role_changed(role, term)

        def _told(self, event: ClusterEvent) -> None:
            with lock:
                match event:
                    case RoleChanged(role=role, term=term):
                        checker.role_changed(self.watched, role, term)
                    case EffectStarted():
                        checker.effect_started(self.watched, event)
                    case ExecutionStopped(status="superseded"):
                        pass  # the run was moved to changed code, or a snapshot has what it still had to do
                    case ExecutionStopped(run_id=run_id, status=status, reason=reason):
                        what = f"{run_id!r} on node {self.node} {status}: {reason}"
                        checker.violated("no execution differs", what, run_id)
                    case _:
                        pass

    return WatchedIncarnation
