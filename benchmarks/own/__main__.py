"""The process that measures this build, or another one of this project: `python -m benchmarks.own TASK`."""

from __future__ import annotations

import sys

from benchmarks.measuring import Task

from .measure import measure

if __name__ == "__main__":
    task = Task.given()
    if len(sys.argv) == 2:
        measure(task).say()
    elif task.case == "restore":
        from .restoring import record

        record(task)
    else:  # a part of the case that kills its own processes
        from .recovering import be

        be(task, sys.argv[2])
