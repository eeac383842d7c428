"""A node whose execution is held lags behind, harms nobody, and catches up from its queue."""

from __future__ import annotations

from typing import Any

import pytest

from raftoral_nb import CheckpointSet, Cluster, CompletionTimeoutError, NodeStateError, WorkflowContext
from tests.cluster.helpers import PATIENCE, Watch, followers, gate, note, notes, repeats


def effect(number: int) -> int:
    note(number)
    return number


async def twenty(ctx: WorkflowContext, _: Any) -> int:
    return sum([await ctx.compute(f"step_{number}", effect, number) for number in range(20)])


async def gated(ctx: WorkflowContext, _: Any) -> bool:
    first = await ctx.compute("gate", lambda: gate("held").enter())
    await ctx.compute("after", effect, 1)
    return first


def test_a_held_follower_queues_twenty_steps_and_drains_them_to_the_same_result(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()
    held = cluster.hold(followers(cluster)[0])
    assert cluster.nodes[held].held
    with Watch(cluster) as watch:
        run = cluster.start_workflow(twenty)
        assert run.wait_for_completion(PATIENCE) == 190
        watch.until(CheckpointSet, times=20)
    assert cluster.nodes[leader].result(run.run_id) == 190
    # Its log goes on, so it knows the end of the run as soon as it has applied it: one more command goes through it.
    assert cluster.start_workflow(twenty).wait_for_completion(PATIENCE) == 190
    statistics = cluster.statistics()
    late, ahead = statistics.nodes[held].runs[run.run_id], statistics.nodes[leader].runs[run.run_id]
    assert (late.status, late.step, late.catch_up_queue) == ("running", 0, 20)
    assert (ahead.status, ahead.step, ahead.catch_up_queue) == ("completed", 20, 0)
    assert statistics.nodes[held].held
    with pytest.raises(CompletionTimeoutError, match=f"node {held} has not finished"):
        cluster.nodes[held].result(run.run_id, timeout=0.01)
    cluster.release(held)
    assert cluster.nodes[held].result(run.run_id, timeout=PATIENCE) == 190
    drained = cluster.nodes[held].statistics().runs[run.run_id]
    assert (drained.status, drained.step, drained.catch_up_queue) == ("completed", 20, 0)
    assert drained.effects_run == 0
    assert all(notes().count(number) == 2 for number in range(20))  # two runs, each effect once in each
    assert cluster.statistics().effects_run == 40


def test_with_the_leader_held_a_run_waits_and_goes_on_when_it_is_released(cluster: Cluster) -> None:
    held = cluster.hold("leader")
    run = cluster.start_workflow(twenty)
    with pytest.raises(CompletionTimeoutError):
        run.wait_for_completion(0.05)
    assert run.steps == ()
    assert cluster.leader == held
    assert cluster.release(held) == held
    assert run.wait_for_completion(PATIENCE) == 190
    assert repeats() == {}


def test_a_step_that_runs_when_the_leader_is_held_is_recorded_and_the_next_one_waits(cluster: Cluster) -> None:
    with Watch(cluster) as watch:
        run = cluster.start_workflow(gated)
        gate("held").await_arrival()
        held = cluster.hold("leader")
        gate("held").open()
        watch.until(CheckpointSet, lambda event: event.step.key == "gate")
        with pytest.raises(CompletionTimeoutError):
            run.wait_for_completion(0.05)
        assert notes() == []
        cluster.release(held)
        assert run.wait_for_completion(PATIENCE) is True
    assert notes() == [1]


def test_a_held_follower_that_becomes_the_leader_finishes_its_queue_before_it_does_anything_new(
    cluster: Cluster,
) -> None:
    for number in followers(cluster):
        cluster.hold(number)
    run = cluster.start_workflow(gated)
    gate("held").await_arrival()
    gate("held").open()
    killed = cluster.kill("leader")
    successor = cluster.wait_for_leader()
    for number in followers(cluster):
        cluster.release(number)
    cluster.release(successor)
    assert run.wait_for_completion(PATIENCE) in (True, False)  # the step was recorded before the kill, or is done again
    assert killed not in {step.node for step in run.steps if step.key == "after" and notes().count(1) == 2}
    assert all(
        node.result(run.run_id, timeout=PATIENCE) == run.value("gate") for node in cluster.nodes.values() if node.alive
    )


def test_a_held_node_that_is_killed_is_not_held_after_its_restart(cluster: Cluster) -> None:
    held = cluster.hold(followers(cluster)[0])
    cluster.kill(held)
    cluster.restart(held)
    assert not cluster.nodes[held].held
    with pytest.raises(NodeStateError, match=f"node {held} is not held"):
        cluster.release(held)
    run = cluster.start_workflow(twenty)
    assert run.wait_for_completion(PATIENCE) == 190


def test_a_node_both_held_and_paused_goes_on_only_when_it_is_neither(cluster: Cluster) -> None:
    held = followers(cluster)[0]
    cluster.hold(held)
    cluster.pause(held)
    run = cluster.start_workflow(twenty)
    assert run.wait_for_completion(PATIENCE) == 190
    cluster.release(held)
    assert cluster.nodes[held].statistics().runs.get(run.run_id) is None
    cluster.hold(held)
    cluster.resume(held)
    with pytest.raises(CompletionTimeoutError):
        cluster.nodes[held].result(run.run_id, timeout=0.05)
    cluster.release(held)
    assert cluster.nodes[held].result(run.run_id, timeout=PATIENCE) == 190


def test_a_held_cluster_stops_without_naming_anybody() -> None:
    with Cluster(3) as cluster:
        for number in cluster.nodes:
            cluster.hold(number)
        cluster.start_workflow(twenty)
        assert cluster.stop().stuck == ()
