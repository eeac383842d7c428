"""Steps on executors: many at a time on worker processes, and one after another on Dask, beside Dask's own client."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.burning import burnt, numbers_of
from benchmarks.measuring import Found, Task, spent
from raftoral_nb import Cluster, WorkflowContext, step, workflow
from raftoral_nb.cli.beside import Beside

from . import seen
from .shared import PATIENCE, SEEN, acting, cluster_of, successor

BLOCK = 25
"""Steps on Dask, and calls of its client, that are made before it is the other's turn."""


@workflow(version=1)
async def spread(ctx: WorkflowContext, given: list[tuple[int, int]]) -> int:
    """Burn processor time, on all cores; return what it gives."""
    return sum(await ctx.map(step(burnt, on="processes"), given))


def fan_out(task: Task) -> Found:
    """Measure many functions at once on worker processes: the first time, when these must be started, and later."""
    given = numbers_of(task.numbers)
    with cluster_of(task) as cluster:
        found = []
        for _ in range(2):
            with spent([os.getpid()]) as stretch:
                result = cluster.start_workflow(spread, given).wait_for_completion(PATIENCE)
            found.append(stretch)
        first, again = found
        return Found(
            result, figures={"again": again.seconds, "first": first.seconds, "processor": again.processor / len(given)}
        )


STEPS_OF_A_RUN = 4


@workflow(version=1)
async def burning(ctx: WorkflowContext, given: list[tuple[int, int]]) -> int:
    """Burn processor time in steps, one after another; return what they give."""
    total = 0
    for one in given:
        total += await ctx.compute("burn", burnt, one)
    return total


def owners(task: Task) -> Found:
    """Measure runs of steps that compute, on three nodes in processes: spread over them, and all done by the leader, in turns."""
    given = numbers_of(task.numbers)
    inputs = [given[begin : begin + STEPS_OF_A_RUN] for begin in range(0, len(given), STEPS_OF_A_RUN)]
    times: dict[bool, list[float]] = {True: [], False: []}
    results = set()
    for turn in range(2 * task.numbers["turns"]):
        spread = turn % 2 == 0
        with Cluster(3, processes=True, spread_runs=spread) as cluster:
            begun = time.perf_counter()
            runs = cluster.start_many(burning, inputs)
            results.add(sum(run.wait_for_completion(PATIENCE) for run in runs))
            times[spread].append(time.perf_counter() - begun)
    (result,) = results
    by_owners, by_leader = (min(times[spread]) for spread in (True, False))
    return Found(result, figures={"spread": by_owners, "leader": by_leader, "part": by_owners / by_leader})


@workflow(version=1)
async def on_dask(ctx: WorkflowContext, value: int) -> int:
    """Take a block of steps on Dask, one after another; keep how long each took."""
    clock, times = time.perf_counter, []
    for _ in range(BLOCK):
        begun = clock()
        value = await ctx.compute("step", step(successor, on="dask"), value)
        times.append(clock() - begun)
    sys.modules[SEEN].times[ctx.node] = times
    return value


def dask(task: Task) -> Found:
    """Measure steps on Dask and bare calls of its client, which take turns on the same scheduler and worker."""
    if importlib.util.find_spec("distributed") is None:
        return Found(absent="distributed is not installed here: pip install 'raftoral-nb[dask]'")
    quiet = ("--dashboard-address", "127.0.0.1:0")
    scheduler = Beside("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", *quiet)
    worker = None
    try:
        address = scheduler.wait_for("Scheduler at:").split()[-1]
        place = str(Path(task.scratch))
        worker = Beside(
            "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny", "--local-directory", place, *quiet
        )
        worker.wait_for("Registered to:")
        with cluster_of(task, executors={"dask": address}) as cluster:
            return _in_turns(cluster, address, task.numbers["turns"])
    finally:
        if worker is not None:
            worker.end()
        scheduler.end()


def _in_turns(cluster: Cluster, address: str, turns: int) -> Found:
    from distributed import Client

    connected: Any = Client
    series: dict[str, list[float]] = {"step": [], "bare": []}
    value = 0
    with connected(address, set_as_default=False) as client:
        for turn in range(turns + 1):
            value = cluster.start_workflow(on_dask, value).wait_for_completion(PATIENCE)
            bare = []
            for _ in range(BLOCK):
                begun = time.perf_counter()
                value = client.submit(successor, value, pure=False).result()
                bare.append(time.perf_counter() - begun)
            if turn:  # the first one connects, and loads the code
                series["step"] += seen.times[acting(cluster)]
                series["bare"] += bare
    middle = {name: sorted(times)[len(times) // 2] for name, times in series.items()}
    return Found(value, series, {"more": middle["step"] - middle["bare"]})
