"""A node that cannot unpickle the code of a run, or a value that is recorded of it, says that, and is not called diverged."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from raftoral_nb import Cluster, CompletionTimeoutError, NonDeterminismError, UnreadableError
from raftoral_nb.core.events import CheckpointSet
from raftoral_nb.core.records import Difference
from raftoral_nb.testing import replay_history
from tests.cluster.helpers import PATIENCE, Watch


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """An installed module, as far as pickle is concerned, that can be changed and be gone."""
    module = types.ModuleType("an_installed_package")
    exec(
        "class Order:\n    def __init__(self, item):\n        self.item = item\ndef make(item):\n    return Order(item)\n",
        vars(module),
    )
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def flow_of(package: types.ModuleType) -> Any:
    make = vars(package)["make"]

    async def order(ctx: Any, item: Any) -> Any:
        made = await ctx.compute("make", make, item)
        await ctx.receive("go")
        return made.item

    return order


def started(folder: Path, package: types.ModuleType, given: Any = "A1") -> None:
    with Cluster(1, data_dir=folder, network="memory") as cluster, Watch(cluster) as watch:
        cluster.start_workflow(flow_of(package), given, run_id="r")
        watch.until(CheckpointSet)


def stopped_again(folder: Path) -> tuple[Difference, str, str]:
    """What is said of the run when its cluster is started anew."""
    with Cluster(1, data_dir=folder, network="memory") as cluster:
        run = cluster.run("r")
        with pytest.raises(UnreadableError) as asked:
            cluster.nodes[1].result("r", timeout=PATIENCE)
        with pytest.raises(CompletionTimeoutError, match="held, because no node can continue it: ") as waited:
            run.wait_for_completion(timeout=0)
        assert (run.status, cluster.statistics().nodes[1].runs["r"].status) == ("running", "unreadable")
        assert run.held is not None
        said = " ".join(line.text for line in cluster.log())
        assert "diverged" not in said
        assert run.held.reason in str(waited.value)
        return run.held, run.held.reason, str(asked.value)


def test_code_that_does_not_unpickle_is_named_with_the_reason(tmp_path: Path, package: types.ModuleType) -> None:
    started(tmp_path, package)
    del vars(package)["make"]
    _, reason, asked = stopped_again(tmp_path)
    assert reason.startswith("the code of workflow 'order' version 1 does not unpickle here (AttributeError: ")
    assert reason in asked


def test_a_recorded_value_that_does_not_unpickle_is_named_by_its_step(
    tmp_path: Path, package: types.ModuleType
) -> None:
    started(tmp_path, package)
    del vars(package)["Order"]
    held, reason, _ = stopped_again(tmp_path)
    assert reason.startswith("step '0/make' of run 'r': the recorded value does not unpickle (AttributeError: ")
    assert "in order" in held.where
    assert held.line == 'made = await ctx.compute("make", make, item)'
    vars(package)["Order"] = type("Order", (), {"__init__": vars(package)["make"], "__module__": package.__name__})
    with Cluster(1, data_dir=tmp_path, network="memory") as cluster:
        cluster.run("r").signal("go")
        assert cluster.run("r").wait_for_completion(PATIENCE) == "A1", "what it lacked is there again"


def test_an_input_that_does_not_unpickle_is_named(tmp_path: Path, package: types.ModuleType) -> None:
    started(tmp_path, package, vars(package)["Order"]("A2"))
    del vars(package)["Order"]
    _, reason, _ = stopped_again(tmp_path)
    assert reason.startswith("the input of run 'r': the recorded value does not unpickle")


def test_a_workflow_that_catches_everything_does_not_hide_it(tmp_path: Path, package: types.ModuleType) -> None:
    make = vars(package)["make"]

    async def order(ctx: Any, item: Any) -> Any:
        try:
            await ctx.compute("make", make, item)
        except Exception:
            return "hidden"
        return await ctx.receive("go")

    with Cluster(1, data_dir=tmp_path, network="memory") as cluster, Watch(cluster) as watch:
        cluster.start_workflow(order, "A1", run_id="r")
        watch.until(CheckpointSet)
    del vars(package)["Order"]
    assert "step '0/make'" in stopped_again(tmp_path)[1]


def test_a_history_with_such_a_value_is_no_difference_in_the_code(tmp_path: Path, package: types.ModuleType) -> None:
    order = flow_of(package)
    with Cluster(1, network="memory") as cluster:
        run = cluster.start_workflow(order, "A1")
        run.signal("go")
        run.wait_for_completion(PATIENCE)
        saved = run.save_history(tmp_path / "order.json")
    replay_history(saved, order)
    del vars(package)["Order"]
    with pytest.raises(UnreadableError, match="step '0/make'") as caught:
        replay_history(saved, order)
    assert not isinstance(caught.value, NonDeterminismError)
