"""The examples in the docstrings of the operations are run, each on a cluster of three nodes in memory."""

from __future__ import annotations

import doctest
from collections.abc import Iterator
from typing import Any

import pytest

from raftoral_nb import Cluster, WorkflowContext
from raftoral_nb.workflow import context
from tests.cluster.helpers import PATIENCE

WITHOUT_AN_EXAMPLE = {
    "run_id",
    "workflow",
    "version",
    "node",
    "random",
    "create_replicated_var",
    "idempotency_key",
    "var",
}
"""What needs none: names of things, a second name of an operation, and what the README shows."""


@pytest.fixture
def shared() -> Iterator[Cluster]:
    with Cluster(3, network="memory") as cluster:
        yield cluster


def operations() -> list[doctest.DocTest]:
    found = doctest.DocTestFinder(exclude_empty=False).find(WorkflowContext, module=context)
    return [test for test in found if not test.name.rpartition(".")[2].startswith("_") and "." in test.name]


@pytest.mark.parametrize("example", operations(), ids=lambda test: test.name.rpartition(".")[2])
def test_the_example_of_an_operation_does_what_it_says(example: doctest.DocTest, shared: Cluster) -> None:
    name = example.name.rpartition(".")[2]
    if not example.examples:
        assert name in WITHOUT_AN_EXAMPLE, f"{name} has no example"
        return

    def run(fn: Any, value: Any = None) -> Any:
        started = shared.start_workflow(fn, value)
        result = started.wait_for_completion(PATIENCE)
        assert [repr(node.result(started.run_id, timeout=PATIENCE)) for node in shared.nodes.values()] == [
            repr(result)
        ] * 3
        return result

    example.globs = {"run": run, "cluster": shared, "WorkflowContext": WorkflowContext}
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    failed = runner.run(example, out=report.append).failed
    assert not failed, "".join(report)
