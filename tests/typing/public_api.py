"""What a type checker must find out about the public names. Checked by mypy, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, assert_type
from uuid import UUID

from raftoral_nb import (
    ChildRun,
    Cluster,
    ClusterEvent,
    ClusterStatistics,
    NodeStatistics,
    Registration,
    ReplicatedVar,
    Retry,
    Scenario,
    ScenarioPlay,
    Step,
    StopReport,
    Update,
    Workflow,
    WorkflowContext,
    WorkflowRun,
    WorkflowRuntime,
    step,
    workflow,
)


@dataclass
class Order:
    item: str


@dataclass
class Receipt:
    number: int


def charge(order: Order, *, cents: int = 0) -> int:
    return cents


async def pack(order: Order) -> str:
    return order.item


async def later() -> int:
    return 1


@step
async def ship(order: Order, *, fast: bool = False) -> Receipt:
    return Receipt(1)


@step(retry=Retry(attempts=3, final=(ValueError,)), timeout=5)
def weigh(order: Order) -> float:
    return 1.0


async def text_branch(ctx: WorkflowContext) -> str:
    return await ctx.compute("text", str)


async def number_branch(ctx: WorkflowContext, number: int) -> float:
    return number / 2


@workflow
async def language(ctx: WorkflowContext, given: Order) -> None:
    assert_type(await ship(given, fast=True), Receipt)
    assert_type(await weigh(given), float)
    assert_type(weigh.fn(given), Any)
    assert_type(await ctx.compute("ship", ship, given), Receipt)
    assert_type(await ctx.compute("charge", step(charge, timeout=5), given, cents=3), int)
    assert_type(await ctx.compute("pack", step(pack, at_most_once=True), given), str)
    assert_type(await ctx.compute("pack", step(pack, on="processes").with_options(on=None), given), str)
    assert_type(await weigh.with_options(timeout=None)(given), float)
    assert_type(await ctx.now(), datetime)
    assert_type(ctx.random(), float)
    assert_type(ctx.uuid4(), UUID)
    await ctx.sleep(1.5)
    await ctx.sleep(timedelta(hours=1))
    assert_type(await ctx.receive_update("change", timeout=timedelta(hours=1)), Update)
    assert_type(step(pack, timeout=timedelta(seconds=5)).with_options(timeout=timedelta(1)).key, str)
    assert_type(Retry(first_wait=timedelta(seconds=1), max_wait=timedelta(minutes=1)).max_wait, float)
    await ctx.sleep_until(await ctx.now() + timedelta(1), key="tomorrow")
    async with ctx.deadline(5) as due:
        assert_type(due, datetime)
    assert_type(await ctx.gather(text_branch, text_branch), list[str])
    assert_type(await ctx.map(number_branch, [1, 2], limit=2), list[float])
    assert_type(await ctx.race(text_branch, text_branch), str)
    assert_type(await ctx.map(charge, [given]), list[int])
    assert_type(await ctx.map(pack, [given]), list[str])
    assert_type(await ctx.map(ship, [given], limit=2), list[Receipt])
    assert_type(await ctx.map(weigh, [given]), list[float])
    assert_type(await ctx.gather(later, later), list[int])
    assert_type(await ctx.race(later), int)
    async with ctx.task_group() as group:
        task = group.start(number_branch, 5)
        parcel = group.start(ship, given)
        price = group.start(charge, given)
    assert_type(task.result, float)
    assert_type(parcel.result, Receipt)
    assert_type(price.result, int)
    async with ctx.saga() as saga:
        saga.on_failure("undo", charge, given, cents=5)
        saga.on_failure("undo", ship, given)


@workflow(version=1)
async def order(ctx: WorkflowContext, given: Order) -> Receipt:
    assert_type(await ctx.compute("charge", charge, given, cents=5), int)
    assert_type(await ctx.compute("pack", pack, given), str)
    status = await ctx.var("status", "pending")
    assert_type(status, ReplicatedVar[str])
    assert_type(await status.update(lambda value: value + "!"), str)
    assert_type(status.get(), str)
    assert_type(await ctx.create_replicated_var("count", 1), ReplicatedVar[int])
    assert_type(await ReplicatedVar.with_value("other", ctx, 1.5), ReplicatedVar[float])
    assert_type(await ReplicatedVar.with_computation("sync", ctx, lambda: 1), ReplicatedVar[int])
    assert_type(await ReplicatedVar.with_computation("async", ctx, later), ReplicatedVar[int])
    assert_type(ctx.idempotency_key("charge"), str)
    return Receipt(1)


@workflow
async def plain(ctx: WorkflowContext, given: int) -> str:
    return str(given)


async def function(ctx: WorkflowContext, given: int) -> float:
    return given / 2


async def without(ctx: WorkflowContext, _: None) -> bytes:
    return b""


def starting(cluster: Cluster) -> None:
    assert_type(order, Workflow[Order, Receipt])
    assert_type(plain, Workflow[int, str])
    run = cluster.start_workflow(order, Order("tea"))
    assert_type(run, WorkflowRun[Receipt])
    assert_type(run.wait_for_completion(timeout=10), Receipt)
    assert_type(run.steps, tuple[Step, ...])
    assert_type(run.code().lines, tuple[str, ...])
    assert_type(cluster.start_workflow(order, Order("tea"), run_id="mine", version=1), WorkflowRun[Receipt])
    assert_type(cluster.start_workflow(plain, 5), WorkflowRun[str])
    assert_type(cluster.start_workflow(function, 5), WorkflowRun[float])
    assert_type(cluster.start_workflow("order", 1, Order("tea")), WorkflowRun[Any])
    assert_type(cluster.start_workflow("order", Order("tea"), run_id="mine"), WorkflowRun[Any])
    assert_type(cluster.start_workflow(without), WorkflowRun[bytes])
    untyped = cluster.start_workflow("order")
    assert_type(untyped, WorkflowRun[Any])
    assert_type(cluster.register_workflow(order), Registration)
    assert_type(cluster.register_workflow("order", 1, function), Registration)
    assert_type(cluster.register_workflow("order", function), Registration)

    assert_type(cluster.start_many(order, [Order("tea")]), tuple[WorkflowRun[Receipt], ...])
    assert_type(cluster.start_many(function, range(5), run_ids=["a"]), tuple[WorkflowRun[float], ...])
    assert_type(cluster.start_many("order", [Order("tea")], version=1), tuple[WorkflowRun[Any], ...])


async def awaiting(cluster: Cluster) -> None:
    assert_type(await cluster.start_workflow_async(order, Order("tea")), WorkflowRun[Receipt])
    assert_type(await cluster.start_workflow_async(function, 5, run_id="mine"), WorkflowRun[float])
    assert_type(await cluster.start_workflow_async(without), WorkflowRun[bytes])
    assert_type(await cluster.start_workflow_async("order", 1, Order("tea")), WorkflowRun[Any])
    assert_type(await cluster.start_many_async(order, [Order("tea")]), tuple[WorkflowRun[Receipt], ...])
    assert_type(await cluster.start_many_async(plain, range(5)), tuple[WorkflowRun[str], ...])
    assert_type(await cluster.start_workflow(order, Order("tea")), Receipt)
    events: AsyncIterator[ClusterEvent] = cluster.events()
    assert_type(await anext(events), ClusterEvent)
    async with Cluster(3, executors={"pool": ThreadPoolExecutor, "dask": "tcp://10.0.0.1:8786"}) as entered:
        assert_type(entered, Cluster)


@workflow
async def parent(ctx: WorkflowContext, given: Order) -> str:
    assert_type(await ctx.run_child(order, given), Receipt)
    assert_type(await ctx.start_child(order, given, detached=True), ChildRun[Receipt])
    assert_type(await (await ctx.start_child(plain, 5)), str)
    assert_type(await ctx.run_child("order", given, version=1), Any)
    update = await ctx.receive_update("change", timeout=1.5)
    assert_type(update, Update)
    await update.answer(5)
    assert_type(await ctx.receive("approve", default=None), Any)

    @ctx.on_query("amount")
    def amount(factor: int) -> int:
        return factor

    assert_type(amount(1), int)
    raise ctx.continue_as_new(given)


def asking(cluster: Cluster, run: WorkflowRun[Receipt]) -> None:
    assert_type(run.signal("approve", True, signal_id="one"), str)
    assert_type(run.update("change", 80, timeout=5), Any)
    assert_type(run.variables(), dict[str, Any])
    assert_type(run.parent, str | None)
    run.cancel("why")
    run.pause()
    assert_type(cluster.runs(status="paused", since=timedelta(minutes=5)), tuple[WorkflowRun[Any], ...])
    assert_type(run.history()[0][0], float)


def looking(cluster: Cluster) -> None:
    assert_type(cluster.statistics(), ClusterStatistics)
    assert_type(cluster.nodes[1].statistics(), NodeStatistics)
    assert_type(cluster.leader, int | None)
    assert_type(cluster.kill("leader"), int)
    assert_type(cluster.partition([1], ["leader", 3]), tuple[tuple[int, ...], ...])
    assert_type(cluster.cut("leader", 2, one_way=True), tuple[int, int])
    assert_type(cluster.slow((1, 2), 0.2, 0.05), tuple[tuple[int, int], ...])
    assert_type(cluster.heal(1, (2, 3)), tuple[tuple[int, int], ...])
    assert_type(cluster.transfer(2), int)
    mine = Scenario("mine", [("leader", "kill leader"), (0.5, "restart dead")], "one's own")
    assert_type(cluster.scenario(mine).wait(timeout=10), tuple[str, ...])
    assert_type(cluster.scenario([(0, "heal")]), ScenarioPlay)
    assert_type(cluster.stop(), StopReport)
    with WorkflowRuntime.new_single_node(1) as runtime:
        assert_type(runtime, WorkflowRuntime)
