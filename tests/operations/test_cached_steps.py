"""Results of steps that all runs share: found again by code and inputs, whoever leads, and after all was stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from raftoral_nb import BadArgumentError, Cluster, StepSource, WorkflowContext, WorkflowFailedError, WorkflowRun, step
from raftoral_nb.testing import workflow_test
from tests.cluster.helpers import PATIENCE, gate, note, notes


def fit(data: Any, rate: float = 0.5) -> Any:
    note((data, rate))
    return [data, rate]


@pytest.fixture
def fits() -> Callable[..., Any]:
    async def fits(ctx: WorkflowContext, data: Any) -> Any:
        return await ctx.compute("fit", step(fit, cache="inputs"), data, rate=0.1)

    return fits


def results(cluster: Cluster, run: WorkflowRun[Any]) -> list[Any]:
    return [node.result(run.run_id, timeout=PATIENCE) for node in cluster.nodes.values() if node.alive]


def test_another_run_that_asks_for_the_same_gets_what_was_computed(cluster: Cluster, fits: Callable[..., Any]) -> None:
    first, second, third = (
        cluster.start_workflow(fits, data, run_id=name) for name, data in (("r1", [1, 2]), ("r2", [1, 2]), ("r3", [3]))
    )
    assert [run.wait_for_completion(PATIENCE) for run in (first, third)] == [[[1, 2], 0.1], [[3], 0.1]]
    second.wait_for_completion(PATIENCE)
    fourth = cluster.start_workflow(fits, [1, 2], run_id="r4")
    assert fourth.wait_for_completion(PATIENCE) == [[1, 2], 0.1]
    assert results(cluster, fourth) == [[[1, 2], 0.1]] * 3
    (hit,) = fourth.steps
    assert (hit.key, hit.operation) == ("fit", "compute")
    assert hit.cached_from is not None
    assert hit.cached_from.run_id in ("r1", "r2")
    assert len([what for what in notes() if what == ([1, 2], 0.1)]) <= 2, "two that asked at once may both compute"
    assert notes().count(([3], 0.1)) == 1
    latest = cluster.cached_steps()[0]
    assert (latest.name, latest.inputs, latest.source.step_id) == ("fit", "[1, 2], rate=0.1", "0/fit")
    assert latest.hits >= 1
    assert latest.size > 0


def test_another_leader_finds_what_the_one_before_computed(cluster: Cluster, fits: Callable[..., Any]) -> None:
    assert cluster.start_workflow(fits, 1).wait_for_completion(PATIENCE) == [1, 0.1]
    cluster.kill("leader")
    second = cluster.start_workflow(fits, 1)
    assert second.wait_for_completion(PATIENCE) == [1, 0.1]
    assert second.steps[0].cached_from is not None
    assert notes() == [(1, 0.1)]


def test_a_node_that_replays_gets_the_record_whatever_became_of_the_cache(
    cluster: Cluster, fits: Callable[..., Any]
) -> None:
    cluster.start_workflow(fits, 1).wait_for_completion(PATIENCE)
    run = cluster.start_workflow(fits, 1)
    run.wait_for_completion(PATIENCE)
    cluster.clear_cache()
    killed = cluster.kill("leader")
    cluster.restart(killed)
    assert results(cluster, run) == [[1, 0.1]] * 3
    assert cluster.cached_steps() == ()
    assert notes() == [(1, 0.1)]


def test_a_cluster_that_was_stopped_and_starts_again_on_its_data_still_has_what_was_computed(
    tmp_path: Path, fits: Callable[..., Any]
) -> None:
    with Cluster(3, data_dir=tmp_path / "data") as cluster:
        assert cluster.start_workflow(fits, 1, run_id="before").wait_for_completion(PATIENCE) == [1, 0.1]
    with Cluster(3, data_dir=tmp_path / "data") as cluster:
        run = cluster.start_workflow(fits, 1, run_id="after")
        assert run.wait_for_completion(PATIENCE) == [1, 0.1]
        assert run.steps[0].cached_from == StepSource("before", "0/fit")
        assert [(one.name, one.hits) for one in cluster.cached_steps()] == [("fit", 1)]
    assert notes() == [(1, 0.1)]


def test_a_result_is_good_for_as_long_as_the_step_says() -> None:
    async def twice(ctx: WorkflowContext, seconds: float) -> None:
        for _ in range(3):
            await ctx.compute("fit", step(fit, cache="inputs", ttl=timedelta(seconds=60)), 1)
            await ctx.sleep(seconds)
        await ctx.compute("fit", step(fit, cache="inputs"), 1)

    with workflow_test() as test:
        slow = test.start(twice, 100)
        test.finish(slow)
        assert [one.cached_from is None for one in slow.steps] == [True, True, True, False]
        assert notes() == [(1, 0.5)] * 3
        quick = test.start(twice, 50)
        test.finish(quick)
        # The last of the others was computed a hundred seconds before.
        assert [one.cached_from is None for one in quick.steps] == [True, False, True, False]


def test_a_failure_is_not_kept_and_a_step_that_is_tried_again_keeps_what_it_came_to() -> None:
    def flaky(data: int) -> int:
        note("called")
        if len(notes()) < 3:
            raise ConnectionError
        return data

    async def fails(ctx: WorkflowContext, _: None) -> int:
        return await ctx.compute("flaky", step(flaky, cache="inputs"), 1)

    with workflow_test() as test:
        for _ in range(2):
            with pytest.raises(WorkflowFailedError):
                test.finish(test.start(fails))
        assert test.cluster.cached_steps() == ()
        assert [test.finish(test.start(fails)) for _ in range(2)] == [1, 1]
    assert notes() == ["called"] * 3


def test_other_code_under_the_same_name_computes_anew() -> None:
    def made(sign: int) -> Callable[..., Any]:
        def fit(data: int) -> int:
            note(sign)
            return sign * data

        async def fits(ctx: WorkflowContext, data: int) -> int:
            return await ctx.compute("fit", step(fit, cache="inputs"), data)

        return fits

    with workflow_test() as test:
        test.cluster.register_workflow("fits", 1, made(1))
        test.cluster.register_workflow("fits", 2, made(-1))
        found = [test.finish(test.cluster.start_workflow("fits", 3, version=version)) for version in (1, 2, 1, 2)]
    assert found == [3, -3, 3, -3]
    assert notes() == [1, -1]


def test_inputs_without_a_digest_are_computed_each_time_which_is_said_once() -> None:
    def locks(lock: Any) -> str:
        note("called")
        return type(lock).__name__

    async def holds(ctx: WorkflowContext, times: int) -> list[str]:
        return [await ctx.compute("locks", step(locks, cache="inputs"), threading.Lock()) for _ in range(times)]

    with workflow_test() as test:
        run = test.start(holds, 2)
        assert test.finish(run) == ["lock"] * 2
        lines = [line.text for line in test.cluster.log(run.run_id) if "are computed each time" in line.text]
        assert test.cluster.cached_steps() == ()
    assert notes() == ["called"] * 2
    assert len(lines) == 1
    assert lines[0].startswith("steps of locks are computed each time")


def test_the_cache_can_be_cleared_of_one_function() -> None:
    def load(data: int) -> int:
        note("load")
        return data

    async def both(ctx: WorkflowContext, data: int) -> None:
        await ctx.compute("load", step(load, cache="inputs"), data)
        await ctx.compute("fit", step(fit, cache="inputs"), data)

    with workflow_test() as test:
        test.finish(test.start(both, 1))
        test.cluster.clear_cache("load")
        assert [one.name for one in test.cluster.cached_steps()] == ["fit"]
        test.finish(test.start(both, 1))
        assert notes() == ["load", (1, 0.5), "load"]
        test.cluster.clear_cache()
        assert test.cluster.cached_steps() == ()
        for wrong in ("", 3):
            with pytest.raises(BadArgumentError, match="clear_cache"):
                test.cluster.clear_cache(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"cache": "always"}, 'cache is "inputs"'),
        ({"ttl": 5}, "it takes cache="),
        ({"cache": "inputs", "ttl": -1}, "ttl is a number of seconds from 0 on"),
        ({"cache": "inputs", "at_most_once": True}, "take one of the two"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(BadArgumentError, match=says):
        step(fit, **options)


def test_a_leader_that_dies_before_the_result_is_recorded_leaves_nothing_in_the_cache(cluster: Cluster) -> None:
    async def waits(ctx: WorkflowContext, _: None) -> str:
        def slow() -> str:
            note("called")
            gate("slow").enter()
            return "done"

        return await ctx.compute("slow", step(slow, cache="inputs"))

    run = cluster.start_workflow(waits)
    gate("slow").await_arrival()
    cluster.kill("leader")
    gate("slow").open()
    assert run.wait_for_completion(PATIENCE) == "done"
    assert run.steps[0].cached_from is None
    assert [one.hits for one in cluster.cached_steps()] == [0]
    assert notes() == ["called"] * 2
