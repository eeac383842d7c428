"""What may be given as the executors of a cluster, and as `on=`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import pytest

import raftoral_nb
from raftoral_nb import (
    BadArgumentError,
    Cluster,
    CodeNotShippableError,
    Retry,
    UnknownExecutorError,
    step,
    workflow_test,
)
from raftoral_nb.executors import executor_table


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "executors are a dict"),
        ({1: ThreadPoolExecutor}, "the name of an executor is text"),
        ({"": ThreadPoolExecutor}, "the name of an executor is text"),
        ({"processes": ThreadPoolExecutor}, "is built in"),
        ({"pool": 3}, "is a function that makes an executor"),
    ],
)
def test_what_makes_no_executors_is_refused(given: Any, said: str) -> None:
    with pytest.raises(BadArgumentError, match=said):
        Cluster(1, executors=given)


def test_an_executor_is_refused_as_each_node_makes_its_own() -> None:
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(BadArgumentError, match=r"give the function that makes it.*lambda: ThreadPoolExecutor"):
            Cluster(1, executors={"pool": pool})  # type: ignore[dict-item]
        with pytest.raises(BadArgumentError, match=r"Cluster\(executors="):
            step(str, on=pool)  # type: ignore[call-overload]


@pytest.mark.parametrize("on", [ThreadPoolExecutor, 3, "", lambda: None])
def test_a_step_names_its_executor(on: Any) -> None:
    with pytest.raises(BadArgumentError, match="on= is the name of an executor"):
        step(str, on=on)


def test_the_executor_can_be_changed_and_taken_back() -> None:
    fit = step(str, on="processes")
    assert fit.options.on == "processes"
    assert fit.with_options(timeout=3).options.on == "processes"
    assert fit.with_options(on=None).options.on is None
    assert step(on="pool")(str).options.on == "pool"


def test_functions_that_make_executors_are_shipped_and_loaded_when_they_are_called() -> None:
    made = executor_table.unshipped(executor_table.shipped({"pool": lambda: "a pool"}))
    assert made["pool"]() == "a pool"
    lock = Lock()
    with pytest.raises(CodeNotShippableError, match=r"executors\['pool'\] cannot be shipped"):
        executor_table.shipped({"pool": lambda: lock})


@step(on="pol")
def fit(x: int) -> int:
    return x


async def decorated(ctx: Any, _: None) -> Any:
    return await fit(1)


async def helps(ctx: Any) -> Any:
    return await ctx.compute("fit", fit, 1)


async def through_a_helper(ctx: Any, _: None) -> Any:
    return await helps(ctx)


async def in_place(ctx: Any, _: None) -> Any:
    return await ctx.compute("it", step(abs, on="pol"), 1)


async def changed(ctx: Any, _: None) -> Any:
    return await fit.with_options(on="pol", key="other")(1)


async def of_the_package(ctx: Any, _: None) -> Any:
    return await ctx.compute("it", raftoral_nb.step(abs, on="pol"), 1)


@pytest.mark.parametrize(
    ("workflow", "name"),
    [(decorated, "fit"), (through_a_helper, "fit"), (in_place, "abs"), (changed, "fit"), (of_the_package, "abs")],
)
def test_a_workflow_that_names_an_executor_which_is_not_there_is_not_registered(workflow: Any, name: str) -> None:
    with Cluster(1, executors={"pool": ThreadPoolExecutor}) as cluster:
        with pytest.raises(
            UnknownExecutorError, match=rf"its step '{name}' .*'pol'.*did you mean 'pool'\?.*'processes', 'pool'"
        ):
            cluster.start_workflow(workflow)
        assert not cluster.statistics().runs
    with Cluster(1, executors={"pol": ThreadPoolExecutor}) as cluster:
        assert cluster.start_workflow(workflow).wait_for_completion(30) == 1


def test_a_name_that_is_made_when_the_workflow_runs_is_refused_by_the_step() -> None:
    async def flow(ctx: Any, name: str) -> str:
        try:
            await ctx.compute("it", step(abs, on=name), 1)
        except UnknownExecutorError as error:
            return str(error)
        return ""

    with Cluster(1) as cluster:
        said = cluster.start_workflow(flow, "pol").wait_for_completion(30)
    assert "there is no executor 'pol' on this node" in said


def test_in_a_workflow_test_a_step_may_name_any_executor() -> None:
    with workflow_test() as test:
        assert test.start(decorated).wait_for_completion() == 1


def test_options_that_contradict_each_other_name_the_step() -> None:
    with pytest.raises(BadArgumentError, match="step 'abs': a step that runs at_most_once cannot be retried"):
        step(abs, at_most_once=True, retry=Retry(attempts=2))
    with pytest.raises(BadArgumentError, match="step 'fit': a step that runs at_most_once has an effect"):
        fit.with_options(at_most_once=True, cache="inputs")
