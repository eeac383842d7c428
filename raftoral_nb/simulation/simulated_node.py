"""A simulated node: the engine's own incarnation (member and executor) with a thread, steps and a clock made of events."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, TypeVarTuple, Unpack

import anyio

from ..core.apply import Applied
from ..core.cluster_events import OutputLine
from ..core.events import ClusterEvent
from ..core.records import NodeId, Record
from ..errors import ClusterError
from ..node.incarnation import Incarnation
from ..raft.compaction import Compaction
from ..raft.replica import Timing
from ..threads.loop_thread import LoopThread
from ..threads.step_tasks import StepTasks
from ..transport.network import Network
from .clock_view import ClockView
from .dice import SeededDice, chance_of
from .disk import Store
from .paths import Paths, choice

if TYPE_CHECKING:
    from ..workflow.execution.execution import Execution
    from ..workflow.execution.inbox import HandedOver, RunStarted

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

START_OF_TIME = 1_700_000_000.0
"""The time of the wall clock when a simulation begins (Unix seconds)."""


WALL_CLOCK_SPREAD = 2.0
"""The most by which the wall clocks of two nodes differ, in seconds."""


class SimulatedEnv(Protocol):
    """The part of the simulation that a simulated node reports to."""

    def applied(self, node: SimulatedNode, index: int, applied: Sequence[Applied]) -> None:
        """Note that the node applied an entry."""
        ...

    def state_replaced(self, node: SimulatedNode) -> None:
        """Note that the node read a snapshot."""
        ...

    def handed_over(self, node: SimulatedNode, items: Sequence[HandedOver]) -> None:
        """Note the records that were delivered to its executor."""
        ...

    def turned(self, node: SimulatedNode, execution: Execution) -> None:
        """Note that one of its executions began, or has had a turn."""
        ...

    def acting_changed(self, node: SimulatedNode, term: int | None) -> None:
        """Note that the node may act, or may not any more."""
        ...

    def told(self, node: SimulatedNode, event: ClusterEvent) -> None:
        """Note that the node published an event."""
        ...

    def broke(self, node: SimulatedNode, error: BaseException | None) -> None:
        """Note that its replica broke."""
        ...


class SimulatedThread(LoopThread):
    """A stand-in for a node's thread with a loop of its own: calls that are left here are made in order, a little later.

    `lag()` is asked for every call and gives the seconds until it is made; a call never overtakes one before it. While
    the thread is stalled (its user code blocks it) nothing is called.
    """

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop, lag: Callable[[], float]) -> None:
        super().__init__(name)
        self._on = loop
        self._lag = lag
        self._calls_left: deque[tuple[float, Callable[..., object], tuple[Any, ...]]] = deque()
        self._latest = 0.0
        self._stalled_until = 0.0
        self._handle: asyncio.Handle | None = None
        self._gone = False
        self.main: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Do nothing: it has begun already."""

    def stop(self, timeout: float) -> bool:  # noqa: ARG002 - as of a thread
        """Call nothing any more, and cancel what runs."""
        self._gone = True
        self._calls_left.clear()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self.main is not None:
            self.main.cancel()
        return True

    def where(self) -> str | None:
        """Return None: it has no place."""
        return None

    def stall(self, seconds: float) -> None:
        """Call nothing for so long."""
        self._stalled_until = self._on.time() + seconds

    def post(self, fn: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        """Call `fn(*args)` after the thread's lag, behind everything posted before."""
        if self._gone:
            return
        due = max(self._latest, self._on.time() + self._lag(), self._stalled_until)
        self._latest = due
        self._calls_left.append((due, fn, args))
        if self._handle is None:
            self._arm()

    def _arm(self) -> None:
        delay = max(self._calls_left[0][0], self._stalled_until) - self._on.time()
        context = contextvars.Context()
        if delay > 0:
            self._handle = self._on.call_later(delay, self._make_calls, context=context)
        else:
            self._handle = self._on.call_soon(self._make_calls, context=context)

    def _make_calls(self) -> None:
        self._handle = None
        now = self._on.time()
        if self._stalled_until > now:
            self._arm()
            return
        # The first one is due, whatever rounding says.
        first = True
        try:
            while self._calls_left and (first or self._calls_left[0][0] <= now):
                first = False
                _, fn, args = self._calls_left.popleft()
                fn(*args)
        finally:
            if self._calls_left and self._handle is None:
                self._arm()


class SimulatedSteps(StepTasks):
    """The runner of steps. Each synchronous one takes virtual time, then its function is called.

    As on a thread, a function whose task was cancelled is called all the same, and what it returns is dropped.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: Callable[[str], float]) -> None:
        super().__init__()
        self._loop = loop
        self._seconds = seconds

    async def run(self, fn: Callable[..., T], /, *args: Any, name: str, **kwargs: Any) -> T:
        """Call `fn(*args, **kwargs)` after the time that the step named `name` takes."""
        if self.closed:
            raise ClusterError(f"the step {name!r} cannot run: its node has stopped")
        due = self._loop.time() + self._seconds(name)
        context = contextvars.copy_context()
        try:
            await anyio.sleep(max(0.0, due - self._loop.time()))
        except BaseException:
            self._loop.call_at(due, self._abandoned, partial(context.run, fn, *args, **kwargs))
            raise
        return context.run(fn, *args, **kwargs)

    def _abandoned(self, call: Callable[[], object]) -> None:
        if not self.closed:
            with contextlib.suppress(Exception):  # nobody is there to be told
                call()

    def stuck(self) -> tuple[str, ...]:
        """Return none: there is none that anybody would wait for."""
        return ()

    def close(self) -> None:
        """End the process, and with it what runs in it."""
        self.closed = True


class SimulatedNode:
    """One incarnation of a node in the simulation. `gone` is true from its end on: nothing of it counts any more."""

    def __init__(
        self,
        number: NodeId,
        nodes: Sequence[NodeId],
        incarnation: int,
        *,
        seed: object,
        loop: asyncio.AbstractEventLoop,
        store: Store,
        timing: Timing,
        rate: float,
        lag: float,
        host: SimulatedEnv,
        guarded: bool,
        paths: Paths,
        step_seconds: Callable[[NodeId, str], float],
        proposal_seconds: float,
        compaction: Compaction,
        joins: bool = False,
        takes_runs: bool = False,
        labels: Sequence[str] = (),
    ) -> None:
        self.number = number
        self.gone = False
        self.error: BaseException | None = None
        self.records_handed_over = 0
        self._loop = loop
        self._host = host
        self._dice = SeededDice(seed, "node", number, incarnation)
        # Each clock began at a time of its own: nothing may compare those of two nodes.
        self.clock = ClockView(loop, rate=rate, start=100.0 + 1000.0 * chance_of(seed, "clock", number, incarnation))
        # Times of day differ between nodes, and a new leader's may be behind those that are recorded.
        wrong = WALL_CLOCK_SPREAD * chance_of(seed, "wall clock", number, incarnation)
        draw_lag = partial(self._draw_lag, lag) if lag > 0 else _no_lag
        self.thread = SimulatedThread(f"node-{number}", loop, draw_lag)
        self._consensus = SimulatedThread(f"consensus-{number}", loop, draw_lag)
        self.journal = store.open()
        self.store = store
        self.incarnation = Incarnation(
            number,
            nodes,
            incarnation,
            host=self,
            consensus=self._consensus,
            loop=self.clock.as_loop(),
            journal=self.journal,
            dice=self._dice,
            timing=timing,
            name="simulated",
            guarded=guarded,
            thread=self.thread,
            steps=SimulatedSteps(loop, partial(step_seconds, number)),
            clock=loop.time,
            wall_clock=lambda: START_OF_TIME + wrong + loop.time(),
            proposal_seconds=proposal_seconds,
            compaction=compaction,
            joins=joins,
            takes_runs=takes_runs,
            labels=labels,
        )
        self.member = self.incarnation.member
        if guarded:
            self.member.replica.fast_path.choice = choice(paths, seed, number, incarnation)
        self.executor = self.incarnation.executor
        self.executor.binds = takes_runs
        self._watch_hand_over()

    def _draw_lag(self, longest: float) -> float:
        # Most calls arrive at once; a thread that is busy makes one wait now and then.
        drawn = self._dice.random()
        return longest * drawn * 4 if drawn < 0.25 else 0.0

    def _watch_hand_over(self) -> None:
        hand_over, begin = self.executor.hand_over, self.incarnation._start_executor

        def watched(items: Sequence[HandedOver]) -> None:
            self._host.handed_over(self, items)
            hand_over(items)

        def started() -> None:
            begin()
            self.thread.main = self.incarnation._main

        begin_execution = self.executor._begin

        def begun(started: RunStarted) -> Execution:
            execution = begin_execution(started)
            self._watch_turns(execution)
            return execution

        broke = self.member.broke

        def noted(error: BaseException) -> None:
            self.error = error
            broke(error)

        self.member.broke = noted  # type: ignore[method-assign]
        self.executor.hand_over = watched  # type: ignore[method-assign]
        self.executor._begin = begun  # type: ignore[method-assign]
        self.incarnation._start_executor = started  # type: ignore[method-assign]

    def _watch_turns(self, execution: Execution) -> None:
        begin, take, host = execution._begin, execution._take, self._host

        def begun() -> bool:
            ready = begin()
            if ready and not self.gone:
                host.turned(self, execution)
            return ready

        def taken(record: Record) -> None:
            take(record)
            if not self.gone:
                host.turned(self, execution)

        execution._begin = begun  # type: ignore[method-assign]
        execution._take = taken  # type: ignore[method-assign]

    @property
    def main(self) -> asyncio.Task[None] | None:
        """The executor's task, once it was begun."""
        return self.thread.main

    def start(self, network: Network) -> None:
        """Begin: the thread, then the network."""
        self.thread.post(self.incarnation._start_executor)
        coroutine = self.member.join(network)
        # Nothing in it waits for anything but other nodes' turns, so it needs no task of its own.
        with contextlib.suppress(StopIteration):
            while coroutine.send(None) is None:
                pass
            raise ClusterError("joining the simulated network had to wait")
        self.incarnation.offering.look()

    def end(self) -> None:
        """End the process, wherever it is."""
        self.gone = True
        self.incarnation.close()
        self.thread.stop(0)
        self._consensus.stop(0)
        self.store.crashed()

    # --- from the incarnation (incarnation.IncarnationHost)

    def entry_applied(self, index: int, applied: Sequence[Applied]) -> None:
        """Pass on."""
        self._host.applied(self, index, applied)

    def state_replaced(self, node: NodeId) -> None:  # noqa: ARG002 - it is this node
        """Pass on."""
        self._host.state_replaced(self)

    def acting_changed(self, node: NodeId, term: int | None) -> None:  # noqa: ARG002 - it is this node
        """Pass on."""
        if not self.gone:
            self._host.acting_changed(self, term)

    def node_failed(self, node: NodeId, error: BaseException) -> None:  # noqa: ARG002
        """Pass on."""
        self._host.broke(self, self.error)

    def tell(self, event: ClusterEvent) -> None:
        """Pass on, unless it comes from the grave."""
        if not self.gone:
            self._host.told(self, event)

    def write(self, line: OutputLine) -> None:
        """Do nothing: output is of no interest here."""


def _no_lag() -> float:
    return 0.0
