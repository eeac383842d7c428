"""Wherever seconds are taken, a `timedelta` is: in every public function, found by its signature."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import random
import re
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from types import FunctionType
from typing import Any

import msgspec
import pytest

import raftoral_nb
from raftoral_nb import (
    BadArgumentError,
    Cluster,
    ClusterError,
    DeadlineExceededError,
    Fault,
    Retry,
    Scenario,
    Timing,
    WorkflowContext,
    WorkflowFailedError,
    current_step,
    step,
)
from raftoral_nb.cli.course import Door
from raftoral_nb.cli.course import Watch as CourseWatch
from raftoral_nb.testing import workflow_test
from tests.cluster.helpers import PATIENCE

SHORT = timedelta(milliseconds=20)
LONG = timedelta(seconds=PATIENCE)
HELD_FOR = 2.0  # seconds; long beside SHORT, and what the end of the test waits for, as a thread cannot be stopped
OUTPUT_ONLY = (
    "raftoral_nb.core.records",
    "raftoral_nb.core.cluster_events",
    "raftoral_nb.core.statistics",
    "raftoral_nb.core.records",
)
"""Modules whose structs tell what happened; nobody makes them to ask for something."""
NO_SECONDS = {
    "fraction",
    "factor",
    "total",
    "Retry.jitter",
    "Retry.chance",
    "RunningStep.clock",
    "RunningStep.least",  # of a checkpoint that comes from an executor, where the timedelta was taken
    "CancelRequested.at",
    "WorkflowContinued.at",
}
"""Parameters that are numbers, and no lengths of time."""


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every function that users may call, methods included, with its name."""
    homes = [(raftoral_nb, raftoral_nb.__all__)]
    for name in ("raftoral_nb.testing", "raftoral_nb.cli.course", "raftoral_nb.observability.metrics_server"):
        module = importlib.import_module(name)
        homes.append((module, getattr(module, "__all__", [one for one in vars(module) if not one.startswith("_")])))
    seen: set[int] = set()
    for module, names in homes:
        for name in names:
            one = getattr(module, name)
            if id(one) in seen or not getattr(one, "__module__", "").startswith("raftoral_nb"):
                continue
            seen.add(id(one))
            if not inspect.isclass(one):
                if callable(one):
                    yield name, one
            elif one.__module__ not in OUTPUT_ONLY and not issubclass(one, BaseException):
                yield from methods(one)


def methods(cls: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in dir(cls):
        if name.startswith("_") and name != "__init__":
            continue
        found = inspect.getattr_static(cls, name)
        found = getattr(found, "__func__", found)
        if isinstance(found, FunctionType) and found.__module__.startswith("raftoral_nb"):
            yield f"{cls.__name__}.{name}", found
    if issubclass(cls, msgspec.Struct):
        yield f"{cls.__name__}.__init__", cls


def kinds_of(fn: Callable[..., Any]) -> dict[str, str]:
    if inspect.isclass(fn):  # a struct: what may be given is that of its fields, or wider
        return {one: str(kind) for one, kind in inspect.get_annotations(fn).items()}
    return {name: str(one.annotation) for name, one in inspect.signature(fn).parameters.items()}


def parameters() -> tuple[set[str], set[str]]:
    """The parameters that take seconds, and those that are numbers and do not say that they do."""
    lengths, numbers = set(), set()
    for name, fn in public():
        for parameter, annotation in kinds_of(fn).items():
            shown = f"{name}({parameter})"
            if "Seconds" in annotation:
                lengths.add(shown)
            elif re.search(r"\bfloat\b", annotation):
                owner = name.partition(".")[0]
                if parameter not in NO_SECONDS and f"{owner}.{parameter}" not in NO_SECONDS:
                    numbers.add(shown)
    return lengths, numbers


STRUCTS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "Retry.__init__(first_wait)": lambda: (Retry(first_wait=SHORT).first_wait, 0.02),
    "Retry.__init__(max_wait)": lambda: (Retry(max_wait=LONG).max_wait, PATIENCE),
    "Timing.__init__(heartbeat)": lambda: (Timing(heartbeat=SHORT).heartbeat, 0.02),
    "Timing.__init__(election_min)": lambda: (Timing(election_min=10 * SHORT).election_min, 0.2),
    "Timing.__init__(election_max)": lambda: (Timing(election_max=LONG).election_max, PATIENCE),
    "Timing.__init__(retry)": lambda: (Timing(retry=LONG).retry, PATIENCE),
    "Fault.__init__(delay)": lambda: (str(Fault(name="slow", places=(1,), delay=SHORT)), "slow 1 --delay 20ms"),
    "Fault.__init__(jitter)": lambda: (Fault(name="slow", delay=SHORT, jitter=SHORT).jitter, 0.02),
}
"""Numbers of structs: kept as numbers, whatever was given."""


@pytest.mark.parametrize("which", STRUCTS)
def test_a_struct_keeps_a_number(which: str) -> None:
    kept, wanted = STRUCTS[which]()
    assert kept == wanted
    assert not isinstance(kept, timedelta)


# Every other parameter that takes seconds: called with a timedelta that matters, so that it would not do to ignore it.


def context_sleep(ctx: WorkflowContext) -> Any:
    return ctx.sleep(SHORT)


async def context_deadline(ctx: WorkflowContext) -> None:
    with pytest.raises(DeadlineExceededError):
        async with ctx.deadline(SHORT):
            await ctx.sleep(LONG)


async def context_receive(ctx: WorkflowContext) -> None:
    assert await ctx.receive("never", timeout=SHORT, default="late") == "late"


async def context_receive_update(ctx: WorkflowContext) -> None:
    with pytest.raises(TimeoutError, match=r"within 0\.02 s"):
        await ctx.receive_update("never", timeout=SHORT)


async def step_with_a_timeout(ctx: WorkflowContext) -> None:
    with pytest.raises(TimeoutError, match=r"0\.02 s"):
        await ctx.compute("slow", step(threading.Event().wait, timeout=SHORT), HELD_FOR)


async def step_with_options(ctx: WorkflowContext) -> None:
    with pytest.raises(TimeoutError, match=r"0\.02 s"):
        await ctx.compute("slow", step(threading.Event().wait).with_options(timeout=SHORT), HELD_FOR)


async def step_with_a_total(ctx: WorkflowContext) -> None:
    with pytest.raises(TimeoutError, match=r"0\.02 s"):
        await ctx.compute("slow", step(threading.Event().wait, total_timeout=SHORT), HELD_FOR)


async def step_with_another_total(ctx: WorkflowContext) -> None:
    with pytest.raises(TimeoutError, match=r"0\.02 s"):
        await ctx.compute("slow", step(threading.Event().wait).with_options(total_timeout=SHORT), HELD_FOR)


async def step_with_a_ttl(ctx: WorkflowContext) -> None:
    await computed_again(ctx, step(a_random_number, cache="inputs", ttl=SHORT))


async def step_with_another_ttl(ctx: WorkflowContext) -> None:
    await computed_again(ctx, step(a_random_number, cache="inputs").with_options(ttl=SHORT))


def a_random_number() -> float:
    return random.random()


async def computed_again(ctx: WorkflowContext, cached: Any) -> None:
    first = await ctx.compute("first", cached)
    await ctx.sleep(2 * SHORT)
    assert await ctx.compute("later", cached) != first


async def step_that_saves(ctx: WorkflowContext) -> None:
    async def saves() -> None:
        await current_step().checkpoint("first", every=SHORT)
        await asyncio.sleep(0.05)
        await current_step().checkpoint("second", every=SHORT)  # it is due, so it waits for a majority

    await ctx.compute("saves", saves)


IN_WORKFLOWS = {
    "WorkflowContext.sleep(seconds)": context_sleep,
    "WorkflowContext.deadline(seconds)": context_deadline,
    "WorkflowContext.receive(timeout)": context_receive,
    "WorkflowContext.receive_update(timeout)": context_receive_update,
    "step(timeout)": step_with_a_timeout,
    "StepFunction.with_options(timeout)": step_with_options,
    "step(total_timeout)": step_with_a_total,
    "StepFunction.with_options(total_timeout)": step_with_another_total,
    "step(ttl)": step_with_a_ttl,
    "StepFunction.with_options(ttl)": step_with_another_ttl,
    "RunningStep.checkpoint(every)": step_that_saves,
}


@pytest.mark.parametrize("which", IN_WORKFLOWS)
def test_an_operation_takes_a_timedelta(which: str) -> None:
    act = IN_WORKFLOWS[which]

    async def workflow(ctx: WorkflowContext, _: None) -> str:
        await act(ctx)
        return "done"

    with Cluster(1, network="memory") as cluster:
        assert cluster.start_workflow(workflow).wait_for_completion(PATIENCE) == "done"


async def waiting(ctx: WorkflowContext, _: None) -> None:
    ctx.on_query("known", lambda: "known")
    await ctx.receive("end")


class Scene:
    """Three nodes in memory, with a run that waits."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.run = cluster.start_workflow(waiting)
        self.leader = cluster.wait_for_leader()
        self.follower = next(number for number in cluster.nodes if number != self.leader)

    def gives_up(self, act: Callable[[], Any]) -> None:
        with pytest.raises((TimeoutError, raftoral_nb.NotAcknowledgedError), match=r"0\.02 s"):
            act()

    def kill_all(self) -> None:
        for number in self.cluster.nodes:
            self.cluster.kill(number)


def transfer(scene: Scene) -> None:
    scene.cluster.isolate(scene.follower)
    scene.gives_up(lambda: scene.cluster.transfer(scene.follower, SHORT))
    scene.gives_up(lambda: scene.cluster.nodes[scene.follower].transfer(SHORT))


def wait_for_leader(scene: Scene) -> None:
    scene.kill_all()
    scene.gives_up(lambda: scene.cluster.wait_for_leader(SHORT))


def wait_until_applied(scene: Scene) -> None:
    scene.cluster.pause(scene.follower)
    scene.run.signal("other")
    scene.gives_up(lambda: scene.cluster.nodes[scene.follower].wait_until_applied(SHORT))


def slow(scene: Scene) -> None:
    assert scene.cluster.slow(scene.follower, SHORT, SHORT / 2)
    assert scene.cluster.nodes[scene.follower].slow(SHORT, jitter=SHORT)


def play(scene: Scene) -> None:
    played = scene.cluster.scenario([(LONG, "# after a while")])
    scene.gives_up(lambda: played.wait(SHORT))
    assert played.stop(LONG)
    scene.cluster.scenario([(SHORT, "# soon")]).wait(LONG)
    scene.cluster.scenario(Scenario("mine", [(SHORT, "# soon")])).wait(LONG)


def query(scene: Scene) -> None:
    assert scene.run.query("known", timeout=LONG) == "known"
    with pytest.raises(BadArgumentError):
        scene.run.query("known", timeout="soon")  # type: ignore[arg-type]


def wait_for_value(scene: Scene) -> None:
    scene.gives_up(lambda: scene.run.wait_for_value("never", 1, timeout=SHORT))
    scene.gives_up(lambda: asyncio.run(scene.run.wait_for("never", 1, timeout=SHORT)))


def metrics(scene: Scene) -> None:
    assert scene.cluster.serve_metrics().stop(LONG)


def door(_: Scene) -> None:
    scene_gives_up(lambda: Door().await_arrival(1, SHORT))


def course_watch(scene: Scene) -> None:
    watch = CourseWatch(scene.cluster)
    scene_gives_up(lambda: watch.wait_for(raftoral_nb.RunMoved, SHORT))
    watch.close()


def scene_gives_up(act: Callable[[], Any]) -> None:
    with pytest.raises(TimeoutError, match=r"0\.02 s"):
        act()


def since(scene: Scene) -> None:
    assert [one.run_id for one in scene.cluster.runs(since=LONG)] == [scene.run.run_id]


ON_CLUSTERS: dict[str, Callable[[Scene], None]] = {
    "Cluster.transfer(timeout)": transfer,
    "Node.transfer(timeout)": transfer,
    "Cluster.wait_for_leader(timeout)": wait_for_leader,
    "Node.wait_until_applied(timeout)": wait_until_applied,
    "Node.result(timeout)": lambda scene: scene.gives_up(
        lambda: scene.cluster.nodes[1].result(scene.run.run_id, timeout=SHORT)
    ),
    "Cluster.slow(delay)": slow,
    "Cluster.slow(jitter)": slow,
    "Node.slow(delay)": slow,
    "Node.slow(jitter)": slow,
    "Cluster.scenario(scenario)": play,
    "ScenarioPlay.wait(timeout)": play,
    "ScenarioPlay.stop(timeout)": play,
    "WorkflowRun.query(timeout)": query,
    "WorkflowRun.wait_for(timeout)": wait_for_value,
    "WorkflowRun.wait_for_value(timeout)": wait_for_value,
    "WorkflowRun.update(timeout)": lambda scene: scene.gives_up(lambda: scene.run.update("never", timeout=SHORT)),
    "WorkflowRun.wait_for_completion(timeout)": lambda scene: scene.gives_up(
        lambda: scene.run.wait_for_completion(SHORT)
    ),
    "MetricsServer.stop(timeout)": metrics,
    "Door.await_arrival(timeout)": door,
    "Watch.wait_for(timeout)": course_watch,
    "Cluster.runs(since)": since,
}


@pytest.mark.parametrize("which", ON_CLUSTERS)
def test_a_handle_takes_a_timedelta(which: str) -> None:
    with Cluster(3, network="memory") as cluster:
        ON_CLUSTERS[which](Scene(cluster))


def proposal_timeout() -> None:
    with Cluster(1, network="memory", proposal_timeout=LONG) as cluster:
        assert cluster._host.proposal_timeout == PATIENCE
    with pytest.raises(ClusterError, match="or a timedelta"):
        Cluster(proposal_timeout=timedelta(0))


def advance() -> None:
    with workflow_test() as test:
        before: datetime = test.now
        test.advance(timedelta(days=30))
        assert test.now - before == timedelta(days=30)


ELSEWHERE = {"Cluster.__init__(proposal_timeout)": proposal_timeout, "WorkflowTest.advance(duration)": advance}


@pytest.mark.parametrize("which", ELSEWHERE)
def test_an_option_takes_a_timedelta(which: str) -> None:
    ELSEWHERE[which]()


def test_every_public_parameter_that_takes_seconds_is_tried_here() -> None:
    lengths, numbers = parameters()
    tried = {*STRUCTS, *IN_WORKFLOWS, *ON_CLUSTERS, *ELSEWHERE}
    # The same function under the name of a class that inherits it.
    aliases = {one.replace("WorkflowRuntime.", "Cluster.") for one in lengths}
    assert aliases - tried == set()
    # A number that says nothing of seconds: does it take a timedelta? Say so, or add it to those that are none.
    unsaid = {one.replace("WorkflowRuntime.", "Cluster.") for one in numbers} - set(STRUCTS)
    assert unsaid == set()
    assert len(lengths) > 25


@pytest.mark.parametrize("given", ["soon", True, float("nan"), [1]], ids=["text", "bool", "nan", "list"])
def test_what_is_no_length_of_time_is_refused_by_everybody_who_waits(given: Any) -> None:
    with Cluster(1, network="memory") as cluster:
        run = cluster.start_workflow(waiting)
        for ask in (
            lambda: run.wait_for_completion(given),
            lambda: run.update("never", timeout=given),
            lambda: run.query("known", timeout=given),
            lambda: cluster.nodes[1].result(run.run_id, timeout=given),
            lambda: cluster.nodes[1].wait_until_applied(given),
            lambda: cluster.wait_for_leader(given),
            lambda: cluster.transfer(1, given),
        ):
            with pytest.raises(BadArgumentError, match="a number of seconds"):
                ask()


def test_waiting_for_a_time_that_no_lock_can_count_is_waiting_for_ever() -> None:
    async def brief(ctx: WorkflowContext, _: None) -> str:
        await ctx.sleep(0.01)
        return "done"

    with Cluster(1, network="memory") as cluster:
        assert cluster.start_workflow(brief).wait_for_completion(timeout=float("inf")) == "done"
        assert cluster.start_workflow(brief).wait_for_completion(timedelta.max) == "done"


def test_what_is_recorded_of_a_timedelta_is_what_is_recorded_of_seconds() -> None:
    async def late(ctx: WorkflowContext, seconds: Any) -> None:
        await ctx.receive("never", timeout=seconds)

    with workflow_test(nodes=1) as test:
        recorded = []
        for seconds in (5, timedelta(seconds=5)):
            run = test.start(late, seconds)
            with pytest.raises(WorkflowFailedError):
                test.finish(run)
            recorded.append([(one.step_id, one.operation, type(run.value(one))) for one in run.steps[:1]])
        assert recorded[0] == recorded[1]
