"""Sagas: what was done is undone in reverse, durably."""

from __future__ import annotations

from typing import Any

import pytest

from raftoral_nb import (
    CheckpointSet,
    Cluster,
    ClusterError,
    Retry,
    StepKeyError,
    WorkflowContext,
    WorkflowDefinitionError,
    step,
)
from raftoral_nb.core.events import TimerFired
from tests.cluster.helpers import PATIENCE, Watch, gate, note, notes


def results(cluster: Cluster, run_id: str) -> list[Any]:
    return [node.result(run_id, timeout=PATIENCE) for node in cluster.nodes.values() if node.alive]


def do(what: str) -> str:
    note(what)
    gate(what).enter()
    return what


async def trip(ctx: WorkflowContext, fails: bool) -> str:
    try:
        async with ctx.saga() as saga:
            for what in ("flight", "hotel", "car"):
                await ctx.compute(what, do, what)
                saga.on_failure(f"undo {what}", do, f"undo {what}")
            if fails:
                await ctx.compute("pay", lambda: 1 / 0)
    except ZeroDivisionError:
        return "undone"
    return "done"


ALL = ["flight", "hotel", "car", "undo car", "undo hotel", "undo flight"]


def open_all_but(*names: str) -> None:
    for name in ALL:
        if name not in names:
            gate(name).open()


def test_what_was_done_is_undone_in_reverse_each_as_a_step(cluster: Cluster) -> None:
    open_all_but()
    run = cluster.start_workflow(trip, True)
    assert run.wait_for_completion(PATIENCE) == "undone"
    assert notes() == ALL
    assert [one.key for one in run.steps] == [*ALL[:3], "pay", *ALL[3:]]
    assert results(cluster, run.run_id) == ["undone"] * 3


def test_nothing_is_undone_when_all_went_well(cluster: Cluster) -> None:
    open_all_but()
    run = cluster.start_workflow(trip, False)
    assert run.wait_for_completion(PATIENCE) == "done"
    assert notes() == ALL[:3]


def test_nothing_is_undone_when_the_run_begins_anew_in_a_saga(cluster: Cluster) -> None:
    open_all_but()

    async def stages(ctx: WorkflowContext, stage: int) -> str:
        async with ctx.saga() as saga:
            await ctx.compute("flight", do, "flight")
            saga.on_failure("undo flight", do, "undo flight")
            if stage == 0:
                raise ctx.continue_as_new(1)
        return "done"

    run = cluster.start_workflow(stages, 0)
    assert run.wait_for_completion(PATIENCE) == "done"
    assert run.generation == 2
    assert notes() == ["flight", "flight"]


@pytest.mark.parametrize("fault", ["kill", "pause", "restart all"])
@pytest.mark.parametrize("moment", ["car", "undo hotel", "undo flight"])
def test_a_saga_is_undone_to_its_end_by_the_next_leader(cluster: Cluster, fault: str, moment: str) -> None:
    open_all_but(moment)
    run = cluster.start_workflow(trip, True)
    gate(moment).await_arrival()
    lost = None
    if fault == "restart all":
        for number in cluster.nodes:
            cluster.kill(number)
        for number in cluster.nodes:
            cluster.restart(number)
    else:
        lost = cluster.kill("leader") if fault == "kill" else cluster.pause("leader")
    assert run.wait_for_completion(PATIENCE) == "undone"
    gate(moment).open()
    if lost is not None:
        cluster.restart(lost) if fault == "kill" else cluster.resume(lost)
    assert results(cluster, run.run_id) == ["undone"] * 3
    assert notes() == [one for name in ALL for one in ([name, name] if name == moment else [name])]


def test_a_compensation_that_fails_is_retried_and_then_told_beside_the_original(cluster: Cluster) -> None:
    @step(retry=Retry(attempts=3, first_wait=0.001))
    def stubborn() -> None:
        note("stubborn")
        raise ConnectionError("gone")

    def fail() -> None:
        raise ValueError("the reason")

    async def sagas(ctx: WorkflowContext, _: None) -> list[str]:
        try:
            async with ctx.saga() as saga:
                saga.on_failure("last", note, "last")
                saga.on_failure("stubborn", stubborn)
                saga.on_failure("first", note, "first")
                await ctx.compute("fail", fail)
        except ExceptionGroup as group:
            return [repr(error) for error in group.exceptions]
        return []

    run = cluster.start_workflow(sagas)
    assert run.wait_for_completion(PATIENCE) == ["ValueError('the reason')", "ConnectionError('gone')"]
    assert notes() == ["first", "stubborn", "stubborn", "stubborn", "last"]


def test_an_interrupted_saga_is_undone_and_nothing_that_passes_meanwhile_stops_that(cluster: Cluster) -> None:
    async def sagas(ctx: WorkflowContext, _: None) -> str:
        async def books(ctx: WorkflowContext) -> str:
            # The outer deadline passes, and the race is lost, while what the inner one interrupted is undone.
            async with ctx.deadline(0.5), ctx.deadline(0.05), ctx.saga() as saga:
                saga.on_failure("second", note, "second")
                saga.on_failure("slow", do, "slow")
                await ctx.sleep(3600)
            return "no"

        async def wins(ctx: WorkflowContext) -> str:
            return await ctx.compute("win", do, "win")

        return await ctx.race(books, wins)

    with Watch(cluster) as watch:
        run = cluster.start_workflow(sagas)
        gate("slow").await_arrival()
        watch.until(TimerFired, times=2)
        gate("win").open()
        watch.until(CheckpointSet, lambda event: event.step.key == "win")
        gate("slow").open()
    assert run.wait_for_completion(PATIENCE) == "win"
    assert sorted(notes()) == ["second", "slow", "win"]
    assert [one.key for one in run.steps][-2:] == ["slow", "second"]
    assert results(cluster, run.run_id) == ["win"] * 3


def test_misuse_of_a_saga_is_refused(cluster: Cluster) -> None:
    async def sagas(ctx: WorkflowContext, _: None) -> str:
        async with ctx.saga() as saga:
            with pytest.raises(StepKeyError):
                saga.on_failure("", note, "undo")
            with pytest.raises(WorkflowDefinitionError, match="takes a function"):
                saga.on_failure("undo", 5)  # type: ignore[arg-type]

        with pytest.raises(ClusterError, match="not open"):
            saga.on_failure("undo", note, "undo")
        return "refused"

    assert cluster.start_workflow(sagas).wait_for_completion(PATIENCE) == "refused"
