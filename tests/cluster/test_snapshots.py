"""A node that was away for longer than the log lasts: it takes over the state, and lags behind and harms nobody as ever."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from raftoral_nb import Cluster, SnapshotInstalled, WorkflowContext
from raftoral_nb.raft.compaction import Compaction
from tests.cluster.helpers import PATIENCE, STEADFAST, Watch, engine, followers, gate, note, notes, repeats


def effect(number: int) -> int:
    note(number)
    return number


async def twenty(ctx: WorkflowContext, _: Any) -> int:
    return sum([await ctx.compute(f"step_{number}", effect, number) for number in range(20)])


async def half_done(ctx: WorkflowContext, _: Any) -> int:
    total = sum([await ctx.compute(f"step_{number}", effect, 100 + number) for number in range(10)])
    await ctx.compute("gate", lambda: gate("half").enter())
    return total + await ctx.compute("last", effect, 1000)


async def large(ctx: WorkflowContext, count: int) -> int:
    return sum([len(await ctx.compute(f"chunk_{number}", bytes, 2000)) for number in range(count)])


@pytest.fixture
def forgetful() -> Iterator[Cluster]:
    """Three nodes that keep little log."""
    with Cluster(
        3, timing=STEADFAST, compaction=Compaction(log_bytes=20_000, kept_bytes=2_000, piece_bytes=1_000)
    ) as one:
        yield one


def _cut_off(cluster: Cluster, node: int) -> None:
    network = cluster._host.network
    assert network is not None
    for other in cluster.nodes:
        if other != node:
            cluster._host.thread.call(network.cut, node, other)


def _reconnect(cluster: Cluster) -> None:
    network = cluster._host.network
    assert network is not None
    cluster._host.thread.call(network.heal_all)


def _outrun(cluster: Cluster) -> None:
    """Commit so much that nobody has the log of before."""
    leader = cluster.nodes[cluster.wait_for_leader()]
    before = leader.statistics().log_length
    while leader.statistics().snapshot_index <= before:
        cluster.start_workflow(large, 20).wait_for_completion(PATIENCE)


def test_a_node_that_was_outrun_has_the_right_queue_for_a_run_that_goes_on_and_the_same_results(
    forgetful: Cluster,
) -> None:
    cluster = forgetful
    late = followers(cluster)[0]
    unfinished = cluster.start_workflow(half_done)
    gate("half").await_arrival()
    cluster.hold(late)
    _cut_off(cluster, late)
    whole = cluster.start_workflow(twenty)
    assert whole.wait_for_completion(PATIENCE) == 190
    _outrun(cluster)
    with Watch(cluster) as watch:
        _reconnect(cluster)
        installed = watch.until(SnapshotInstalled)
        assert installed.node == late
    cluster.nodes[late].wait_until_applied(PATIENCE)
    runs = cluster.nodes[late].statistics().runs
    assert runs[unfinished.run_id].step + runs[unfinished.run_id].catch_up_queue == 10
    assert runs[whole.run_id].catch_up_queue == 20
    gate("half").open()
    assert unfinished.wait_for_completion(PATIENCE) == 1000 + sum(range(100, 110))
    cluster.release(late)
    assert cluster.nodes[late].result(whole.run_id, timeout=PATIENCE) == 190
    assert cluster.nodes[late].result(unfinished.run_id, timeout=PATIENCE) == 1000 + sum(range(100, 110))
    done = cluster.nodes[late].statistics().runs
    assert (done[whole.run_id].step, done[whole.run_id].catch_up_queue, done[whole.run_id].effects_run) == (20, 0, 0)
    assert repeats() == {}
    assert len(notes()) == 31


def test_a_node_that_was_outrun_can_lead_and_goes_on_with_the_run(forgetful: Cluster) -> None:
    cluster = forgetful
    late, other = followers(cluster)
    first = cluster.wait_for_leader()
    unfinished = cluster.start_workflow(half_done)
    gate("half").await_arrival()
    cluster.kill(late)
    _outrun(cluster)
    with Watch(cluster) as watch:
        cluster.restart(late)
        watch.until(SnapshotInstalled, lambda event: event.node == late)
    gate("half").open()
    assert unfinished.wait_for_completion(PATIENCE) == 1000 + sum(range(100, 110))
    cluster.kill(first)
    incarnation = engine(cluster).incarnation(late)
    assert incarnation is not None
    cluster._host.thread.call(incarnation.member.campaign)
    cluster.wait_for_leader(PATIENCE)
    assert cluster.start_workflow(twenty).wait_for_completion(PATIENCE) == 190
    assert cluster.nodes[other].alive


def test_a_cluster_whose_nodes_all_died_goes_on_from_its_snapshots() -> None:
    compaction = Compaction(log_bytes=20_000, kept_bytes=2_000, piece_bytes=1_000)
    with Cluster(3, compaction=compaction) as cluster:
        whole = cluster.start_workflow(twenty)
        assert whole.wait_for_completion(PATIENCE) == 190
        _outrun(cluster)
        for number in cluster.nodes:
            cluster.kill(number)
        for number in cluster.nodes:
            cluster.restart(number)
        assert cluster.run(whole.run_id).wait_for_completion(PATIENCE) == 190
        for number in cluster.nodes:
            assert cluster.nodes[number].result(whole.run_id, timeout=PATIENCE) == 190
        assert cluster.start_workflow(twenty).wait_for_completion(PATIENCE) == 190
        assert sum(notes()) == 2 * 190
