"""Prefect: flows and tasks, with a server of its own process that keeps their states in SQLite. Results are kept as files (`persist_result`).

A step counts as done when its result's file is written; its state is told to the server behind that. So a flow that is run again
begins anew, unless its tasks are cached: it is no log of steps, and stands here as what people know.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.measuring import Found, Task, family, peak_bytes, spent

TASK = Task.given()
os.environ |= {
    "PREFECT_HOME": TASK.scratch,
    "PREFECT_LOGGING_LEVEL": "ERROR",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
    "DO_NOT_TRACK": "1",
}

from prefect import flow, task  # noqa: E402 - it reads its settings when it is imported

TIMES: list[float] = []


@task(persist_result=True)
def successor(number: int) -> int:
    """Return the next number."""
    return number + 1


@flow(persist_result=True)
def chain(steps: int) -> int:
    """Take so many steps, one after another; keep how long each took."""
    value = 0
    TIMES.clear()
    for _ in range(steps):
        begun = time.perf_counter()
        value = successor(value)
        TIMES.append(time.perf_counter() - begun)
    return value


@flow(persist_result=True)
def steps(count: int) -> int:
    """Take so many steps, one after another."""
    value = 0
    for _ in range(count):
        value = successor(value)
    return value


def step() -> Found:
    """Measure each step of one long run."""
    count, pids = TASK.numbers["steps"], family(os.getpid())
    with spent(pids) as stretch:
        result = chain(count)
    figures = {"rate": count / stretch.seconds, "processor": stretch.processor / count, "peak": peak_bytes(pids)}
    return Found(result, {"step": list(TIMES)}, figures)


def one() -> Found:
    """Measure runs of one step, one after another."""
    count, pids, times, total = TASK.numbers["runs"], family(os.getpid()), [], 0
    with spent(pids) as stretch:
        for _ in range(count):
            begun = time.perf_counter()
            total += steps(1)
            times.append(time.perf_counter() - begun)
    figures = {"rate": count / stretch.seconds, "processor": stretch.processor / count, "peak": peak_bytes(pids)}
    return Found(total, {"run": times}, figures)


def batch() -> Found:
    """Measure many runs at once, each on a thread."""
    runs, count, pids = TASK.numbers["runs"], TASK.numbers["steps"], family(os.getpid())
    with ThreadPoolExecutor(runs) as pool, spent(pids) as stretch:
        total = sum(pool.map(steps, [count] * runs))
    done = runs * count
    figures = {"rate": done / stretch.seconds, "processor": stretch.processor / done, "peak": peak_bytes(pids)}
    return Found(total, figures=figures)


if __name__ == "__main__":
    chain(3)  # starts the server
    {"step": step, "one": one, "batch": batch}[TASK.case]().say()
