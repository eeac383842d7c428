"""Nodes join and leave a cluster while its runs go on."""

from __future__ import annotations

from typing import Any

import pytest

from raftoral_nb import Cluster, ClusterError, NoSuchNodeError, NotAcknowledgedError, WorkflowContext
from raftoral_nb.limits import MAX_NODES
from tests.cluster.helpers import PATIENCE, followers, gate, note, repeats


def effect(number: int) -> int:
    note(number)
    return number


async def gated(ctx: WorkflowContext, _: Any) -> int:
    total = sum([await ctx.compute(f"step_{number}", effect, number) for number in range(10)])
    await ctx.compute("gate", lambda: gate("joining").enter())
    return total + await ctx.compute("last", effect, 1000)


async def quick(ctx: WorkflowContext, number: int) -> int:
    return await ctx.compute("quick", lambda: number)


def test_a_node_that_joins_executes_the_runs_that_are_there_and_may_lead(cluster: Cluster) -> None:
    done = cluster.start_workflow(quick, 7)
    assert done.wait_for_completion(PATIENCE) == 7
    run = cluster.start_workflow(gated)
    gate("joining").await_arrival()
    assert cluster.add() == 4
    assert sorted(cluster.nodes) == [1, 2, 3, 4]
    assert cluster.nodes[4].result(done.run_id, timeout=PATIENCE) == 7
    gate("joining").open()
    assert run.wait_for_completion(PATIENCE) == 1045
    assert cluster.nodes[4].result(run.run_id, timeout=PATIENCE) == 1045
    assert cluster.nodes[4].statistics().effects_run == 0
    assert repeats() == {}
    assert cluster.transfer(4) == 4
    assert cluster.start_workflow(quick, 8).wait_for_completion(PATIENCE) == 8


def test_four_nodes_need_three_and_without_the_fourth_two_are_enough_again(cluster: Cluster) -> None:
    added = cluster.add()
    first, second = [number for number in followers(cluster) if number != added][:2]
    cluster.kill(first)
    assert cluster.start_workflow(quick, 1).wait_for_completion(PATIENCE) == 1
    assert cluster.remove(added) == added
    assert added not in cluster.nodes
    assert cluster.start_workflow(quick, 2).wait_for_completion(PATIENCE) == 2
    assert cluster.nodes[second].alive
    with pytest.raises(NoSuchNodeError, match="no node 4: the nodes are 1, 2, 3"):
        cluster.kill(added)


def test_a_dead_node_is_replaced_by_one_with_a_new_number(cluster: Cluster) -> None:
    assert cluster.start_workflow(quick, 1).wait_for_completion(PATIENCE) == 1
    dead = cluster.kill(followers(cluster)[0])
    assert cluster.remove(dead) == dead
    assert cluster.add() == 4
    dead = cluster.kill(4)
    cluster.remove(dead)
    assert cluster.add() == 5
    assert cluster.start_workflow(quick, 2).wait_for_completion(PATIENCE) == 2
    assert len(cluster.nodes) == 3


def test_a_leader_that_is_removed_hands_leadership_over_first(cluster: Cluster) -> None:
    first = cluster.wait_for_leader()
    run = cluster.start_workflow(gated)
    gate("joining").await_arrival()
    gate("joining").open()
    assert cluster.remove("leader") == first
    assert cluster.wait_for_leader() != first
    assert run.wait_for_completion(PATIENCE) == 1045


def test_a_node_that_joined_can_be_killed_and_restarted(cluster: Cluster) -> None:
    added = cluster.add()
    cluster.kill(added)
    assert cluster.start_workflow(quick, 3).wait_for_completion(PATIENCE) == 3
    cluster.restart(added)
    cluster.nodes[added].wait_until_applied(PATIENCE)
    cluster.kill(followers(cluster)[0])
    assert cluster.start_workflow(quick, 4).wait_for_completion(PATIENCE) == 4


def test_one_node_becomes_three_while_it_works() -> None:
    with Cluster(1) as cluster:
        assert cluster.start_workflow(quick, 1).wait_for_completion(PATIENCE) == 1
        assert (cluster.add(), cluster.add()) == (2, 3)
        cluster.nodes[3].wait_until_applied(PATIENCE)
        cluster.kill("leader")
        assert cluster.start_workflow(quick, 2).wait_for_completion(PATIENCE) == 2


def test_without_a_majority_nobody_joins_and_it_is_said() -> None:
    with Cluster(3, proposal_timeout=1.0) as cluster:
        for number in followers(cluster):
            cluster.kill(number)
        with pytest.raises(NotAcknowledgedError):
            cluster.add()


def test_the_only_node_cannot_be_removed_and_there_are_not_more_than_the_most() -> None:
    with Cluster(1, network="memory") as cluster:
        with pytest.raises(ClusterError, match="only one and cannot be removed"):
            cluster.remove(1)
        for _ in range(MAX_NODES - 1):
            cluster.add()
        with pytest.raises(ClusterError, match=f"at most {MAX_NODES} nodes"):
            cluster.add()
