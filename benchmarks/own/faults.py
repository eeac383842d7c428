"""A node that lags and comes back, and nodes that are killed under load."""

from __future__ import annotations

import itertools
import random
import sys
import threading
import time
from typing import Any

from benchmarks.measuring import Found, Task
from raftoral_nb import CheckpointSet, Cluster, ClusterEvent, EpochChanged, WorkflowContext, WorkflowRun, workflow

from . import seen
from .shared import PATIENCE, SEEN, cluster_of, results, start_all, steps

STEPS_AFTER = 30
"""Steps of a run that show that it goes on."""


def late(task: Task) -> Found:
    """Measure how fast a node that was killed, and then one that was held, take what the others have recorded meanwhile.

    The one that was killed reads its log again and executes what it has; the one that was held only executes.
    """
    wanted, length = task.numbers["checkpoints"], task.numbers["steps"]
    with cluster_of(task, nodes=3) as cluster:
        leader = cluster.wait_for_leader()
        killed, held = (number for number in cluster.nodes if number != leader)
        cluster.kill(killed)
        cluster.hold(held)
        runs: list[WorkflowRun[Any]] = []
        total = 0
        for _ in range(wanted // length // 20):  # as many runs at a time as leave memory for the rest
            more = start_all(cluster, steps, [length] * 20)
            total += sum(results(more))
            runs += more
        rates = {}
        for name, node, act in (("restarted", killed, cluster.restart), ("released", held, cluster.release)):
            begun = time.perf_counter()
            act(node)
            for run in runs:
                cluster.nodes[node].result(run.run_id, timeout=PATIENCE)
            rates[name] = total / (time.perf_counter() - begun)
        return Found(total, figures=rates)


def beat(run: int, number: int) -> int:
    """Note the time, and return the next number, or -1 at the end."""
    mine = sys.modules[SEEN]
    mine.beats.setdefault(run, []).append(time.perf_counter())
    return -1 if mine.stop else number + 1


@workflow(version=1)
async def beating(ctx: WorkflowContext, run: int) -> bool:
    """Take steps until the benchmark ends; returns that each came once."""
    number = 0
    for expected in itertools.count(1):
        number = await ctx.compute("step", beat, run, number)
        if number != expected:
            return number < 0
    raise AssertionError("it counts for ever")


class Watch:
    """Tells how far all runs have come, and when a node began to act."""

    def __init__(self, cluster: Cluster, runs: int) -> None:
        self.epochs: list[float] = []
        self._counts = dict.fromkeys(range(runs), 0)
        self._change = threading.Condition()
        cluster.subscribe(self._told)

    def _told(self, event: ClusterEvent) -> None:
        if isinstance(event, CheckpointSet | EpochChanged):
            with self._change:
                if isinstance(event, EpochChanged):
                    self.epochs.append(time.perf_counter())
                self._change.notify_all()

    def until_all(self, lost: float) -> None:
        """Wait until every run has taken some steps since a moment."""

        def gone_on() -> bool:
            return all(len(beats) > STEPS_AFTER and beats[-STEPS_AFTER] > lost for beats in self._beats())

        with self._change:
            if not self._change.wait_for(gone_on, 60):
                raise TimeoutError("60 s after a node was lost not all runs have gone on")

    def _beats(self) -> list[list[float]]:
        return [seen.beats.get(run, []) for run in self._counts]


def kills(task: Task) -> Found:
    """Measure how long runs stand still when the leader is lost: the longest time between two steps of any of them.

    It is killed (its links break), and then paused as often (its links stay, and it is silent).
    """
    runs, dice = task.numbers["runs"], random.Random(task.numbers["kills"])
    if task.side["nodes"] < 3:
        return Found(absent="one node has no other that could go on")
    pauses: dict[str, list[float]] = {"pause": [], "hang": []}
    with cluster_of(task) as cluster:
        watch = Watch(cluster, runs)
        going = start_all(cluster, beating, list(range(runs)))
        watch.until_all(time.perf_counter())
        for name, lose, back in (
            ("pause", cluster.kill, cluster.restart),
            ("hang", cluster.pause, cluster.resume),
        ):
            for _ in range(task.numbers["kills"]):
                time.sleep(0.002 * dice.random())  # at any moment of a step
                epochs, lost = len(watch.epochs), time.perf_counter()
                node = lose("leader")
                watch.until_all(lost)
                if len(watch.epochs) == epochs:
                    raise RuntimeError("nobody took over, and yet the runs went on")
                gaps = (
                    b - a for beats in seen.beats.values() for a, b in itertools.pairwise(beats[-2000:]) if b > lost
                )
                pauses[name].append(max(gaps))
                back(node)
                cluster.nodes[node].wait_until_applied(60)
                _level(cluster, node)
        seen.stop = True
        return Found(sum(results(going)), pauses)


def _level(cluster: Cluster, node: int) -> None:
    """Wait until a node's executions have come to where the others are: the next loss is another story than this one."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        executions = cluster.nodes[node].statistics().runs
        if executions and all(one.catch_up_queue < STEPS_AFTER for one in executions.values()):
            return
        time.sleep(0.01)
    raise TimeoutError("a node was not level 60 s after it came back")
