"""Many runs that only wait."""

from __future__ import annotations

import asyncio
import time

from benchmarks.measuring import Found, Task, peak_bytes, spent
from raftoral_nb import WorkflowContext, workflow

from .shared import cluster_of, results, start_all


@workflow(version=1)
async def patient(ctx: WorkflowContext, number: int) -> int:
    """Wait for a message, and for an hour at most."""
    async with asyncio.timeout(3600):
        told: int = await ctx.receive("go")
    return number + told


def waiting(task: Task) -> Found:
    """Measure how long so many take to start, what they cost while they wait, and messages to them, one after another."""
    count = task.numbers["runs"]
    with cluster_of(task) as cluster:
        cluster.register_workflow(patient)
        with spent() as started:
            runs = start_all(cluster, patient, list(range(count)))
        with spent() as idle:
            time.sleep(task.numbers["seconds"])
        times, first = [], time.perf_counter()
        for run in runs:
            begun = time.perf_counter()
            run.signal("go", 1)
            times.append(time.perf_counter() - begun)
        total = sum(results(runs))
        figures = {
            "started": started.seconds,
            "idle": idle.processor / idle.seconds,
            "all": time.perf_counter() - first,
            "peak": peak_bytes(),
        }
        return Found(total, {"signal": times}, figures)
