"""The examples in the docstrings of the operations are run, each on a cluster of three nodes in memory."""

from __future__ import annotations

import doctest
from collections.abc import Iterator
from typing import Any

import pytest

from raftoral_nb import Cluster, WorkflowContext
from tests.cluster.helpers import PATIENCE

OPERATIONS = tuple(name for name in dir(WorkflowContext) if not name.startswith("_"))


@pytest.fixture
def shared() -> Iterator[Cluster]:
    with Cluster(3, network="memory") as cluster:
        yield cluster


def example(name: str) -> doctest.DocTest:
    operation = getattr(WorkflowContext, name)
    found = doctest.DocTestFinder(exclude_empty=False, recurse=False).find(operation, name, globs={})
    return found[0]


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_has_an_example_that_does_what_it_says(name: str, shared: Cluster) -> None:
    told = example(name)
    assert told.examples, f"{name} has no example"

    def run(fn: Any, value: Any = None) -> Any:
        started = shared.start_workflow(fn, value)
        result = started.wait_for_completion(PATIENCE)
        assert [repr(node.result(started.run_id, timeout=PATIENCE)) for node in shared.nodes.values()] == [
            repr(result)
        ] * 3
        return result

    told.globs = {"run": run, "cluster": shared, "WorkflowContext": WorkflowContext}
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    failed = runner.run(told, out=report.append).failed
    assert not failed, "".join(report)
