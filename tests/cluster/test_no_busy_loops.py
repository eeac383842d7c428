"""Nothing polls: turns of the consensus loop are counted, in units of heartbeats that passed on that loop's clock.

A machine that is slow makes fewer turns in that time, never more; a loop that spins makes a hundred times as many.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from raftoral_nb import Cluster, WorkflowContext
from raftoral_nb.raft.replica import Timing
from tests.cluster.helpers import followers

HEARTBEATS = 20

MOST_TURNS = 15
"""Of the loop, per heartbeat: messages of three nodes, their answers, timers."""


def turns(cluster: Cluster) -> float:
    """Turns of the consensus loop per heartbeat."""
    count = 0.0

    async def watch() -> float:
        loop: Any = asyncio.get_running_loop()
        run_once = loop._run_once

        def counting() -> None:
            nonlocal count
            count += 1
            run_once()

        begun = loop.time()
        loop._run_once = counting
        try:
            await asyncio.sleep(HEARTBEATS * Timing().heartbeat)
        finally:
            del loop._run_once
        return float(loop.time() - begun) / Timing().heartbeat

    passed = cluster._host.thread.run(watch)
    return count / passed


async def steps(ctx: WorkflowContext, count: int) -> int:
    for number in range(count):
        await ctx.compute("step", abs, number)
    return count


def test_a_loop_that_spins_is_found_out(cluster: Cluster) -> None:
    def spin() -> None:
        asyncio.get_running_loop().call_later(0.0005, spin)

    cluster._host.thread.post(spin)
    assert turns(cluster) > MOST_TURNS


def test_an_idle_cluster_makes_few_turns_of_its_loop(cluster: Cluster) -> None:
    assert 0 < turns(cluster) <= MOST_TURNS


@pytest.mark.parametrize("leader_too", [True, False], ids=["leader and follower", "both followers"])
def test_a_node_without_a_majority_makes_few_turns_of_its_loop(cluster: Cluster, leader_too: bool) -> None:
    others = followers(cluster)
    for number in (cluster.wait_for_leader(), others[0]) if leader_too else others:
        cluster.kill(number)
    assert turns(cluster) <= MOST_TURNS


def test_paused_nodes_cost_few_turns_of_the_loop(cluster: Cluster) -> None:
    one, other = followers(cluster)
    cluster.pause(one)
    assert turns(cluster) <= MOST_TURNS
    cluster.pause(other)
    assert turns(cluster) <= MOST_TURNS


def test_a_follower_with_a_long_backlog_costs_few_turns_of_the_loop(cluster: Cluster) -> None:
    lagging, _ = followers(cluster)
    cluster.pause(lagging)
    assert cluster.start_workflow(steps, 500).wait_for_completion(30.0) == 500
    assert turns(cluster) <= MOST_TURNS
    cluster.hold(lagging)
    cluster.resume(lagging)
    cluster.nodes[lagging].wait_until_applied(30.0)
    assert turns(cluster) <= MOST_TURNS
