"""Values of any size: in steps, inputs, messages, children and results, through deaths of nodes and of the whole cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raftoral_nb import Cluster, WorkflowContext, WorkflowRun, current_step, limits, step
from raftoral_nb.core.events import CheckpointSet, StepStateSaved
from raftoral_nb.errors import WorkflowFailedError
from raftoral_nb.storage.directory_blobs import FOLDER
from tests.cluster.helpers import PATIENCE, Watch, engine, gate, note, notes

LARGE = 200_000
"""Numbers in an array that is large: 1.6 MB."""


def array(first: int) -> Any:
    return np.arange(first, first + LARGE)


async def sums(ctx: WorkflowContext, first: int) -> Any:
    made = await ctx.compute("make", array, first)
    return await ctx.compute("double", lambda numbers: numbers * 2, made)


async def waits_in_the_middle(ctx: WorkflowContext, given: Any) -> Any:
    made = await ctx.compute("make", lambda numbers: numbers + 1, given)
    await ctx.receive("go on")
    return made.sum()


@pytest.fixture(params=["memory", "tcp", "disk", "processes"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    kinds: dict[str, dict[str, Any]] = {
        "memory": {"network": "memory"},
        "tcp": {},
        "disk": {"data_dir": tmp_path / "data", "durability": "disk"},
        "processes": {"processes": True},
    }
    with Cluster(3, **kinds[request.param]) as cluster:
        yield cluster


def test_steps_inputs_and_results_may_be_large(cluster: Cluster) -> None:
    run = cluster.start_workflow(sums, 5)
    np.testing.assert_array_equal(run.wait_for_completion(PATIENCE), array(5) * 2)
    for node in cluster.nodes.values():
        np.testing.assert_array_equal(node.result(run.run_id, timeout=PATIENCE), array(5) * 2)

    async def total(ctx: WorkflowContext, given: Any) -> int:
        return int(given.sum())

    assert cluster.start_workflow(total, array(0)).wait_for_completion(PATIENCE) == array(0).sum()


def test_messages_children_variables_and_renewals_may_be_large(cluster: Cluster) -> None:
    async def child(ctx: WorkflowContext, given: Any) -> Any:
        return given + 1

    async def parent(ctx: WorkflowContext, given: Any) -> Any:
        if given is None:
            raise ctx.continue_as_new(array(0))
        signal = await ctx.receive("signal")
        update = await ctx.receive_update("update")
        await update.answer(update.value * 3)
        kept = await ctx.var("kept", signal)
        await kept.set(kept.value + 1)
        return (await ctx.run_child("child", given)) + kept.value

    cluster.register_workflow("child", child)
    run = cluster.start_workflow(parent)
    run.signal("signal", array(10))
    np.testing.assert_array_equal(run.update("update", array(3), timeout=PATIENCE), array(3) * 3)
    np.testing.assert_array_equal(run.wait_for_completion(PATIENCE), array(0) + 1 + array(10) + 1)
    np.testing.assert_array_equal(run.variables()["kept"], array(10) + 1)


def test_the_next_leader_has_what_the_last_one_computed(cluster: Cluster) -> None:
    run = start_up_to_a_step(cluster, 7, "run")
    first = cluster.wait_for_leader()
    cluster.kill(first)
    run.signal("go on")
    assert run.wait_for_completion(PATIENCE) == (array(7) + 1).sum()
    cluster.restart(first)
    assert cluster.nodes[first].result(run.run_id, timeout=PATIENCE) == (array(7) + 1).sum()


def start_up_to_a_step(cluster: Cluster, first: int, run_id: str) -> WorkflowRun[Any]:
    with Watch(cluster) as watch:
        run = cluster.start_workflow(waits_in_the_middle, array(first), run_id=run_id)
        watch.until(CheckpointSet, lambda event: event.run_id == run_id)
    return run


def test_a_late_node_fetches_what_it_missed(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()
    late = max(number for number in cluster.nodes if number != leader)
    cluster.kill(late)
    runs = [cluster.start_workflow(sums, first) for first in range(5)]
    for run in runs:
        run.wait_for_completion(PATIENCE)
    cluster.restart(late)
    for first, run in enumerate(runs):
        found = cluster.nodes[late].result(run.run_id, timeout=PATIENCE)
        np.testing.assert_array_equal(found, array(first) * 2)


def test_a_node_that_joins_has_all_before_it_votes(cluster: Cluster) -> None:
    run = cluster.start_workflow(sums, 1)
    run.wait_for_completion(PATIENCE)
    number = cluster.add()
    np.testing.assert_array_equal(cluster.nodes[number].result(run.run_id, timeout=PATIENCE), array(1) * 2)


@pytest.mark.parametrize("processes", [False, True])
def test_a_cluster_that_ended_has_its_large_values_when_it_is_back(tmp_path: Path, processes: bool) -> None:
    options: dict[str, Any] = {"data_dir": tmp_path / "data", "durability": "process", "processes": processes}
    with Cluster(3, **options) as cluster:
        done = cluster.start_workflow(sums, 4, run_id="done")
        done.wait_for_completion(PATIENCE)
        start_up_to_a_step(cluster, 9, "open")
    with Cluster(3, **options) as cluster:
        np.testing.assert_array_equal(cluster.run("done").wait_for_completion(PATIENCE), array(4) * 2)
        cluster.run("open").signal("go on")
        assert cluster.run("open").wait_for_completion(PATIENCE) == (array(9) + 1).sum()


def test_a_damaged_file_is_fetched_again_from_another_node(tmp_path: Path) -> None:
    with Cluster(3, data_dir=tmp_path / "data") as cluster:
        cluster.start_workflow(sums, 4, run_id="done").wait_for_completion(PATIENCE)
        start_up_to_a_step(cluster, 9, "open")
    files = list((tmp_path / "data" / "node-1" / FOLDER).iterdir())
    assert files
    for file in files:
        data = file.read_bytes()
        file.unlink()  # the others' is the same file
        file.write_bytes(data[:100] + b"!" + data[101:])
    with Cluster(3, data_dir=tmp_path / "data") as cluster:
        cluster.run("open").signal("go on")
        assert cluster.nodes[1].result("open", timeout=PATIENCE) == (array(9) + 1).sum()
        np.testing.assert_array_equal(cluster.nodes[1].result("done", timeout=PATIENCE), array(4) * 2)


def test_a_large_value_is_on_the_disk_once_for_all_nodes_of_a_directory(tmp_path: Path) -> None:
    with Cluster(3, data_dir=tmp_path / "data") as cluster:
        run = cluster.start_workflow(sums, 4)
        run.wait_for_completion(PATIENCE)
        for node in cluster.nodes.values():
            node.result(run.run_id, timeout=PATIENCE)
    inodes: dict[str, set[int]] = {}
    for file in (tmp_path / "data").glob(f"node-*/{FOLDER}/*"):
        inodes.setdefault(file.name, set()).add(file.stat().st_ino)
    assert len(inodes) == 2  # the array, and twice the array, which is the result as well
    assert all(len(found) == 1 for found in inodes.values())


def test_the_log_stays_small(tmp_path: Path) -> None:
    with Cluster(1, data_dir=tmp_path / "data") as cluster:
        for first in range(4):
            cluster.start_workflow(sums, first).wait_for_completion(PATIENCE)
    log = sum(file.stat().st_size for file in (tmp_path / "data" / "node-1").iterdir() if file.is_file())
    assert log < 8 * LARGE


def test_a_full_disk_keeps_the_run_waiting_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def counted(ctx: WorkflowContext, first: int) -> Any:
        def make() -> Any:
            note("made")
            gate("full").enter()
            return np.arange(200_000)

        return (await ctx.compute("make", make)).sum()

    with Cluster(1, data_dir=tmp_path / "data") as cluster:
        run = cluster.start_workflow(counted, 1)
        gate("full").await_arrival()
        write, tries = os.write, 0

        def full(descriptor: int, data: Any) -> int:
            nonlocal tries
            if len(data) < 100_000:
                return write(descriptor, data)
            tries += 1
            if tries > 2:
                monkeypatch.undo()
                return write(descriptor, data)
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        gate("full").open()
        assert run.wait_for_completion(PATIENCE) == np.arange(200_000).sum()
        assert tries == 3
        assert notes().count("made") == 1


def test_a_value_that_no_limit_allows_fails_the_step_and_says_which_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_ENCODED_BYTES", 1_000_000)
    with (
        Cluster(3, network="memory") as cluster,
        pytest.raises(WorkflowFailedError, match=r"1,600,\d+ bytes, more than MAX_ENCODED_BYTES \(1,000,000\)"),
    ):
        cluster.start_workflow(sums, 1).wait_for_completion(PATIENCE)


def test_a_history_shows_large_values_in_short() -> None:
    with Cluster(1) as cluster:
        run = cluster.start_workflow(sums, 4)
        run.wait_for_completion(PATIENCE)
        assert [run.shown_value(step)[:29] for step in run.steps] == [
            "1.6 MB: array([ 4, 5, 6, ...,",
            "1.6 MB: array([ 8, 10, 12, ..",
        ]
        np.testing.assert_array_equal(run.value("double"), array(4) * 2)


MEASURED = """
import gc, os
from raftoral_nb import Cluster

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

async def makes(ctx, number):
    return await ctx.compute("make", lambda: os.urandom(3_900_000))

with Cluster(3) as cluster:
    cluster.register_workflow(makes)
    cluster.start_workflow(makes).wait_for_completion(60)
    before = resident()
    for number in range(40):
        cluster.start_workflow(makes, number).wait_for_completion(60)
    gc.collect()
    print((resident() - before) / (40 * 3_900_000))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not say what is resident")
def test_three_nodes_of_a_process_keep_a_value_in_memory_once() -> None:
    told = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True, timeout=120)
    assert float(told.stdout) < 1.5


@pytest.mark.parametrize("processes", [False, True])
def test_what_a_worker_of_a_node_returns_may_be_large(processes: bool) -> None:
    async def flow(ctx: WorkflowContext, first: int) -> int:
        made = await ctx.compute("make", step(array, on="processes"), first)
        doubled = await ctx.compute("double", step(lambda numbers: numbers * 2, on="processes"), made)
        return int(doubled.sum())

    with Cluster(3, processes=processes) as cluster:
        assert cluster.start_workflow(flow, 5).wait_for_completion(PATIENCE) == 2 * array(5).sum()


def test_what_a_step_saved_may_be_large_and_is_there_for_the_next_leader(tmp_path: Path) -> None:
    async def flow(ctx: WorkflowContext, given: None) -> Any:
        async def fit() -> Any:
            this = current_step()
            if this.has_last:
                return this.last.sum()
            await this.checkpoint(np.arange(200_000))
            note("saved")
            gate("dies").enter()
            return None

        return await ctx.compute("fit", fit)

    with Cluster(3, data_dir=tmp_path / "data") as cluster, Watch(cluster) as watch:
        run = cluster.start_workflow(flow)
        watch.until(StepStateSaved)
        first = cluster.wait_for_leader()
        cluster.kill(first)
        gate("dies").open()
        assert run.wait_for_completion(PATIENCE) == np.arange(200_000).sum()


def test_a_large_result_may_come_from_the_cache() -> None:
    def slow(first: int) -> Any:
        note("computed")
        return array(first)

    async def flow(ctx: WorkflowContext, given: int) -> int:
        return int((await ctx.compute("slow", step(slow, cache="inputs"), 3)).sum())

    with Cluster(3) as cluster:
        for number in range(3):
            assert cluster.start_workflow(flow, number).wait_for_completion(PATIENCE) == array(3).sum()
        assert notes().count("computed") == 1


def test_a_run_that_began_anew_behind_a_large_value_continues_after_a_restart(tmp_path: Path) -> None:
    """What the generation before waited for is dropped by then, and the next waits for that one to end."""

    async def renews(ctx: WorkflowContext, number: int) -> str:
        made = await ctx.compute("make", lambda: str(number) * 500_000)
        if number < 2:
            raise ctx.continue_as_new(number + 1)
        return f"{len(made)} {await ctx.receive('word')}"

    with Cluster(1, data_dir=tmp_path / "data") as cluster, Watch(cluster) as watch:
        cluster.start_workflow(renews, 0, run_id="renews")
        watch.until(CheckpointSet, times=3)
        store = engine(cluster).journals.of(1).blobs
        live = engine(cluster)._incarnations[1].member.live_blobs()
        engine(cluster).thread.call(store.remove, [digest for digest in store.digests() if digest not in live])
    with Cluster(1, data_dir=tmp_path / "data") as cluster:
        cluster.run("renews").signal("word", "done")
        assert cluster.run("renews").wait_for_completion(PATIENCE) == "500000 done"
