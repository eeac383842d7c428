"""Runs of a cluster whose nodes are processes are spread over them: each has an owner that does its steps."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftoral_nb import Cluster, NonDeterminismWarning, RunAssigned, StepProgress
from raftoral_nb.core.cluster_events import ExecutionStopped
from tests.cluster.helpers import Watch
from tests.processes import flows
from tests.processes.helpers import PATIENCE, pids


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(3, processes=True) as cluster:
        yield cluster


def test_runs_are_done_by_all_processes_each_by_its_owner(cluster: Cluster) -> None:
    runs = cluster.start_many(flows.two_steps, ["a", "b", "c"])
    for run in runs:
        run.signal("go")
    here = pids(cluster)
    assert [run.owner for run in runs] == [1, 2, 3]
    for run in runs:
        assert run.owner is not None
        assert set(run.wait_for_completion(PATIENCE)) == {here[run.owner]}


def test_with_leader_runs_the_leader_does_all_steps() -> None:
    with Cluster(3, processes=True, spread_runs=False) as cluster:
        runs = cluster.start_many(flows.two_steps, ["a", "b"])
        for run in runs:
            run.signal("go")
        leads = pids(cluster)[cluster.wait_for_leader(PATIENCE)]
        assert [set(run.wait_for_completion(PATIENCE)) for run in runs] == [{leads}] * 2
        assert [run.owner for run in runs] == [None, None]


def test_a_killed_owner_s_run_goes_on_in_another_process_at_once(cluster: Cluster) -> None:
    with Watch(cluster) as watch:
        runs = cluster.start_many(flows.long_step, [1, 2, 3])
        for run in runs:
            watch.until(StepProgress, lambda event, run_id=run.run_id: event.run_id == run_id)  # type: ignore[misc]
        victim = next(run for run in runs if run.owner != cluster.wait_for_leader(PATIENCE))
        owner = victim.owner
        assert owner is not None
        before = pids(cluster)[owner]
        cluster.kill(owner)
        begin, pid = victim.wait_for_completion(PATIENCE)
        assert pid != before
        assert begin > 0, "it went on from what the step had saved"
        assert victim.owner not in (None, owner)
        others = [run for run in runs if run is not victim]
        assert all(run.status == "running" and run.owner != owner for run in others)
        for run in others:
            run.terminate()


def test_an_owner_whose_execution_cannot_go_on_gives_the_run_to_another(cluster: Cluster) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NonDeterminismWarning)  # it is what the workflow is for
        cluster.register_workflow(flows.odd_later)
    with Watch(cluster) as watch:
        run = cluster.start_workflow("odd_later", pids(cluster)[2])
        assert run.owner == 1
        assert watch.until(ExecutionStopped).node == 2, "its execution differs from the record"
        run.assign(2)
        given = watch.until(RunAssigned, lambda event: event.node != 2, times=2)
        run.signal("go")
        assert run.wait_for_completion(PATIENCE) == pids(cluster)[given.node]
    assert any("cannot go on with this run, and so not own it" in line.text for line in cluster.log(run.run_id))


def test_a_cluster_that_starts_again_from_its_directory_goes_on_with_the_same_owners(tmp_path: Path) -> None:
    with Cluster(3, processes=True, data_dir=tmp_path / "data") as cluster:
        runs = cluster.start_many(flows.two_steps, ["a", "b", "c"])
        owners = [run.owner for run in runs]
        assert owners == [1, 2, 3]
    with Cluster(3, processes=True, data_dir=tmp_path / "data") as cluster:
        again = [cluster.run(run.run_id) for run in runs]
        for run in again:
            run.signal("go")
        for run in again:
            _, last = run.wait_for_completion(PATIENCE)
            assert run.owner is not None
            assert last == pids(cluster)[run.owner]
    with Cluster(3, data_dir=tmp_path / "data") as cluster:
        run = cluster.start_workflow(flows.two_steps, "d")
        assert run.owner is None, "nodes of one process share one interpreter: there the leader does the steps"
        run.signal("go")
        run.wait_for_completion(PATIENCE)


def test_nodes_in_processes_have_labels_and_every_handle_sees_who_owns_a_run(tmp_path: Path) -> None:
    with Cluster(3, processes=True, detach=True, data_dir=tmp_path / "data", labels={3: ["gpu"]}) as first:
        run = first.start_workflow(flows.on_gpu)
        assert run.wait_for_completion(PATIENCE) == pids(first)[3]
        second = Cluster.attach(first.name)
        try:
            assert second.run(run.run_id).owner == run.owner == 1
        finally:
            second.leave()
            first.stop()
