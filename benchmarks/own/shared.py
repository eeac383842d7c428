"""What the cases of this build share: the cluster as a side says, starting runs, and the smallest workflows."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import Task
from raftoral_nb import Cluster, WorkflowContext, WorkflowRun, workflow

from . import seen

PATIENCE: Final = 600.0
"""Seconds after which a run is given up."""
SEEN: Final = seen.__name__
"""Where shipped code finds what it is to tell."""


def successor(number: int) -> int:
    """Return the next number: the least that a step can do."""
    return number + 1


@workflow(version=1)
async def chain(ctx: WorkflowContext, steps: int) -> int:
    """Take so many steps, one after another, each with the result of the one before; keep how long each took."""
    clock, value, times = time.perf_counter, 0, []
    for _ in range(steps):
        begun = clock()
        value = await ctx.compute("step", successor, value)
        times.append(clock() - begun)
    sys.modules[SEEN].times[ctx.node] = times
    return value


@workflow(version=1)
async def steps(ctx: WorkflowContext, count: int) -> int:
    """Take so many steps, one after another."""
    value = 0
    for _ in range(count):
        value = await ctx.compute("step", successor, value)
    return value


@contextmanager
def cluster_of(task: Task, **options: Any) -> Iterator[Cluster]:
    """Start the cluster that a side stands for, and stop it afterwards; nothing of it is left."""
    with cluster_in(task, Path(task.scratch) / "data", **options) as cluster:
        yield cluster


def cluster_in(task: Task, folder: Path, **options: Any) -> Cluster:
    """Return the cluster that a side stands for, with its data in this folder if it keeps any; it is not started."""
    level = task.side["level"]
    if level != "memory":
        options |= {"data_dir": folder, "durability": level}
    return Cluster(options.pop("nodes", task.side["nodes"]), proposal_timeout=60.0, **options)


def start_all(cluster: Cluster, definition: Any, inputs: Sequence[Any]) -> list[WorkflowRun[Any]]:
    """Start runs as fast as this build can: with one call if there is one for that."""
    together: Callable[[Any, Sequence[Any]], Sequence[WorkflowRun[Any]]] | None
    together = getattr(cluster, "start_many", None)
    if together is not None:
        return list(together(definition, inputs))
    return [cluster.start_workflow(definition, one) for one in inputs]


def results(runs: Sequence[WorkflowRun[Any]]) -> list[Any]:
    """Wait for all, and return what they returned."""
    return [run.wait_for_completion(PATIENCE) for run in runs]


def acting(cluster: Cluster) -> int:
    """Return the node that acts; there must have been no other since the cluster started."""
    if cluster.statistics().leader_changes or cluster.leader is None:
        raise RuntimeError("the leader changed while it was measured; is the machine busy?")
    return cluster.leader
