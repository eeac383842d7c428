"""DBOS: workflows and steps whose results are rows of a database, SQLite or PostgreSQL.

Steps and workflows are plain functions, which were faster here than DBOS's asynchronous ones. Only the case of many waiting runs uses
those, as each waiting plain workflow would hold a thread.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from dbos import DBOS

from benchmarks.measuring import (
    Found,
    Task,
    disk_bytes,
    peak_bytes,
    processor_seconds,
    resident_bytes,
    spent,
)
from benchmarks.peers.postgres import postgres

WARM_UP = 10
TOPIC = "go"
stop = False
continued = "continue" in sys.argv
fresh = 0


@DBOS.step()
def successor(number: int) -> int:
    """Return the next number."""
    global fresh
    if continued:
        fresh += 1
        if fresh == 2:  # the first is recorded
            print("STEP", flush=True)
    return number + 1


@DBOS.step()
def page(size: int) -> bytes:
    """Return so many bytes."""
    return os.urandom(size)


TIMES: list[float] = []


@DBOS.workflow()
def chain(steps: int) -> int:
    """Take so many steps, one after another; keep how long each took."""
    value = 0
    TIMES.clear()
    for _ in range(steps):
        begun = time.perf_counter()
        value = successor(value)
        TIMES.append(time.perf_counter() - begun)
    return value


@DBOS.workflow()
def steps(count: int) -> int:
    """Take so many steps, one after another."""
    value = 0
    for number in range(count):
        value = successor(value)
        if number == 200 and "first" in sys.argv:
            print("READY", flush=True)
    return value


@DBOS.workflow()
def endless(number: int) -> None:
    """Take steps until the process is told to end."""
    while not stop:
        number = successor(number)


@DBOS.workflow()
def pages(count: int, size: int) -> int:
    """Take so many steps with results of so many bytes; keep how long each took."""
    total = 0
    TIMES.clear()
    for _ in range(count):
        begun = time.perf_counter()
        total += len(page(size))
        TIMES.append(time.perf_counter() - begun)
    return total


@DBOS.workflow()
async def patient(number: int) -> int:
    """Wait for a message, and for an hour at most."""
    return number + await DBOS.recv_async(TOPIC, timeout_seconds=3600)


def case_step(task: Task, pids: list[int]) -> Found:
    """Measure each step of one long run."""
    count = task.numbers["steps"]
    chain(WARM_UP)
    with spent(pids) as stretch:
        result = chain(count)
    figures = {"rate": count / stretch.seconds, "processor": stretch.processor / count, "peak": peak_bytes(pids)}
    return Found(result, {"step": list(TIMES)}, figures)


def case_one(task: Task, pids: list[int]) -> Found:
    """Measure runs of one step, one after another; a workflow that is simply called is quicker than one that is started."""
    count, total, times = task.numbers["runs"], 0, []
    for _ in range(WARM_UP):
        steps(1)
    with spent(pids) as stretch:
        for _ in range(count):
            begun = time.perf_counter()
            total += steps(1)
            times.append(time.perf_counter() - begun)
    figures = {"rate": count / stretch.seconds, "processor": stretch.processor / count, "peak": peak_bytes(pids)}
    return Found(total, {"run": times}, figures)


def case_batch(task: Task, pids: list[int]) -> Found:
    """Measure many runs at once."""
    runs, count = task.numbers["runs"], task.numbers["steps"]
    steps(WARM_UP)
    with spent(pids) as stretch:
        total = sum(one.get_result() for one in [DBOS.start_workflow(steps, count) for _ in range(runs)])
    done = runs * count
    figures = {"rate": done / stretch.seconds, "processor": stretch.processor / done, "peak": peak_bytes(pids)}
    return Found(total, figures=figures)


def case_starts(task: Task, pids: list[int]) -> Found:
    """Measure starts while other runs go on."""
    global stop
    count, times, started = task.numbers["runs"], [], []
    going = [DBOS.start_workflow(endless, number) for number in range(task.numbers["others"])]
    for _ in range(count):
        begun = time.perf_counter()
        started.append(DBOS.start_workflow(steps, 1))
        times.append(time.perf_counter() - begun)
    with ThreadPoolExecutor(count) as pool, spent(pids) as stretch:
        together = list(pool.map(lambda _: DBOS.start_workflow(steps, 1), range(count)))
    stop = True
    for one in going:
        one.get_result()
    total = sum(one.get_result() for one in started + together)
    return Found(total, {"start": times}, {"together": stretch.seconds / count, "peak": peak_bytes(pids)})


def case_values(task: Task, _: list[int]) -> Found:
    """Measure steps whose results are 1 KB to 3.9 MB."""
    series, total, count = {}, 0, task.numbers["steps"]
    chain(WARM_UP)
    for kilobytes in (1, 10, 100, 1000, 3900):
        total += pages(count, kilobytes * 1000)
        series[f"{kilobytes} KB"] = list(TIMES)
    return Found(total, series)


def case_waiting(task: Task, pids: list[int]) -> Found:
    """Measure runs that wait for a message or a timer, what they cost while they wait, and messages to them."""

    async def measure() -> Found:
        count = task.numbers["runs"]
        begun = time.perf_counter()
        handles = [await DBOS.start_workflow_async(patient, number) for number in range(count)]
        started = time.perf_counter() - begun
        with spent(pids) as idle:
            await asyncio.sleep(task.numbers["seconds"])
        times, first = [], time.perf_counter()
        for handle in handles:
            begun = time.perf_counter()
            await DBOS.send_async(handle.workflow_id, 1, TOPIC)
            times.append(time.perf_counter() - begun)
        total = sum([await handle.get_result() for handle in handles])
        figures = {"started": started, "idle": idle.processor / idle.seconds, "peak": peak_bytes(pids)}
        return Found(total, {"signal": times}, {**figures, "all": time.perf_counter() - first})

    return asyncio.run(measure())


def case_long(task: Task, pids: list[int]) -> Found:
    """Measure memory and disk by checkpoint."""
    count, length = task.numbers["checkpoints"], task.numbers["steps"]
    folder = Path(task.scratch)
    before = resident_bytes(pids), disk_bytes(folder)
    total = sum(steps(length) for _ in range(count // length))
    after = resident_bytes(pids), disk_bytes(folder)
    figures = {name: (b - a) / count * 100_000 for name, a, b in zip(("memory", "disk"), before, after, strict=True)}
    return Found(total, figures=figures)


def case_idle(task: Task, pids: list[int]) -> Found:
    """Measure a process that has nothing to do."""
    steps(WARM_UP)
    time.sleep(task.numbers["settle"])
    before, begun = processor_seconds(pids), time.perf_counter()
    time.sleep(task.numbers["seconds"])
    return Found(0, figures={"idle": (processor_seconds(pids) - before) / (time.perf_counter() - begun)})


def case_recovery(task: Task, _: list[int]) -> Found:
    """Measure from the SIGKILL of a process to the first step that is new, in another."""
    argv = [sys.executable, "-P", "-m", "benchmarks.peers.dbos_peer", sys.argv[1]]

    def until(child: subprocess.Popen[str], word: str) -> None:
        assert child.stdout is not None
        for line in child.stdout:
            if line.strip() == word:
                return
        raise RuntimeError(f"a process ended before it said {word}")

    times = []
    for _ in range(task.numbers["kills"]):
        first = subprocess.Popen([*argv, "first"], stdout=subprocess.PIPE, text=True)
        until(first, "READY")
        begun = time.perf_counter()
        first.send_signal(signal.SIGKILL)
        first.wait()
        second = subprocess.Popen([*argv, "continue"], stdout=subprocess.PIPE, text=True)
        until(second, "STEP")
        times.append(time.perf_counter() - begun)
        second.kill()
        second.wait()
        for path in Path(task.scratch).glob("dbos.sqlite*"):
            path.unlink()
    return Found(len(times), {"recovery": times})


@contextmanager
def database(task: Task) -> Iterator[tuple[str, list[int]]]:
    """Yield the address of the database, and the processes that serve it."""
    if task.side["database"] == "sqlite":
        yield f"sqlite:///{task.scratch}/dbos.sqlite", []
    else:
        with postgres(Path(task.scratch)) as (address, pid):
            yield address, [pid]


def main() -> None:
    """Measure what the task asks for."""
    task = Task.given()
    name = {"wide": "batch"}.get(task.case, task.case)
    if name == "recovery" and len(sys.argv) == 2:
        case_recovery(task, []).say()
        return
    with database(task) as (address, pids):
        DBOS(
            config={
                "name": "bench",
                "system_database_url": address,
                "sys_db_pool_size": task.side["connections"],
                "log_level": "ERROR",
                "run_admin_server": False,
            }
        )
        DBOS.launch()
        if "first" in sys.argv:
            DBOS.start_workflow(steps, 1_000_000).get_result()
        elif continued:
            time.sleep(60)  # launching goes on with what was under way
        else:
            globals()[f"case_{name}"](task, pids).say()
        DBOS.destroy()


if __name__ == "__main__":
    main()
