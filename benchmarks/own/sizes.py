"""Large values, and many checkpoints: what they take of memory and disk."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections import deque
from pathlib import Path

import msgspec

from benchmarks.measuring import Found, Task, disk_bytes, resident_bytes
from raftoral_nb import Cluster, WorkflowContext, WorkflowRun, workflow
from raftoral_nb.limits import MAX_RUNS_KEPT

from . import seen
from .shared import PATIENCE, SEEN, acting, chain, cluster_of

KILOBYTES = (1, 10, 100, 1000, 3900)
MEGA = 1_000_000


class Pages(msgspec.Struct, frozen=True):
    """How many values, and how many bytes each has."""

    count: int
    size: int


def page(size: int) -> bytes:
    """Return so many bytes that no other page has."""
    return os.urandom(size)


@workflow(version=1)
async def pages(ctx: WorkflowContext, job: Pages) -> int:
    """Take steps with results of so many bytes; keep how long each took."""
    total, times = 0, []
    for _ in range(job.count):
        begun = time.perf_counter()
        total += len(await ctx.compute("page", page, job.size))
        times.append(time.perf_counter() - begun)
    sys.modules[SEEN].times[ctx.node] = times
    return total


def values(task: Task) -> Found:
    """Measure steps with results of 1 KB to 3.9 MB, and the memory that the largest take for each of their bytes and node."""
    count, nodes = task.numbers["steps"], task.side["nodes"]
    series, total, memory = {}, 0, 0.0
    with cluster_of(task) as cluster:
        cluster.start_workflow(chain, 20).wait_for_completion(60)
        for kilobytes in KILOBYTES:
            gc.collect()
            before = resident_bytes()
            run = cluster.start_workflow(pages, Pages(count, kilobytes * 1000))
            total += run.wait_for_completion(PATIENCE)
            for node in cluster.nodes.values():
                node.result(run.run_id, 60)
            series[f"{kilobytes} KB"] = seen.times[acting(cluster)]
            gc.collect()
            memory = (resident_bytes() - before) / (count * kilobytes * 1000 * nodes)
    return Found(total, series, {"memory": memory})


@workflow(version=1)
async def diary(ctx: WorkflowContext, job: Pages) -> int:
    """Set a replicated variable again and again; each is a checkpoint."""
    variable = await ctx.var("page", entry(-1, job.size))
    for number in range(job.count - 1):
        await variable.set(entry(number, job.size))
    return job.count


def entry(number: int, size: int) -> bytes:
    """Return some bytes, unlike those of another number."""
    return b"%d" % number + bytes(max(0, size - 8))


def long(task: Task) -> Found:
    """Measure memory and disk over many checkpoints of 100 bytes, a few runs at a time, and draw them.

    What fills up first is warm-up: finished runs until as many are kept as may be, then the log until it is cut behind a snapshot.
    """
    wanted, steps = task.numbers["checkpoints"], task.numbers["steps"]
    folder = Path(task.scratch)
    names = ("resident memory of the process", "log of all nodes", "snapshots of all nodes", "files")
    points: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    total = started = 0
    with cluster_of(task) as cluster:
        cluster.register_workflow(diary)
        going: deque[WorkflowRun[int]] = deque()

        def look() -> None:
            log, snapshots = _logs(cluster)
            sizes = (resident_bytes(), log, snapshots, disk_bytes(folder))
            for name, size in zip(names, sizes, strict=True):
                points[name].append((total, size / MEGA))

        look()
        while total < wanted:
            while started < wanted and len(going) < 8:
                going.append(cluster.start_workflow(diary, Pages(steps, 100)))
                started += steps
            total += going.popleft().wait_for_completion(PATIENCE)
            if total - points[names[0]][-1][0] >= wanted / 200 or total >= wanted:
                look()
    figures = {
        name: (points[line][-1][1] - points[line][0][1]) * MEGA / wanted * 100_000
        for name, line in (("memory", names[0]), ("disk", names[3]))
    }
    # Growth behind the warm-up, which takes as many checkpoints as a thousand runs have and some rounds of the log.
    warm = [point for point in points[names[0]] if point[0] >= max(wanted / 2, MAX_RUNS_KEPT * steps * 1.5)]
    if len(warm) > 10:
        figures["growth"] = _slope(warm) * (warm[-1][0] - warm[0][0]) / (sum(y for _, y in warm) / len(warm))
    kept = {name: line for name, line in points.items() if any(y for _, y in line)}
    return Found(total, figures=figures, curves=kept)


def _logs(cluster: Cluster) -> tuple[int, int]:
    """Return the bytes of all logs and snapshots that nodes hold in memory; nothing where this build does not tell."""
    try:
        journals = [cluster._host.journals.of(number) for number in cluster._host.numbers]  # type: ignore[attr-defined]
        log = sum(len(entry[0]) for journal in journals for entry in tuple(journal._entries))
        return log, sum(journal.snapshot.size for journal in journals if journal.snapshot is not None)
    except (AttributeError, TypeError):
        return 0, 0


def _slope(points: list[tuple[float, float]]) -> float:
    """Return the slope of the line that fits best (least squares)."""
    x_mean = sum(x for x, _ in points) / len(points)
    y_mean = sum(y for _, y in points) / len(points)
    spread = sum((x - x_mean) ** 2 for x, _ in points)
    return sum((x - x_mean) * (y - y_mean) for x, y in points) / spread if spread else 0.0
