"""Many starts at a time on nodes in processes of their own, from the handle that started them and from another."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import pytest

from raftoral_nb import Cluster, NotAllStartedError, RunConflictError
from tests.cluster.helpers import STEADFAST
from tests.processes import flows
from tests.processes.helpers import PATIENCE


def test_many_runs_start_together_on_processes_and_from_a_handle_that_attached(tmp_path: Path) -> None:
    name = f"many-{os.getpid()}"
    with contextlib.ExitStack() as stack:
        cluster = Cluster(3, name=name, data_dir=tmp_path, processes=True, detach=True).start()
        stack.callback(cluster.stop)
        runs = cluster.start_many(flows.one_step, range(300))
        assert [run.run_id for run in runs] == [f"one_step-{number}" for number in range(1, 301)]
        assert runs[-1].wait_for_completion(PATIENCE) == 299
        other = Cluster.attach(name)
        stack.callback(other.leave)

        async def starts() -> list[int]:
            first = asyncio.gather(*(other.start_workflow_async(flows.one_step, value) for value in range(20)))
            more = other.start_many_async("one_step", range(5), run_ids=[f"mine-{number}" for number in range(5)])
            return [await run for run in (*await first, *await more)]

        assert asyncio.run(starts()) == [*range(20), *range(5)]
        with pytest.raises(NotAllStartedError) as raised:
            other.start_many("one_step", [0, 5], run_ids=["mine-0", "mine-1"])
        assert isinstance(raised.value.refusals[1], RunConflictError)
        assert raised.value.runs[0].wait_for_completion(PATIENCE) == 0


def test_processes_that_all_start_from_their_logs_elect_a_leader_before_any_could_have_missed_one(
    tmp_path: Path,
) -> None:
    with Cluster(3, data_dir=tmp_path / "lab", processes=True, timing=STEADFAST) as cluster:
        cluster.start_workflow(flows.one_step, 5, run_id="one").wait_for_completion(PATIENCE)
        for node in cluster.nodes.values():
            node.wait_until_applied(PATIENCE)
    # Else it would take a minute, and the start would not wait for that.
    with Cluster(data_dir=tmp_path / "lab", processes=True, timing=STEADFAST) as cluster:
        assert cluster.run("one").wait_for_completion(PATIENCE) == 5
