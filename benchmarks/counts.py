"""Counts that guard against regressions, as they hardly depend on the machine: calls, moves, entries of the log and system calls.

    python -m benchmarks.counts            what is counted, beside the limits
    python -m benchmarks.counts --limits   the table of limits anew, a little above what is counted: to be pasted below

`tests/benchmarks/test_counts.py` compares them. A count that went up is first understood (`python -m benchmarks.checkpoint_trace
--modules` lists the calls by module), and only then allowed; one that went down is made the new limit, so that what was gained stays.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks.checkpoint_trace import path
from benchmarks.environments import ROOT
from benchmarks.measuring import Task
from raftoral_nb.testing import workflow_test

LIMITS: Final = {
    "calls of Python functions for a step, three nodes": 661,
    "calls of C functions for a step, three nodes": 456,
    "calls into the engine for a step, three nodes": 579,
    "moves between modules for a step, three nodes": 359,
    "entries of the log for 50 runs of 20 steps": 75,
    "system calls for a step, memory, one node": 24,
    "system calls for a step, process, one node": 28,
    "system calls for a step, memory, three nodes": 48,
}
"""The most that each may be. Measured on CPython 3.11; later versions make fewer calls."""

ROOM: Final = 1.05
"""How far above a count its limit is put."""
ROOM_FOR_SYSTEM_CALLS: Final = 1.3
"""The same for system calls, which depend on timing: a slow machine tells commits on their own and reads in smaller pieces."""

WAITING: Final = ("futex", "epoll_wait", "sched_yield", "clock_nanosleep")
"""Calls that only wait, for a lock or for an event: how many there are says how busy the machine is."""


def calls() -> dict[str, float]:
    """Count what a step calls, on the virtual clock: exact for one version of Python."""
    found = path()
    names = (
        "calls of Python functions for a step, three nodes",
        "calls of C functions for a step, three nodes",
        "calls into the engine for a step, three nodes",
        "moves between modules for a step, three nodes",
    )
    return dict(zip(names, (found.python, found.c, found.calls, found.moves), strict=True))


def entries() -> dict[str, float]:
    """Count the entries that many runs at once need, on the virtual clock: exact."""

    async def steps(ctx: Any, count: int) -> None:
        for _ in range(count):
            await ctx.compute("step", int, 1)

    with workflow_test(nodes=3) as test:
        test.finish(test.start(steps, 1))
        before = test.statistics().nodes[1].log_length
        for run in [test.start(steps, 20) for _ in range(50)]:
            test.finish(run)
        after = test.statistics().nodes[1].log_length
    return {"entries of the log for 50 runs of 20 steps": float(after - before)}


def system_calls(nodes: int, level: str) -> dict[str, float]:
    """Count the system calls of a step that do not only wait, with strace, in a process of its own.

    Two runs of different lengths are traced; the difference is that of the steps. Raises `OSError` if this machine lets nobody trace.
    """
    short, long = 40, 240
    counted = (_traced(nodes, level, long) - _traced(nodes, level, short)) / (long - short)
    many = {1: "one node", 3: "three nodes"}[nodes]
    return {f"system calls for a step, {level}, {many}": counted}


def _traced(nodes: int, level: str, steps: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table"
        (Path(folder) / "work").mkdir()
        task = Task("step", {"steps": steps}, {"nodes": nodes, "level": level}, str(Path(folder) / "work"))
        own = [sys.executable, "-P", "-m", "benchmarks.own", json.dumps(vars(task))]
        done = subprocess.run(
            ["strace", "--follow-forks", "--summary-only", f"--output={table}", *own],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        )
        if done.returncode:
            raise OSError(f"strace could not trace: {(done.stderr.splitlines() or ['it said nothing'])[-1]}")
        rows = [line.split() for line in table.read_text("utf-8").splitlines()]
    # % time, seconds, usecs/call, calls, errors (or nothing), syscall
    return sum(int(row[3]) for row in rows if len(row) >= 5 and row[3].isdigit() and row[-1] not in {*WAITING, "total"})


def everything() -> dict[str, float]:
    """Count all that can be counted here."""
    found = calls() | entries()
    if shutil.which("strace") is None:
        print("strace is not installed: system calls are not counted", file=sys.stderr)
        return found
    for nodes, level in ((1, "memory"), (1, "process"), (3, "memory")):
        found |= system_calls(nodes, level)
    return found


def main() -> None:
    """Print what is counted."""
    for name, count in everything().items():
        if "--limits" in sys.argv:
            room = ROOM_FOR_SYSTEM_CALLS if name.startswith("system") else ROOM
            print(f'    "{name}": {int(count * room) + 1:_},')
        else:
            print(f"{count:9,.1f} of at most {LIMITS[name]:5,}  {name}")


if __name__ == "__main__":
    main()
