"""A `Cluster` that runs on a virtual clock, without threads or sockets: for tests."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from ..api import running_clusters
from ..api.cluster import Cluster
from ..api.cluster_life import StopReport
from ..core.apply import Applied
from ..core.cluster_events import NodeChanged
from ..core.commands import Command, Outcome
from ..core.events import CheckpointSet, ClusterEvent, StateEvent, TimerFired
from ..core.records import NodeId, RunId, Step
from ..errors import StalledError
from ..hosts.asks import Answer
from ..hosts.backend_parts import RunEnding
from ..hosts.local import LocalBackend
from ..hosts.variable_waits import LookedAt
from ..node.incarnation import Incarnation
from ..raft.replica import Timing
from ..simulation.clock_view import ClockView
from ..simulation.dice import SeededDice
from ..threads.step_threads import InlineSteps
from .virtual import VirtualThread, VirtualTime

PROPOSAL_SECONDS: Final = 30.0
DEFAULT_START: Final = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
"""The time of the workflows' clock when a test begins."""


class StepPlan(Protocol):
    """The plan of a test for certain steps."""

    def about_to_record(self, node: NodeId, command: Command) -> bool:
        """Tell whether the node that would have a command recorded is to be killed before it is."""
        ...

    def recorded(self, node: NodeId | None, event: StateEvent) -> bool:
        """Note that something was recorded; True if `node`, which did it, is to be killed before it continues."""
        ...

    def function(self, run_id: RunId, step_id: str, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Return what to run in place of a step's function."""
        ...

    def told(self, event: ClusterEvent) -> None:
        """Note that something happened."""
        ...


class VirtualIncarnation(Incarnation):
    """A node's incarnation on the virtual clock; a plan may have it killed at a step."""

    plan: StepPlan
    world: VirtualTime
    die: Callable[[NodeId], None]

    def propose(self, command: Command, timeout: float, done: Callable[[Outcome], None]) -> None:
        """Propose as a node does, unless it is killed just before."""
        if self.plan.about_to_record(self.node, command):
            self.die(self.node)
            return
        super().propose(command, timeout, done)

    def arm(self, seconds: float, callback: Callable[[], None]) -> None:
        """Set it on the workflows' clock: consensus's clocks stand still now and then."""
        self.world.loop.call_later(seconds, callback)


class VirtualBackend(LocalBackend):
    """The backend on a virtual clock. Waiting for anything here is what lets time pass."""

    plan: StepPlan

    def __init__(self, name: str, numbers: Sequence[NodeId], *, timing: Timing, **options: Any) -> None:
        self.world = VirtualTime(self._at_rest, self._rest, self._wake)
        options["network"] = "memory"
        super().__init__(name, numbers, timing=timing, **options)
        self.started_at = DEFAULT_START
        self._clocks: dict[NodeId, ClockView] = {}
        self._to_restart: list[NodeId] = []
        self.user_code_waits = False
        """True if workflows stand still until somebody waits for what they do."""

    def begin(self, plan: StepPlan, seed: object, started_at: dt.datetime) -> None:
        """Set what the test chose, before the nodes start."""
        self.plan = plan
        self._dice = SeededDice(seed, "elections")
        self.started_at = started_at

    def _make_thread(self) -> VirtualThread:
        return VirtualThread("consensus", self.world, wakes=True)

    _make_incarnation = VirtualIncarnation

    def _surroundings(self, number: NodeId) -> dict[str, Any]:
        loop = self.world.loop
        clock = self._clocks[number] = ClockView(loop)
        return {
            "loop": clock.as_loop(),
            "thread": VirtualThread(f"node-{number}", self.world),
            "steps": InlineSteps(),
            "clock": loop.time,
            "wall_clock": self.wall_clock,
            "proposal_seconds": PROPOSAL_SECONDS,
        }

    def _incarnate(self, number: NodeId, count: int) -> Incarnation:
        incarnation = super()._incarnate(number, count)
        assert isinstance(incarnation, VirtualIncarnation)
        incarnation.plan, incarnation.world, incarnation.die = self.plan, self.world, self.die_soon
        incarnation.executor.replace_function = self.plan.function
        incarnation.executor.binds = False  # its nodes have no labels, and steps that name one are to run
        if self.user_code_waits:
            incarnation.executor.close_gate("test")
        return incarnation

    def end(self, left: Callable[[], float], *, leave: bool = False) -> list[str]:
        """Do as any backend does, and end the clock."""
        stuck = super().end(left, leave=leave)
        self.world.close()
        return stuck

    def files_needed(self, count: int, *, stored: bool) -> int:  # noqa: ARG002
        """None: all of it is in memory, on one loop."""
        return 0

    def wall_clock(self) -> float:
        """Return what the workflows' clock shows (Unix seconds)."""
        return self.started_at.timestamp() + self.world.loop.time()

    # --- when workflows run

    def let_workflows_wait(self) -> None:
        """Stop all workflows until `let_workflows_go_on`."""
        self.user_code_waits = True
        for incarnation in self._incarnations.values():
            incarnation.executor.close_gate("test")

    def let_workflows_go_on(self) -> None:
        """End `let_workflows_wait`."""
        self.user_code_waits = False
        for incarnation in self._incarnations.values():
            incarnation.executor.open_gate("test")

    def run(self, wait: Callable[[], Any], timeout: float | None = None) -> Any:
        """Let time pass until the coroutine of `wait()` has ended; workflows run meanwhile."""
        self.let_workflows_go_on()
        return self.thread.run(wait, timeout=timeout)

    def when_ended(self, run_id: RunId, callback: Callable[[RunEnding], None]) -> Callable[[], None]:
        """Do as any backend does; and as the caller would wait, let time pass until the run has ended."""
        if self.world.loop.is_closed():
            return super().when_ended(run_id, callback)

        async def ended() -> RunEnding:
            future: asyncio.Future[RunEnding] = self.world.loop.create_future()

            def end(ending: RunEnding) -> None:
                if not future.done():
                    future.set_result(ending)

            forget = LocalBackend.when_ended(self, run_id, end)
            try:
                return await future
            finally:
                forget()

        callback(self._waited(run_id, ended))
        return _nothing

    def when_answered(
        self, run_id: RunId, update_id: str, callback: Callable[[Step | RunEnding], None]
    ) -> Callable[[], None]:
        """Do as any backend does; and as the caller would wait, let time pass until it is so."""
        if self.world.loop.is_closed():
            return super().when_answered(run_id, update_id, callback)

        async def answered() -> Step | RunEnding:
            future: asyncio.Future[Step | RunEnding] = self.world.loop.create_future()

            def end(answer: Step | RunEnding) -> None:
                if not future.done():
                    future.set_result(answer)

            forget = LocalBackend.when_answered(self, run_id, update_id, end)
            try:
                return await future
            finally:
                forget()

        callback(self._waited(run_id, answered))
        return _nothing

    def when_set(
        self, run_id: RunId, variable: str, place: LookedAt, callback: Callable[[RunEnding | None], None]
    ) -> Callable[[], None]:
        """Do as any backend does; and as the caller would wait, let time pass until it is so."""
        if self.world.loop.is_closed():
            return super().when_set(run_id, variable, place, callback)

        async def is_set() -> RunEnding | None:
            future: asyncio.Future[RunEnding | None] = self.world.loop.create_future()

            def end(ending: RunEnding | None) -> None:
                if not future.done():
                    future.set_result(ending)

            forget = LocalBackend.when_set(self, run_id, variable, place, end)
            try:
                return await future
            finally:
                forget()

        callback(self._waited(run_id, is_set))
        return _nothing

    def when_decided(self, asked: Sequence[tuple[Command, str]], callback: Callable[[list[Answer]], None]) -> None:
        """Do as any backend does; and as the caller would wait, let time pass until it is so."""

        async def decided() -> list[Answer]:
            outcomes = await self.on_ask_all([command for command, _ in asked])
            waited = self.world.loop.time() - began
            return [self.answer(outcome, what, waited) for outcome, (_, what) in zip(outcomes, asked, strict=True)]

        began = self.world.loop.time()
        callback(self.thread.run(decided) if asked else [])

    def _waited(self, run_id: RunId, ended: Callable[[], Any]) -> Any:
        try:
            ending = self.run(ended)
        except StalledError as error:
            return StalledError(f"run {run_id!r} cannot end: {error}")
        return ending

    # --- faults

    async def on_ask_all(self, commands: Sequence[Command]) -> list[Outcome]:
        """Do as any backend does, unless the leader is to die before what is asked for from outside is recorded: then it dies first."""
        leader = self.leader
        dies = [self.plan.about_to_record(leader, command) for command in commands] if leader is not None else []
        if leader is not None and any(dies):
            self.die_soon(leader)
            await asyncio.sleep(0)
        return await super().on_ask_all(commands)

    def die_soon(self, number: NodeId) -> None:
        """Kill a node, not inside of what it is doing but as soon as that is over."""
        incarnation = self._incarnations.get(number)

        def die() -> None:
            if incarnation is not None and self._incarnations.get(number) is incarnation:
                self.on_retire(number)
                self.tell(NodeChanged(number, "killed"))
                incarnation.join(0.0)
                self.world.wake()

        self.world.loop.call_soon(die)

    def restart_when_led(self, number: NodeId) -> None:
        """Start a node that is about to die again, as soon as another node acts."""
        self._to_restart.append(number)

    def acting_changed(self, node: NodeId, term: int | None) -> None:
        """Do as any backend does, and restart the nodes that were to come back then."""
        super().acting_changed(node, term)
        if term is not None:
            for number in self._to_restart:
                if number != node:
                    self._to_restart.remove(number)
                    self.thread.post(self._restart, number)

    def _restart(self, number: NodeId) -> None:
        if number not in self._incarnations:
            self.world.loop.create_task(self.on_boot(number))

    def entry_applied(self, index: int, applied: Sequence[Applied]) -> None:
        """Do as any backend does, then kill the node that is to die at this record."""
        new = index > self._told_index
        super().entry_applied(index, applied)
        if new:
            for one in applied:
                for event in one.events:
                    node = self._recorder(event)
                    if self.plan.recorded(node, event) and node is not None:
                        self.die_soon(node)

    def _recorder(self, event: StateEvent) -> NodeId | None:
        """Return the node that had something recorded; what was asked for from outside, the leader had."""
        match event:
            case CheckpointSet(step=step):
                return step.node
            case TimerFired(timers=timers):
                return timers.node
            case _:
                return self.leader

    def tell(self, event: ClusterEvent) -> None:
        """Tell it as any backend does, and to the test."""
        super().tell(event)
        self.plan.told(event)

    def on_retire(self, number: NodeId) -> bool:
        """Do as any backend does, and let the clocks run, for the nodes that have to notice."""
        self._clocks.pop(number, None)
        self.world.wake()
        return super().on_retire(number)

    # --- the clocks of consensus (virtual.World)

    def _at_rest(self) -> bool:
        leader = self.leader
        if leader is None:
            return False
        awake = [one for one in self._incarnations.values() if not one.member.paused]
        for one in awake:
            raft = one.member.replica.raft
            if not one.member.settled or one._handing_over or raft.leader != leader:
                return False
        last = max(one.member.replica.raft.applied_index for one in awake)
        level = [one for one in awake if one.member.replica.raft.applied_index == last]
        return len(level) == len(awake) and 2 * len(level) > len(self.numbers)

    def _rest(self) -> None:
        for clock in self._clocks.values():
            clock.stop()

    def _wake(self) -> None:
        for clock in self._clocks.values():
            clock.go_on()


class VirtualCluster(Cluster):
    """A cluster in memory on a virtual clock: all that a `Cluster` can do, without threads, in no time, and repeatable.

    Time passes only while a call waits. Times given to its methods are virtual seconds.
    """

    _make_host = VirtualBackend

    def start(self) -> VirtualCluster:
        """Start all nodes and wait until one of them acts as leader."""
        self._registry.executors = None  # steps run inline, whatever executor they name
        super().start()
        running_clusters.stopped(self)  # nobody means a test's cluster when none is named
        return self

    def stop(self) -> StopReport:
        """Stop everything, as a `Cluster` does; also the clock of one that was never started."""
        report = super().stop()
        self.host.world.close()
        return report

    @property
    def host(self) -> VirtualBackend:
        """The backend, which is on the virtual clock."""
        assert isinstance(self._host, VirtualBackend)
        return self._host


def _nothing() -> None:
    pass
