"""Nodes are killed, paused and restarted while runs go on."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest

from raftoral_nb import (
    CheckpointSet,
    Cluster,
    EffectStarted,
    EpochChanged,
    RoleChanged,
    WorkflowCompleted,
    WorkflowContext,
    WorkflowRuntime,
)
from tests.cluster.helpers import PATIENCE, Watch, followers, gate, note, notes, repeats


def square(number: int, gates: tuple[int, ...]) -> int:
    note(number)
    if number in gates:
        gate(f"step {number}").enter()
    return number * number


async def squares(ctx: WorkflowContext, given: tuple[int, tuple[int, ...]]) -> list[int]:
    """`given` is how many squares, and at which of them the first to compute it waits at a gate."""
    count, gates = given
    return [await ctx.compute(f"square_{number}", square, number, gates) for number in range(count)]


def call_number(name: str) -> int:
    """Which call of it this is, from 1; the first one returns only when the gate is opened."""
    note(name)
    number = notes().count(name)
    gate(name).enter()
    return number


async def one_call(ctx: WorkflowContext, name: str) -> int:
    return await ctx.compute("call", call_number, name)


def results(cluster: Cluster, run_id: str) -> list[Any]:
    return [node.result(run_id, timeout=PATIENCE) for node in cluster.nodes.values() if node.alive]


SQUARES = [number * number for number in range(10)]


def test_a_leader_killed_while_a_step_runs_loses_no_recorded_step_and_repeats_only_that_one(cluster: Cluster) -> None:
    run = cluster.start_workflow(squares, (10, (4,)))
    gate("step 4").await_arrival()
    before = run.steps
    killed = cluster.kill("leader")
    assert cluster.wait_for_leader() != killed
    assert run.wait_for_completion(PATIENCE) == SQUARES
    assert [step.key for step in before] == [f"square_{number}" for number in range(4)]
    assert run.steps[:4] == before
    assert {step.node for step in before} == {killed}
    assert killed not in {step.node for step in run.steps[4:]}
    assert repeats() == {4: 2}
    gate("step 4").open()
    cluster.restart(killed)
    assert results(cluster, run.run_id) == [SQUARES] * 3


def test_a_leader_killed_between_two_steps_repeats_nothing(cluster: Cluster) -> None:
    with Watch(cluster) as watch:
        run = cluster.start_workflow(squares, (6, (2,)))
        gate("step 2").await_arrival()
        held = cluster.hold("leader")
        gate("step 2").open()
        watch.until(CheckpointSet, lambda event: event.step.key == "square_2")
        assert cluster.kill("leader") == held
        assert run.wait_for_completion(PATIENCE) == SQUARES[:6]
    assert repeats() == {}
    assert notes() == list(range(6))


def test_a_run_survives_its_leader_being_killed_again_and_again(cluster: Cluster) -> None:
    gates = (1, 3, 5, 7)
    run = cluster.start_workflow(squares, (10, gates))
    for number in gates:
        gate(f"step {number}").await_arrival()
        killed = cluster.kill("leader")
        gate(f"step {number}").open()
        cluster.restart(killed)
    assert run.wait_for_completion(PATIENCE) == SQUARES
    assert all(count == 2 and number in gates for number, count in repeats().items())
    assert results(cluster, run.run_id) == [SQUARES] * 3


def test_each_node_is_restarted_in_turn_while_a_run_goes_on(cluster: Cluster) -> None:
    run = cluster.start_workflow(squares, (10, (2, 5, 8)))
    for number, step in ((1, 2), (2, 5), (3, 8)):
        gate(f"step {step}").await_arrival()
        steps = run.steps
        cluster.kill(number)
        gate(f"step {step}").open()
        cluster.restart(number)
        assert run.steps[: len(steps)] == steps
    assert run.wait_for_completion(PATIENCE) == SQUARES
    assert results(cluster, run.run_id) == [SQUARES] * 3
    assert all(count == 2 for count in repeats().values())


def test_a_killed_follower_is_not_missed_and_replays_everything_after_its_restart(cluster: Cluster) -> None:
    run = cluster.start_workflow(squares, (10, (3,)))
    gate("step 3").await_arrival()
    killed = followers(cluster)[0]
    cluster.kill(killed)
    gate("step 3").open()
    assert run.wait_for_completion(PATIENCE) == SQUARES
    assert cluster.statistics().nodes[killed].role == "dead"
    cluster.restart(killed)
    assert cluster.nodes[killed].result(run.run_id, timeout=PATIENCE) == SQUARES
    execution = cluster.nodes[killed].statistics().runs[run.run_id]
    assert (execution.step, execution.catch_up_queue, execution.effects_run) == (10, 0, 0)
    assert repeats() == {}


def test_all_nodes_are_killed_and_the_run_goes_on_from_the_journals(cluster: Cluster) -> None:
    run = cluster.start_workflow(squares, (10, (6,)))
    gate("step 6").await_arrival()
    before = run.steps
    for number in cluster.nodes:
        cluster.kill(number)
    assert run.status == "running"
    assert run.steps == before
    gate("step 6").open()
    for number in cluster.nodes:
        cluster.restart(number)
    assert run.wait_for_completion(PATIENCE) == SQUARES
    assert run.steps[:6] == before
    assert repeats() == {6: 2}
    assert results(cluster, run.run_id) == [SQUARES] * 3


def test_the_only_node_is_killed_and_its_run_goes_on_after_the_restart() -> None:
    with WorkflowRuntime.new_single_node(1) as runtime:
        run = runtime.start_workflow(squares, (4, (2,)))
        gate("step 2").await_arrival()
        runtime.kill(1)
        runtime.restart(1)
        assert run.wait_for_completion(PATIENCE) == SQUARES[:4]
    assert repeats() == {2: 2}


def test_a_paused_leader_is_replaced_and_follows_when_it_is_resumed(cluster: Cluster) -> None:
    with Watch(cluster) as watch:
        run = cluster.start_workflow(squares, (10, (4,)))
        gate("step 4").await_arrival()
        paused = cluster.pause("leader")
        assert cluster.nodes[paused].paused
        successor = cluster.wait_for_leader()
        assert successor != paused
        assert run.wait_for_completion(PATIENCE) == SQUARES
        gate("step 4").open()
        cluster.resume(paused)
        watch.until(RoleChanged, lambda event: event.node == paused and event.role == "follower")
    assert cluster.nodes[paused].result(run.run_id, timeout=PATIENCE) == SQUARES
    assert cluster.leader == successor
    statistics = cluster.nodes[paused].statistics()
    assert (statistics.role, statistics.acting, statistics.paused) == ("follower", False, False)
    assert repeats() == {4: 2}


def test_a_leader_paused_between_two_steps_does_nothing_that_others_did_when_it_is_resumed(cluster: Cluster) -> None:
    with Watch(cluster) as watch:
        run = cluster.start_workflow(squares, (10, (4,)))
        gate("step 4").await_arrival()
        held = cluster.hold("leader")
        gate("step 4").open()
        watch.until(CheckpointSet, lambda event: event.step.key == "square_4")
        cluster.pause(held)
        cluster.release(held)
        assert run.wait_for_completion(PATIENCE) == SQUARES
        cluster.resume(held)
        assert cluster.nodes[held].result(run.run_id, timeout=PATIENCE) == SQUARES
    assert repeats() == {}


@pytest.mark.parametrize("fault", ["killed", "finished while paused", "finished after resume"])
def test_the_late_result_of_a_deposed_leader_is_discarded(
    cluster: Cluster, fault: Literal["killed", "finished while paused", "finished after resume"]
) -> None:
    with Watch(cluster) as watch:
        run = cluster.start_workflow(one_call, "late")
        gate("late").await_arrival()
        deposed = cluster.kill("leader") if fault == "killed" else cluster.pause("leader")
        assert run.wait_for_completion(PATIENCE) == 2
        recorded = run.steps
        if fault == "finished after resume":
            cluster.resume(deposed)
            assert cluster.nodes[deposed].result(run.run_id, timeout=PATIENCE) == 2
        gate("late").open()
        if fault == "finished while paused":
            cluster.resume(deposed)
        if fault != "killed":
            assert cluster.nodes[deposed].result(run.run_id, timeout=PATIENCE) == 2
        # One more run through all of them, so that whatever was on its way has arrived.
        assert cluster.start_workflow(squares, (3, ())).wait_for_completion(PATIENCE) == [0, 1, 4]
        assert run.steps == recorded
        assert [event.run_id for event in watch.of(CheckpointSet)].count(run.run_id) == 1
        assert [event.run_id for event in watch.of(WorkflowCompleted)].count(run.run_id) == 1
    assert run.wait_for_completion(PATIENCE) == 2
    assert notes().count("late") == 2


async def cancellable(name: str) -> str:
    note(f"{name} began")
    if notes().count(f"{name} began") > 1:
        return "repeated"
    gate(name).arrived.set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        note(f"{name} cancelled")
        raise
    return "never"


async def one_wait(ctx: WorkflowContext, name: str) -> str:
    return await ctx.compute("wait", cancellable, name)


@pytest.mark.parametrize("fault", ["killed", "paused"])
def test_an_async_step_of_a_leader_that_lost_its_epoch_is_cancelled(cluster: Cluster, fault: str) -> None:
    run = cluster.start_workflow(one_wait, "async")
    gate("async").await_arrival()
    deposed = cluster.kill("leader") if fault == "killed" else cluster.pause("leader")
    assert run.wait_for_completion(PATIENCE) == "repeated"
    if fault == "paused":
        cluster.resume(deposed)
        assert cluster.nodes[deposed].result(run.run_id, timeout=PATIENCE) == "repeated"
    assert notes() == ["async began", "async cancelled", "async began"] or sorted(notes()) == [
        "async began",
        "async began",
        "async cancelled",
    ]


def test_runs_go_on_with_the_smallest_majority_of_nine_nodes() -> None:
    with Cluster(9) as cluster, Watch(cluster) as watch:
        run = cluster.start_workflow(squares, (10, (5,)))
        gate("step 5").await_arrival()
        leader = cluster.kill("leader")
        others = [number for number in cluster.nodes if number != leader]
        for number in others[:2]:
            cluster.kill(number)
        cluster.pause(others[2])
        assert run.wait_for_completion(PATIENCE) == SQUARES
        watch.until(EpochChanged, lambda event: event.node in others[3:])
        cluster.resume(others[2])
    assert repeats() == {5: 2}


def test_many_runs_at_once_survive_a_leader_kill(cluster: Cluster) -> None:
    with Watch(cluster) as watch:
        runs = [cluster.start_workflow(squares, (10, (5,))) for _ in range(20)]
        watch.until(EffectStarted, lambda event: event.step_id.endswith("square_5"))
        cluster.kill("leader")
        gate("step 5").open()
        assert [run.wait_for_completion(PATIENCE) for run in runs] == [SQUARES] * 20
    for run in runs:
        assert [step.key for step in run.steps] == [f"square_{number}" for number in range(10)]


@pytest.mark.parametrize("network", ["tcp", "memory"])
def test_a_killed_leader_is_told_apart_from_its_next_incarnation(network: Literal["tcp", "memory"]) -> None:
    """The step of the first incarnation ends after the second one acts: node and run are the same, the epoch is not."""
    with Cluster(1, network=network) as cluster:
        run = cluster.start_workflow(one_call, "again")
        gate("again").await_arrival()
        cluster.kill(1)
        cluster.restart(1)
        assert run.wait_for_completion(PATIENCE) == 2
        gate("again").open()
        assert cluster.start_workflow(squares, (3, ())).wait_for_completion(PATIENCE) == [0, 1, 4]
        assert run.value("call") == 2
        assert cluster.nodes[1].result(run.run_id) == 2
        assert cluster.nodes[1].statistics().incarnation == 2
