"""The cost of a checkpoint, next to PySyncObj on its own.

Measured in one run, in rounds: in each round every contender is started, measured and stopped in turn, so that what else the
machine does hits all of them, and none runs beside another. A latency is the time from the call until the command is
applied where it was proposed and the caller continues.

    python benchmarks/checkpoint_latency.py --rounds 5 --samples 2000
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import platform
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Literal

import pysyncobj

from raftoral_nb import Cluster, WorkflowContext, workflow
from raftoral_nb.core.commands import Command, Outcome, RegisterWorkflow, SetCheckpoint, StartRun
from raftoral_nb.core.commands import Committed as CommittedOutcome
from raftoral_nb.core.records import Definition, Step
from raftoral_nb.raft.journal import MemoryJournal
from raftoral_nb.raft.member import Member
from raftoral_nb.raft.replica import Timing
from raftoral_nb.transport.memory_network import MemoryNetwork

WARM_UP = 50
"""Commands before the measured ones."""

AIM_ENGINE = 60e-6
"""Seconds: a command proposed and applied on one node."""

AIM_RATIO = 100.0
"""The speed to aim for, as a multiple of plain PySyncObj's, with 3 nodes over TCP."""

# The original, in Rust, on one node and in memory, says of itself: 30 to 171 microseconds for a command.
ORIGINAL = (30e-6, 171e-6)


# --- PySyncObj on its own ------------------------------------------------------------------------------------------


class Bare(pysyncobj.SyncObj):  # type: ignore[misc]
    """The least that can be replicated: a number."""

    def __init__(self, own: str, others: Sequence[str], conf: pysyncobj.SyncObjConf) -> None:
        super().__init__(own, list(others), conf)
        self.value = 0

    @pysyncobj.replicated  # type: ignore[untyped-decorator]
    def record(self, value: int) -> int:
        """Keep a value."""
        self.value = value
        return value


def free_addresses(count: int) -> list[str]:
    """Return addresses on 127.0.0.1 that were free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses


def measure_bare(nodes: int, samples: int, settings: dict[str, Any]) -> list[float]:
    """Return the latencies (s) of commands given to the leader from the main thread, which waits for each."""
    addresses = free_addresses(nodes)
    objects = [
        # Without a bind address it would listen on every interface.
        Bare(own, [one for one in addresses if one != own], pysyncobj.SyncObjConf(bindAddress=own, **settings))
        for own in addresses
    ]
    try:
        until = time.monotonic() + 60
        while not all(one.isReady() for one in objects) or not any(one._isLeader() for one in objects):
            if time.monotonic() > until:
                raise TimeoutError("PySyncObj found no leader within 60 s")
            time.sleep(0.01)
        leader = next(one for one in objects if one._isLeader())
        return timed(lambda number: leader.record(number, sync=True, timeout=30), samples, min(WARM_UP, samples // 2))
    finally:
        for one in objects:
            one.destroy()
        time.sleep(0.2)  # its threads end within a tick or two


def timed(call: Callable[[int], object], samples: int, warm_up: int) -> list[float]:
    """Return the seconds that each call takes."""
    latencies = []
    for number in range(-warm_up, samples):
        before = time.perf_counter()
        call(number)
        if number >= 0:
            latencies.append(time.perf_counter() - before)
    return latencies


# --- our engine: a member on a loop, no threads, no workflow ---------------------------------------------------------


class Listener:
    """A member's listener that only notes when its member may act."""

    def __init__(self) -> None:
        self.term: int | None = None
        self.acts = asyncio.Event()

    def applied(self, index: int, applied: object) -> None:
        """Do nothing."""

    def acting_changed(self, term: int | None) -> None:
        """Keep the term."""
        self.term = term
        if term is not None:
            self.acts.set()

    def role_changed(self, role: str, term: int) -> None:
        """Do nothing."""

    def failed(self, *error: object) -> None:
        """Raise: it must not happen."""
        raise RuntimeError(f"a member broke: {error}")


async def _measure_engine(nodes: int, samples: int) -> list[float]:
    loop = asyncio.get_running_loop()
    network = MemoryNetwork(loop)
    listeners = [Listener() for _ in range(nodes)]
    members = [
        Member(
            number,
            range(1, nodes + 1),
            journal=MemoryJournal(),
            loop=loop,
            dice=random.Random(number),
            timing=Timing(),
            listener=listener,
        )
        for number, listener in enumerate(listeners, start=1)
    ]
    for member in members:
        await member.join(network)
    acts = [asyncio.ensure_future(listener.acts.wait()) for listener in listeners]
    await asyncio.wait(acts, timeout=60, return_when=asyncio.FIRST_COMPLETED)
    for act in acts:
        act.cancel()
    leader, listener = next(pair for pair in zip(members, listeners, strict=True) if pair[1].term is not None)

    async def ask(command: Command) -> None:
        outcome = await leader.ask(command, 30)
        if not isinstance(outcome, CommittedOutcome):
            raise RuntimeError(f"not committed: {outcome}")  # noqa: TRY004 - it is not about types

    definition = Definition("nothing", 1, "fingerprint", "digest", b"code", {})
    await ask(RegisterWorkflow(definition))
    await ask(StartRun("run", "nothing", 1, b"input"))
    latencies: list[float] = []
    finished: asyncio.Future[None] = loop.create_future()
    number = -WARM_UP
    begun = 0.0

    def propose() -> None:
        nonlocal begun
        step = Step(f"{number + WARM_UP}/step", "var", b"\x80\x05K\x01.", None, leader.node, listener.term or 0)
        command = SetCheckpoint("run", step)
        begun = time.perf_counter()
        leader.propose(command, 30, done)

    def done(outcome: Outcome) -> None:
        nonlocal number
        if number >= 0:
            latencies.append(time.perf_counter() - begun)
        number += 1
        if not isinstance(outcome, CommittedOutcome):
            finished.set_exception(RuntimeError(f"not committed: {outcome}"))
        elif number < samples:
            loop.call_soon(propose)
        else:
            finished.set_result(None)

    propose()
    await finished
    for member in members:
        member.close()
    await network.close()
    return latencies


def measure_engine(nodes: int, samples: int) -> list[float]:
    """Return the latencies (s) of commands proposed to the leading member on its loop, over a network in memory."""
    return asyncio.run(_measure_engine(nodes, samples))


# --- our checkpoints: from workflow code -----------------------------------------------------------------------------

TIMES: list[float] = []
"""The latencies that the workflow below has measured."""


@workflow(version=1)
async def checkpoints(ctx: WorkflowContext, samples: int) -> int:
    """Set a replicated variable again and again."""
    # The function is shipped by value, and so would be a list that it refers to. The real one is in this process.
    import __main__ as here

    latencies = []
    variable = await ctx.var("number", 0)
    for number in range(-WARM_UP, samples):
        before = time.perf_counter()
        await variable.set(number)
        if number >= 0:
            latencies.append(time.perf_counter() - before)
    # Only one node proposes; for the others a checkpoint is a record to take.
    if ctx.node == here.ACTING:
        here.TIMES.extend(latencies)
    return samples


ACTING: int | None = None


def measure_workflow(
    nodes: int, samples: int, network: Literal["tcp", "memory"], durability: Literal["process", "disk"] | None = None
) -> list[float]:
    """Return the latencies (s) of `await variable.set(...)` in a workflow, on the node that leads; stored in a directory if asked to."""
    global ACTING
    TIMES.clear()
    with (
        tempfile.TemporaryDirectory() as folder,
        Cluster(
            nodes, network=network, data_dir=None if durability is None else folder, durability=durability
        ) as cluster,
    ):
        ACTING = cluster.leader
        run = cluster.start_workflow(checkpoints, samples)
        run.wait_for_completion(120)
        if cluster.leader == ACTING and ACTING is not None:
            cluster.nodes[ACTING].result(run.run_id)
        if cluster.statistics().leader_changes:
            raise RuntimeError("the leader changed while it was measured; is the machine busy?")
    return list(TIMES)


# --- start, stop, import ---------------------------------------------------------------------------------------------

LOAD = """
import time
from IPython.core.interactiveshell import InteractiveShell
import ipykernel.ipkernel
shell = InteractiveShell.instance()
begun = time.perf_counter()
shell.run_line_magic("load_ext", "raftoral_nb")
print(time.perf_counter() - begun)
begun = time.perf_counter()
shell.run_line_magic("raftoral", "start --nodes 3;")
print(time.perf_counter() - begun)
shell.run_line_magic("raftoral", "stop;")
"""


def measure_load() -> tuple[float, float]:
    """Seconds of `%load_ext`, and of the first `%raftoral start`, in a fresh process that has IPython loaded, as a kernel has."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", LOAD], capture_output=True, text=True, check=True)
    numbers = [
        float(line) for line in done.stdout.splitlines() if line.replace(".", "", 1).replace("e-", "", 1).isdigit()
    ]
    return numbers[0], numbers[1]


def measure_life() -> tuple[float, float]:
    """Return the seconds to start a cluster of 3 nodes (until a leader acts), and to stop it."""
    cluster = Cluster(3)
    before = time.perf_counter()
    cluster.start()
    ready = time.perf_counter()
    cluster.start_workflow(checkpoints, 1).wait_for_completion(30)
    stopping = time.perf_counter()
    cluster.stop()
    return ready - before, time.perf_counter() - stopping


# --- the run ---------------------------------------------------------------------------------------------------------


@dataclass
class Contender:
    """One row of the table."""

    name: str
    nodes: int
    measure: Callable[[], list[float]]
    latencies: list[float] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        """Return the latency (s) that this share of the commands did not exceed."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def contenders(nodes: int, samples: int, slow_samples: int, tick: float | None) -> list[Contender]:
    """Return all rows for clusters of this size: PySyncObj as it comes, then with its best settings, then ours."""
    # One node alone commits at its next tick, so a short one helps it; more nodes are driven by each other's messages, and
    # short ticks only cost them time. (Tried: 0.05, 0.005, 0.001 and 0.0002 s.)
    period = (0.001 if nodes == 1 else 0.05) if tick is None else tick
    best = {"appendEntriesUseBatch": False, "autoTickPeriod": period, "commandsWaitLeader": False}
    return [
        Contender("PySyncObj as it comes", nodes, lambda: measure_bare(nodes, slow_samples, {})),
        Contender("PySyncObj, best settings", nodes, lambda: measure_bare(nodes, samples, best)),
        Contender("engine, in memory", nodes, lambda: measure_engine(nodes, samples)),
        Contender("workflow, in memory", nodes, lambda: measure_workflow(nodes, samples, "memory")),
        Contender("workflow, over TCP", nodes, lambda: measure_workflow(nodes, samples, "tcp")),
        Contender("  durability process", nodes, lambda: measure_workflow(nodes, samples, "tcp", "process")),
        # Every checkpoint waits for the disk: fewer say as much.
        Contender("  durability disk", nodes, lambda: measure_workflow(nodes, max(1, samples // 20), "tcp", "disk")),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print the tables; 0 unless an aim was missed and `--strict` was given."""
    options = _options().parse_args(argv)
    rows = [
        row for nodes in options.nodes for row in contenders(nodes, options.samples, options.slow_samples, options.tick)
    ]
    life: list[tuple[float, float]] = []
    load: list[tuple[float, float]] = []
    print(
        f"CPython {platform.python_version()}, PySyncObj {metadata.version('pysyncobj')}, {os.cpu_count()} CPUs, "
        f"load {os.getloadavg()[0]:.1f}; {options.rounds} rounds"
    )
    for number in range(options.rounds):
        for row in rows:
            say(f"round {number + 1} of {options.rounds}: {row.name}, {row.nodes} node{'s' * (row.nodes > 1)}")
            gc.collect()
            row.latencies += row.measure()
        say(f"round {number + 1} of {options.rounds}: start, stop, load")
        life += [measure_life() for _ in range(3)]
        load.append(measure_load())
    say("")
    met = print_latencies(rows)
    met = print_times(life, load) and met
    return 0 if met or not options.strict else 1


def print_latencies(rows: list[Contender]) -> bool:
    """Return the table of latencies; True if the aims are met."""
    header = ("", "p50 µs", "p99 µs", "commands", "as it comes ÷ p50", "best ÷ p50", "÷ workflow over TCP")
    table: list[tuple[str, ...]] = [header]
    for nodes in dict.fromkeys(row.nodes for row in rows):
        mine = [row for row in rows if row.nodes == nodes]
        bare, best = (row.quantile(0.5) for row in mine[:2])
        memory = next(row.quantile(0.5) for row in mine if row.name == "workflow, over TCP")
        table.append((f"{nodes} node{'s' * (nodes > 1)}", *[""] * (len(header) - 1)))
        for row in mine:
            p50 = row.quantile(0.5)
            table.append(
                (
                    f"  {row.name}",
                    f"{p50 * 1e6:,.0f}",
                    f"{row.quantile(0.99) * 1e6:,.0f}",
                    f"{len(row.latencies):,}",
                    f"{bare / p50:,.1f}",
                    f"{best / p50:,.1f}",
                    f"{p50 / memory:,.2f}",
                )
            )
    widths = [max(len(line[column]) for line in table) for column in range(len(header))]
    print()
    for line in table:
        print("  ".join((line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:]))).rstrip())
    print()
    print(
        f"Raftoral, the original, in Rust, says of one node in memory: {ORIGINAL[0] * 1e6:.0f}-{ORIGINAL[1] * 1e6:.0f} µs."
    )
    print()
    met = True
    found = {(row.name, row.nodes): row.quantile(0.5) for row in rows}
    if ("engine, in memory", 1) in found:
        p50 = found["engine, in memory", 1]
        met = aim(
            f"one node, proposed and applied: {p50 * 1e6:.0f} µs", f"under {AIM_ENGINE * 1e6:.0f} µs", p50 < AIM_ENGINE
        )
    if ("workflow, over TCP", 3) in found:
        p50, bare = found["workflow, over TCP", 3], found["PySyncObj as it comes", 3]
        met = aim(f"3 nodes over TCP: {p50 * 1e3:.2f} ms", "under 1 ms", p50 < 1e-3) and met
        met = (
            aim(
                f"3 nodes over TCP: {bare / p50:.0f} x PySyncObj as it comes",
                f"at least {AIM_RATIO:.0f} x",
                bare / p50 >= AIM_RATIO,
            )
            and met
        )
    return met


def print_times(life: list[tuple[float, float]], load: list[tuple[float, float]]) -> bool:
    """Start, stop and load (medians); True if the aims are met."""
    rows = (
        ("start of 3 nodes, until one leads", statistics.median(one[0] for one in life), 0.5),
        ("stop of 3 nodes", statistics.median(one[1] for one in life), 0.3),
        ("%load_ext raftoral_nb", statistics.median(one[0] for one in load), 0.2),
        ("first %raftoral start in a kernel", statistics.median(one[1] for one in load), 1.0),
    )
    met = [aim(f"{name}: {seconds:.3f} s", f"under {limit} s", seconds < limit) for name, seconds, limit in rows]
    return all(met)


def aim(found: str, wanted: str, met: bool) -> bool:
    """Print what was found beside what was aimed at; returns `met`."""
    print(f"  {'ok    ' if met else 'MISSED'}  {found} (aim: {wanted})")
    return met


def say(progress: str) -> None:
    """Show what is being measured, where somebody watches."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{progress}", end="", file=sys.stderr, flush=True)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="What a checkpoint costs, next to PySyncObj on its own.")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of all contenders (default: %(default)s)")
    parser.add_argument(
        "--samples", type=int, default=1000, help="commands per contender and round (default: %(default)s)"
    )
    parser.add_argument(
        "--slow-samples",
        type=int,
        default=10,
        help="the same for PySyncObj as it comes, at 0.1 s each (default: %(default)s)",
    )
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 3], help="sizes of clusters (default: 1 3)")
    parser.add_argument(
        "--tick",
        type=float,
        help="autoTickPeriod (s) of PySyncObj's best settings (default: 0.001 for 1 node, else 0.05)",
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 if an aim is missed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
