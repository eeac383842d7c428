"""`workflow_test`: a cluster on a virtual clock, and faults at chosen steps, for tests of workflows."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import update_wrapper
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import msgspec

from ..api.run import WorkflowRun
from ..core.cluster_events import EffectStarted, ExecutionStopped, OutputLine
from ..core.commands import Command
from ..core.events import ClusterEvent, StateEvent
from ..core.records import NodeId, RunId, Step, StepId
from ..core.statistics import ClusterStatistics
from ..errors import FaultPlanError, NonDeterminismError, RaftoralError, StalledError, UnreadableError
from ..threads.seconds import Seconds, seconds
from . import recordings
from .virtual_cluster import DEFAULT_START, VirtualCluster

T = TypeVar("T")

StepName = str | int
"""A step by its key (`"charge"`), its step_id (`"1/charge"`), or its place among all records of the run (0 is the first)."""

When = Literal["before", "after"]


class _Kill(msgspec.Struct):
    step: StepName
    when: When
    run_id: RunId | None
    restart: bool
    done: bool = False


class _Replacement(msgspec.Struct):
    step: StepName
    run_id: RunId | None
    make: Callable[[Callable[..., Any]], Callable[..., Any]]
    left: int | None


class WorkflowTest:
    """A started cluster in memory on a virtual clock, with faults at chosen steps; made by `workflow_test`.

    Deterministic: the same test does the same every time. Time passes only inside `finish`, `advance` and `settle`, as fast
    as the code runs; synchronous steps run on the test's own thread. Not thread-safe. What no virtual clock can bring about
    (an answer from a real network, a real thread) must be replaced: see `replace`.
    """

    def __init__(self, nodes: int = 3, *, seed: int = 0, start: dt.datetime = DEFAULT_START) -> None:
        if start.tzinfo is None:
            raise RaftoralError(
                "the start of a test's clock needs a time zone: datetime(2024, 1, 1, tzinfo=timezone.utc)"
            )
        self.cluster = VirtualCluster(nodes, name="test")
        """The cluster, with all that a `Cluster` can do (kill, pause, hold, statistics, events ...)."""
        self._kills: list[_Kill] = []
        self._replacements: list[_Replacement] = []
        self._effects: Counter[tuple[RunId, str]] = Counter()
        # Invariant: what was recorded of each run so far, in the order of the log, as text; the end, too.
        self._recorded: defaultdict[RunId, list[str]] = defaultdict(list)
        # Invariant: by run, what nodes have proposed since the last kill, and what is not recorded yet. A dict for its order.
        self._proposed: defaultdict[RunId, dict[str, None]] = defaultdict(dict)
        self._stopped: list[ExecutionStopped] = []
        self._entered = 0
        self.cluster.host.begin(self, seed, start)

    # --- life

    def __call__(self, nodes: int = 3, *, seed: int = 0, start: dt.datetime = DEFAULT_START) -> WorkflowTest:
        """Another one, as `raftoral_nb.testing.workflow_test` makes it: for a test that was given this one as a fixture."""
        return WorkflowTest(nodes, seed=seed, start=start)

    def __enter__(self) -> Self:
        if not self._entered:  # a fixture that is entered has been before
            self.cluster.start()
        self._entered += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._entered -= 1
        if self._entered:
            return
        self.cluster.stop()
        if kind is None:
            self._check_faults_came()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, tb)

    # --- runs

    def start(
        self, workflow: Any, *args: Any, version: int | None = None, run_id: str | None = None
    ) -> WorkflowRun[Any]:
        """Start a run, as `Cluster.start_workflow` does; its workflow begins with the next `finish`, `advance` or `settle`.

        >>> from raftoral_nb.testing import workflow_test
        >>> async def greet(ctx, name):
        ...     return await ctx.compute("greeting", str.upper, f"hello {name}")
        >>> with workflow_test() as test:
        ...     test.finish(test.start(greet, "world"))
        'HELLO WORLD'
        """
        self.cluster.host.let_workflows_wait()
        return self.cluster.start_workflow(workflow, *args, version=version, run_id=run_id)

    def finish(self, run: WorkflowRun[T]) -> T:
        """Let time pass until the run has ended, on every living node, and return its result.

        Raises what `wait_for_completion` raises (`WorkflowFailedError`), `NonDeterminismError` if a node's execution differed
        from the record though the run may have completed, and `StalledError` if the run can never end.
        """
        try:
            result = run.wait_for_completion()
        except StalledError:
            if (held := run.held) is not None:
                raise NonDeterminismError(
                    f"run {run.run_id!r} is held, because its code does not match its record on any node", held
                ) from None
            raise
        self.cluster.host.run(lambda: self._every_node_ended(run.run_id))
        self.raise_divergence(run)
        return result

    async def finished(self, run: WorkflowRun[T]) -> T:
        """`finish`, for a test that reads better with `await`. It does not let the test's own event loop run meanwhile."""
        return self.finish(run)

    async def _every_node_ended(self, run_id: RunId) -> None:
        for node in self.cluster.host.numbers:
            incarnation = self.cluster.host.incarnation(node)
            if incarnation is not None and not incarnation.member.paused and not incarnation.held:
                execution = await incarnation.executor.await_execution(run_id)
                await execution.done.wait()

    def raise_divergence(self, run: WorkflowRun[Any]) -> None:
        """Raise `NonDeterminismError` if a node's execution of the run has differed from the record so far."""
        run_id = run.run_id
        for stopped in self._stopped:
            if stopped.run_id == run_id and stopped.status == "unreadable":
                raise UnreadableError(f"node {stopped.node} stopped executing run {run_id!r}: {stopped.reason}")
            if stopped.run_id == run_id and stopped.status == "diverged":
                raise NonDeterminismError(f"node {stopped.node} diverged from run {run_id!r}", stopped.difference)

    # --- time

    @property
    def now(self) -> dt.datetime:
        """The time of the workflows' clock (UTC)."""
        return dt.datetime.fromtimestamp(self.cluster.host.wall_clock(), dt.UTC)

    def advance(self, duration: Seconds) -> None:
        """Let so much virtual time pass (seconds, or a timedelta), and all that is due in it happen."""
        length = seconds(duration, "test.advance")
        self.cluster.host.run(lambda: asyncio.sleep(length))
        self.settle()

    def settle(self) -> None:
        """Let everything happen that can happen now: workflows run up to what needs time, a signal or a node."""
        self.cluster.host.let_workflows_go_on()
        self.cluster.host.world.settle()

    # --- faults

    def kill_leader_at(
        self, step: StepName, *, when: When = "before", run: WorkflowRun[Any] | None = None, restart: bool = False
    ) -> None:
        """Kill the acting node when it has run the step's function: just before its result is recorded, or just after.

        Killed before, the effect was had and its record is lost: the next leader has it again. Killed after, the record is
        committed and nobody but the dead leader knows yet. By its place any record is meant: a step, a message or a child's end
        that comes, timers that fire, a request to cancel; behind the last one, the end of the run. It happens once, for the first
        run that comes there, or for `run`; with `restart` the node comes back from its journal as soon as another acts.
        `FaultPlanError` if the step is recorded already, or (at the end of the test) never came.
        """
        if when not in ("before", "after"):
            raise FaultPlanError(f"kill_leader_at(..., when=...) is 'before' or 'after' the record, got {when!r}")
        self._check_not_recorded(step, run)
        self._kills.append(_Kill(step, when, None if run is None else run.run_id, restart))

    def fail(
        self,
        step: StepName,
        error: BaseException | type[BaseException] = RuntimeError,
        *,
        times: int | None = 1,
        run: WorkflowRun[Any] | None = None,
    ) -> None:
        """Let the step's function raise `error` instead of running, the next `times` times (None: always)."""

        def failing(*_args: Any, **_kwargs: Any) -> Any:
            raise error

        self._check_not_recorded(step, run)
        self._replacements.append(_Replacement(step, None if run is None else run.run_id, lambda fn: failing, times))

    def replace(
        self,
        step: StepName,
        function: Callable[..., Any],
        *,
        times: int | None = None,
        run: WorkflowRun[Any] | None = None,
    ) -> None:
        """Run `function` (with the arguments that the step was given) in place of the step's own.

        It is called as it is, in the test's process: it may close over a list of the test's and append to it, which
        functions of the workflow cannot (they are copies).
        """
        self._check_not_recorded(step, run)
        self._replacements.append(_Replacement(step, None if run is None else run.run_id, lambda fn: function, times))

    def kill(self, node: NodeId | Literal["leader"]) -> NodeId:
        """See `Cluster.kill`."""
        return self.cluster.kill(node)

    def restart(self, node: NodeId) -> NodeId:
        """See `Cluster.restart`."""
        return self.cluster.restart(node)

    # --- looking

    def effects(self, step: StepName, run: WorkflowRun[Any] | None = None) -> int:
        """Return how often the step's function was begun, on whichever node, in all runs or in one."""
        return sum(
            count
            for (run_id, step_id), count in self._effects.items()
            if (run is None or run.run_id == run_id) and self._is(step, run_id, step_id)
        )

    def log(self, run: WorkflowRun[Any] | None = None) -> tuple[OutputLine, ...]:
        """Return what workflows printed and logged, and what the engine says of them."""
        return self.cluster.log(None if run is None else run.run_id)

    def statistics(self) -> ClusterStatistics:
        """See `Cluster.statistics`."""
        return self.cluster.statistics()

    # --- the plan (cluster.Plan)

    def recorded_of(self, run: WorkflowRun[Any]) -> tuple[str, ...]:
        """Return what was recorded of a run so far, in the order of the log, as text: steps, messages, timers, and its end."""
        return tuple(self._recorded[run.run_id])

    def about_to_record(self, node: NodeId, command: Command) -> bool:
        """See `virtual_cluster.StepPlan`."""
        if all(kill.done or kill.when != "before" for kill in self._kills):
            return False
        dies = False
        for run_id, step_id, name in recordings.of_command(command, self.cluster.host.head()):
            proposed = self._proposed[run_id]
            proposed.pop(name, None)
            recorded = len(self._recorded[run_id])
            dies = self._dies(node, run_id, step_id, "before", (recorded, recorded + len(proposed))) or dies
            proposed[name] = None
        if dies:
            self._proposed.clear()
        return dies

    def recorded(self, node: NodeId | None, event: StateEvent) -> bool:
        """See `virtual_cluster.StepPlan`."""
        found = recordings.of_event(event)
        if found is None:
            return False
        run_id, step_id, text = found
        recorded = self._recorded[run_id]
        dies = node is not None and self._dies(node, run_id, step_id, "after", (len(recorded),))
        recorded.append(text)
        self._proposed[run_id].pop(text, None)
        return dies

    def function(self, run_id: RunId, step_id: str, fn: Callable[..., Any]) -> Callable[..., Any]:
        """See `virtual_cluster.StepPlan`."""
        for one in self._replacements:
            if one.left != 0 and one.run_id in (None, run_id) and self._is(one.step, run_id, step_id):
                if one.left is not None:
                    one.left -= 1
                return one.make(fn)
        return fn

    def told(self, event: ClusterEvent) -> None:
        """See `virtual_cluster.StepPlan`."""
        match event:
            case EffectStarted(run_id=run_id, step_id=step_id):
                self._effects[run_id, step_id] += 1
            case ExecutionStopped():
                self._stopped.append(event)
            case _:
                pass

    def _dies(self, node: NodeId, run_id: RunId, step_id: StepId | None, when: When, places: tuple[int, ...]) -> bool:
        for kill in self._kills:
            if kill.done or kill.when != when or kill.run_id not in (None, run_id):
                continue
            if isinstance(kill.step, int):
                meant = kill.step in places
            else:
                meant = step_id is not None and self._is(kill.step, run_id, step_id)
            if meant:
                kill.done = True
                if kill.restart:
                    self.cluster.host.restart_when_led(node)
                return True
        return False

    def _is(self, step: StepName, run_id: RunId, step_id: str) -> bool:
        if isinstance(step, int):
            return self._place(run_id, step_id) == step
        return step in (step_id, step_id.partition("/")[2])

    def _place(self, run_id: RunId, step_id: str) -> int:
        """Return the place of a step among the records; the next place if it is not recorded."""
        run = self.cluster.host.head().runs.get(run_id)
        records = () if run is None else run.records
        places = (place for place, one in enumerate(records) if isinstance(one, Step) and one.step_id == step_id)
        return next(places, len(records))

    def _check_not_recorded(self, step: StepName, run: WorkflowRun[Any] | None) -> None:
        if isinstance(step, bool) or not isinstance(step, str | int):
            raise FaultPlanError(
                f"a step is named by its key, its step_id or its place among the records, not by {step!r}"
            )
        if run is None:
            return
        if isinstance(step, int):
            recorded = step < len(self._recorded[run.run_id])
        else:
            recorded = any(self._is(step, run.run_id, one.step_id) for one in run.steps)
        if recorded:
            raise FaultPlanError(
                f"step {step!r} of run {run.run_id!r} is recorded already: call kill_leader_at before the run comes to that step"
            )

    def _check_faults_came(self) -> None:
        missed = [kill.step for kill in self._kills if not kill.done]
        if missed:
            raise FaultPlanError(
                f"no run came to step {missed[0]!r}, at which the leader was to be killed; a step is named by its key or its step_id"
            )


def _workflow_test(nodes: int = 3, *, seed: int = 0, start: dt.datetime = DEFAULT_START) -> WorkflowTest:
    """Return a cluster of so many nodes on a virtual clock, as a context manager; see `WorkflowTest`.

    `seed` draws the timeouts of elections, `start` is what the workflows' clock shows at first. Under pytest the name can also
    be used as the fixture is, without a call: `workflow_test.start(order)`, with three nodes until the end of the test.

    >>> async def order(ctx, item):
    ...     return await ctx.compute("charge", lambda: f"{item} paid")
    >>> with workflow_test(nodes=3) as test:
    ...     run = test.start(order, "A1")
    ...     test.kill_leader_at("charge")
    ...     print(test.finish(run), "after", test.effects("charge"), "attempts")
    A1 paid after 2 attempts
    """
    return WorkflowTest(nodes, seed=seed, start=start)


class WorkflowTestFactory:
    """The type of `workflow_test`: called, it makes a `WorkflowTest`; else it stands for one, in a `with` block or under pytest."""

    def __init__(self) -> None:
        update_wrapper(self, _workflow_test)
        self.__name__ = self.__qualname__ = "workflow_test"
        self._blocks: list[WorkflowTest] = []
        self._own: WorkflowTest | None = None
        self._in_pytest = False

    def __call__(self, nodes: int = 3, *, seed: int = 0, start: dt.datetime = DEFAULT_START) -> WorkflowTest:
        """See `workflow_test`."""
        return _workflow_test(nodes, seed=seed, start=start)

    def __enter__(self) -> WorkflowTest:
        self._blocks.append(self().__enter__())
        return self._blocks[-1]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._blocks.pop().__exit__(kind, error, tb)

    async def __aenter__(self) -> WorkflowTest:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, tb)

    if not TYPE_CHECKING:  # a type checker knows the fixture, and what a call returns

        def __getattr__(self, name: str) -> Any:
            """Give the fixture's attributes, where pytest says when the test ends; elsewhere none."""
            if name.startswith("_") or not (name == "cluster" or hasattr(WorkflowTest, name)):
                raise AttributeError(f"workflow_test has no {name!r}", name=name, obj=self)
            if not self._in_pytest:
                raise AttributeError(
                    f"workflow_test makes a test, and has no {name!r} itself: `with workflow_test() as test:`, then "
                    f"`test.{name}` (or take the pytest fixture of that name as a parameter)",
                    name=name,
                    obj=self,
                )
            if self._own is None:
                self._own = self().__enter__()
            return getattr(self._own, name)

    def begin_test(self) -> None:
        """Begin a test of pytest."""
        self._in_pytest = True

    def end_test(self) -> None:
        """End the test, and with it what stood for the fixture."""
        self._in_pytest = False
        own, self._own = self._own, None
        if own is not None:
            own.__exit__(None, None, None)


workflow_test = WorkflowTestFactory()
