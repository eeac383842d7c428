"""Cancelling, pausing and terminating runs, from outside, whatever happens to the nodes meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from raftoral_nb import (
    Cluster,
    CompletionTimeoutError,
    RunEndedError,
    RunNotFoundError,
    WorkflowCancelledError,
    WorkflowContext,
    WorkflowFailedError,
    WorkflowRun,
    WorkflowTerminatedError,
)
from raftoral_nb.core.events import CancelRequested, CheckpointSet, RunPaused
from tests.cluster.helpers import PATIENCE, Watch, gate, note, notes


async def tidy(ctx: WorkflowContext, given: Any) -> Any:
    """Waits for ever, and cleans up."""
    try:
        await ctx.compute("begin", lambda: given)
        await ctx.receive("never")
    finally:
        await ctx.compute("clean up", note, "cleaned")


def cancelled(run: WorkflowRun[Any]) -> WorkflowCancelledError:
    with pytest.raises(WorkflowCancelledError) as caught:
        run.wait_for_completion(PATIENCE)
    return caught.value


def ends(cluster: Cluster, run: WorkflowRun[Any]) -> list[tuple[str, bool]]:
    """How each node's execution of the run ended: its status, and whether it has consumed every record."""
    for node in cluster.nodes.values():
        with pytest.raises(WorkflowFailedError):
            node.result(run.run_id, PATIENCE)
    executions = [node.runs[run.run_id] for node in cluster.statistics().nodes.values()]
    return [(execution.status, execution.catch_up_queue == 0) for execution in executions]


# --- cancelling


def test_a_cancelled_run_is_interrupted_where_it_waits_cleans_up_once_and_ends_as_cancelled(cluster: Cluster) -> None:
    with Watch(cluster) as watch:
        run = cluster.start_workflow(tidy, 1)
        watch.until(CheckpointSet)
        run.cancel("no longer wanted")
        error = cancelled(run)
    assert str(error) == f"run {run.run_id!r} was cancelled: no longer wanted"
    assert run.status == "cancelled"
    assert notes() == ["cleaned"]
    assert [step.key for step in run.steps] == ["begin", "clean up"]
    assert ends(cluster, run) == [("cancelled", True)] * 3


def test_an_asynchronous_step_that_runs_is_cancelled_and_its_result_is_not_recorded(cluster: Cluster) -> None:
    async def endless() -> None:
        try:
            gate("endless").arrived.set()
            await anyio.sleep_forever()
        finally:
            note("interrupted")

    async def stuck(ctx: WorkflowContext, given: Any) -> None:
        await ctx.compute("endless", endless)

    run = cluster.start_workflow(stuck, None)
    gate("endless").await_arrival()  # told to have started is not yet to run
    run.cancel()
    cancelled(run)
    assert notes() == ["interrupted"]
    assert run.steps == ()


def test_a_workflow_may_catch_its_cancellation_and_complete(cluster: Cluster) -> None:
    async def stubborn(ctx: WorkflowContext, given: Any) -> Any:
        try:
            await ctx.receive("never")
        except Exception:
            return "as an ordinary exception"
        except asyncio.CancelledError:
            return [ctx.cancel_reason, await ctx.receive("and then")]

    run = cluster.start_workflow(stubborn, None)
    run.cancel("why")
    run.signal("and then", 5)
    expected = ["why", 5]
    assert run.wait_for_completion(PATIENCE) == expected
    assert run.status == "completed"
    assert [node.result(run.run_id, PATIENCE) for node in cluster.nodes.values()] == [expected] * 3


def test_a_run_is_cancelled_though_the_leader_dies_before_it_could_interrupt_anything(cluster: Cluster) -> None:
    with Watch(cluster) as watch:
        run = cluster.start_workflow(tidy, 1)
        watch.until(CheckpointSet)
        leader = cluster.hold("leader")
        run.cancel()
        watch.until(CancelRequested)
        cluster.kill(leader)
        cancelled(run)
        cluster.restart(leader)
    assert notes() == ["cleaned"]
    assert ends(cluster, run) == [("cancelled", True)] * 3


def test_cleanup_goes_on_at_the_next_leader_and_is_not_interrupted_again(cluster: Cluster) -> None:
    async def slow(ctx: WorkflowContext, given: Any) -> None:
        try:
            await ctx.receive("never")
        finally:
            await ctx.compute("first", note, "first")
            await ctx.compute("second", gated)

    def gated() -> None:
        gate("cleanup").enter()
        note("second")

    with Watch(cluster) as watch:
        run = cluster.start_workflow(slow, None)
        run.cancel()
        gate("cleanup").await_arrival()
        watch.until(CheckpointSet, lambda event: event.step.key == "first")
        cluster.kill("leader")
        cancelled(run)
        gate("cleanup").open()
    assert notes().count("first") == 1
    assert [step.key for step in run.steps] == ["first", "second"]


def test_every_branch_is_interrupted_once_and_what_cleans_up_behind_them_is_left_alone(cluster: Cluster) -> None:
    async def wide(ctx: WorkflowContext, given: int) -> None:
        async def branch(inner: WorkflowContext) -> None:
            try:
                await inner.receive("never")
            finally:
                await inner.compute("branch", note, "branch")

        async def behind(inner: WorkflowContext) -> None:
            await inner.compute("behind", note, "behind")

        try:
            await ctx.gather(*[branch] * given)
        except asyncio.CancelledError:
            await ctx.gather(behind, behind)
            raise

    run = cluster.start_workflow(wide, 5)
    run.cancel()
    cancelled(run)
    assert sorted(notes()) == ["behind"] * 2 + ["branch"] * 5
    assert [step.key for step in run.steps] == ["branch"] * 5 + ["behind"] * 2
    assert ends(cluster, run) == [("cancelled", True)] * 3


def test_a_run_that_was_cancelled_before_its_first_step_does_nothing_but_clean_up(cluster: Cluster) -> None:
    for number in cluster.nodes:
        cluster.hold(number)
    run = cluster.start_workflow(tidy, 1)
    run.cancel()
    for number in cluster.nodes:
        cluster.release(number)
    cancelled(run)
    assert [step.key for step in run.steps] == ["clean up"]


# --- pausing


def test_a_paused_run_begins_no_step_until_it_is_resumed(cluster: Cluster) -> None:
    async def steps(ctx: WorkflowContext, given: Any) -> Any:
        await ctx.compute("first", lambda: gate("step").enter())
        return await ctx.compute("second", lambda: 2)

    with Watch(cluster) as watch:
        run = cluster.start_workflow(steps, None)
        gate("step").await_arrival()
        run.pause()
        gate("step").open()
        watch.until(CheckpointSet)  # what had begun is recorded
        with pytest.raises(CompletionTimeoutError):
            run.wait_for_completion(0.2)
        assert (run.status, len(run.steps)) == ("paused", 1)
        run.resume()
        assert run.wait_for_completion(PATIENCE) == 2
    assert run.status == "completed"


def test_a_pause_outlives_leaders_and_a_restart_of_every_node(cluster: Cluster) -> None:
    async def step(ctx: WorkflowContext, given: Any) -> Any:
        await ctx.receive("go")
        return await ctx.compute("second", lambda: 2)

    run = cluster.start_workflow(step, None)
    with Watch(cluster) as watch:
        run.pause()
        watch.until(RunPaused)
    for number in cluster.nodes:
        cluster.kill(number)
    for number in cluster.nodes:
        cluster.restart(number)
    run.signal("go")
    cluster.kill("leader")
    cluster.wait_for_leader()
    with pytest.raises(CompletionTimeoutError):
        run.wait_for_completion(0.2)
    assert (run.status, run.steps) == ("paused", ())
    run.resume()
    assert run.wait_for_completion(PATIENCE) == 2


def test_a_paused_run_can_be_cancelled_and_cleans_up(cluster: Cluster) -> None:
    run = cluster.start_workflow(tidy, 1)
    run.pause()
    run.cancel()
    cancelled(run)
    assert notes() == ["cleaned"]


# --- terminating


def test_a_terminated_run_ends_at_once_on_every_node_and_cleans_up_nowhere(cluster: Cluster) -> None:
    with Watch(cluster) as watch:
        run = cluster.start_workflow(tidy, 1)
        watch.until(CheckpointSet)
        run.terminate("enough")
        with pytest.raises(WorkflowTerminatedError, match="was terminated: enough"):
            run.wait_for_completion(PATIENCE)
    assert (run.status, notes()) == ("terminated", [])
    assert [status for status, _ in ends(cluster, run)] == ["terminated"] * 3


def test_a_run_whose_workflow_ignores_that_it_is_cancelled_can_be_terminated(cluster: Cluster) -> None:
    async def deaf(ctx: WorkflowContext, given: Any) -> None:
        while True:
            try:
                await ctx.receive("never")
            except asyncio.CancelledError:
                note("ignored")

    run = cluster.start_workflow(deaf, None)
    run.cancel()
    run.terminate()
    with pytest.raises(WorkflowTerminatedError):
        run.wait_for_completion(PATIENCE)
    assert cluster.start_workflow(tidy, 1).status == "running"  # its nodes go on


def test_a_run_that_only_waits_to_record_its_end_is_terminated_on_every_node_alike(cluster: Cluster) -> None:
    async def short(ctx: WorkflowContext, given: Any) -> Any:
        return await ctx.compute("step", lambda: gate("end").enter())

    with Watch(cluster) as watch:
        run = cluster.start_workflow(short, None)
        gate("end").await_arrival()
        run.pause()
        gate("end").open()
        watch.until(CheckpointSet)
        run.terminate()
    assert [status for status, _ in ends(cluster, run)] == ["terminated"] * 3


# --- what is refused


def test_nothing_can_be_asked_of_a_run_that_has_ended(cluster: Cluster) -> None:
    async def short(ctx: WorkflowContext, given: Any) -> None: ...

    run = cluster.start_workflow(short, None)
    run.wait_for_completion(PATIENCE)
    for ask in (run.cancel, run.pause, run.resume, run.terminate):
        with pytest.raises(RunEndedError, match="has ended"):
            ask()
    with pytest.raises(RunNotFoundError):
        cluster.run("nobody")


def test_a_run_that_is_being_cancelled_cannot_be_paused(cluster: Cluster) -> None:
    async def stubborn(ctx: WorkflowContext, given: Any) -> None:
        try:
            await ctx.receive("never")
        except asyncio.CancelledError:
            await ctx.receive("end")

    run = cluster.start_workflow(stubborn, None)
    run.cancel()
    run.cancel()  # asking again is no error
    with pytest.raises(RunEndedError, match="asked to end"):
        run.pause()
    run.signal("end")
    run.wait_for_completion(PATIENCE)
