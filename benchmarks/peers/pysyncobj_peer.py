"""Bare PySyncObj, the library that carries our consensus: replicated calls on a number, with nothing around them.

Its commands stand for steps. It keeps nothing on a disk, neither authenticates nor guards, and executes no workflows: a bound for
what a driver around it can reach without touching it, not a rival.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

import pysyncobj

from benchmarks.measuring import Found, Task, peak_bytes, spent

WARM_UP = 20


class Bare(pysyncobj.SyncObj):  # type: ignore[misc]
    """The least that can be replicated: a number."""

    def __init__(self, own: str, others: Sequence[str], conf: pysyncobj.SyncObjConf) -> None:
        super().__init__(own, list(others), conf)
        self.value = 0

    @pysyncobj.replicated  # type: ignore[untyped-decorator]
    def follow(self, value: int) -> int:
        """Keep and return the next number."""
        self.value = value + 1
        return self.value


def free_addresses(count: int) -> list[str]:
    """Return addresses on 127.0.0.1 that were free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses


def settings(nodes: int, *, plain: bool) -> dict[str, Any]:
    """Return PySyncObj's own settings, or the best that were found for it."""
    if plain:
        return {}
    # One node alone commits at its next tick, so a short one helps it; more nodes are driven by each other's messages, and
    # short ticks only cost them time. (Tried: 0.05, 0.005, 0.001 and 0.0002 s.)
    return {
        "appendEntriesUseBatch": False,
        "autoTickPeriod": 0.001 if nodes == 1 else 0.05,
        "commandsWaitLeader": False,
    }


def leader_of(objects: Sequence[Bare]) -> Bare:
    """Wait until one leads and all are ready; returns it."""
    until = time.monotonic() + 60
    while not all(one.isReady() for one in objects) or not any(one._isLeader() for one in objects):
        if time.monotonic() > until:
            raise TimeoutError("PySyncObj found no leader within 60 s")
        time.sleep(0.01)
    return next(one for one in objects if one._isLeader())


def step(leader: Bare, numbers: dict[str, int]) -> Found:
    """Measure one command after another, from a thread that waits for each."""
    value, times, count = 0, [], numbers["steps"]
    for number in range(WARM_UP):
        leader.follow(number, sync=True, timeout=30)
    with spent() as stretch:
        for _ in range(count):
            begun = time.perf_counter()
            value = leader.follow(value, sync=True, timeout=30)
            times.append(time.perf_counter() - begun)
    figures = {"rate": count / stretch.seconds, "processor": stretch.processor / count, "peak": peak_bytes()}
    return Found(value, {"step": times}, figures)


def batch(leader: Bare, numbers: dict[str, int]) -> Found:
    """Measure so many sequences of commands at once; each command is given when the one before it is done."""
    runs, count = numbers["runs"], numbers["steps"]
    done, results = threading.Semaphore(0), []

    def go_on(value: int, error: int) -> None:
        if error or value == count:
            results.append(-1 if error else value)
            done.release()
        else:
            leader.follow(value, callback=go_on)

    with spent() as stretch:
        for _ in range(runs):
            leader.follow(0, callback=go_on)
        for _ in range(runs):
            if not done.acquire(timeout=120):
                raise TimeoutError("a sequence has not ended within 120 s")
    figures = {"processor": stretch.processor / (runs * count), "peak": peak_bytes()}
    return Found(sum(results), figures={"rate": runs * count / stretch.seconds, **figures})


def main() -> None:
    """Measure what the task asks for."""
    task = Task.given()
    nodes = task.side["nodes"]
    addresses = free_addresses(nodes)
    conf = settings(nodes, plain=task.side.get("plain", False))
    objects = [
        # Without a bind address it would listen on every interface.
        Bare(own, [one for one in addresses if one != own], pysyncobj.SyncObjConf(bindAddress=own, **conf))
        for own in addresses
    ]
    try:
        (step if task.case == "step" else batch)(leader_of(objects), task.numbers).say()
    finally:
        for one in objects:
            one.destroy()


if __name__ == "__main__":
    main()
