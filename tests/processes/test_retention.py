"""Finished runs of nodes in processes of their own: what is kept of them, deletion, and results of those that are gone."""

from __future__ import annotations

import contextlib
import gc
import os
from pathlib import Path

import pytest

from raftoral_nb import Cluster, RetentionSet, RunNotFoundError, RunUnfinishedError, ValueLimitSet
from tests.cluster.helpers import Watch
from tests.processes import flows
from tests.processes.helpers import PATIENCE, command, end, script


def test_handles_know_results_of_evicted_runs_through_a_killed_leader_and_another_handle_deletes(
    tmp_path: Path,
) -> None:
    name = f"kept-{os.getpid()}"
    with contextlib.ExitStack() as stack:
        cluster = Cluster(3, name=name, data_dir=tmp_path, processes=True, detach=True, keep_runs=10).start()
        stack.callback(cluster.stop)
        runs = cluster.start_many(flows.one_step, range(100))
        cluster.kill("leader")
        assert [run.wait_for_completion(PATIENCE) for run in runs] == list(range(100))
        assert len(cluster.runs()) == 10
        other = Cluster.attach(name)
        stack.callback(other.leave)
        assert (other.retention.keep_runs, other.retention.runs, other.retention.evicted) == (10, 10, 90)
        with pytest.raises(RunNotFoundError, match="keep_runs=10"):
            other.run(runs[0].run_id)

        waiting = other.start_workflow(flows.two_steps, "a", run_id="mine")
        with pytest.raises(RunUnfinishedError, match="cancel or terminate it first"):
            waiting.delete()
        waiting.terminate()
        waiting.delete()
        other.set_retention(keep_runs=3)
        assert len(other.runs()) == 3
        again = cluster.start_workflow(flows.one_step, 7, run_id="mine")
        assert again.wait_for_completion(PATIENCE) == 7
        assert again.generation == 2
        del runs
        gc.collect()
        assert set(cluster._host.held_runs._held) == {"mine"}


def test_what_makes_no_sense_for_a_node_on_its_own_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    where = ("--listen", "127.0.0.1:0", "--key-file", str(tmp_path / "lab.json"), "--data-dir", str(tmp_path / "data"))
    refused = command("node", *where, "--keep-runs", "0")
    assert refused.returncode == 1
    assert "keep_runs is how many finished runs are kept, from 1 to 100,000, not 0" in refused.stderr
    refused = command("node", *where, "--keep-runs", "few")
    assert "from 1 to 100,000, not 'few'" in refused.stderr
    refused = command("node", *where, "--keep-bytes", "much")
    assert "or text such as '500MB' (the last run always stays), not 'much'" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_node_on_its_own_tells_the_cluster_what_to_keep(tmp_path: Path) -> None:
    file = tmp_path / "lab.json"
    where = ("--listen", "127.0.0.1:0", "--key-file", str(file), "--data-dir", str(tmp_path / "data"))
    node = script(
        "from raftoral_nb.cli.main import main; main()",
        *("node", *where, "--keep-runs", "5", "--keep-bytes", "2MB", "--max-value-bytes", "3GB"),
    )
    try:
        assert node.stdout is not None
        assert "listens at" in node.stdout.readline()
        cluster = Cluster.attach(file)
        try:
            with Watch(cluster) as watch:
                if cluster.retention.keep_runs != 5:
                    watch.until(RetentionSet)
                if cluster.max_value_bytes != 3_000_000_000:
                    watch.until(ValueLimitSet)
            assert (cluster.retention.keep_runs, cluster.retention.keep_bytes) == (5, 2_000_000)
            assert cluster.max_value_bytes == 3_000_000_000
        finally:
            cluster.stop()
        assert node.wait(PATIENCE) == 0
    finally:
        end(node)
