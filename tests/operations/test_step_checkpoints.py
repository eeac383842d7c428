"""Long steps that save how far they have come, and continue from there: on this node, another, or after all were stopped."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from raftoral_nb import (
    BadArgumentError,
    Cluster,
    NotAcknowledgedError,
    Retry,
    StepStateSaved,
    ValueNotShippableError,
    WorkflowCancelledError,
    WorkflowCompleted,
    WorkflowContext,
    current_step,
    step,
)
from raftoral_nb.testing import workflow_test
from tests.cluster.helpers import PATIENCE, Watch, engine, followers, gate, note, notes

SOON = Retry(attempts=4, first_wait=0.001, max_wait=0.002)
EPOCHS = 40


def left(cluster: Cluster, run_id: str) -> list[Any]:
    """What is saved of the steps of a run that has ended, by each node that knows of its end."""
    runs = [one.member.state.runs[run_id] for one in engine(cluster)._incarnations.values()]
    return [tuple(run.step_states) for run in runs if not run.unfinished]


async def trains(dies_at: int | None) -> list[Any]:
    """Goes through all epochs, each of which is recorded before the next; the first attempt comes to `dies_at` and waits there."""
    running = current_step()
    begin = running.last or 0
    note(("from", begin, running.has_last))
    for epoch in range(begin, EPOCHS):
        if epoch == dies_at and not begin:
            await asyncio.to_thread(gate("dies").enter)
        note(epoch)
        await running.checkpoint(epoch + 1, every=0)
    return [begin, EPOCHS]


def trains_on_a_thread(dies_at: int | None) -> list[Any]:
    running = current_step()
    begin = running.last or 0
    note(("from", begin, running.has_last))
    for epoch in range(begin, EPOCHS):
        if epoch == dies_at and not begin:
            gate("dies").enter()
        note(epoch)
        running.checkpoint(epoch + 1, every=0).wait()
    return [begin, EPOCHS]


FORMS = pytest.mark.parametrize("fn", [trains, trains_on_a_thread])


@FORMS
@pytest.mark.parametrize("fault", ["kill", "pause", "kill all"])
def test_a_step_whose_node_dies_at_epoch_20_goes_on_at_20_and_repeats_none(
    cluster: Cluster, fn: Callable[..., Any], fault: str
) -> None:
    async def fits(ctx: WorkflowContext, _: None) -> Any:
        return await ctx.compute("fit", fn, 20)

    run = cluster.start_workflow(fits)
    gate("dies").await_arrival()
    if fault == "kill all":
        for number in followers(cluster):  # so that none of them goes on before it dies, too
            cluster.kill(number)
        (leader,) = (number for number, node in cluster.nodes.items() if node.alive)
        cluster.kill(leader)
        for number in cluster.nodes:
            cluster.restart(number)
    else:
        lost = cluster.kill("leader") if fault == "kill" else cluster.pause("leader")
    assert run.wait_for_completion(PATIENCE) == [20, EPOCHS]
    assert [what for what in notes() if isinstance(what, int)] == list(range(EPOCHS))
    assert [what for what in notes() if not isinstance(what, int)] == [("from", 0, False), ("from", 20, True)]
    gate("dies").open()
    if fault == "pause":
        cluster.resume(lost)
    assert [one.key for one in run.steps] == ["fit"], "what was saved is no record"
    assert set(left(cluster, run.run_id)) == {()}


@FORMS
def test_a_step_goes_on_where_it_was_when_the_whole_cluster_was_stopped_and_starts_again(
    tmp_path: Path, fn: Callable[..., Any]
) -> None:
    async def fits(ctx: WorkflowContext, _: None) -> Any:
        return await ctx.compute("fit", fn, 20)

    with Cluster(3, data_dir=tmp_path / "data") as cluster:
        run_id = cluster.start_workflow(fits).run_id
        gate("dies").await_arrival()
        gate("dies").open()
        cluster.stop()
    known = len(notes())
    with Cluster(3, data_dir=tmp_path / "data") as cluster:
        assert cluster.run(run_id).wait_for_completion(PATIENCE)[1] == EPOCHS
    after = notes()[known:]
    kind, begin, _ = next(what for what in after if not isinstance(what, int))
    assert (kind, begin) == ("from", begin)
    assert 20 <= begin <= EPOCHS


def test_what_an_attempt_saved_last_is_there_for_the_next_though_it_was_not_due(cluster: Cluster) -> None:
    """Sparse: only the first of twenty is recorded at once; the last of them when the attempt has failed."""

    async def fits(ctx: WorkflowContext, _: None) -> Any:
        def fit() -> int:
            running = current_step()
            begin = running.last or 0
            note(begin)
            for epoch in range(begin, EPOCHS):
                if epoch == begin + 20 and running.attempt == 1:
                    raise ConnectionError
                running.checkpoint(epoch + 1, every=1000)
            return begin

        return await ctx.compute("fit", step(fit, retry=SOON))

    with Watch(cluster) as watch:
        run = cluster.start_workflow(fits)
        assert run.wait_for_completion(PATIENCE) == 20
        watch.until(WorkflowCompleted)
        saved = watch.of(StepStateSaved)
    assert notes() == [0, 20]
    assert len([one for one in saved if one.number <= 2]) == 2, "the first, and the last of the attempt that failed"


async def saves_often(every: float | None) -> None:
    for number in range(101):
        current_step().checkpoint(number, every)
        await asyncio.sleep(0.1)
    await asyncio.sleep(5)
    raise ConnectionError


@pytest.mark.parametrize(("every", "least", "most"), [(None, 10, 12), (2, 5, 7), (0, 60, 102)])
def test_at_most_one_checkpoint_in_so_many_seconds_is_recorded_and_in_the_end_the_latest(
    every: float | None, least: int, most: int
) -> None:
    async def fits(ctx: WorkflowContext, every: float | None) -> Any:
        with pytest.raises(ConnectionError):
            await ctx.compute("fit", saves_often, every)

    with workflow_test() as test:
        test.finish(test.start(fits, every))
        saved = [event for _, event in test.cluster.history() if isinstance(event, StepStateSaved)]
    assert least <= len(saved) <= most
    assert [event.number for event in saved] == list(range(1, len(saved) + 1))


def test_what_is_saved_is_the_value_as_it_was_and_a_new_one_for_each_who_asks(cluster: Cluster) -> None:
    @dataclass
    class Weights:
        epoch: int
        layers: list[int]

    async def fits(ctx: WorkflowContext, _: None) -> Any:
        def fit() -> Any:
            running = current_step()
            if running.attempt == 1:
                weights = Weights(1, [1])
                running.checkpoint(weights)
                weights.layers.append(2)
                raise ConnectionError
            first, second = running.last, running.last
            first.layers.append(3)
            running.checkpoint(Weights(9, []), every=0).wait()
            assert type(first) is Weights
            return [second.layers, running.last.layers, first.epoch]

        return await ctx.compute("fit", step(fit, retry=SOON))

    assert cluster.start_workflow(fits).wait_for_completion(PATIENCE) == [[1], [1], 1]


def test_a_checkpoint_that_is_none_is_one(cluster: Cluster) -> None:
    async def fits(ctx: WorkflowContext, _: None) -> Any:
        def fit() -> Any:
            running = current_step()
            found = (running.has_last, running.last)
            if running.attempt == 1:
                running.checkpoint(None)
                raise ConnectionError
            return found

        return [await ctx.compute("fit", step(fit, retry=SOON)), await ctx.compute("another", fit_none)]

    assert cluster.start_workflow(fits).wait_for_completion(PATIENCE) == [(True, None), (False, None)]


def fit_none() -> Any:
    return (current_step().has_last, current_step().last)


def test_an_attempt_that_took_too_long_leaves_its_checkpoint_and_saves_nothing_afterwards(cluster: Cluster) -> None:
    async def fits(ctx: WorkflowContext, _: None) -> Any:
        def fit() -> Any:
            running = current_step()
            if running.attempt == 1:
                running.checkpoint("in time", every=0)
                gate("late").enter()
                with pytest.raises(NotAcknowledgedError):
                    running.checkpoint("too late", every=0).wait()
                note("refused")
                gate("told").open()
                return None
            last = running.last
            gate("late").open()
            gate("told").enter()
            return last

        return await ctx.compute("fit", step(fit, timeout=0.3, retry=SOON))

    assert cluster.start_workflow(fits).wait_for_completion(PATIENCE) == "in time"
    assert notes() == ["refused"]


def test_what_cannot_be_saved_is_said_where_it_was_asked_for(cluster: Cluster) -> None:
    async def fits(ctx: WorkflowContext, _: None) -> Any:
        def fit() -> Any:
            running = current_step()
            with pytest.raises(ValueNotShippableError, match="a checkpoint of step '0/fit'"):
                running.checkpoint(threading.Lock())
            with pytest.raises(BadArgumentError, match="every"):
                running.checkpoint(1, every="often")  # type: ignore[arg-type]
            return "told"

        return await ctx.compute("fit", fit)

    assert cluster.start_workflow(fits).wait_for_completion(PATIENCE) == "told"


def test_a_step_that_continues_says_so_until_it_has_something_else_to_say(cluster: Cluster) -> None:
    async def fits(ctx: WorkflowContext, _: None) -> Any:
        def fit() -> Any:
            running = current_step()
            if running.attempt == 1:
                running.checkpoint(7)
                raise ConnectionError
            note((running.last, running.activity().text))
            running.progress(0.5, "epoch 8")
            note(running.activity().text)

        await ctx.compute("fit", step(fit, retry=SOON))

    cluster.start_workflow(fits).wait_for_completion(PATIENCE)
    assert notes() == [(7, "continues from its last checkpoint"), "epoch 8"]


def test_a_request_to_cancel_ends_a_step_that_does_nothing_but_save(cluster: Cluster) -> None:
    async def fits(ctx: WorkflowContext, _: None) -> Any:
        async def fit() -> None:
            while True:
                await current_step().checkpoint("on", every=0)

        await ctx.compute("fit", fit)

    with Watch(cluster) as watch:
        run = cluster.start_workflow(fits)
        watch.until(StepStateSaved, times=3)
    run.cancel("enough")
    with pytest.raises(WorkflowCancelledError):
        run.wait_for_completion(PATIENCE)
    assert set(left(cluster, run.run_id)) == {()}


def test_in_a_workflow_test_a_node_may_die_in_the_middle_of_a_long_step() -> None:
    async def fits(ctx: WorkflowContext, _: None) -> Any:
        return [await ctx.compute("begin", str), await ctx.compute("fit", fit_slowly), await ctx.compute("end", str)]

    with workflow_test() as test:
        run = test.start(fits)
        test.advance(20.5)
        test.kill("leader")
        begin, end = test.finish(run)[1]
    assert (begin, end) == (20, EPOCHS)


async def fit_slowly() -> list[int]:
    begin = current_step().last or 0
    for epoch in range(begin, EPOCHS):
        await asyncio.sleep(1)
        await current_step().checkpoint(epoch + 1, every=0)
    return [begin, EPOCHS]
