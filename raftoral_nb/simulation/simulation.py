"""One simulation: a cluster of real nodes on a virtual clock, clients, faults, and the checks, all decided by a seed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from .. import limits
from ..api.running_clusters import current_cluster
from ..core.commands import Committed, Outcome
from ..core.records import NodeId
from ..errors import ClusterError
from ..raft import blob_pieces
from ..virtual_time.clock import VirtualClockLoop
from ..virtual_time.nested_loop import without_outer_loop
from . import effects, final_checks, hazards
from .dice import SeededDice
from .disk import PowerCut
from .effects import SeededEffects
from .faults import FAULT_SECONDS, Plan, PlannedFault, plan
from .faulty import Faulty
from .joining import Joining
from .paths import Paths
from .result import Result
from .setting import Setting
from .simulated_node import SimulatedNode
from .simulated_nodes import SimulatedNodes
from .witness import Witness
from .workload import Clients

CLIENTS = 4
CLIENT_SECONDS = FAULT_SECONDS + 3.0
LIVE_SECONDS = 30.0
"""The virtual seconds after the healing within which all must be well."""
LEAST_SECONDS = 60.0
PIECE_BYTES = 2000
"""Bytes of a blob in one message, where many values are blobs: few, and not so few that the largest of them take too long."""


def simulate(
    seed: int,
    *,
    nodes: int | None = None,
    schedule: str | None = None,
    without: str | None = None,
    faults: Sequence[PlannedFault] | None = None,
    planned: Plan | None = None,
    messages: tuple[float, float] | None = None,
    paths: Paths | None = None,
) -> Result:
    """Run one seed. Not reentrant; where a loop runs already, as in a notebook's cell, that one stands still meanwhile.

    `without` names a rule of the guard to leave out (`hazards.ALL`: every one). `faults` in place of those of its plan serve to
    run a shrunk schedule, `planned` in place of the whole plan to bring a situation about. Between the `messages` seconds
    (virtual), messages are in the history too; the digest is the same with and without them. `paths` is the way that messages take through
    a replica, in place of what the seed decides. Raises `ClusterError` if a
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
        return _simulate(Setting.of(seed, planned, without=without, paths=paths), messages)


def _simulate(setting: Setting, messages: tuple[float, float] | None) -> Result:
    loop = VirtualClockLoop()
    with _quiet(), hazards.without(setting.without), _blobs(setting.blob_bytes):
        try:
            simulation = Simulation(loop, setting, messages)
            effects.current.append(simulation.effects)
            try:
                loop.run_until_complete(simulation.run())
            finally:
                effects.current.pop()
            simulation.end()
            loop.run_until_complete(asyncio.sleep(0.001))
            return simulation.result()
        finally:
            for task in asyncio.all_tasks(loop):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
            loop.close()


@contextlib.contextmanager
def _blobs(size: int) -> Iterator[None]:
    """Let values of more than `size` bytes be blobs, and if that is few, let them travel in small pieces."""
    before = limits.BLOB_BYTES, blob_pieces.PIECE_BYTES
    few = size < before[0]
    limits.BLOB_BYTES, blob_pieces.PIECE_BYTES = size, PIECE_BYTES if few else before[1]  # type: ignore[misc]
    try:
        yield
    finally:
        limits.BLOB_BYTES, blob_pieces.PIECE_BYTES = before  # type: ignore[misc]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the loggers: what breaks in a simulation is in its report."""
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
    """A setting, the nodes in it, and the witness of what they do; and what befalls them. A `workload.World` for its clients."""

    def __init__(self, loop: VirtualClockLoop, setting: Setting, messages: tuple[float, float] | None) -> None:
        self._setting = setting
        self._witness = Witness(loop, lambda number: self._nodes.end(number, "broke"), messages)
        self.seed = setting.seed
        self.large = setting.plan.conditions.large
        self.takes_runs = setting.takes_runs
        self.checker = self._witness.checker
        self.effects = SeededEffects(setting.seed, self.checker)
        self._loop = loop
        self._nodes = SimulatedNodes(loop, setting, self._witness, self.effects)
        self._clients = Clients(self, CLIENTS, CLIENT_SECONDS)
        self._client_dice = {client: SeededDice(self.seed, "choice", client) for client in range(1, CLIENTS + 1)}
        self._client_node: dict[int, NodeId] = {}
        self._joining = Joining(self._nodes, self.checker)
        self._faulty = Faulty(self._nodes, self._joining, self._witness.note, self._clients.send)
        self._healed_at = 0.0
        self._recovery = 0.0
        loop.set_exception_handler(self._unhandled)

    async def run(self) -> None:
        """Run from the start of the nodes to the end of the checks."""
        for number in self._setting.founders:
            self._nodes.start(number)
        self._faulty.schedule(self._setting.plan.faults)
        self._loop.call_at(self._witness.began + FAULT_SECONDS + 1.0, self._heal)
        await self._clients.run()
        healed = max(CLIENT_SECONDS, self.elapsed)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LIVE_SECONDS):
                await self._joining.done()
        living = len(self._nodes.numbers) - len(self._nodes.lost)
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
        final_checks.check(self.nodes, self.checker, self._clients)

    def _heal(self) -> None:
        self._healed_at = self.elapsed
        self.effects.healed = True
        self._faulty.heal(self._setting.plan.lost)

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:  # noqa: ARG002
        error = context.get("exception")
        if isinstance(error, PowerCut):
            self._faulty.power_cut(error.node)
            return
        self.checker.violated("nothing is raised that nobody handles", f"{context.get('message')}: {error!r}")

    def end(self) -> None:
        """Stop every node."""
        self._nodes.end_all()

    def result(self) -> Result:
        """Return what came of it."""
        witness, checker = self._witness, self.checker
        damage = [store.damage for store in self._nodes.stores.values()]
        noted = {final_checks.HUNG: self.effects.hung, final_checks.INSTALLED: witness.installed}
        return Result(
            seed=self.seed,
            plan=self._setting.plan,
            without=self._setting.without,
            paths=self._setting.paths,
            seconds=self.elapsed,
            faults=dict(self._faulty.counts),
            did=final_checks.done(checker, self._clients, noted),
            acknowledged=witness.acknowledged + len(checker.records) + len(checker.ended),
            runs=len(checker.ended),
            leaders=checker.leaders,
            recovery=self._recovery,
            leader_recovery=max(0.0, witness.acts_since - self._healed_at),
            lost_records=sum(lost for lost, _ in damage),
            torn_records=sum(torn for _, torn in damage),
            violations=tuple(checker.violations),
            history=tuple(witness.history),
            digest=witness.digest(),
        )

    # --- from the clients (workload.World)

    @property
    def elapsed(self) -> float:
        """Virtual seconds since the beginning."""
        return self._witness.elapsed

    @property
    def nodes(self) -> Mapping[NodeId, SimulatedNode]:
        """The living nodes."""
        return self._nodes.living

    def node_for(self, client: int) -> SimulatedNode | None:
        """Return a node to ask: mostly the one that the client asked last."""
        able = [number for number, node in self.nodes.items() if not node.member.paused]
        if not able:
            return None
        dice = self._client_dice[client]
        number = self._client_node.get(client)
        if number not in able or dice.happens(0.2):
            number = self._client_node[client] = dice.pick(sorted(able))
        return self.nodes[number]

    def answered(self, client: int, node: NodeId, what: str, outcome: Outcome, took: float, limit: float) -> None:
        """Note that a client was told what became of a command, `took` seconds (of the node's clock) after it asked."""
        if isinstance(outcome, Committed):
            self.checker.acknowledged(self.nodes.get(node), what, outcome.index)
        self._witness.answered(client, node, what, outcome)
        if took > limit + 0.01:
            self.checker.violated("proposals end by their deadline", f"{what} took {took:.3f} s of {limit:g}")
