"""What an execution says of itself to those who look on: what each branch waits for, its turn, its queue, and whether it is stuck."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from raftoral_nb import Cluster, Retry, WorkflowCancelledError, WorkflowContext, step
from raftoral_nb.core.statistics import MAX_QUEUE_TOLD, MAX_WAITS_TOLD, ExecutionStatistics, RecordMark
from raftoral_nb.testing import workflow_test

pytestmark = pytest.mark.filterwarnings("ignore::raftoral_nb.NonDeterminismWarning")


@pytest.fixture
def live() -> Iterator[Cluster]:
    with Cluster(3, network="memory") as started:
        yield started


def here(ctx: WorkflowContext) -> None:
    """Let `arrived` know, when this turn is over."""
    ctx.on_query("here", lambda: True)


def arrived(cluster: Cluster, run: Any) -> None:
    """Wait until every node is where `here` was called, and at rest."""
    assert all(run.query("here", node=number) for number in cluster.nodes)


def execution(cluster: Cluster, run_id: str, node: int | None = None) -> ExecutionStatistics:
    number = cluster.leader if node is None else node
    assert number is not None
    return cluster.look().statistics.nodes[number].runs[run_id]


async def nothing() -> None:
    """Return nothing."""


async def child(ctx: WorkflowContext, _: object) -> None:
    await ctx.receive("end")


async def everything(ctx: WorkflowContext, _: object) -> None:
    lock = asyncio.Lock()

    async def sleeps() -> None:
        await asyncio.sleep(100)

    async def hears() -> None:
        async with asyncio.timeout(500):
            await ctx.receive("yes", "no")

    async def holds() -> None:
        async with lock:
            await ctx.sleep(50)

    async def locked() -> None:
        async with lock:
            pass

    async def gathers() -> None:
        await asyncio.gather(sleeps(), sleeps())

    async def scoped() -> None:
        with anyio.move_on_after(70):
            await ctx.receive_update("change")

    async def parent() -> None:
        await ctx.run_child(child, None, run_id="c")

    async def branch(c: WorkflowContext) -> None:
        await c.compute("long", anyio.sleep, 3600)

    tasks = [
        asyncio.create_task(one(), name=one.__name__) for one in (sleeps, hears, holds, locked, gathers, scoped, parent)
    ]
    await ctx.compute("begin", nothing)
    here(ctx)
    await ctx.gather(branch)
    assert not tasks


def test_each_branch_says_what_it_waits_for_whoever_made_it_and_until_when(live: Cluster) -> None:
    live.register_workflow("child", child)
    run = live.start_workflow(everything, None, run_id="r")
    arrived(live, run)
    deadline = time.monotonic() + 20
    while len(live.look().statistics.runs) < 2 or execution(live, "r").had < 2:  # the child's start is a record too
        assert time.monotonic() < deadline
    for number in live.nodes:
        found = execution(live, "r", number)
        waits = {one.branch: one for one in found.waits}
        told = {path: (one.name, one.kind, one.what) for path, one in waits.items()}
        assert told == {
            "": ("", "tasks", ""),
            "t1.": ("sleeps", "time", ""),
            "t2.": ("hears", "signal", "'yes' or 'no'"),
            "t3.": ("holds", "time", ""),
            "t4.": ("locked", "other", "Lock.acquire"),
            "t5.": ("gathers", "tasks", "t5.t1., t5.t2."),
            "t6.": ("scoped", "update", "'change'"),
            "t7.": ("parent", "child", "c"),
            "t5.t1.": ("", "time", ""),
            "t5.t2.": ("", "time", ""),
            "1.0.": ("branch", "step", "1.0.0/long"),
        }
        began = run.started_at.timestamp()
        left = {path: round(one.until - began) for path, one in waits.items() if one.until is not None}
        assert left == {"t1.": 100, "t2.": 500, "t3.": 50, "t6.": 70, "t5.t1.": 100, "t5.t2.": 100}
        assert (found.more_waits, found.stuck) == (0, False)
    run.terminate()


async def thirty(ctx: WorkflowContext, _: object) -> None:
    async def sleeps(number: int) -> None:
        await asyncio.sleep(1000 + number)

    tasks = [asyncio.create_task(sleeps(number)) for number in range(30)]
    here(ctx)
    await asyncio.wait(tasks)


def test_of_many_branches_the_first_are_told_and_the_others_counted(live: Cluster) -> None:
    run = live.start_workflow(thirty, None, run_id="r")
    arrived(live, run)
    found = execution(live, "r")
    assert (len(found.waits), found.more_waits) == (MAX_WAITS_TOLD, 31 - MAX_WAITS_TOLD)
    assert [one.branch for one in found.waits[:3]] == ["", "t1.", "t2."]
    assert live.statistics().nodes[1].runs["r"].waits == (), "statistics of everything stay cheap"
    run.terminate()


async def two_signals(ctx: WorkflowContext, _: object) -> None:
    here(ctx)
    await ctx.receive("first")
    await ctx.receive("second")
    await ctx.compute("end", nothing)


def test_the_turn_is_named_by_its_record_and_the_queue_of_a_held_node_is_told_in_order(live: Cluster) -> None:
    run = live.start_workflow(two_signals, None, run_id="r")
    arrived(live, run)
    assert (execution(live, "r").had, execution(live, "r").turn) == (0, None)
    held = next(number for number in live.nodes if number != live.leader)
    live.hold(held)
    run.signal("first")
    for number in range(MAX_QUEUE_TOLD):
        run.signal("other", number)
    run.signal("second")
    run.wait_for_completion(20)
    for node in live.nodes.values():
        node.wait_until_applied()
    behind = execution(live, "r", held)
    others = [RecordMark("signal arrived", "other")] * (MAX_QUEUE_TOLD - 1)
    assert (behind.had, behind.catch_up_queue, behind.turn) == (0, MAX_QUEUE_TOLD + 3, None)
    assert behind.queue == (RecordMark("signal arrived", "first"), *others)
    ahead = execution(live, "r")
    assert (ahead.had, ahead.queue, ahead.turn) == (MAX_QUEUE_TOLD + 3, (), RecordMark("compute", "0/end"))
    live.release(held)


async def forgets(ctx: WorkflowContext, _: object) -> None:
    here(ctx)
    await asyncio.Event().wait()


def test_a_run_that_nothing_can_wake_is_known_and_a_request_to_cancel_ends_it(live: Cluster) -> None:
    run = live.start_workflow(forgets, None, run_id="r")
    arrived(live, run)
    found = execution(live, "r")
    assert found.stuck
    assert [(one.kind, one.what) for one in found.waits] == [("other", "Event.wait")]
    other = live.start_workflow(two_signals, None, run_id="s")
    arrived(live, other)
    assert not execution(live, "s").stuck, "a signal can wake it"
    run.cancel()
    with pytest.raises(WorkflowCancelledError):
        run.wait_for_completion(20)
    assert not execution(live, "r").stuck
    other.terminate()


def away() -> None:
    raise ConnectionError("away")


async def stubborn(ctx: WorkflowContext, _: object) -> None:
    await ctx.compute("fetch", step(away, retry=Retry(attempts=9, first_wait=3600, max_wait=3600, jitter=0)))


def test_a_step_that_is_to_be_tried_again_says_which_attempt_failed_how_and_when_the_next_one_is(live: Cluster) -> None:
    run = live.start_workflow(stubborn, None, run_id="r")
    deadline = time.monotonic() + 20
    while not (found := execution(live, "r").activities) or found[0].failure is None:
        assert time.monotonic() < deadline
    (tried,) = found
    assert (tried.step_id, tried.attempt, tried.failure) == ("0/fetch", 1, "ConnectionError: away")
    assert tried.again_at is not None
    assert tried.again_at > time.time() + 600
    run.terminate()
    while execution(live, "r").activities:
        assert time.monotonic() < deadline


def test_a_change_of_a_variable_and_the_start_of_a_child_are_steps_that_are_waited_for() -> None:
    async def changes(ctx: WorkflowContext, _: object) -> int:
        total = await ctx.var("total", 1)
        await ctx.receive("go")
        return await total.update(lambda before: before + 1)

    async def starts(ctx: WorkflowContext, _: object) -> None:
        await ctx.receive("go")
        await ctx.run_child(child, None)

    with workflow_test() as test:
        for workflow, wait in ((changes, ("1/total", "update")), (starts, ("0/child", "child"))):
            run = test.start(workflow, None)
            test.settle()
            run.pause()  # so that nothing is recorded of it
            run.signal("go")
            test.settle()
            (found,) = execution(test.cluster, run.run_id).waits
            assert (found.kind, found.what, found.operation) == ("step", *wait)
