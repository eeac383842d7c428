"""A node whose execution differs from the record is stopped and shown, and the run goes on without it."""

from __future__ import annotations

from typing import Any

import pytest

from raftoral_nb import Cluster, EpochChanged, ExecutionStopped, NonDeterminismError, WorkflowContext
from tests.cluster.helpers import PATIENCE, Watch, engine, followers, gate

# What these workflows do is what the check of their code points at.
pytestmark = pytest.mark.filterwarnings("ignore::raftoral_nb.NonDeterminismWarning")


async def differs(ctx: WorkflowContext, given: tuple[int, str]) -> int:
    """On one node it does something else: what such a run must never do, made sure of."""
    number, how = given
    total: int = await ctx.compute("first", lambda: 1)
    if ctx.node == number and how == "another step":
        total += await ctx.compute("another", lambda: 5)
    if ctx.node == number and how == "another operation":
        await ctx.var("second", 2)
    if ctx.node == number and how == "no step":
        return 3
    total += await ctx.compute("second", lambda: 2)
    if ctx.node == number and how == "a step more":
        await ctx.compute("third", lambda: 1)
    if ctx.node == number and how == "an exception":
        raise ValueError("only here")
    return total + (ctx.node == number and how == "another result")


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("another step", "1/another"),
        ("another operation", "1/second"),
        ("no step", "1/second"),
        ("a step more", "2/third"),
        ("an exception", "only here"),
        ("another result", "its result differs"),
    ],
)
def test_a_follower_that_differs_is_stopped_and_named_and_the_run_completes(
    cluster: Cluster, how: str, reason: str
) -> None:
    odd = followers(cluster)[0]
    with Watch(cluster) as watch:
        run = cluster.start_workflow(differs, (odd, how))
        assert run.wait_for_completion(PATIENCE) == 3
        stopped = watch.until(ExecutionStopped)
    assert (stopped.node, stopped.run_id, stopped.status) == (odd, run.run_id, "diverged")
    assert reason in stopped.reason
    with pytest.raises(NonDeterminismError, match=f"node {odd} stopped executing run"):
        cluster.nodes[odd].result(run.run_id, timeout=PATIENCE)
    for number, node in cluster.nodes.items():
        assert node.statistics().runs[run.run_id].status == ("diverged" if number == odd else "completed") or (
            number != odd and node.result(run.run_id, timeout=PATIENCE) == 3
        )
    (line,) = [line for line in cluster.log(run.run_id, odd) if line.stream == "engine"]
    assert "diverged" in line.text
    assert reason in line.text


async def sum_of_set(ctx: WorkflowContext, _: Any) -> set[str]:
    return await ctx.compute("set", lambda: {"b", "a", "c"}) | {ctx.workflow}


def test_a_node_that_differed_in_one_run_takes_part_in_the_next(cluster: Cluster) -> None:
    odd = followers(cluster)[0]
    cluster.start_workflow(differs, (odd, "another step")).wait_for_completion(PATIENCE)
    run = cluster.start_workflow(sum_of_set)
    expected = {"a", "b", "c", "sum_of_set"}
    assert run.wait_for_completion(PATIENCE) == expected
    assert [node.result(run.run_id, timeout=PATIENCE) for node in cluster.nodes.values()] == [expected] * 3


async def differs_before_it_waits(ctx: WorkflowContext, given: tuple[int, str]) -> int:
    """Diverges on one node while the run still has a step to do."""
    number, name = given
    await ctx.compute("first", lambda: 1)
    if ctx.node == number:
        await ctx.compute("another", lambda: 5)
    await ctx.compute("second", lambda: 2)
    await ctx.compute("wait", gate(name).enter)
    return 3


def test_a_node_that_diverged_does_not_keep_the_run_from_going_on_when_it_becomes_the_leader(cluster: Cluster) -> None:
    odd = followers(cluster)[0]
    with Watch(cluster) as watch:
        run = cluster.start_workflow(differs_before_it_waits, (odd, "diverged-leader"))
        watch.until(ExecutionStopped)
        gate("diverged-leader").await_arrival()
        incarnation = engine(cluster).incarnation(odd)
        assert incarnation is not None
        cluster._host.thread.call(incarnation.member.campaign)
        while watch.until(EpochChanged).node != odd:
            pass
        gate("diverged-leader").open()
        assert run.wait_for_completion(PATIENCE) == 3
    assert any("lets another node lead" in line.text for line in cluster.log(run.run_id, odd))


@pytest.mark.parametrize("how", ["var", "set"])
def test_a_value_that_every_node_computes_and_one_computes_otherwise_is_noticed(cluster: Cluster, how: str) -> None:
    async def differs_in_a_value(ctx: WorkflowContext, given: tuple[int, str]) -> int:
        number, how = given
        odd = 1 if ctx.node == number else 0
        variable = await ctx.var("value", {"same": {3, 1, 2}, "odd": odd if how == "var" else 0})
        if how == "set":
            await variable.set({"same": {2, 3, 1}, "odd": odd})
        return 3

    odd = followers(cluster)[0]
    with Watch(cluster) as watch:
        run = cluster.start_workflow(differs_in_a_value, (odd, how))
        assert run.wait_for_completion(PATIENCE) == 3
        stopped = watch.until(ExecutionStopped)
    assert stopped.node == odd
    assert "a value that every node computes must not depend on" in stopped.reason


def test_values_that_only_look_different_are_no_divergence(cluster: Cluster) -> None:
    async def looks_different(ctx: WorkflowContext, given: None) -> int:
        await ctx.var("nan", float("nan"))
        await ctx.var("set", {str(number) for number in range(50)})
        await ctx.var("forgetful", Forgetful(ctx.node))  # its pickle leaves out what differs
        return 3

    run = cluster.start_workflow(looks_different, None)
    for node in cluster.nodes.values():
        run.wait_for_completion(PATIENCE)
        assert node.result(run.run_id, timeout=PATIENCE) == 3


class Forgetful:
    """Keeps a value that its pickle leaves out."""

    def __init__(self, value: int) -> None:
        self.value: int | None = value

    def __reduce__(self) -> tuple[type[Forgetful], tuple[int]]:
        return (Forgetful, (0,))
