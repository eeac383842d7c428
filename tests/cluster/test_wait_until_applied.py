"""`node.wait_until_applied()`: the way to look at a node after it has received what the others have."""

from __future__ import annotations

import threading

import pytest

from raftoral_nb import Cluster, CompletionTimeoutError, NodeStateError, WorkflowContext
from tests.cluster.helpers import PATIENCE, followers


async def twenty(ctx: WorkflowContext, _: None) -> int:
    variable = await ctx.var("number", 0)
    for _number in range(19):
        await variable.update(lambda number: number + 1)
    return variable.value


def test_a_held_node_shows_every_step_that_was_recorded_before_the_call(cluster: Cluster) -> None:
    held = cluster.hold(followers(cluster)[0])
    for _ in range(10):
        run = cluster.start_workflow(twenty, None)
        run.wait_for_completion(PATIENCE)
        index = cluster.nodes[held].wait_until_applied(PATIENCE)
        statistics = cluster.nodes[held].statistics()
        assert statistics.runs[run.run_id].catch_up_queue == 20
        assert index == statistics.applied_index


def test_a_restarted_node_knows_every_run_after_the_wait(cluster: Cluster) -> None:
    killed = cluster.kill("leader")
    run = cluster.start_workflow(twenty, None)
    run.wait_for_completion(PATIENCE)
    cluster.restart(killed)
    cluster.nodes[killed].wait_until_applied(PATIENCE)
    assert cluster.nodes[killed].result(run.run_id) == 19


def test_a_paused_node_is_waited_for_until_the_time_is_up(cluster: Cluster) -> None:
    paused = cluster.pause(followers(cluster)[0])
    cluster.start_workflow(twenty, None).wait_for_completion(PATIENCE)
    with pytest.raises(CompletionTimeoutError, match=f"node {paused} has not applied"):
        cluster.nodes[paused].wait_until_applied(0.05)
    cluster.resume(paused)
    cluster.nodes[paused].wait_until_applied(PATIENCE)


def test_a_node_that_is_killed_ends_the_wait(cluster: Cluster) -> None:
    paused = cluster.pause(followers(cluster)[0])
    cluster.start_workflow(twenty, None).wait_for_completion(PATIENCE)
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            cluster.nodes[paused].wait_until_applied(PATIENCE)
        except NodeStateError as error:
            ended.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    cluster.kill(paused)
    waiting.join(PATIENCE)
    assert not waiting.is_alive()
    assert len(ended) == 1
    with pytest.raises(NodeStateError, match="is dead"):
        cluster.nodes[paused].wait_until_applied(PATIENCE)
