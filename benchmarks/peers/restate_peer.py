"""Restate: a server keeps the journals of invocations, a service carries them out. The service and who calls it are this process."""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config

from benchmarks.measuring import (
    Found,
    Task,
    disk_bytes,
    peak_bytes,
    processor_seconds,
    resident_bytes,
    spent,
)
from benchmarks.peers.http_calls import Calls
from benchmarks.peers.restate_server import Servers

WARM_UP = 20
TIMES: list[float] = []
BEATS: dict[int, list[float]] = {}
stop = False
fresh = 0

service = restate.Service("bench")
waiter = restate.Workflow("waiter")


def successor(number: int) -> int:
    """Return the next number."""
    global fresh
    fresh += 1
    if "continue" in sys.argv and fresh == 2:  # the first is recorded
        print("STEP", flush=True)
    if "first" in sys.argv and fresh == 200:
        print("READY", flush=True)
    return number + 1


def page(size: int) -> str:
    """Return text of so many bytes: values are JSON."""
    global fresh
    fresh += 1
    return base64.b64encode(os.urandom(size * 3 // 4)).decode()


def beat(run: int, number: int) -> int:
    """Note the time, and return the next number, or -1 at the end."""
    BEATS.setdefault(run, []).append(time.perf_counter())
    return -1 if stop else number + 1


def note(begun: float, before: int) -> None:
    """Keep how long a step took, if it was carried out: an invocation that begins anew takes the steps of its journal in no time."""
    if fresh > before:
        TIMES.append(time.perf_counter() - begun)


@service.handler()
async def chain(ctx: restate.Context, steps: int) -> int:
    """Take so many steps, one after another; keep how long each took."""
    value = 0
    for _ in range(steps):
        begun, before = time.perf_counter(), fresh
        value = await ctx.run_typed("step", successor, number=value)
        note(begun, before)
    return value


@service.handler()
async def steps(ctx: restate.Context, count: int) -> int:
    """Take so many steps, one after another."""
    value = 0
    for _ in range(count):
        value = await ctx.run_typed("step", successor, number=value)
    return value


@service.handler()
async def endless(ctx: restate.Context, run: int) -> bool:
    """Take steps until the process is told to end; returns that each came once."""
    number = 0
    for expected in itertools.count(1):
        number = await ctx.run_typed("step", beat, run=run, number=number)
        if number < 0:
            return True
        if number != expected:
            return False
    raise AssertionError("it counts for ever")


@service.handler()
async def pages(ctx: restate.Context, job: list[int]) -> int:
    """Take so many steps, with results of so many bytes."""
    count, size = job
    total = 0
    for _ in range(count):
        begun, before = time.perf_counter(), fresh
        total += len(await ctx.run_typed("step", page, size=size))
        note(begun, before)
    return total


@waiter.main()
async def patient(ctx: restate.WorkflowContext, number: int) -> int:
    """Wait for a message, and for an hour at most."""
    match await restate.select(message=ctx.promise("go").value(), patience=ctx.sleep(timedelta(hours=1))):
        case ["message", value]:
            return number + int(value)
    return -1


@waiter.handler()
async def tell(ctx: restate.WorkflowSharedContext, value: int) -> None:
    """Let a waiting run go on."""
    await ctx.promise("go").resolve(value)


class Bench:
    """What the cases have in hand: the servers, calls to the first of them, and the task."""

    def __init__(self, task: Task, servers: Servers) -> None:
        self.task, self.numbers, self.servers = task, task.numbers, servers
        self.calls = Calls(servers.ingress[0])

    async def call(self, handler: str, value: Any) -> Any:
        """Call a handler and wait for its result."""
        return await self.calls.post(f"/bench/{handler}", value)


async def case_step(bench: Bench) -> Found:
    """Measure each step of one long run."""
    count, pids = bench.numbers["steps"], bench.servers.pids
    await bench.call("chain", WARM_UP)
    TIMES.clear()
    with spent(pids) as stretch:
        result = await bench.call("chain", count)
    figures = {"rate": count / stretch.seconds, "processor": stretch.processor / count, "peak": peak_bytes(pids)}
    return Found(result, {"step": list(TIMES)}, figures)


async def case_one(bench: Bench) -> Found:
    """Measure runs of one step, one after another."""
    count, pids = bench.numbers["runs"], bench.servers.pids
    for _ in range(WARM_UP):
        await bench.call("steps", 1)
    times, total = [], 0
    with spent(pids) as stretch:
        for _ in range(count):
            begun = time.perf_counter()
            total += await bench.call("steps", 1)
            times.append(time.perf_counter() - begun)
    figures = {"rate": count / stretch.seconds, "processor": stretch.processor / count, "peak": peak_bytes(pids)}
    return Found(total, {"run": times}, figures)


async def case_batch(bench: Bench) -> Found:
    """Measure many runs at once."""
    runs, count, pids = bench.numbers["runs"], bench.numbers["steps"], bench.servers.pids
    await asyncio.gather(*(bench.call("steps", 2) for _ in range(runs)))
    with spent(pids) as stretch:
        total = sum(await asyncio.gather(*(bench.call("steps", count) for _ in range(runs))))
    done = runs * count
    figures = {"rate": done / stretch.seconds, "processor": stretch.processor / done, "peak": peak_bytes(pids)}
    return Found(total, figures=figures)


async def case_starts(bench: Bench) -> Found:
    """Measure starts while other runs go on: one after another, and all asked for together."""
    global stop
    count, times, ids = bench.numbers["runs"], [], []
    going = [asyncio.ensure_future(bench.call("endless", run)) for run in range(bench.numbers["others"])]
    await asyncio.sleep(0.2)

    async def start() -> str:
        return str((await bench.calls.post("/bench/steps/send", 1))["invocationId"])

    for _ in range(count):
        begun = time.perf_counter()
        ids.append(await start())
        times.append(time.perf_counter() - begun)
    with spent() as stretch:
        ids += await asyncio.gather(*(start() for _ in range(count)))
    stop = True
    await asyncio.gather(*going)
    # An invocation that was sent is asked for its output by its id, with GET; curl's -X POST would be refused.
    total = sum(await asyncio.gather(*(output(bench, one) for one in ids)))
    figures = {"together": stretch.seconds / count, "peak": peak_bytes(bench.servers.pids)}
    return Found(total, {"start": times}, figures)


async def output(bench: Bench, invocation: str) -> int:
    """Wait for what a started invocation returned."""
    return int(await bench.calls.get(f"/restate/invocation/{invocation}/attach"))


async def case_waiting(bench: Bench) -> Found:
    """Measure runs that wait for a message or a timer, what they cost while they wait, and messages to them."""
    count, pids = bench.numbers["runs"], bench.servers.pids
    with spent() as started:
        await asyncio.gather(*(bench.calls.post(f"/waiter/{run}/patient/send", run) for run in range(count)))
    with spent(pids) as idle:
        await asyncio.sleep(bench.numbers["seconds"])
    times, first = [], time.perf_counter()
    for run in range(count):
        begun = time.perf_counter()
        await bench.calls.post(f"/waiter/{run}/tell", 1)
        times.append(time.perf_counter() - begun)
    total = sum([int(await bench.calls.get(f"/restate/workflow/waiter/{run}/attach")) for run in range(count)])
    figures = {
        "started": started.seconds,
        "idle": idle.processor / idle.seconds,
        "all": time.perf_counter() - first,
        "peak": peak_bytes(pids),
    }
    return Found(total, {"signal": times}, figures)


async def case_values(bench: Bench) -> Found:
    """Measure steps whose results are 1 KB to 3.9 MB."""
    series, total = {}, 0
    await bench.call("chain", WARM_UP)
    for kilobytes in (1, 10, 100, 1000, 3900):
        TIMES.clear()
        total += await bench.call("pages", [bench.numbers["steps"], kilobytes * 1000])
        series[f"{kilobytes} KB"] = list(TIMES)
    return Found(total, series)


async def case_long(bench: Bench) -> Found:
    """Measure memory and disk by checkpoint."""
    count, length, pids = bench.numbers["checkpoints"], bench.numbers["steps"], bench.servers.pids
    folder = Path(bench.task.scratch)
    before = resident_bytes(pids), disk_bytes(folder)
    total = 0
    for _ in range(count // length // 8):
        total += sum(await asyncio.gather(*(bench.call("steps", length) for _ in range(8))))
    after = resident_bytes(pids), disk_bytes(folder)
    figures = {name: (b - a) / count * 100_000 for name, a, b in zip(("memory", "disk"), before, after, strict=True)}
    return Found(total, figures=figures)


async def case_idle(bench: Bench) -> Found:
    """Measure servers and a service that have nothing to do."""
    await bench.call("chain", WARM_UP)
    await asyncio.sleep(bench.numbers["settle"])
    before, begun = processor_seconds(bench.servers.pids), time.perf_counter()
    await asyncio.sleep(bench.numbers["seconds"])
    used = processor_seconds(bench.servers.pids) - before
    return Found(0, figures={"idle": used / (time.perf_counter() - begun)})


async def case_kills(bench: Bench) -> Found:
    """Measure how long runs stand still when a node is killed; the one that is called stays."""
    global stop
    if len(bench.servers.ingress) < 3:
        return Found(absent="one node has no other that could go on")
    runs = bench.numbers["runs"]
    going = [asyncio.ensure_future(bench.call("endless", run)) for run in range(runs)]
    pauses = []
    for number in range(bench.numbers["kills"]):
        await asyncio.sleep(2)
        victim = 1 + number % 2
        lost = time.perf_counter()
        bench.servers.kill(victim)
        while any(len([at for at in BEATS[run] if at > lost]) < 30 for run in range(runs)):
            await asyncio.sleep(0.05)
            if time.perf_counter() - lost > 60:
                raise TimeoutError("60 s after a node was killed not all runs have gone on")
        pauses.append(max(b - a for beats in BEATS.values() for a, b in itertools.pairwise(beats) if b > lost))
        bench.servers.start(victim)
        await asyncio.sleep(5)
    stop = True
    ended = await asyncio.gather(*going)
    return Found(sum(ended), {"pause": pauses})


def case_recovery(task: Task) -> Found:
    """Measure from the SIGKILL of server and service to the first step that is new."""
    servers = Servers(task.side["server"], task.side["nodes"], Path(task.scratch))
    port = _free_port()
    argv = [sys.executable, "-P", "-m", "benchmarks.peers.restate_peer", sys.argv[1], str(port)]

    def begin(*more: str) -> subprocess.Popen[str]:
        return subprocess.Popen([*argv, *more], stdout=subprocess.PIPE, text=True)

    def until(child: subprocess.Popen[str], word: str) -> None:
        assert child.stdout is not None
        if not any(line.strip() == word for line in iter(child.stdout.readline, "") if line.strip() == word):
            raise RuntimeError(f"a service ended before it said {word}")

    times = []
    servers.start()
    child = begin("first")
    servers.deploy(port)
    asyncio.run(_begin_endless(servers))
    until(child, "READY")
    for _ in range(task.numbers["kills"]):
        begun = time.perf_counter()
        child.kill()
        for number in range(len(servers.ingress)):
            servers.kill(number)
        child.wait()
        servers.start()
        child = begin("continue")
        until(child, "STEP")
        times.append(time.perf_counter() - begun)
        time.sleep(1)
    child.kill()
    child.wait()
    servers.stop()
    return Found(len(times), {"recovery": times})


async def _begin_endless(servers: Servers) -> None:
    calls = Calls(servers.ingress[0])
    await _settled(lambda: calls.post("/bench/steps/send", 1_000_000))
    calls.close()


def _free_port() -> int:
    from benchmarks.peers.restate_server import _free_ports

    return _free_ports(1)[0]


async def _settled(call: Callable[[], Awaitable[Any]]) -> None:
    """Repeat a call until it succeeds: a new cluster refuses the first ones."""
    until = time.monotonic() + 60
    while True:
        try:
            await call()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.2)


async def serving(port: int, ready: Callable[[], Awaitable[None]]) -> None:
    """Serve the services while something is done."""
    config, ended = Config(), asyncio.Event()
    config.bind, config.loglevel = [f"127.0.0.1:{port}"], "ERROR"
    app = restate.app([service, waiter], protocol="bidi")
    server = asyncio.ensure_future(serve(app, config, shutdown_trigger=ended.wait))  # type: ignore[arg-type]
    try:
        await ready()
    finally:
        ended.set()
        server.cancel()
        await asyncio.gather(server, return_exceptions=True)


async def measure(task: Task) -> Found:
    """Start servers and service, and measure what the task asks for."""
    servers = Servers(task.side["server"], task.side["nodes"], Path(task.scratch))
    port, found = _free_port(), Found()
    case = globals()[f"case_{ {'wide': 'batch'}.get(task.case, task.case) }"]

    async def go() -> None:
        nonlocal found
        await asyncio.to_thread(servers.deploy, port)
        bench = Bench(task, servers)
        await _settled(lambda: bench.call("chain", 2))
        found = await case(bench)
        bench.calls.close()

    servers.start()
    try:
        await serving(port, go)
    finally:
        servers.stop()
    return found


async def _for_ever() -> None:
    await asyncio.sleep(600)


def main() -> None:
    """Measure; or serve a port for the case of recovery, if one is given."""
    task = Task.given()
    if len(sys.argv) > 2:
        asyncio.run(serving(int(sys.argv[2]), _for_ever))
    elif task.case == "recovery":
        case_recovery(task).say()
    else:
        asyncio.run(measure(task)).say()


if __name__ == "__main__":
    main()
