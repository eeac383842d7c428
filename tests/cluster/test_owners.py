"""Runs have owners that do their steps, and steps can be bound to nodes by a label."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from raftoral_nb import (
    BadArgumentError,
    Cluster,
    ClusterError,
    ExecutionStopped,
    NodeOffered,
    NodeWithdrawn,
    OutcomeUnknown,
    RunAssigned,
    RunEndedError,
    StepBound,
    WorkflowCancelledError,
    WorkflowContext,
    current_step,
    step,
)
from tests.cluster.helpers import PATIENCE, Watch, gate, note, notes


@pytest.fixture
def spread() -> Iterator[Cluster]:
    with Cluster(3, spread_runs=True, network="memory", labels={2: ["fast"], 3: ["fast", "gpu"]}) as cluster:
        yield cluster


def done_by() -> int:
    """The node that runs the step."""
    return current_step().node


async def three(ctx: WorkflowContext, _: Any) -> list[int]:
    await ctx.sleep(0.001)
    return [await ctx.compute(f"step {number}", done_by) for number in range(3)]


def waits(name: str) -> tuple[int, int]:
    """The node that runs the step, and which call of it this is; the first one returns only when the gate is opened."""
    note(name)
    number = notes().count(name)
    if number == 1:
        gate(name).enter()
    return current_step().node, number


async def one_wait(ctx: WorkflowContext, name: str) -> tuple[int, int]:
    return await ctx.compute("waits", waits, name)


def test_each_run_has_an_owner_which_does_its_steps_and_they_are_spread_over_all_nodes(spread: Cluster) -> None:
    runs = spread.start_many(three, [None] * 6)
    assert [run.owner for run in runs] == [1, 2, 3, 1, 2, 3]
    for run in runs:
        assert run.wait_for_completion(PATIENCE) == [run.owner] * 3
        assert all(node.result(run.run_id, timeout=PATIENCE) == [run.owner] * 3 for node in spread.nodes.values())


def test_without_it_the_leader_does_the_steps_of_all_runs(cluster: Cluster) -> None:
    runs = cluster.start_many(three, [None] * 3)
    assert [run.wait_for_completion(PATIENCE) for run in runs] == [[cluster.leader] * 3] * 3
    assert [run.owner for run in runs] == [None] * 3


def test_the_runs_of_a_node_that_is_killed_go_to_another_and_only_the_step_that_ran_is_done_again(
    spread: Cluster,
) -> None:
    leader = spread.wait_for_leader()
    runs = spread.start_many(one_wait, ["a", "b", "c"])
    for name in "abc":
        gate(name).await_arrival()
    victim = next(run for run in runs if run.owner not in (leader, None))
    name = "abc"[runs.index(victim)]
    killed = victim.owner
    assert killed is not None
    with Watch(spread) as watch:
        spread.kill(killed)
        assert watch.until(NodeWithdrawn).node == killed
        moved = watch.until(RunAssigned)
    assert (moved.run_id, moved.node) == (victim.run_id, victim.owner)
    assert victim.wait_for_completion(PATIENCE) == (victim.owner, 2)
    for other in "abc".replace(name, ""):
        gate(other).open()
    assert sorted(run.wait_for_completion(PATIENCE)[1] for run in runs) == [1, 1, 2], (
        "the others went on where they were"
    )


def test_the_steps_of_other_owners_go_on_while_the_leader_dies(spread: Cluster) -> None:
    leader = spread.wait_for_leader()
    runs = spread.start_many(one_wait, ["a", "b", "c"])
    for name in "abc":
        gate(name).await_arrival()
    spread.kill("leader")
    spread.wait_for_leader()
    for name in "abc":
        gate(name).open()
    found = [run.wait_for_completion(PATIENCE) for run in runs]
    assert [number for _, number in found] == [2 if at == leader - 1 else 1 for at in range(3)]


def test_a_node_that_is_held_gives_its_runs_to_others_and_takes_new_ones_once_it_is_released(spread: Cluster) -> None:
    runs = spread.start_many(one_wait, ["a", "b", "c"])
    for name in "abc":
        gate(name).await_arrival()
    with Watch(spread) as watch:
        spread.hold(3)
        watch.until(RunAssigned)
        assert runs[2].wait_for_completion(PATIENCE) == (runs[2].owner, 2)
        assert runs[2].owner != 3
        spread.release(3)
        watch.until(NodeOffered, lambda event: event.node == 3)
    later = spread.start_workflow(three)
    assert later.wait_for_completion(PATIENCE) == [3] * 3
    for name in "ab":
        gate(name).open()
    assert [run.wait_for_completion(PATIENCE)[1] for run in runs[:2]] == [1, 1]


def test_a_node_that_is_restarted_goes_on_with_its_own_runs(spread: Cluster) -> None:
    run = spread.start_workflow(one_wait, "a")
    gate("a").await_arrival()
    assert run.owner is not None
    other = spread.start_workflow(three)
    other.wait_for_completion(PATIENCE)
    spread.kill(run.owner)
    spread.restart(run.owner)
    assert run.wait_for_completion(PATIENCE)[1] == 2


def test_a_run_is_given_to_another_node_by_name(spread: Cluster) -> None:
    run = spread.start_workflow(one_wait, "a")
    gate("a").await_arrival()
    first = run.owner
    assert first is not None
    run.assign()
    assert run.owner != first
    assert run.wait_for_completion(PATIENCE) == (run.owner, 2)
    with pytest.raises(RunEndedError):
        run.assign(2)
    waiting = spread.start_workflow(one_wait, "b")
    with pytest.raises(ClusterError, match=r"node 9 does not take runs \(of those that do: 1, 2, 3\)"):
        waiting.assign(9)
    waiting.terminate()


def test_a_child_has_an_owner_of_its_own_and_signals_timers_and_updates_find_whoever_does_the_steps(
    spread: Cluster,
) -> None:
    async def answers(ctx: WorkflowContext, _: Any) -> list[Any]:
        child = await ctx.start_child("three")
        update = await ctx.receive_update("add")
        await update.answer(update.value + 1)
        signal = await ctx.receive("go")
        await asyncio.sleep(0.01)
        return [signal, await child, await ctx.compute("who", done_by)]

    spread.register_workflow(three)
    run = spread.start_workflow(answers)
    assert run.update("add", 2, timeout=PATIENCE) == 3
    run.signal("go", "now")
    signal, by_child, by_parent = run.wait_for_completion(PATIENCE)
    assert signal == "now"
    assert by_parent == run.owner
    assert set(by_child) != {run.owner}


async def able(ctx: WorkflowContext, nodes: list[int]) -> int:
    """Differs from its record on all nodes but these, of which the first does what is recorded first."""
    await ctx.compute("step" if ctx.node in nodes else f"odd {ctx.node}", done_by)
    await ctx.receive("go")
    return await ctx.compute("last", done_by)


@pytest.mark.filterwarnings("ignore::raftoral_nb.NonDeterminismWarning")
@pytest.mark.parametrize("only", [2, 3, 4])
def test_a_run_that_all_nodes_but_one_cannot_go_on_with_comes_to_that_one(only: int) -> None:
    with Cluster(4, spread_runs=True, network="memory") as cluster, Watch(cluster) as watch:
        run = cluster.start_workflow(able, [1, only])
        assert run.owner == 1
        watch.until(ExecutionStopped, times=2)
        cluster.kill(1)
        run.signal("go")
        assert run.wait_for_completion(PATIENCE) == only


@pytest.mark.filterwarnings("ignore::raftoral_nb.NonDeterminismWarning")
def test_a_run_that_nobody_can_go_on_with_goes_on_once_a_node_offers_itself_that_can(spread: Cluster) -> None:
    with Watch(spread) as watch:
        run = spread.start_workflow(able, [1])
        watch.until(ExecutionStopped, times=2)
        spread.hold(1)
        watch.until(NodeWithdrawn)
        watch.until(RunAssigned, times=3)
        run.signal("go")
        spread.release(1)
        assert run.wait_for_completion(PATIENCE) == 1


# --- labels


async def bound(ctx: WorkflowContext, label: str) -> tuple[int, int, int]:
    """Who does a step of a label, one that runs at most once besides, and one without a label."""
    return (
        await ctx.compute("labelled", step(done_by, where=label)),
        await ctx.compute("once", step(done_by, where=label, at_most_once=True)),
        await ctx.compute("plain", done_by),
    )


def test_a_step_with_a_label_runs_on_a_node_that_has_it_and_the_others_where_they_would(spread: Cluster) -> None:
    runs = spread.start_many(bound, ["gpu"] * 3)
    assert [run.wait_for_completion(PATIENCE) for run in runs] == [(3, 3, 1), (3, 3, 2), (3, 3, 3)]
    many = spread.start_many(bound, ["fast"] * 12)
    found = [run.wait_for_completion(PATIENCE)[0] for run in many]
    assert set(found) == {2, 3}, "all that have the label do some"


def test_labels_go_without_owners_too() -> None:
    with Cluster(3, network="memory", labels={2: ["gpu"]}) as cluster:
        run = cluster.start_workflow(bound, "gpu")
        assert run.wait_for_completion(PATIENCE) == (2, 2, cluster.leader)
        assert run.owner is None


def test_a_step_waits_for_a_node_with_its_label_and_the_log_of_the_run_says_so(spread: Cluster) -> None:
    with Watch(spread) as watch:
        run = spread.start_workflow(bound, "tpu")
        assert watch.until(StepBound).node == 0
    run.cancel()
    with pytest.raises(WorkflowCancelledError):
        run.wait_for_completion(PATIENCE)
    (said,) = [line.text for line in spread.log(run.run_id) if line.stream == "engine"]
    assert "waits for a node with the label 'tpu'" in said
    assert "--label" in said


def test_the_log_says_what_a_step_waits_for_whose_node_was_the_last_with_its_label(spread: Cluster) -> None:
    async def only_there(ctx: WorkflowContext, name: str) -> Any:
        return await ctx.compute("there", step(waits, where="gpu"), name)

    with Watch(spread) as watch:
        run = spread.start_workflow(only_there, "a")
        gate("a").await_arrival()
        assert watch.until(StepBound).node == 3
        spread.kill(3)
        watch.until(StepBound, lambda event: event.node == 0)
    run.cancel()
    with pytest.raises(WorkflowCancelledError):
        run.wait_for_completion(PATIENCE)
    (said,) = [line.text for line in spread.log(run.run_id) if "waits for" in line.text]
    assert "a node with the label 'gpu'" in said


@pytest.mark.parametrize("label", [None, "gpu"])
def test_a_step_that_waits_for_a_label_is_done_where_the_code_says_to_which_its_run_is_moved(
    spread: Cluster, label: str | None
) -> None:
    async def before(ctx: WorkflowContext, _: Any) -> int:
        return await ctx.compute("fit", step(done_by, where="tpu"))

    async def after(ctx: WorkflowContext, _: Any) -> int:
        return await ctx.compute("fit", step(done_by, where=label) if label else done_by)

    spread.register_workflow("w", 1, before)
    with Watch(spread) as watch:
        run = spread.start_workflow("w")
        assert watch.until(StepBound).node == 0
    spread.register_workflow("w", 2, after)
    run.move_to_version(2)
    assert run.wait_for_completion(PATIENCE) == (3 if label else run.owner)


async def once_there(ctx: WorkflowContext, name: str) -> Any:
    try:
        return await ctx.compute("once", step(waits, where="fast", at_most_once=True), name)
    except OutcomeUnknown:
        return "unknown"


async def labelled(ctx: WorkflowContext, name: str) -> tuple[int, int]:
    return await ctx.compute("labelled", step(waits, where="fast"), name)


@pytest.mark.parametrize("again", ["at least once", "at most once"])
def test_when_the_node_of_a_bound_step_dies_another_one_with_the_label_does_it_if_it_may(
    spread: Cluster, again: str
) -> None:
    with Watch(spread) as watch:
        run = spread.start_workflow(once_there if again == "at most once" else labelled, "a")
        gate("a").await_arrival()
        first = watch.until(StepBound).node
        assert first in (2, 3)
        spread.kill(first)
        expected: Any = "unknown" if again == "at most once" else (5 - first, 2)
        assert run.wait_for_completion(PATIENCE) == expected


@pytest.mark.parametrize("label", ["", " gpu", "g\npu", "x" * 257, 3, ["gpu"]])
def test_what_is_no_label_is_refused_where_it_is_written(label: Any) -> None:
    with pytest.raises(BadArgumentError, match="where= takes a label"):
        step(done_by, where=label)
    with pytest.raises(ClusterError, match=r"labels\[2\]"):
        Cluster(3, labels={2: [label]})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"labels": ["gpu"]}, "labels are given by node"),
        ({"labels": {"2": ["gpu"]}}, "by the numbers of nodes"),
        ({"labels": {0: ["gpu"]}}, "by the numbers of nodes"),
        ({"labels": {2: "gpu"}}, "takes a list of labels"),
        ({"labels": {2: None}}, "not iterable"),
        ({"labels": {2: map(str, range(17))}}, "at most 16 labels"),
        ({"spread_runs": 1}, "spread_runs is True or False"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_starts(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ClusterError, match=said):
        Cluster(3, **options)
