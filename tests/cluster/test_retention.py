"""Finished runs: how many are kept, on every node and after restarts; what is known of those that are gone; deletion; children that are used again."""

from __future__ import annotations

import asyncio
import gc
import threading
from pathlib import Path
from typing import Any

import pytest

from raftoral_nb import (
    Cluster,
    ClusterError,
    RunConflictError,
    RunDeleted,
    RunEvicted,
    RunNotFoundError,
    RunUnfinishedError,
    SnapshotInstalled,
    WorkflowContext,
    WorkflowFailedError,
    WorkflowRuntime,
)
from raftoral_nb.core.state import summary
from raftoral_nb.raft.compaction import Compaction
from tests.cluster.helpers import PATIENCE, Watch, engine, followers, gate, note, notes


async def square(ctx: WorkflowContext, number: int) -> int:
    return await ctx.compute("square", lambda: number * number)


async def quick(ctx: WorkflowContext, number: int) -> int:
    if number < 0:
        raise ValueError("below zero")
    return number


async def fit(ctx: WorkflowContext, number: int) -> int:
    def fitted() -> int:
        note(f"fit {number}")
        return number * number

    return await ctx.compute("fit", fitted)


async def train(ctx: WorkflowContext, number: int) -> int:
    result: int = await ctx.run_child("fit", number, run_id=f"cache/fit/{number}")
    return result


async def waits(ctx: WorkflowContext, name: str) -> str:
    await ctx.compute("gate", lambda: gate(name).enter())
    return name


def level(cluster: Cluster) -> list[dict[str, object]]:
    """The whole states of all nodes, once all have applied the same."""
    for node in cluster.nodes.values():
        if node.alive:
            node.wait_until_applied()
    lives = engine(cluster)._incarnations.values()
    states: list[dict[str, object]] = engine(cluster).thread.call(lambda: [summary(one.member.state) for one in lives])
    return states


def agreed(cluster: Cluster) -> dict[str, object]:
    first, *others = level(cluster)
    for other in others:
        assert other == first
    return first


# --- how many are kept


def test_a_sweep_of_more_runs_than_are_kept_gives_all_their_results() -> None:
    with Cluster(1, network="memory", keep_runs=5) as cluster:
        runs = cluster.start_many(square, range(60))
        assert [run.wait_for_completion(PATIENCE) for run in runs] == [number * number for number in range(60)]
        assert {run.status for run in runs} == {"completed"}
        assert len(cluster.runs()) == 5
        assert (cluster.retention.runs, cluster.retention.evicted) == (5, 55)
    assert runs[0].wait_for_completion(PATIENCE) == 0, "also when the cluster has stopped"


def test_a_failure_is_known_to_whoever_holds_the_run() -> None:
    with Cluster(1, network="memory", keep_runs=1) as cluster:
        failed, *others = cluster.start_many(quick, [-1, 1, 2])
        for run in others:
            run.wait_for_completion(PATIENCE)
        assert failed.status == "failed"
        with pytest.raises(WorkflowFailedError, match="below zero"):
            failed.wait_for_completion(PATIENCE)


def test_a_run_that_was_evicted_can_be_awaited() -> None:
    async def sweep() -> list[int]:
        async with Cluster(1, network="memory", keep_runs=2) as cluster:
            runs = await cluster.start_many_async(quick, range(10))
            return [await run for run in runs]

    assert asyncio.run(sweep()) == list(range(10))


def test_nothing_of_a_run_stays_once_nobody_has_a_handle_on_it() -> None:
    with Cluster(1, network="memory", keep_runs=2) as cluster:
        runs: Any = cluster.start_many(quick, range(20))
        for run in runs:
            run.wait_for_completion(PATIENCE)
        held = engine(cluster).held_runs._held
        assert len(held) == 20
        del runs, run
        gc.collect()
        assert not held
        with pytest.raises(
            RunNotFoundError,
            match=r"run 'quick-1' has finished, .* \(keep_runs=2, keep_bytes=1000000000\): cluster.set_ret",
        ):
            cluster.run("quick-1")


def test_a_handle_on_a_run_that_is_gone_says_why_its_steps_are() -> None:
    with Cluster(1, network="memory", keep_runs=1) as cluster:
        first = cluster.start_workflow(square, 2)
        first.wait_for_completion(PATIENCE)
        cluster.start_workflow(square, 3).wait_for_completion(PATIENCE)
        with pytest.raises(RunNotFoundError, match="keep_runs=1"):
            _ = first.steps
        with pytest.raises(RunConflictError, match=r"has finished, .*keep_runs=1"):
            cluster.start_workflow(square, 2, run_id=first.run_id)


def test_bytes_bound_what_is_kept_and_the_last_run_stays() -> None:
    async def large(ctx: WorkflowContext, size: int) -> int:
        return len(await ctx.compute("large", bytes, size))

    with Cluster(1, network="memory", keep_bytes="100 kB") as cluster, Watch(cluster) as watch:
        for _ in range(5):
            cluster.start_workflow(large, 40_000).wait_for_completion(PATIENCE)
        assert [run.run_id for run in cluster.runs()] == ["large-4", "large-5"]
        assert cluster.retention.bytes <= 100_000
        cluster.start_workflow(large, 200_000).wait_for_completion(PATIENCE)
        assert [run.run_id for run in cluster.runs()] == ["large-6"]
        watch.until(RunEvicted, lambda event: event == RunEvicted("large-5", "keep_bytes"))


@pytest.mark.parametrize("options", [{"keep_runs": 0}, {"keep_runs": "5"}, {"keep_runs": True}, {"keep_runs": 10**6}])
def test_a_number_of_runs_that_makes_no_sense_is_refused(options: Any) -> None:
    with pytest.raises(ClusterError, match="keep_runs is how many finished runs are kept, from 1 to 100,000, not"):
        Cluster(1, **options)


@pytest.mark.parametrize("size", [0, -1, 1.5, "1XB", "0 MB", False])
def test_a_number_of_bytes_that_makes_no_sense_is_refused(size: Any) -> None:
    with WorkflowRuntime.new_single_node(1, network="memory") as cluster:
        with pytest.raises(ClusterError, match="keep_bytes is how many bytes of finished runs are kept"):
            cluster.set_retention(keep_bytes=size)
        cluster.set_retention()
        assert (cluster.retention.keep_runs, cluster.retention.keep_bytes) == (1000, 1_000_000_000)


def test_what_is_kept_is_the_same_after_a_restart_until_it_is_changed(tmp_path: Path) -> None:
    with Cluster(1, network="memory", data_dir=tmp_path / "lab", keep_runs=3, keep_bytes=10**6) as cluster:
        for run in cluster.start_many(quick, range(10)):
            run.wait_for_completion(PATIENCE)
    with Cluster(network="memory", data_dir=tmp_path / "lab") as cluster:
        now = cluster.retention
        assert (now.keep_runs, now.keep_bytes, now.runs, now.evicted) == (3, 10**6, 3, 7)
        cluster.set_retention(keep_runs=2)
        assert len(cluster.runs()) == 2
    with Cluster(network="memory", data_dir=tmp_path / "lab", keep_runs=1) as cluster:
        assert [run.run_id for run in cluster.runs()] == ["quick-10"]
        assert cluster.retention.keep_bytes == 10**6


def test_nodes_that_were_killed_and_nodes_that_come_late_keep_the_same_runs() -> None:
    compaction = Compaction(log_bytes=20_000, kept_bytes=2_000, piece_bytes=1_000)
    with Cluster(3, network="memory", keep_runs=4, compaction=compaction) as cluster:
        victim = followers(cluster)[0]
        cluster.kill(victim)
        runs = cluster.start_many(square, range(200))
        assert [run.wait_for_completion(PATIENCE) for run in runs] == [number * number for number in range(200)]
        cluster.restart(victim)
        added = cluster.add()
        leader = cluster.wait_for_leader()
        cluster.kill(leader)
        last = cluster.start_workflow(square, 7)
        assert last.wait_for_completion(PATIENCE) == 49
        cluster.restart(leader)
        assert added in cluster.nodes
        assert len(agreed(cluster)["finished"]) == 4  # type: ignore[arg-type]
        assert cluster.retention.keep_runs == 4
        assert all(run.wait_for_completion(PATIENCE) == number * number for number, run in enumerate(runs))


# --- deletion


def test_a_finished_run_is_deleted_and_its_id_is_free(cluster: Cluster) -> None:
    with Watch(cluster) as watch:
        run = cluster.start_workflow(square, 3, run_id="mine")
        assert run.wait_for_completion(PATIENCE) == 9
        run.delete()
        watch.until(RunDeleted, lambda event: event.run_id == "mine")
        assert cluster.runs() == ()
        for use in (run.wait_for_completion, run.delete, lambda: run.status, lambda: cluster.run("mine")):
            with pytest.raises(RunNotFoundError, match="run 'mine' was deleted"):
                use()
        again = cluster.start_workflow(square, 4, run_id="mine")
        assert again.wait_for_completion(PATIENCE) == 16
        assert again.generation == 2
        assert [step.key for step in again.steps] == ["square"]
        agreed(cluster)


def test_an_unfinished_run_is_not_deleted() -> None:
    with Cluster(1, network="memory") as cluster:
        run = cluster.start_workflow(waits, "open")
        gate("open").await_arrival()
        with pytest.raises(RunUnfinishedError, match=r"has not ended \(running\): cancel or terminate it first"):
            run.delete()
        run.terminate()
        run.delete()
        with pytest.raises(RunNotFoundError, match="was deleted"):
            run.delete()


def test_a_deletion_that_comes_twice_is_one_and_spares_the_run_that_has_the_id_by_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Cluster(1, network="memory") as cluster:
        run = cluster.start_workflow(square, 3, run_id="mine")
        run.wait_for_completion(PATIENCE)
        host = engine(cluster)
        propose = host.propose

        def twice(command: Any, what: str) -> Any:
            propose(command, what)
            monkeypatch.setattr(host, "propose", propose)
            cluster.start_workflow(square, 5, run_id="mine").wait_for_completion(PATIENCE)
            return propose(command, what)

        monkeypatch.setattr(host, "propose", twice)
        run.delete()
        assert cluster.run("mine").wait_for_completion(PATIENCE) == 25


def test_a_deleted_run_stays_deleted_when_all_nodes_were_killed(tmp_path: Path) -> None:
    with Cluster(3, network="memory", data_dir=tmp_path / "lab") as cluster:
        one, other = (cluster.start_workflow(square, number, run_id=f"run-{number}") for number in (2, 3))
        assert (one.wait_for_completion(PATIENCE), other.wait_for_completion(PATIENCE)) == (4, 9)
        leader = cluster.wait_for_leader()
        one.delete()
        cluster.kill(leader)
        again = cluster.start_workflow(square, 5, run_id="run-2")
        assert again.wait_for_completion(PATIENCE) == 25
        cluster.restart(leader)
        before = agreed(cluster)["runs"]
        for number in tuple(cluster.nodes):
            cluster.kill(number)
        for number in tuple(cluster.nodes):
            cluster.restart(number)
        cluster.wait_for_leader(PATIENCE)
        assert agreed(cluster)["runs"] == before
        assert [(run.run_id, run.wait_for_completion(PATIENCE)) for run in cluster.runs()] == [
            ("run-3", 9),
            ("run-2", 25),
        ]


def test_a_node_whose_state_a_snapshot_replaced_executes_the_new_run_of_an_id() -> None:
    compaction = Compaction(log_bytes=20_000, kept_bytes=2_000, piece_bytes=1_000)
    with Cluster(3, compaction=compaction) as cluster, Watch(cluster) as watch:
        run = cluster.start_workflow(waits, "first", run_id="mine")
        gate("first").await_arrival()
        late = followers(cluster)[0]
        cluster.nodes[late].wait_until_applied()
        cluster.isolate(late)
        run.terminate()
        run.delete()
        again = cluster.start_workflow(square, 6, run_id="mine")
        assert again.wait_for_completion(PATIENCE) == 36
        for one in cluster.start_many(square, range(300)):
            one.wait_for_completion(PATIENCE)
        cluster.heal()
        watch.until(SnapshotInstalled, lambda event: event.node == late)
        agreed(cluster)
        end = engine(cluster)._incarnations[late].execution_end("mine", PATIENCE)
        assert end.status == "completed"


# --- children that are used again


def test_the_result_of_a_child_with_an_id_of_its_own_is_used_again_and_done_again_once_it_is_evicted(
    cluster: Cluster,
) -> None:
    cluster.set_retention(keep_runs=4)
    for workflow in (fit, train):
        cluster.register_workflow(workflow)
    for _ in range(3):
        assert cluster.start_workflow(train, 3).wait_for_completion(PATIENCE) == 9
    assert notes() == ["fit 3"], "used again"
    for _ in range(6):
        assert cluster.start_workflow(quick, 1).wait_for_completion(PATIENCE) == 1
        cluster.start_workflow(train, 3).wait_for_completion(PATIENCE)
    assert notes() == ["fit 3"], "what is used is kept"
    for run in cluster.start_many(quick, range(8)):
        run.wait_for_completion(PATIENCE)
    leader = cluster.wait_for_leader()
    last = cluster.start_workflow(train, 3)
    assert last.wait_for_completion(PATIENCE) == 9
    assert notes() == ["fit 3", "fit 3"]
    assert cluster.run("cache/fit/3").generation == 2
    # Every node has executed both again, and so does one that starts from its log.
    cluster.kill(leader)
    cluster.restart(leader)
    states = agreed(cluster)
    assert states["evicted"]
    for life in engine(cluster)._incarnations.values():
        for run_id in ("cache/fit/3", last.run_id):
            assert life.execution_end(run_id, PATIENCE).status == "completed"
    assert notes() == ["fit 3", "fit 3"]


def test_a_detached_child_that_was_evicted_is_not_started_again() -> None:
    async def send(ctx: WorkflowContext, number: int) -> str:
        return (await ctx.start_child("quick", number, run_id="mail/1", detached=True)).run_id

    with Cluster(1, network="memory", keep_runs=2) as cluster:
        cluster.register_workflow(quick)
        assert cluster.start_workflow(send, 1).wait_for_completion(PATIENCE) == "mail/1"
        for run in cluster.start_many(quick, range(5)):
            run.wait_for_completion(PATIENCE)
        with pytest.raises(WorkflowFailedError, match="cannot start a child: run 'mail/1' has finished"):
            cluster.start_workflow(send, 1).wait_for_completion(PATIENCE)


def test_a_child_that_was_deleted_runs_again(cluster: Cluster) -> None:
    for workflow in (fit, train):
        cluster.register_workflow(workflow)
    assert cluster.start_workflow(train, 3).wait_for_completion(PATIENCE) == 9
    cluster.run("cache/fit/3").delete()
    assert cluster.start_workflow(train, 3).wait_for_completion(PATIENCE) == 9
    assert notes() == ["fit 3", "fit 3"]


def test_a_handle_has_a_large_result_although_its_run_was_evicted(tmp_path: Path) -> None:
    async def large(ctx: WorkflowContext, number: int) -> bytes:
        return bytes([number]) * 1_000_000

    for options in ({"network": "memory"}, {"data_dir": tmp_path / "data"}):
        with Cluster(1, keep_runs=1, **options) as cluster:
            first = cluster.start_workflow(large, 1)
            first.wait_for_completion(PATIENCE)
            for number in (2, 3):
                cluster.start_workflow(large, number).wait_for_completion(PATIENCE)
            host = engine(cluster)
            member = host._incarnations[1].member
            store, live = host.journals.of(1).blobs, member.live_blobs()
            dropped = [digest for digest in store.digests() if digest not in live]
            assert len(dropped) == 2
            for thread in threading.enumerate():
                if thread.name == "raftoral-nb-held-result":
                    thread.join(PATIENCE)
            host.thread.call(store.remove, dropped)
            assert first.wait_for_completion(PATIENCE) == b"\x01" * 1_000_000
