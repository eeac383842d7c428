"""Without a majority nothing is acknowledged, nothing is lost, and every call says so by its deadline."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from raftoral_nb import (
    Cluster,
    CompletionTimeoutError,
    NotAcknowledgedError,
    RunNotFoundError,
    WorkflowContext,
    WorkflowStarted,
)
from tests.cluster.helpers import PATIENCE, STEADFAST, Watch, engine, followers, gate, in_thread, note, repeats


def effect(number: int, at: int) -> int:
    note(number)
    if number == at:
        gate("effect").enter()
    return number


async def count(ctx: WorkflowContext, at: int) -> int:
    """Five steps; the one numbered `at` waits at a gate when it runs first."""
    return sum([await ctx.compute("effect", effect, number, at) for number in range(5)])


def leave_two(cluster: Cluster) -> list[int]:
    """Kill all of five nodes and restart two, which then know of no leader and cannot elect one; returns the dead."""
    for number in cluster.nodes:
        cluster.kill(number)
    first, second, *dead = cluster.nodes
    cluster.restart(first)
    cluster.restart(second)
    return dead


def test_a_start_that_a_leader_took_without_a_majority_may_commit_later_and_then_does() -> None:
    with Cluster(3, proposal_timeout=1.0, timing=STEADFAST) as cluster:
        cluster.register_workflow(count)
        others = followers(cluster)
        for number in others:
            cluster.kill(number)
        with pytest.raises(NotAcknowledgedError, match=r"starting 'count' as run 'mine'.*majority") as caught:
            cluster.start_workflow("count", -1, run_id="mine")
        assert caught.value.may_commit
        with pytest.raises(RunNotFoundError):
            cluster.run("mine")
        with Watch(cluster) as watch:
            cluster.restart(others[0])
            watch.until(WorkflowStarted)
        assert cluster.run("mine").wait_for_completion(PATIENCE) == 10
        assert cluster.start_workflow("count", -1, run_id="mine").wait_for_completion(PATIENCE) == 10
        assert repeats() == {}


def test_a_start_that_no_leader_took_will_not_commit() -> None:
    with Cluster(5, proposal_timeout=1.0) as cluster:
        cluster.register_workflow(count)
        dead = leave_two(cluster)
        assert cluster.leader is None
        with pytest.raises(NotAcknowledgedError, match=r"no answer within 1 s") as caught:
            cluster.start_workflow("count", -1, run_id="mine")
        assert not caught.value.may_commit
        for number in dead:
            cluster.restart(number)
        cluster.wait_for_leader()
        cluster.start_workflow("count", -1, run_id="other").wait_for_completion(PATIENCE)
        assert [run.run_id for run in cluster.runs()] == ["other"]


def test_a_run_that_is_started_with_no_leader_begins_as_soon_as_there_is_one() -> None:
    with Cluster(5, proposal_timeout=PATIENCE) as cluster:
        cluster.register_workflow(count)
        dead = leave_two(cluster)
        started = in_thread(lambda: cluster.start_workflow("count", -1))
        cluster.restart(dead[0])
        assert started().wait_for_completion(PATIENCE) == 10


def test_with_all_nodes_dead_a_start_fails_at_once_and_nothing_is_lost(cluster: Cluster) -> None:
    run = cluster.start_workflow(count, -1)
    assert run.wait_for_completion(PATIENCE) == 10
    for number in cluster.nodes:
        cluster.kill(number)
    with pytest.raises(NotAcknowledgedError, match="no node runs") as caught:
        cluster.start_workflow("count", -1)
    assert "within" not in str(caught.value), "it did not wait"
    assert not caught.value.may_commit
    assert run.status == "completed"
    assert run.wait_for_completion(PATIENCE) == 10
    for number in cluster.nodes:
        cluster.restart(number)
    again = cluster.start_workflow("count", -1)
    assert again.wait_for_completion(PATIENCE) == 10
    assert [node.result(run.run_id) for node in cluster.nodes.values()] == [10, 10, 10]
    assert [one.run_id for one in cluster.runs()] == [run.run_id, again.run_id]


@pytest.mark.parametrize("paused", [False, True], ids=["killed", "paused"])
def test_a_run_stands_still_without_a_majority_and_goes_on_with_it(cluster: Cluster, paused: bool) -> None:
    run = cluster.start_workflow(count, 2)
    gate("effect").await_arrival()
    before = run.steps
    others = followers(cluster)
    for number in others:
        _ = cluster.pause(number) if paused else cluster.kill(number)
    gate("effect").open()
    with pytest.raises(CompletionTimeoutError, match="is still running"):
        run.wait_for_completion(0.05)
    assert run.status == "running"
    assert run.steps == before
    for number in others:
        _ = cluster.resume(number) if paused else cluster.restart(number)
    assert run.wait_for_completion(PATIENCE) == 10
    assert run.steps[:2] == before
    assert all(times == 2 and number == 2 for number, times in repeats().items())


def test_with_all_nodes_paused_a_start_ends_by_its_deadline(cluster: Cluster) -> None:
    cluster.register_workflow(count)
    for number in cluster.nodes:
        cluster.pause(number)
    with pytest.raises(NotAcknowledgedError, match="paused"):
        cluster.start_workflow("count", -1)
    for number in cluster.nodes:
        cluster.resume(number)
    assert cluster.start_workflow("count", -1).wait_for_completion(PATIENCE) == 10


def test_a_start_does_not_wait_for_a_node_that_is_paused_meanwhile() -> None:
    with Cluster(3, proposal_timeout=PATIENCE, timing=STEADFAST) as cluster:
        cluster.register_workflow(count)
        for number in followers(cluster):
            cluster.kill(number)
        asked = threading.Event()
        incarnation = engine(cluster).incarnation(cluster.wait_for_leader())
        assert incarnation is not None
        submit = incarnation.member.replica.submit

        def submitted(proposals: object) -> bool:
            asked.set()
            return submit(proposals)  # type: ignore[arg-type]

        incarnation.member.replica.submit = submitted  # type: ignore[method-assign]
        started = in_thread(lambda: cluster.start_workflow("count", -1))
        assert asked.wait(PATIENCE)
        cluster.pause("leader")
        with pytest.raises(NotAcknowledgedError) as caught:
            started()
        assert caught.value.may_commit


def test_registering_is_not_acknowledged_either() -> None:
    with Cluster(3, proposal_timeout=1.0, timing=STEADFAST) as cluster:
        for number in followers(cluster):
            cluster.kill(number)
        with pytest.raises(NotAcknowledgedError, match="registering 'count' version 1"):
            cluster.register_workflow(count)
        assert dict(cluster.workflows) == {}


def test_waiting_for_a_leader_says_which_nodes_run() -> None:
    with Cluster(5) as cluster:
        dead = leave_two(cluster)
        with pytest.raises(NotAcknowledgedError, match=r"2 of 5 nodes run \(\[\d, \d\]\).*restart"):
            cluster.wait_for_leader(0.05)
        cluster.restart(dead[0])
        assert cluster.wait_for_leader() not in dead[1:]


def test_one_node_alone_still_answers_by_the_deadline() -> None:
    with Cluster(3, proposal_timeout=1.0) as cluster:
        cluster.register_workflow(count)
        others = followers(cluster)
        cluster.kill("leader")
        cluster.kill(others[0])
        with pytest.raises(NotAcknowledgedError):
            cluster.start_workflow("count", -1)
        cluster.restart(others[0])
        cluster.wait_for_leader()
        assert cluster.start_workflow("count", -1).wait_for_completion(PATIENCE) == 10


@pytest.mark.parametrize("network", ["memory", "tcp"])
def test_with_no_node_that_runs_a_proposal_fails_at_once_and_claims_no_wait(network: Any) -> None:
    async def greet(ctx: WorkflowContext, name: str) -> str:
        return name

    with Cluster(3, network=network, proposal_timeout=1000) as cluster:
        cluster.register_workflow("greet", greet)
        run = cluster.start_workflow("greet", "you")
        for number in cluster.nodes:
            cluster.kill(number)
        for ask in (lambda: cluster.start_workflow("greet", "them"), lambda: run.signal("more"), cluster.add):
            with pytest.raises(
                NotAcknowledgedError, match=r"not acknowledged: no node runs, or all are paused"
            ) as caught:
                ask()
            assert "1000" not in str(caught.value)
            assert not caught.value.may_commit


def test_a_proposal_that_was_waited_for_says_how_long() -> None:
    async def greet(ctx: WorkflowContext, name: str) -> str:
        return name

    with Cluster(3, network="memory", proposal_timeout=0.3) as cluster:
        cluster.register_workflow("greet", greet)
        leader = cluster.wait_for_leader()
        for number in cluster.nodes:
            if number != leader:
                cluster.kill(number)
        with pytest.raises(NotAcknowledgedError, match=r"no answer within 0\.3 s"):
            cluster.start_workflow("greet", "you")
