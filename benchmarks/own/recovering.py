"""From the SIGKILL of a process with all its nodes to the first step that is new."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.measuring import Found, Task
from raftoral_nb import WorkflowContext, workflow

from .shared import SEEN, cluster_in

ENOUGH = 2000
"""Checkpoints before the process is killed."""


def successor(number: int) -> int:
    """Return the next number; say when the first new step of a process must have been recorded."""
    mine: Any = sys.modules[SEEN]
    mine.fresh += 1
    if mine.fresh == mine.tell:
        os.write(1, b"HERE\n")
    return number + 1


@workflow(version=1)
async def endless(ctx: WorkflowContext, number: int) -> None:
    """Take one step after another for ever."""
    while True:
        number = await ctx.compute("step", successor, number)


def recovery(task: Task) -> Found:
    """Measure it some times, each in a new directory."""
    if task.side["level"] == "memory":
        return Found(absent="nothing outlives its process")
    times = []
    for _ in range(task.numbers["kills"]):
        first = begin(task, "first")
        until_here(first)
        begun = time.perf_counter()
        first.send_signal(signal.SIGKILL)
        first.wait()
        second = begin(task, "continue")
        until_here(second)
        times.append(time.perf_counter() - begun)
        second.kill()
        second.wait()
        shutil.rmtree(folder(task))
    return Found(len(times), {"recovery": times})


def begin(task: Task, part: str) -> subprocess.Popen[str]:
    """Start one of the processes."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "benchmarks.own", json.dumps(vars(task)), part], stdout=subprocess.PIPE, text=True
    )


def until_here(process: subprocess.Popen[str]) -> None:
    """Wait for its line."""
    assert process.stdout is not None
    for line in process.stdout:
        if line == "HERE\n":
            return
    raise RuntimeError("the process ended before it had come to where it should be killed, or had continued")


def folder(task: Task) -> Path:
    """Return the directory that outlives the process."""
    return Path(task.scratch) / "outlives"


def be(task: Task, part: str) -> NoReturn:
    """Run until killed: take steps in a new directory, or continue in one."""
    from . import seen

    # The second new step begins when the first is recorded.
    seen.tell = ENOUGH if part == "first" else 2
    with cluster_in(task, folder(task)) as cluster:
        if part == "first":
            cluster.start_workflow(endless, 0)
        time.sleep(120)
    sys.exit("nobody killed this process")
