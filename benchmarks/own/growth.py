"""What each piece of work costs as runs grow: processor time for each race, receive, sleep, task, step, branch and run."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

from benchmarks.measuring import Found, Task
from raftoral_nb import Cluster, RunNotFoundError, WorkflowContext, workflow

from .shared import PATIENCE, cluster_of, start_all, steps


@workflow(version=1)
async def races(ctx: WorkflowContext, count: int) -> None:
    """Race a message that never comes against a sleep."""

    async def one(ctx: WorkflowContext, number: int) -> None:
        async def answer(ctx: WorkflowContext) -> Any:
            return await ctx.receive(f"never {number}")

        async def patience(ctx: WorkflowContext) -> None:
            await ctx.sleep(0.01)

        await ctx.race(answer, patience)

    await ctx.map(one, range(count))


@workflow(version=1)
async def receives(ctx: WorkflowContext, count: int) -> None:
    """Wait for messages that never come, all at the same time, each with a timeout of its own."""

    async def one(number: int) -> None:
        await ctx.receive(f"never {number}", timeout=0.1 + number / 1_000, default=None)

    await asyncio.gather(*(one(number) for number in range(count)))


@workflow(version=1)
async def sleeps(ctx: WorkflowContext, count: int) -> None:  # noqa: ARG001 - plain asyncio needs no context
    """Sleep for many different times at once."""
    await asyncio.gather(*(asyncio.sleep(0.1 + number / 1_000) for number in range(count)))


@workflow(version=1)
async def tasks(ctx: WorkflowContext, count: int) -> None:
    """Take a step in each of many tasks."""

    async def one(number: int) -> int:
        return await ctx.compute("one", int, number)

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number))


@workflow(version=1)
async def branches(ctx: WorkflowContext, count: int) -> None:
    """Take a step in each branch of a map."""
    await ctx.map(int, range(count))


def _one_run(function: Any) -> Callable[[Cluster, int], None]:
    def act(cluster: Cluster, count: int) -> None:
        cluster.start_workflow(function, count).wait_for_completion(PATIENCE)

    return act


def _runs(cluster: Cluster, count: int) -> None:
    for run in start_all(cluster, steps, [1] * count):
        with contextlib.suppress(RunNotFoundError):  # its records are gone: so many others have ended after it
            run.wait_for_completion(PATIENCE)


KINDS: dict[str, tuple[Callable[[Cluster, int], None], tuple[int, ...]]] = {
    **{one.name: (_one_run(one), (100, 400, 1_600, 6_400)) for one in (races, receives, sleeps, tasks)},
    "steps": (_one_run(steps), (5_000, 10_000, 20_000)),
    "branches": (_one_run(branches), (1_250, 2_500, 5_000)),
    "runs": (_runs, (500, 1_000, 2_000)),
}
"""What is done, by name, and how often."""
DRAWN = ("races", "receives", "sleeps")


def growth(task: Task) -> Found:
    """Measure each kind at its sizes; the figure is what one costs at the largest over what it costs at the smallest.

    Less than 1 is no fault: more timers fire together. Times are the processor's, so that what nodes wait for each other does not count.
    """
    share = task.numbers["percent"] / 100
    factors, curves = {}, {}
    for name, (act, sizes) in KINDS.items():
        # A cluster of its own: what is kept of one kind of work must not be counted with the next.
        with cluster_of(task) as cluster:
            act(cluster, 5 if share < 1 else 20)  # what is done once is none of it
            found = []
            for size in sizes:
                count = max(2, round(size * share))
                begun = time.process_time()
                act(cluster, count)
                found.append((float(count), (time.process_time() - begun) / count * 1_000))
        factors[name] = found[-1][1] / found[0][1]
        if name in DRAWN:
            curves[name] = found
    return Found(len(factors), figures=factors, curves=curves)
