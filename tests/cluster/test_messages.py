"""Mistakes that are easily made, and what they are answered with."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import anyio
import pytest

from raftoral_nb import (
    CheckpointSet,
    Cluster,
    CompletionTimeoutError,
    NoSuchNodeError,
    WorkflowCompleted,
    WorkflowContext,
    WorkflowFailedError,
    WorkflowStarted,
    current_cluster,
)
from tests.cluster.helpers import PATIENCE


async def updates_with_a_coroutine(ctx: WorkflowContext, start: int) -> int:
    async def add(value: int) -> int:
        return value + 1

    counter = await ctx.var("counter", start)
    await counter.update(add)  # type: ignore[arg-type]
    return counter.value


async def awaits_a_run(ctx: WorkflowContext, run_id: str) -> Any:
    cluster = current_cluster()
    assert cluster is not None
    return await cluster.run(run_id)


async def nothing(ctx: WorkflowContext, given: None) -> None:
    """Ends at once."""


def test_an_asynchronous_update_is_refused_with_the_form_to_use(cluster: Cluster) -> None:
    with pytest.raises(WorkflowFailedError, match=r"update\(\) takes a synchronous function"):
        cluster.start_workflow(updates_with_a_coroutine, 1).wait_for_completion(PATIENCE)


def test_awaiting_a_run_inside_a_workflow_is_refused_with_the_way_around(cluster: Cluster) -> None:
    other = cluster.start_workflow(nothing, None)
    with pytest.raises(WorkflowFailedError, match="awaited inside a workflow"):
        cluster.start_workflow(awaits_a_run, other.run_id).wait_for_completion(PATIENCE)


def test_a_step_function_may_have_parameters_of_any_name(cluster: Cluster) -> None:
    def greet(key: str, fn: str, name: str) -> str:
        return f"{key} {fn} {name}"

    async def greets(ctx: WorkflowContext, given: None) -> str:
        return await ctx.compute("greet", greet, key="a", fn="b", name="c")

    assert cluster.start_workflow(greets, None).wait_for_completion(PATIENCE) == "a b c"


def test_events_are_kept_from_the_call_of_events_on(cluster: Cluster) -> None:
    async def main() -> None:
        events = cluster.events()
        run = cluster.start_workflow(nothing, None)
        await run
        async with asyncio.timeout(PATIENCE):
            async for event in events:
                if isinstance(event, WorkflowStarted):
                    assert event.run_id == run.run_id
                    break
        await events.aclose()

    asyncio.run(main())


def test_a_timeout_of_waiting_leaves_the_run_alone(cluster: Cluster) -> None:
    async def sleeps(ctx: WorkflowContext, seconds: float) -> str:
        await ctx.compute("sleep", asyncio.sleep, seconds)
        return "woke"

    run = cluster.start_workflow(sleeps, 0.3)
    with pytest.raises(CompletionTimeoutError, match=r"it is still running: run\.code\(\) shows where"):
        run.wait_for_completion(0.001)
    run.pause()
    with pytest.raises(CompletionTimeoutError, match="it is paused"):
        run.wait_for_completion(0.001)
    run.resume()
    assert run.wait_for_completion(PATIENCE) == "woke"


def test_the_history_does_not_keep_large_values(cluster: Cluster) -> None:
    async def big(ctx: WorkflowContext, size: int) -> bytes:
        return await ctx.compute("big", bytes, size)

    assert len(cluster.start_workflow(big, 100_000).wait_for_completion(PATIENCE)) == 100_000
    kept = [event for _, event in cluster.history()]
    (checkpoint,) = [event for event in kept if isinstance(event, CheckpointSet)]
    (completed,) = [event for event in kept if isinstance(event, WorkflowCompleted)]
    assert checkpoint.step.value is None
    assert completed.result == b""


@pytest.mark.parametrize("given", [5, "coroutine"])
def test_compute_without_a_function_is_refused_with_the_form_to_use(cluster: Cluster, given: object) -> None:
    async def wrong(ctx: WorkflowContext, given: object) -> Any:
        async def fn() -> int:
            return 1

        return await ctx.compute("wrong", fn() if given == "coroutine" else given)  # type: ignore[call-overload]

    with pytest.raises(WorkflowFailedError, match="takes a function and its arguments"):
        cluster.start_workflow(wrong, given).wait_for_completion(PATIENCE)


def test_compute_without_a_name_says_that_the_name_comes_first(cluster: Cluster) -> None:
    async def nameless(ctx: WorkflowContext, given: object) -> Any:
        return await ctx.compute(str.upper, given)  # type: ignore[call-overload]

    with pytest.raises(WorkflowFailedError, match=r"a name for the step first.*await ctx.compute\('upper', ...\)"):
        cluster.start_workflow(nameless, "a").wait_for_completion(PATIENCE)


def test_an_unknown_node_is_named_with_those_there_are(cluster: Cluster) -> None:
    with pytest.raises(NoSuchNodeError, match="there is no node 7: the nodes are 1, 2, 3"):
        cluster.nodes[7]
    assert cluster.nodes.get(7) is None


def test_with_a_log_level_events_are_logged_until_the_cluster_stops(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with Cluster(1, network="memory", log_level="info") as cluster:
        cluster.start_workflow(nothing, None).wait_for_completion(PATIENCE)
    assert any("WorkflowCompleted" in record.message for record in caplog.records)
    caplog.clear()
    with Cluster(1, network="memory") as cluster:
        cluster.start_workflow(nothing, None).wait_for_completion(PATIENCE)
    assert not caplog.records
    capfd.readouterr()


def test_an_interrupt_while_waiting_is_said_in_one_line_and_the_run_goes_on(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = cluster.start_workflow(nothing, None)

    def interrupted(event: threading.Event, timeout: float | None = None) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(threading.Event, "wait", interrupted)  # as when Ctrl-C comes while it waits
        with pytest.raises(KeyboardInterrupt) as caught:
            run.wait_for_completion(PATIENCE)
    render = caught.value._render_traceback_  # type: ignore[attr-defined]
    assert render() == [f"KeyboardInterrupt: waiting for run {run.run_id!r} was interrupted; the run continues"]
    run.wait_for_completion(PATIENCE)


def test_a_cancellation_while_awaiting_is_the_same_cancellation_said_in_one_line(cluster: Cluster) -> None:
    async def sleeps(ctx: WorkflowContext, seconds: float) -> str:
        await ctx.compute("sleep", asyncio.sleep, seconds)
        return "woke"

    async def main() -> None:
        run = cluster.start_workflow(sleeps, 0.3)
        with anyio.move_on_after(0.01) as scope:  # anyio must know its own cancellation
            await run
        assert scope.cancelled_caught

        async def wait() -> str:
            return await run

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert "the run continues" in caught.value._render_traceback_()[0]  # type: ignore[attr-defined]
        assert await run == "woke"

    asyncio.run(main())
