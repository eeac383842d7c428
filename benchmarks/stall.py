"""The longest time one operation keeps the consensus thread, with a large state: heartbeats wait that long at most.

Three nodes over TCP, default settings, with as many finished runs as are kept. They (a) start from their snapshots, (b) all
make a snapshot at once; (c) a node is killed and reads its own; (d) a node was cut off for a while and gets the log; (e) a node
was cut off for so long that it gets the leader's snapshot and installs it; (f) the whole is looked at.

A turn is what the loop does between two waits for events. Of the longest turn the time by the clock and the processor time of
the thread are told: what is in the first only is waiting, for the GIL or for a processor, as is most of what
is "late": how far behind its time a timer was that was set anew every 5 ms. The longest garbage collection of any thread is told
by its processor time. On a machine that does something else as well, only processor times mean much.

    python -m benchmarks.stall --megabytes 50 --size 100
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from benchmarks.own.sizes import MEGA, Pages, diary, entry
from raftoral_nb import Cluster, SnapshotInstalled, Workflow
from raftoral_nb.core.apply import apply
from raftoral_nb.core.commands import Command, EndRun, RegisterWorkflow, SetCheckpoint, StartRun, Takeover
from raftoral_nb.core.records import Step
from raftoral_nb.core.snapshot import Frozen
from raftoral_nb.core.state import State
from raftoral_nb.limits import MAX_RUNS_KEPT
from raftoral_nb.raft.journal import Snapshot
from raftoral_nb.raft.replica import Timing
from raftoral_nb.workflow.codec import values
from raftoral_nb.workflow.shipping import definitions

TICK = 0.005
"""Seconds between two ticks of the timer that tells how late the loop is."""


class Longest(msgspec.Struct):
    """The longest times of one phase, in seconds."""

    turn: float = 0.0
    turn_cpu: float = 0.0
    late: float = 0.0
    collection: float = 0.0
    turns: int = 0
    seconds: float = 0.0


class Probe:
    """A watch on a loop from inside: what lies between two calls of its selector is one turn."""

    def __init__(self, cluster: Cluster) -> None:
        self.longest = Longest()
        self._thread = cluster._host.thread
        self._gc_begun = 0.0
        self._thread.call(self._install)

    def _install(self) -> None:
        loop: Any = asyncio.get_running_loop()
        self._loop = loop
        selector = loop._selector
        select = selector.select
        begun, begun_cpu = time.perf_counter(), time.thread_time()

        def watched(timeout: float | None = None) -> Any:
            nonlocal begun, begun_cpu
            longest = self.longest
            longest.turns += 1
            longest.turn = max(longest.turn, time.perf_counter() - begun)
            longest.turn_cpu = max(longest.turn_cpu, time.thread_time() - begun_cpu)
            found = select(timeout)
            begun, begun_cpu = time.perf_counter(), time.thread_time()
            return found

        selector.select = watched
        self._tick(loop.time())
        gc.callbacks.append(self._collected)

    def _tick(self, due: float) -> None:
        now = self._loop.time()
        self.longest.late = max(self.longest.late, now - due)
        self._timer = self._loop.call_later(TICK, self._tick, now + TICK)

    def _collected(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self._gc_begun = time.thread_time()
            return
        self.longest.collection = max(self.longest.collection, time.thread_time() - self._gc_begun)

    def phase(self, what: Callable[[], object]) -> Longest:
        """Return the longest times while `what()` runs."""
        self.longest = longest = Longest()
        begun = time.perf_counter()
        what()
        longest.seconds = time.perf_counter() - begun
        for _ in range(2):  # the turn that it was part of ends
            self._thread.call(lambda: None)
        self.longest = Longest()
        return longest

    def close(self) -> None:
        """Stop watching."""
        gc.callbacks.remove(self._collected)
        self._thread.call(self._timer.cancel)


def prepared(megabytes: float, size: int) -> Snapshot:
    """Return a snapshot of as many finished runs as are kept, with values of so many bytes in all."""
    assert isinstance(diary, Workflow)
    steps = max(1, round(megabytes * MEGA / size / MAX_RUNS_KEPT))
    definition, _ = definitions.build("diary", 1, diary.fn)
    state = State()
    values_ = [values.encode(entry(number, size), what="a page") for number in range(-1, steps - 1)]
    commands: list[Command] = [Takeover(1, 1), RegisterWorkflow(definition)]
    for index, command in enumerate(commands, 2):
        apply(state, command, index)
    job, result = values.encode(Pages(steps, size), what="a job"), values.encode(steps, what="a result")
    for number in range(MAX_RUNS_KEPT):
        run_id = f"diary-{number + 1}"
        apply(state, StartRun(run_id, "diary", 1, job), 4)
        for place, value in enumerate(values_):
            apply(state, SetCheckpoint(run_id, Step(f"{place}/page", "set" if place else "var", value, None, 1, 1)), 4)
        apply(state, EndRun(run_id, 1, 1, result, None), 4)
    state.index = 4
    return Snapshot(4, 1, tuple(Frozen(state).pieces()))


def settle(cluster: Cluster) -> None:
    """Wait until every node has applied what there is and has executed the latest run."""
    latest = cluster.runs()[-1].run_id
    for node in cluster.nodes.values():
        if node.alive:
            node.wait_until_applied(120)
            node.result(latest, timeout=600)


def snapshots(cluster: Cluster) -> None:
    """Have every node make a snapshot, all at once, and wait for them."""
    host: Any = cluster._host
    cluster.start_workflow(diary, Pages(2, 10)).wait_for_completion(60)
    settle(cluster)

    async def make() -> None:
        members = [host.incarnation(number).member for number in host.numbers]
        for member in members:
            member.replica.compactor.begin(member.state)
        while any(member.replica.compactor._making is not None for member in members):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(TICK)

    host.thread.run(make)


def restart(cluster: Cluster, node: int) -> None:
    """Start a dead node and wait until it has executed everything."""
    cluster.restart(node)
    settle(cluster)


def outrun(cluster: Cluster, node: int) -> None:
    """Cut a node off, and let the others forget the log that it would need."""
    host: Any = cluster._host
    network = host.network
    assert network is not None
    others = [number for number in cluster.nodes if number != node]
    for other in others:
        host.thread.call(network.cut, node, other)
    cluster.wait_for_leader()
    fill_log(cluster)

    def begin() -> None:
        for number in others:
            member = host.incarnation(number).member
            member.replica.compactor.begin(member.state)

    target = host.journals.of(node).last_index
    while any(host.journals.of(number).first_index <= target for number in others):
        host.thread.call(begin)
        fill_log(cluster)


def fill_log(cluster: Cluster) -> None:
    """A few runs with values of some hundred kB: more than is kept behind a snapshot."""
    cluster.start_workflow(diary, Pages(6, 300_000)).wait_for_completion(60)


def install(cluster: Cluster, node: int) -> None:
    """Let the node that was cut off get the snapshot, and wait until it has executed everything."""
    host: Any = cluster._host
    assert host.network is not None
    installed = threading.Event()

    def look(event: object) -> None:
        if isinstance(event, SnapshotInstalled) and event.node == node:
            installed.set()

    unsubscribe = cluster.subscribe(look)
    host.thread.call(host.network.heal_all)
    if not installed.wait(120):
        raise RuntimeError("no snapshot was installed; is the machine busy?")
    unsubscribe()
    settle(cluster)


def lag(cluster: Cluster, node: int, megabytes: float) -> None:
    """Cut a node off while the others log about so much."""
    network = cluster._host.network
    assert network is not None
    for other in cluster.nodes:
        if other != node:
            cluster._host.thread.call(network.cut, node, other)
    cluster.wait_for_leader()
    runs = [cluster.start_workflow(diary, Pages(round(megabytes * 1000 / 8), 1000)) for _ in range(8)]
    for run in runs:
        run.wait_for_completion(600)


def catch_up(cluster: Cluster) -> None:
    """Let it get the log, and wait until it has executed everything."""
    assert cluster._host.network is not None
    cluster._host.thread.call(cluster._host.network.heal_all)
    settle(cluster)


def measure(options: argparse.Namespace) -> tuple[list[tuple[str, Longest]], str]:
    """Return the longest times of each phase, and what the state was."""
    found: list[tuple[str, Longest]] = []
    cluster = Cluster(3, proposal_timeout=60.0)
    host: Any = cluster._host
    filled = prepared(options.megabytes, options.size)
    for number in host.numbers:
        host.journals.of(number).install(filled)
        host.journals.of(number).setCurrentTerm(1, None)
    gc.collect()
    with cluster:
        probe = Probe(cluster)

        def phase(name: str, what: Callable[[], object]) -> None:
            if sys.stderr.isatty():
                print(f"\r\x1b[K{name}", end="", file=sys.stderr, flush=True)
            found.append((name, probe.phase(what)))

        phase("(a) all execute what their snapshots hold", lambda: settle(cluster))
        late = next(number for number in cluster.nodes if number != cluster.leader)
        phase("(b) all make a snapshot", lambda: snapshots(cluster))
        size = max(
            one.size for one in (host.journals.of(number).snapshot for number in cluster.nodes) if one is not None
        )
        steps = sum(len(run.steps) for run in host.head().runs.values())
        phase("    one is killed", lambda: cluster.kill(late))
        phase("(c) it reads its snapshot", lambda: restart(cluster, late))
        phase("    one is cut off", lambda: lag(cluster, late, options.log))
        phase("(d) it gets the log", lambda: catch_up(cluster))
        phase("    one is cut off and outrun", lambda: outrun(cluster, late))
        phase("(e) it gets the leader's snapshot", lambda: install(cluster, late))
        phase("(f) statistics, as for a live view", cluster.statistics)
        changes = cluster.statistics().leader_changes
        probe.close()
    return found, f"snapshot of {size / MEGA:.1f} MB: {steps:,} steps; leader changes: {changes}"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 0 unless a turn was too long and `--strict` was given."""
    parser = argparse.ArgumentParser(description="The longest turns of the consensus loop with a large state.")
    parser.add_argument("--megabytes", type=float, default=50.0, help="of values in the state (default: %(default)s)")
    parser.add_argument("--size", type=int, default=100, help="bytes of a value (default: %(default)s)")
    parser.add_argument(
        "--log", type=float, default=20.0, help="MB that are logged while a node is away (default: %(default)s)"
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a turn took longer than a heartbeat")
    options = parser.parse_args(argv)
    print(
        f"CPython {platform.python_version()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; 3 nodes over TCP"
    )
    found, what = measure(options)
    print(f"{what}\n")
    print(f"{'longest, in ms':44}{'turn':>8}{'processor':>11}{'late':>8}{'collection':>12}{'turns':>9}{'s':>7}")
    for name, one in found:
        shown = [f"{seconds * 1e3:.1f}" for seconds in (one.turn, one.turn_cpu, one.late, one.collection)]
        print(f"{name:44}{shown[0]:>8}{shown[1]:>11}{shown[2]:>8}{shown[3]:>12}{one.turns:>9,}{one.seconds:>7.1f}")
    heartbeat = Timing().heartbeat
    most = max(one.turn_cpu for _, one in found)
    print(f"\nLongest turn by processor time: {most * 1e3:.1f} ms; a heartbeat is {heartbeat * 1e3:.0f} ms.")
    return 0 if most < heartbeat or not options.strict else 1


if __name__ == "__main__":
    sys.exit(main())
