"""A data directory whose runs an earlier version recorded: what ended is there, what did not is held, and can be started again.

`first_format.tar.xz` was made by raftoral-nb at commit 7d5001e with Python 3.11: three nodes, and the runs `finished`, `failing`,
`waiting` (for a second signal `approve`), `sleeping`, and `parent` with its child `parent/0` (which waits for a signal `go`).
"""

from __future__ import annotations

import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from raftoral_nb import (
    Cluster,
    ExecutionStopped,
    RunHeld,
    UnreadableError,
    WorkflowFailedError,
    WorkflowTerminatedError,
)
from tests.cluster.helpers import PATIENCE, Watch

pytestmark = pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="a data directory needs the Python that made it"
)

UNFINISHED: Final = ("waiting", "sleeping", "parent", "parent/0")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    with tarfile.open(Path(__file__).with_name("first_format.tar.xz")) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "lab"


@pytest.fixture
def opened(directory: Path) -> Iterator[tuple[Cluster, Watch]]:
    """The cluster, once it is known that each of its nodes continues none of the unfinished runs."""
    cluster = Cluster(data_dir=directory)
    with Watch(cluster) as watch, cluster:
        for run_id in UNFINISHED:
            watch.until(RunHeld, lambda event, run_id=run_id: event.run_id == run_id)  # type: ignore[misc]
        yield cluster, watch


def ends(cluster: Cluster, run_id: str) -> list[Any]:
    """What the run came to on each node."""
    return [node.result(run_id, PATIENCE) for node in cluster.nodes.values()]


def test_runs_that_ended_are_there_with_their_results_and_steps(opened: tuple[Cluster, Watch]) -> None:
    cluster, _ = opened
    finished, failing = cluster.run("finished"), cluster.run("failing")
    assert finished.wait_for_completion(PATIENCE) == {"double": 42, "name": "Ada"}
    steps = [(step.step_id, step.operation) for step in finished.steps]
    assert steps == [("0/double", "compute"), ("1/sleep", "sleep"), ("1.0.0/wake", "wake"), ("2/name", "receive")]
    assert [finished.value(step) for step in ("0/double", "2/name")] == [42, "Ada"]
    assert [type(event).__name__ for _, event in finished.history()][-1] == "WorkflowCompleted"
    with pytest.raises(WorkflowFailedError, match="no such card"):
        failing.wait_for_completion(PATIENCE)


def test_runs_that_did_not_end_are_held_and_say_why(opened: tuple[Cluster, Watch]) -> None:
    cluster, _ = opened
    for run_id in UNFINISHED:
        run = cluster.run(run_id)
        assert run.status == "running"
        assert run.held is not None
        assert "another version of raftoral-nb recorded this run" in run.held.reason
        assert "start it again under another run_id" in run.held.reason
    assert [cluster.run("waiting").value(step) for step in cluster.run("waiting").steps] == [7, "Bob"]
    with pytest.raises(UnreadableError, match="another version"):
        cluster.nodes[1].result("waiting")


def test_a_held_run_is_terminated_with_its_children_and_started_again_under_another_id(
    opened: tuple[Cluster, Watch],
) -> None:
    cluster, _ = opened
    run = cluster.run("parent")
    run.cancel("it never ends")
    assert run.status == "running", "nobody executes it, and so it does not end"
    run.terminate("start it again")
    with pytest.raises(WorkflowTerminatedError):
        run.wait_for_completion(PATIENCE)
    assert cluster.run("parent/0").status == "terminated"
    again = cluster.start_workflow("waiting", 8, run_id="again")
    for name in ("Cid", "Dan"):
        again.signal("approve", name)
    assert ends(cluster, "again") == [[8, "Cid", "Dan"]] * 3


def test_nobody_hands_leadership_on_for_runs_that_no_node_can_continue(opened: tuple[Cluster, Watch]) -> None:
    cluster, watch = opened
    cluster.start_workflow("finished", 1, run_id="other").signal("name", "Eve")
    assert ends(cluster, "other") == [{"double": 2, "name": "Eve"}] * 3
    said = [line.text for line in cluster.log()]
    assert sum("stopped executing this run" in text for text in said) == len(UNFINISHED) * 3
    assert not any("lets another node lead" in text for text in said)
    assert {event.status for event in watch.of(ExecutionStopped)} == {"unreadable"}


def test_the_directory_opens_again_with_both_kinds_of_runs_in_it(directory: Path) -> None:
    with Cluster(data_dir=directory) as cluster:
        begun = cluster.start_workflow("waiting", 8, run_id="again")
        begun.signal("approve", "Cid")
        begun.signal("approve", "Dan")
        assert ends(cluster, "again") == [[8, "Cid", "Dan"]] * 3
        cluster.run("sleeping").terminate()
    with Cluster(data_dir=directory) as cluster:
        statuses = {run.run_id: run.status for run in cluster.runs()}
        assert statuses == {
            "finished": "completed",
            "failing": "failed",
            "waiting": "running",
            "sleeping": "terminated",
            "parent": "running",
            "parent/0": "running",
            "again": "completed",
        }
        assert ends(cluster, "again") == [[8, "Cid", "Dan"]] * 3
