"""Steps one after another, in one run, in many and in runs of a single step."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.measuring import Found, Task, peak_bytes, spent
from raftoral_nb import Cluster, WorkflowContext, workflow

from . import seen
from .shared import acting, chain, cluster_of, results, start_all, steps, successor

WARM_UP = 20


def step(task: Task) -> Found:
    """Measure each step of one long run."""
    count = task.numbers["steps"]
    with cluster_of(task) as cluster:
        cluster.start_workflow(chain, WARM_UP).wait_for_completion(60)
        seen.times.clear()
        with spent() as stretch:
            run = cluster.start_workflow(chain, count)
            result = run.wait_for_completion(120)
        leader = acting(cluster)
        cluster.nodes[leader].result(run.run_id, 60)
        return Found(
            result,
            {"step": seen.times[leader]},
            {"rate": count / stretch.seconds, "processor": stretch.processor / count, "peak": peak_bytes()},
        )


def one(task: Task) -> Found:
    """Measure runs of one step, one after another, from the start to the result."""
    count = task.numbers["runs"]
    with cluster_of(task) as cluster:
        for _ in range(WARM_UP):
            cluster.start_workflow(steps, 1).wait_for_completion(60)
        times, total = [], 0
        with spent() as stretch:
            for _ in range(count):
                begun = time.perf_counter()
                total += cluster.start_workflow(steps, 1).wait_for_completion(60)
                times.append(time.perf_counter() - begun)
        figures = {"rate": count / stretch.seconds, "processor": stretch.processor / count, "peak": peak_bytes()}
        return Found(total, {"run": times}, figures)


def batch(task: Task) -> Found:
    """Measure many runs at once, from the first start to the last result."""
    runs, count = task.numbers["runs"], task.numbers["steps"]
    with cluster_of(task) as cluster:
        results(start_all(cluster, steps, [2] * WARM_UP))
        entries = last_index(cluster)
        with spent() as stretch:
            found = results(start_all(cluster, steps, [count] * runs))
        done = runs * count
        figures = {"rate": done / stretch.seconds, "processor": stretch.processor / done, "peak": peak_bytes()}
        # Each run has a command for its start and one for its end.
        figures["commands"] = (done + 2 * runs) / max(1, last_index(cluster) - entries)
        return Found(sum(found), figures=figures)


def last_index(cluster: Cluster) -> int:
    """Return the index of the last entry of the longest log."""
    return max(node.log_length for node in cluster.statistics().nodes.values())


@workflow(version=1)
async def endless(ctx: WorkflowContext, number: int) -> None:
    """Take steps until somebody terminates the run."""
    while True:
        number = await ctx.compute("step", successor, number)


def starts(task: Task) -> Found:
    """Measure `start_workflow` while other runs go on: one call after another, and all asked for together."""
    count, others = task.numbers["runs"], task.numbers["others"]
    with cluster_of(task) as cluster:
        cluster.start_workflow(steps, 1).wait_for_completion(60)
        going = start_all(cluster, endless, list(range(others)))
        times, started = [], []
        for _ in range(count):
            begun = time.perf_counter()
            started.append(cluster.start_workflow(steps, 1))
            times.append(time.perf_counter() - begun)
        total = sum(results(started))
        if hasattr(cluster, "start_many"):
            with spent() as stretch:
                started = start_all(cluster, steps, [1] * count)
        else:
            gate = threading.Barrier(count + 1)

            def start(_: int) -> object:
                gate.wait()
                return cluster.start_workflow(steps, 1)

            with ThreadPoolExecutor(count) as pool:
                asked = [pool.submit(start, number) for number in range(count)]
                gate.wait()
                with spent() as stretch:
                    started = [one.result() for one in asked]  # type: ignore[misc]
        total += sum(results(started))
        for run in going:
            run.terminate("measured")
        return Found(total, {"start": times}, {"together": stretch.seconds / count, "peak": peak_bytes()})
