"""Operations of the context in a run that is cancelled, and what is left of one that was moved or began anew meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from raftoral_nb import Cluster, WorkflowCancelledError, WorkflowContext, WorkflowFailedError
from raftoral_nb.core.events import CheckpointSet
from raftoral_nb.testing import workflow_test
from tests.cluster.helpers import PATIENCE, Watch, note, notes


@pytest.fixture
def cluster() -> Any:
    with Cluster(3, network="memory") as one:
        yield one


async def forever(ctx: WorkflowContext) -> None:
    try:
        await ctx.receive("never")
    finally:
        await ctx.compute("tidy", note, ctx.idempotency_key("tidy"))


async def race(ctx: WorkflowContext, given: Any) -> None:
    await ctx.race(forever, forever)


async def group(ctx: WorkflowContext, given: Any) -> None:
    async with ctx.task_group() as tasks:
        tasks.start(forever)
        tasks.start(forever)


async def limited(ctx: WorkflowContext, given: Any) -> None:
    async def one(inner: WorkflowContext, item: int) -> None:
        await forever(inner)

    await ctx.map(one, range(6), limit=2)


async def deadline(ctx: WorkflowContext, given: Any) -> None:
    async with ctx.deadline(3600):
        await forever(ctx)


async def sleeping(ctx: WorkflowContext, given: Any) -> None:
    try:
        await ctx.sleep(3600)
    finally:
        await ctx.compute("tidy", note, "slept")


async def nested(ctx: WorkflowContext, given: Any) -> None:
    async def inner(ctx: WorkflowContext) -> None:
        await ctx.race(forever, forever)

    await ctx.gather(inner, forever)


@pytest.mark.parametrize(
    ("workflow", "tidied"),
    [(race, 2), (group, 2), (limited, 2), (deadline, 1), (sleeping, 1), (nested, 3)],
)
def test_whatever_a_run_waits_for_is_interrupted_and_every_branch_cleans_up_once(
    cluster: Cluster, workflow: Any, tidied: int
) -> None:
    run = cluster.start_workflow(workflow, None)
    run.cancel("why")  # it has come to its first wait before the request has its turn
    with pytest.raises(WorkflowCancelledError, match="why"):
        run.wait_for_completion(PATIENCE)
    assert len(notes()) == len(set(notes())) == tidied
    for node in cluster.nodes.values():
        with pytest.raises(WorkflowCancelledError):
            node.result(run.run_id, PATIENCE)


def test_what_a_saga_undoes_is_not_interrupted(cluster: Cluster) -> None:
    async def trip(ctx: WorkflowContext, given: Any) -> None:
        async with ctx.saga() as saga:
            for what in ("flight", "hotel"):
                await ctx.compute(what, note, what)
                saga.on_failure(f"cancel {what}", note, f"no {what}")
            await ctx.receive("payment")

    with Watch(cluster) as watch:
        run = cluster.start_workflow(trip, None)
        watch.until(CheckpointSet, times=2)
        run.cancel()
        with pytest.raises(WorkflowCancelledError):
            run.wait_for_completion(PATIENCE)
    assert notes() == ["flight", "hotel", "no hotel", "no flight"]


def test_a_cancellation_that_comes_while_a_saga_undoes_waits_for_it(cluster: Cluster) -> None:
    async def trip(ctx: WorkflowContext, given: Any) -> Any:
        try:
            async with ctx.saga() as saga:
                saga.on_failure("undo", note, "undone")
                await ctx.compute("fail", lambda: 1 // 0)
        except ZeroDivisionError:
            await ctx.receive("go")
        except asyncio.CancelledError:
            return "in the saga"

    for number in cluster.nodes:
        cluster.hold(number)
    run = cluster.start_workflow(trip, None)
    run.cancel()
    for number in cluster.nodes:
        cluster.release(number)
    assert run.wait_for_completion(PATIENCE) == "in the saga"
    assert notes() == ["undone"]


def test_a_run_that_is_moved_keeps_its_signals_its_pause_and_its_request_to_end(cluster: Cluster) -> None:
    async def order(ctx: WorkflowContext, given: Any) -> Any:
        first = await ctx.receive("first")
        return [1, first, await ctx.receive("second")]

    async def better(ctx: WorkflowContext, given: Any) -> Any:
        first = await ctx.receive("first")
        return [2, first, await ctx.receive("second")]

    cluster.register_workflow("order", 1, order)
    run = cluster.start_workflow("order", 1, None)
    run.signal("first", "a")
    run.pause()
    cluster.register_workflow("order", 2, better)
    run.move_to_version(2)
    assert run.status == "paused"
    run.signal("second", "b")
    run.resume()
    assert run.wait_for_completion(PATIENCE) == [2, "a", "b"]
    assert [node.result(run.run_id, PATIENCE) for node in cluster.nodes.values()] == [[2, "a", "b"]] * 3


def test_a_run_that_cancels_itself_has_failed_and_says_so() -> None:
    async def gives_up(ctx: WorkflowContext, _: None) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await ctx.sleep(1)

    with workflow_test() as test:
        run = test.start(gives_up, None)
        with pytest.raises(WorkflowFailedError, match="nobody had asked it to end") as caught:
            test.finish(run)
        assert not isinstance(caught.value, WorkflowCancelledError)
        assert run.status == "failed"
