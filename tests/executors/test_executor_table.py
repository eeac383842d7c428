"""What may be given as the executors of a cluster, and as `on=`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import pytest

from raftoral_nb import BadArgumentError, Cluster, CodeNotShippableError, step
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
