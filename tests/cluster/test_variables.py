"""Replicated variables."""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from raftoral_nb import Cluster, ReplicatedVar, ValueNotShippableError, WorkflowContext
from tests.cluster.helpers import PATIENCE, gate, note, notes


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(3, network="memory") as one:
        yield one


async def counting(ctx: WorkflowContext, _: Any) -> list[Any]:
    counter = await ReplicatedVar.with_value("counter", ctx, 42)
    seen: list[Any] = [counter.key, counter.value]
    seen.append(await counter.update(lambda value: value + 1))
    seen.append(await counter.set(7))
    seen.append(counter.value)
    return seen


async def computed(ctx: WorkflowContext, _: Any) -> list[int]:
    def once() -> int:
        note("computed")
        return 5

    async def later() -> int:
        return 6

    first = await ReplicatedVar.with_computation("first", ctx, once)
    second = await ReplicatedVar.with_computation("second", ctx, later)
    return [first.value, second.value]


async def short(ctx: WorkflowContext, _: Any) -> list[str]:
    status = await ctx.var("status", "pending")
    other = await ctx.create_replicated_var("other", "new")
    await status.set("done")
    return [status.value, other.value]


async def interrupted(ctx: WorkflowContext, _: Any) -> int:
    counter = await ctx.var("counter", 0)
    for number in range(6):
        await counter.update(lambda value: value + 1)
        if number == 2:
            await ctx.compute("gate", lambda: gate("variables").enter())
    return counter.value


async def update_raises(ctx: WorkflowContext, _: Any) -> list[Any]:
    counter = await ctx.var("counter", 0)
    try:
        await counter.update(lambda value: int(1 / value))
    except ZeroDivisionError as error:
        return [str(error), counter.value]
    return []


async def not_shippable(ctx: WorkflowContext, _: Any) -> list[Any]:
    variable: ReplicatedVar[Any] = await ctx.var("variable", 1)
    try:
        await variable.set(threading.Lock())
    except ValueNotShippableError:
        return ["refused", variable.value]
    return []


async def update_changes_in_place_and_raises(ctx: WorkflowContext, _: Any) -> list[Any]:
    def change(items: list[int]) -> list[int]:
        items.append(1)
        raise ZeroDivisionError

    items = await ctx.var("items", [0])
    with contextlib.suppress(ZeroDivisionError):
        await items.update(change)
    return items.value


@pytest.mark.parametrize(
    ("workflow", "expected"),
    [
        (counting, ["counter", 42, 43, 7, 7]),
        (computed, [5, 6]),
        (short, ["done", "new"]),
        (update_raises, ["division by zero", 0]),
        (update_changes_in_place_and_raises, [0]),
        (not_shippable, ["refused", 1]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_node_sees_the_same_values(cluster: Cluster, workflow: Any, expected: list[Any]) -> None:
    run = cluster.start_workflow(workflow)
    assert run.wait_for_completion(PATIENCE) == expected
    assert [node.result(run.run_id, timeout=PATIENCE) for node in cluster.nodes.values()] == [expected] * 3


def test_a_computation_runs_on_the_acting_node_alone(cluster: Cluster) -> None:
    cluster.start_workflow(computed).wait_for_completion(PATIENCE)
    assert notes() == ["computed"]


def test_operations_are_recorded_under_their_kind_and_key(cluster: Cluster) -> None:
    run = cluster.start_workflow(counting)
    run.wait_for_completion(PATIENCE)
    assert [(step.step_id, step.operation) for step in run.steps] == [
        ("0/counter", "var"),
        ("1/counter", "update"),
        ("2/counter", "set"),
    ]
    assert [run.value(step) for step in run.steps] == [42, 43, 7]


def test_a_variable_counts_each_update_once_although_the_leader_is_killed() -> None:
    with Cluster(3) as cluster:
        run = cluster.start_workflow(interrupted)
        gate("variables").await_arrival()
        cluster.kill("leader")
        assert run.wait_for_completion(PATIENCE) == 6


def test_a_variable_is_read_as_users_of_others_read_it_and_says_what_it_has_else(cluster: Cluster) -> None:
    async def reads(ctx: WorkflowContext, _: None) -> list[Any]:
        status = await ctx.var("the status", "new")
        await status.set("paid")
        same: Any = status
        told = []
        for wrong in ("val", "read", "write", "increment"):
            with pytest.raises(
                AttributeError, match=f"the variable 'the status' has no '{wrong}': read `variable.value`"
            ):
                getattr(same, wrong)
        with pytest.raises(AttributeError, match=r"`await variable\.set\(value\)` records a new value"):
            same.value = "lost"
        told += [hasattr(same, "_private"), copy.copy(status).value, status.get()]
        return told

    assert cluster.start_workflow(reads).wait_for_completion(PATIENCE) == [False, "paid", "paid"]
