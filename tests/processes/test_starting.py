"""Starts on nodes in processes of their own, many at a time, from the handle that started the nodes and from others."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from raftoral_nb import Cluster, NotAllStartedError, RunConflictError, WorkflowRun
from raftoral_nb.core.commands import Command, Committed, Rejected
from tests.cluster.helpers import STEADFAST
from tests.processes import flows
from tests.processes.helpers import PATIENCE
from tests.processes.here import node_here


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


def test_two_handles_that_choose_the_same_id_have_a_run_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.ExitStack() as stack:
        _, file = stack.enter_context(node_here(tmp_path))
        first, second = Cluster.attach(file), Cluster.attach(file)
        stack.callback(first.leave)
        stack.callback(second.leave)
        first.register_workflow(flows.one_step)
        second.register_workflow(flows.one_step)
        theirs: list[WorkflowRun[Any]] = []
        propose = second._host.propose

        def first_comes_first(command: Command, what: str) -> Committed | Rejected:
            if not theirs:
                theirs.append(first.start_workflow("one_step", 7))
            return propose(command, what)

        monkeypatch.setattr(second._host, "propose", first_comes_first)
        mine = second.start_workflow("one_step", 7)
        assert [run.run_id for run in (*theirs, mine)] == ["one_step-1", "one_step-2"]
        assert mine.wait_for_completion(PATIENCE) == theirs[0].wait_for_completion(PATIENCE) == 7


def test_handles_that_start_at_the_same_time_have_runs_of_their_own(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        _, file = stack.enter_context(node_here(tmp_path))
        handles = [Cluster.attach(file) for _ in range(3)]
        for handle in handles:
            stack.callback(handle.leave)
            handle.register_workflow(flows.one_step)
        together = threading.Barrier(3)

        def start(handle: Cluster) -> list[WorkflowRun[Any]]:
            together.wait(PATIENCE)
            return [handle.start_workflow("one_step", 7), *handle.start_many("one_step", [7] * 20)]

        pool = stack.enter_context(ThreadPoolExecutor(3))
        runs = [run for found in pool.map(start, handles) for run in found]
        assert len({run.run_id for run in runs}) == len(runs) == 63
        assert {run.wait_for_completion(PATIENCE) for run in runs} == {7}
        assert len(handles[0].runs()) == 63


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
