"""What a type checker must refuse: each line marked `# error: CODE`, and no other. Checked by a test, never run."""

from __future__ import annotations

from dataclasses import dataclass

from raftoral_nb import Cluster, WorkflowContext, WorkflowRun, step, workflow


@dataclass
class Order:
    item: str


@dataclass
class Receipt:
    number: int


@workflow(version=1)
async def order(ctx: WorkflowContext, given: Order) -> Receipt:
    await ctx.compute("length", len, 5)  # error: arg-type, call-overload, misc
    status = await ctx.var("status", "pending")
    await status.set(5)  # error: arg-type
    return Receipt(status.value)  # error: arg-type


@workflow  # error: arg-type, call-overload, type-var
def not_async(ctx: WorkflowContext, given: Order) -> Receipt:
    return Receipt(1)


@step(timeout=5)
async def ship(order: Order) -> Receipt:
    return Receipt(1)


async def branch(ctx: WorkflowContext, number: int) -> float:
    return number / 2


@workflow
async def language(ctx: WorkflowContext, given: Order) -> None:
    await ship("tea")  # error: arg-type
    receipt: str = await ship(given)  # error: assignment
    await ctx.map(branch, ["tea"])  # error: arg-type, list-item, call-overload
    await ctx.map(ship, ["tea"])  # error: arg-type, list-item, call-overload
    await ctx.gather(branch)  # error: arg-type, call-overload
    await ctx.sleep("a while")  # error: arg-type
    async with ctx.saga() as saga:
        saga.on_failure("undo", ship, 5)  # error: arg-type
    step(ship.fn, retry=3)  # error: call-overload
    print(receipt)


async def function(ctx: WorkflowContext, given: int) -> int:
    return given


def starting(cluster: Cluster) -> None:
    cluster.start_workflow(order, "tea")  # error: arg-type, call-overload, misc
    cluster.start_workflow(order)  # error: arg-type, call-overload, misc
    cluster.start_workflow(function, "tea")  # error: arg-type, call-overload, misc
    cluster.start_many(order, ["tea"])  # error: arg-type, call-overload, list-item, misc
    cluster.start_many(order, Order("tea"))  # error: arg-type, call-overload, misc
    wrong: WorkflowRun[str] = cluster.start_workflow(order, Order("tea"))  # error: arg-type, assignment, call-overload
    text: str = cluster.start_workflow(order, Order("tea")).wait_for_completion()  # error: assignment
    cluster.start_workflow("order", 1)
    cluster.kill("boss")  # error: arg-type
    cluster.runs(status="gone")  # error: arg-type
    cluster.statistics().commands = 5  # error: misc
    cluster.nodes[1] = cluster.nodes[2]  # error: index
    print(wrong, text)
