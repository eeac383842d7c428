"""Somebody sets the computer's clock while runs wait: what waits ends when that many seconds have passed."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from raftoral_nb import CheckpointSet, Cluster, DeadlineExceededError, WorkflowContext
from raftoral_nb.hosts import local
from tests.cluster.helpers import PATIENCE, Watch

HOUR = 3600.0

SetClock = Callable[[float], None]


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """Sets the clock of this process by so many seconds, as `date` would."""
    real, moved = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + moved[0])

    def set_by(seconds: float) -> None:
        moved[0] += seconds

    return set_by


async def sleeps(ctx: WorkflowContext, _: None) -> str:
    await ctx.compute("begin", int)
    await ctx.sleep(0.4)
    return "over"


async def waits(ctx: WorkflowContext, _: None) -> Any:
    await ctx.compute("begin", int)
    return await ctx.receive("never", timeout=0.4, default="over")


async def asks(ctx: WorkflowContext, _: None) -> str:
    await ctx.compute("begin", int)
    try:
        await ctx.receive_update("never", timeout=0.4)
    except TimeoutError:
        return "over"
    return "answered"


async def is_short_of_time(ctx: WorkflowContext, _: None) -> str:
    await ctx.compute("begin", int)
    try:
        async with ctx.deadline(0.4):
            await ctx.sleep(2 * HOUR)
    except DeadlineExceededError:
        return "over"
    return "in time"


async def waits_for_a_time(ctx: WorkflowContext, _: None) -> str:
    await ctx.compute("begin", int)
    await ctx.sleep_until(await ctx.now() + timedelta(seconds=0.4))
    return "over"


@pytest.mark.parametrize("workflow", [sleeps, waits, asks, is_short_of_time, waits_for_a_time])
def test_what_waits_when_the_clock_is_set_back_by_an_hour_does_not_wait_for_an_hour(
    cluster: Cluster, set_clock: SetClock, workflow: Any
) -> None:
    with Watch(cluster) as watch:
        run = cluster.start_workflow(workflow)
        watch.until(CheckpointSet)
    set_clock(-HOUR)
    assert run.wait_for_completion(PATIENCE) == "over"


def test_the_clock_is_the_same_for_a_node_that_is_killed_and_comes_back_in_this_process(
    cluster: Cluster, set_clock: SetClock
) -> None:
    with Watch(cluster) as watch:
        run = cluster.start_workflow(sleeps)
        watch.until(CheckpointSet)
    set_clock(-HOUR)
    for number in cluster.nodes:
        cluster.kill(number)
    for number in cluster.nodes:
        cluster.restart(number)
    assert run.wait_for_completion(PATIENCE) == "over"


def test_the_present_does_not_go_back_and_what_is_begun_afterwards_takes_its_time(
    cluster: Cluster, set_clock: SetClock
) -> None:
    async def stamps(ctx: WorkflowContext, _: None) -> tuple[datetime, datetime]:
        await ctx.compute("begin", int)
        before = await ctx.now()
        await ctx.receive("go")
        await ctx.sleep(0.05)
        return before, await ctx.now()

    with Watch(cluster) as watch:
        run = cluster.start_workflow(stamps)
        watch.until(CheckpointSet)
    set_clock(-HOUR)
    run.signal("go")
    before, after = run.wait_for_completion(PATIENCE)
    assert timedelta(seconds=0.05) <= after - before < timedelta(seconds=HOUR)


def test_a_sleep_until_a_date_ends_when_the_clock_is_set_ahead_or_the_computer_has_slept(
    set_clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def until(ctx: WorkflowContext, when: datetime) -> str:
        await ctx.compute("begin", int)
        await ctx.sleep_until(when)
        return "over"

    monkeypatch.setattr(local, "LOOK_AGAIN", 0.05)  # the loop's own timer is armed for an hour, and counts seconds
    with Cluster(1, network="memory") as cluster:
        with Watch(cluster) as watch:
            run = cluster.start_workflow(until, datetime.now(UTC) + timedelta(seconds=HOUR))
            watch.until(CheckpointSet)
        assert run.status == "running"
        set_clock(HOUR + 1)
        assert run.wait_for_completion(PATIENCE) == "over"
