"""Listing runs, and the history of one."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from raftoral_nb import Cluster, RaftoralError, WorkflowContext
from raftoral_nb.core.events import (
    CheckpointSet,
    MessageSent,
    StateEvent,
    WorkflowCompleted,
    WorkflowContinued,
    WorkflowStarted,
)
from tests.cluster.helpers import PATIENCE, Watch


class Awkward:
    """Its repr raises."""

    def __repr__(self) -> str:
        raise ValueError("not shown")


async def order(ctx: WorkflowContext, given: Any) -> Any:
    if given == "fail":
        raise ValueError("no")
    if given == "wait":
        await ctx.receive("go")
    return await ctx.compute("step", lambda: given)


def kinds(history: tuple[tuple[float, StateEvent], ...]) -> list[str]:
    return [type(event).__name__ for _, event in history]


def test_runs_are_found_by_status_workflow_and_age(cluster: Cluster) -> None:
    cluster.register_workflow("order", order)
    cluster.register_workflow("other", order)
    done = cluster.start_workflow("order", 1)
    failed = cluster.start_workflow("other", "fail")
    waiting = cluster.start_workflow("order", "wait")
    done.wait_for_completion(PATIENCE)
    with pytest.raises(RaftoralError):
        failed.wait_for_completion(PATIENCE)

    def found(**what: Any) -> list[str]:
        return [run.run_id for run in cluster.runs(**what)]

    assert found() == [done.run_id, failed.run_id, waiting.run_id]
    assert found(status="failed") == [failed.run_id]
    assert found(status="running") == [waiting.run_id]
    assert found(workflow="order") == [done.run_id, waiting.run_id]
    assert found(workflow="order", status="completed", since=timedelta(hours=1)) == [done.run_id]
    assert found(since=datetime.now(UTC) + timedelta(hours=1)) == []
    assert found(since=waiting.started_at) == [waiting.run_id]
    assert done.ended_at is not None
    assert waiting.ended_at is None
    for bad in ({"status": "gone"}, {"since": 5}, {"since": datetime(2026, 1, 1)}):  # noqa: DTZ001
        with pytest.raises(RaftoralError):
            cluster.runs(**bad)
    waiting.terminate()


def test_the_history_of_a_run_is_everything_recorded_of_it_with_times(cluster: Cluster) -> None:
    for number in cluster.nodes:
        cluster.hold(number)
    run = cluster.start_workflow(order, "wait", run_id="r")
    run.pause()
    run.resume()
    run.signal("go", 5)
    assert kinds(run.history()) == ["WorkflowStarted", "RunPaused", "RunResumed", "MessageSent"]
    for number in cluster.nodes:
        cluster.release(number)
    run.wait_for_completion(PATIENCE)
    times = [time for time, _ in run.history()]
    assert times == sorted(times)
    assert kinds(run.history()) == [
        "WorkflowStarted",
        "RunPaused",
        "RunResumed",
        "MessageSent",
        "CheckpointSet",
        "WorkflowCompleted",
    ]
    events = [event for _, event in run.history()]
    assert [event.step.key for event in events if isinstance(event, CheckpointSet)] == ["step"]
    assert events[0] == WorkflowStarted("r", "order", 1)
    assert isinstance(events[-1], WorkflowCompleted)
    assert [event.message.name for event in events if isinstance(event, MessageSent)] == ["go"]


def test_the_history_says_what_was_asked_of_a_run_and_how_it_began_anew(cluster: Cluster) -> None:
    async def again(ctx: WorkflowContext, given: int) -> Any:
        if given < 2:
            return ctx.continue_as_new(given + 1)
        return await ctx.receive("never")

    run = cluster.start_workflow(again, 0)
    with Watch(cluster) as watch:
        if run.generation < 3:
            watch.until(WorkflowContinued, lambda event: event.generation == 3)
    run.cancel("why")
    with pytest.raises(RaftoralError, match="why"):
        run.wait_for_completion(PATIENCE)
    assert kinds(run.history())[-1] == "WorkflowCancelled"
    assert "CancelRequested" in kinds(run.history())
    assert kinds(run.history()).count("WorkflowContinued") == 2


def test_a_history_as_a_table_has_a_row_per_event_and_shows_values_safely_and_short(cluster: Cluster) -> None:
    pytest.importorskip("pandas")

    async def values(ctx: WorkflowContext, given: Any) -> None:
        await ctx.compute("long", lambda: "x" * 10_000)
        await ctx.compute("awkward", Awkward)
        try:
            await ctx.compute("bad", lambda: 1 // 0)
        except ZeroDivisionError:
            await ctx.receive("never", timeout=0, default=None)

    run = cluster.start_workflow(values, None)
    run.wait_for_completion(PATIENCE)
    frame = run.to_frame()
    assert list(frame.columns) == ["time", "event", "step_id", "operation", "node", "epoch", "value", "failure"]
    assert len(frame) == len(run.history()) == 5
    steps = frame.set_index("step_id")
    assert len(steps.loc["0/long", "value"]) <= 60
    assert "Awkward" in steps.loc["1/awkward", "value"]
    assert steps.loc["2/bad", "failure"].startswith("ZeroDivisionError")
    assert str(frame["time"].dtype) == "datetime64[us, UTC]"
    assert frame["time"].is_monotonic_increasing


def test_without_pandas_there_is_the_history_and_a_clear_error(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    run = cluster.start_workflow(order, 1)
    run.wait_for_completion(PATIENCE)
    with pytest.raises(RaftoralError, match="needs pandas"):
        run.to_frame()
    assert len(run.history()) == 3
