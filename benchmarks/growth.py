"""The cost of a run as it grows: processor time for each race, receive, sleep, task and step, however many of them a run has.

Three nodes in one process over TCP, default settings. Each kind of work is done in one run 100, 400, 1,600 and 6,400 times; what one of them
costs in the largest run must be at most `MOST` times what it costs in the smallest (less is no fault: more timers fire together). Then 20,000 steps in a run, 5,000 branches in
a map and 2,000 runs at once, at a quarter of that, at half and whole. Times are the processor's, of the whole process, so that what
nodes wait for each other does not count. Prints a table and, with `--svg`, draws the curve of the first part.

    python benchmarks/growth.py --svg docs/growth.svg
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from curve import Line, draw

from raftoral_nb import Cluster, WorkflowContext, workflow

SIZES = (100, 400, 1_600, 6_400)
MOST = 1.5
"""The most that each may cost in the largest run, in times of what it costs in the smallest."""
Work = Mapping[str, tuple[Callable[[Cluster, int], None], tuple[int, ...]]]
"""What is measured, by name, with the sizes."""
PATIENCE = 600.0
"""Seconds that one run may take."""


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
async def steps(ctx: WorkflowContext, count: int) -> None:
    """Take one step after another."""
    for number in range(count):
        await ctx.compute("one", int, number)


@workflow(version=1)
async def branches(ctx: WorkflowContext, count: int) -> None:
    """Take a step in each branch of a map."""
    await ctx.map(int, range(count))


@workflow(version=1)
async def small(ctx: WorkflowContext, number: int) -> int:
    """Take a single step."""
    return await ctx.compute("one", int, number)


def in_one_run(function: Any) -> Callable[[Cluster, int], None]:
    """Return what does so many in one run."""

    def act(cluster: Cluster, count: int) -> None:
        cluster.start_workflow(function, count).wait_for_completion(PATIENCE)

    return act


def in_runs_at_once(cluster: Cluster, count: int) -> None:
    """Start so many runs, and wait for all."""
    runs = [cluster.start_workflow(small, number) for number in range(count)]
    for run in runs:
        run.wait_for_completion(PATIENCE)


def measure(cluster: Cluster, act: Callable[[Cluster, int], None], count: int) -> float:
    """Return the milliseconds of the processor for each of so many."""
    begun = time.process_time()
    act(cluster, count)
    return (time.process_time() - begun) / count * 1_000


def part(
    title: str, work: dict[str, tuple[Callable[[Cluster, int], None], tuple[int, ...]]]
) -> tuple[list[Line], bool]:
    """Measure and print a part; return its curves, and whether all lie within the factor."""
    print(title)
    lines, good = [], True
    for name, (act, sizes) in work.items():
        # A cluster of its own: what is kept of one kind of work must not be counted with the next.
        with Cluster(3, proposal_timeout=60.0) as cluster:
            for function in (races, receives, sleeps, tasks, steps, branches, small):
                cluster.register_workflow(function)
            act(cluster, 20)  # what is done once is none of it
            found = [(size, measure(cluster, act, size)) for size in sizes]
        factor = found[-1][1] / found[0][1]
        good = good and factor <= MOST
        shown = "  ".join(f"{size:,}: {cost:.2f} ms" for size, cost in found)
        print(
            f"  {name:<10} {shown}  factor {factor:.2f}{'' if factor <= MOST else '  MORE THAN ' + str(MOST)}",
            flush=True,
        )
        lines.append(Line(name, found))
    return lines, good


def main() -> int:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description="the cost of a run as it grows")
    parser.add_argument("--svg", type=Path, help="where the curve is drawn")
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, processor time for each, of three nodes in one process\n")
    first: Work = {function.name: (in_one_run(function), SIZES) for function in (races, receives, sleeps, tasks)}
    lines, small_good = part("in one run", first)
    second: Work = {
        "steps": (in_one_run(steps), (5_000, 10_000, 20_000)),
        "branches": (in_one_run(branches), (1_250, 2_500, 5_000)),
        "runs": (in_runs_at_once, (500, 1_000, 2_000)),
    }
    _, large_good = part("\nlarge", second)
    if options.svg is not None:
        drawn = [line for line in lines if line.name != "tasks"]
        title = "Processor time for each race, receive and sleep in one run"
        options.svg.write_text(draw(title, drawn, x_title="how many in the run", y_title="ms"), encoding="utf-8")
    return 0 if small_good and large_good else 1


if __name__ == "__main__":
    sys.exit(main())
