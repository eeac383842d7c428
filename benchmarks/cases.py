"""The cases of the suite as data: what is done, how often, what it must give, and which figures are told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from benchmarks.burning import expected

Numbers = Mapping[str, int]
"""How often, how many, how large: what a case is asked to do."""

SIZES: Final = (1, 10, 100, 1000, 3900)
"""The sizes of values, in kilobytes."""


@dataclass(frozen=True)
class Figure:
    """A figure of a case: how it is shown, and whether more or less is better.

    `name` is that of a single figure, or of a series with the share of it that is meant: `step.p50`.
    """

    name: str
    title: str
    unit: Literal["ms", "µs", "s", "/s", "MB", "%", "x"]
    better: Literal["less", "more"] = "less"

    @property
    def factor(self) -> float:
        """What a value in seconds, bytes or plain numbers is multiplied by to have the unit."""
        return {"ms": 1e3, "µs": 1e6, "s": 1.0, "/s": 1.0, "MB": 1e-6, "%": 1e2, "x": 1.0}[self.unit]

    def shown(self, value: float) -> str:
        """Return a value with its unit, three digits of it or more."""
        number = value * self.factor
        digits = 0 if abs(number) >= 100 else 1 if abs(number) >= 10 else 2
        return f"{number:,.{digits}f} {self.unit}"


@dataclass(frozen=True)
class Case:
    """One case. `result` says what every side must have computed, from the numbers; the first figure is the main one."""

    name: str
    title: str
    numbers: Numbers
    smoke: Numbers
    """The numbers when only its working is tried."""
    result: Callable[[Numbers], Any]
    figures: tuple[Figure, ...]
    sides: tuple[str, ...]
    """Patterns of the names of the sides that can do it."""
    limit: int = 120
    """Seconds that a side may take for one round."""
    rounds: int = 99
    """Rounds that are enough, however many are asked for: those of long cases hardly differ."""


_RATE = Figure("rate", "rate", "/s", "more")
_CPU = Figure("processor", "processor, each", "ms")
_PEAK = Figure("peak", "peak memory", "MB")
_COMMANDS = Figure("commands", "commands an entry", "x", "more")
_ALL = ("memory-*", "process-*", "disk-*", "before-*", "restate-*", "dbos-*")
_SERVED = (*_ALL, "prefect")
_BARE = "pysyncobj-?"
_SPREAD = (Figure("again", "workers are there", "s"), Figure("first", "the first time", "s"), _CPU)
_SPREADING = ("memory-*", "disk-*", "joblib", "process-pool")


def _quantiles(series: str, title: str, unit: Literal["ms", "µs", "s"] = "ms") -> tuple[Figure, Figure]:
    return Figure(f"{series}.p50", f"{title} p50", unit), Figure(f"{series}.p99", "p99", unit)


CASES: Final = (
    Case(
        "step",
        "a durable step, one after another",
        {"steps": 200},
        {"steps": 10},
        lambda n: n["steps"],
        (*_quantiles("step", "step"), _RATE, _CPU, _PEAK),
        (*_SERVED, "pysyncobj-*"),
    ),
    Case(
        "one",
        "a run of one step, from start to result",
        {"runs": 100},
        {"runs": 5},
        lambda n: n["runs"],
        (*_quantiles("run", "run"), _RATE, _CPU, _PEAK),
        _SERVED,
    ),
    Case(
        "batch",
        "50 runs of 20 steps at once",
        {"runs": 50, "steps": 20},
        {"runs": 5, "steps": 4},
        lambda n: n["runs"] * n["steps"],
        (_RATE, _CPU, _PEAK, _COMMANDS),
        (*_SERVED, _BARE),
    ),
    Case(
        "wide",
        "200 runs of 50 steps at once",
        {"runs": 200, "steps": 50},
        {"runs": 8, "steps": 3},
        lambda n: n["runs"] * n["steps"],
        (_RATE, _CPU, _PEAK, _COMMANDS),
        (*_ALL, _BARE),
        limit=240,
    ),
    Case(
        "starts",
        "200 runs started while 50 others go on",
        {"runs": 200, "others": 50},
        {"runs": 4, "others": 2},
        lambda n: 2 * n["runs"],
        (*_quantiles("start", "a start"), Figure("together", "each of all together", "ms"), _PEAK),
        _ALL,
    ),
    Case(
        "waiting",
        "1,000 runs that wait for a message or a timer",
        {"runs": 1000, "seconds": 3},
        {"runs": 4, "seconds": 0},
        lambda n: n["runs"] * (n["runs"] + 1) // 2,
        (
            *_quantiles("signal", "a message"),
            Figure("started", "all started", "s"),
            Figure("idle", "processor while they wait", "%"),
            Figure("all", "all told and ended", "s"),
            _PEAK,
        ),
        _ALL,
    ),
    Case(
        "values",
        "steps with results of 1 KB to 3.9 MB",
        {"steps": 10},
        {"steps": 1},
        lambda n: n["steps"] * sum(SIZES) * 1000,
        (
            *(Figure(f"{size} KB.p50", f"{size} KB p50", "ms") for size in SIZES),
            Figure("memory", "memory for each byte and node", "x"),
        ),
        _ALL,
    ),
    Case(
        "late",
        "a late node over 100,000 checkpoints",
        {"checkpoints": 100_000, "steps": 200},
        {"checkpoints": 80, "steps": 4},
        lambda n: n["checkpoints"],
        (
            Figure("released", "held and released", "/s", "more"),
            Figure("restarted", "killed and restarted", "/s", "more"),
        ),
        ("memory-3", "process-3", "disk-3", "before-memory-3", "before-process-3"),
        limit=600,
        rounds=1,
    ),
    Case(
        "recovery",
        "from SIGKILL of everything to the first new step",
        {"kills": 3},
        {"kills": 1},
        lambda n: n["kills"],
        (Figure("recovery.p50", "median", "s"), Figure("recovery.max", "worst", "s")),
        ("process-*", "disk-*", "before-process-*", "before-disk-*", "restate-1", "dbos-sqlite"),
    ),
    Case(
        "kills",
        "one of three nodes killed (or hanging) under 24 runs",
        {"runs": 24, "kills": 10},
        {"runs": 2, "kills": 1},
        lambda n: n["runs"],
        (
            Figure("pause.max", "killed: worst pause", "s"),
            Figure("pause.p50", "median", "s"),
            Figure("hang.max", "hanging: worst pause", "s"),
            Figure("hang.p50", "median", "s"),
        ),
        ("memory-3", "process-3", "disk-3", "before-memory-3", "before-process-3", "before-disk-3", "restate-3"),
        limit=300,
    ),
    Case(
        "long",
        "memory and disk by checkpoints",
        {"checkpoints": 100_000, "steps": 40},
        {"checkpoints": 160, "steps": 20},
        lambda n: n["checkpoints"],
        (
            Figure("memory", "memory for 100,000", "MB"),
            Figure("disk", "disk for 100,000", "MB"),
            Figure("growth", "growth of memory after warm-up", "%"),
        ),
        ("memory-3", "process-3", "disk-3", "before-memory-3", "before-process-3", "restate-1"),
        limit=900,
        rounds=1,
    ),
    Case(
        "idle",
        "nothing to do (this project: five nodes)",
        {"seconds": 8, "settle": 2},
        {"seconds": 0, "settle": 0},
        lambda n: 0,
        (Figure("idle", "processor", "%"),),
        ("memory-3", "process-3", "before-memory-3", "restate-*", "dbos-*"),
    ),
    Case(
        "life",
        "import, `%load_ext`, start and stop",
        {"times": 3},
        {"times": 1},
        lambda n: n["times"],
        tuple(
            Figure(f"{name}.p50", title, "ms")
            for name, title in (
                ("import", "import"),
                ("load", "%load_ext"),
                ("first start", "first start in a kernel"),
                ("start", "start of the nodes"),
                ("stop", "stop"),
            )
        ),
        ("memory-3", "before-memory-3"),
    ),
    Case(
        "command",
        "a command proposed and applied on one node, in the loop alone",
        {"commands": 2000},
        {"commands": 100},
        lambda n: 2 * n["commands"],
        (*_quantiles("command", "alone", "µs"), Figure("amortised", "each, 50 under way", "µs")),
        ("memory-1", "before-memory-1"),
    ),
    Case(
        "growth",
        "what one costs at the largest size over the smallest (up to 20,000 steps, 6,400 races, 2,000 runs)",
        {"percent": 100},
        {"percent": 1},
        lambda n: 7,
        tuple(
            Figure(name, name, "x") for name in ("steps", "runs", "branches", "tasks", "races", "receives", "sleeps")
        ),
        ("memory-3", "before-memory-3"),
        limit=900,
        rounds=1,
    ),
    Case(
        "fan_out",
        "functions that compute for about 50 ms, on all cores",
        {"functions": 60, "rounds": 1_000_000},
        {"functions": 4, "rounds": 1000},
        expected,
        _SPREAD,
        _SPREADING,
    ),
    Case(
        "fan_small",
        "functions that compute for about 2 ms, on all cores",
        {"functions": 600, "rounds": 40_000},
        {"functions": 8, "rounds": 100},
        expected,
        _SPREAD,
        _SPREADING,
    ),
    Case(
        "owners",
        "runs that compute, with three nodes in processes: each done by its owner, or all by the leader, in turns",
        {"functions": 32, "rounds": 1_000_000, "turns": 2},
        {"functions": 4, "rounds": 1000, "turns": 1},
        expected,
        (
            Figure("spread", "by owners", "s"),
            Figure("leader", "by the leader", "s"),
            Figure("part", "part of that time", "x"),
        ),
        ("memory-3",),
        limit=240,
    ),
    Case(
        "dask",
        "a step on Dask, one after another, and the same calls of its client, in turns",
        {"turns": 8},
        {"turns": 1},
        lambda n: (n["turns"] + 1) * 2 * 25,
        (*_quantiles("step", "step"), *_quantiles("bare", "client alone"), Figure("more", "more than it", "ms")),
        ("memory-*", "disk-*"),
    ),
    Case(
        "restore",
        "arrays and a table, in a new kernel: a durable cell is restored, files are read",
        {"megabytes": 1000},
        {"megabytes": 2},
        lambda n: n["megabytes"],
        (
            Figure("there", "the names are bound", "ms"),
            Figure("touched", "every byte was read", "ms"),
            Figure("checked", "digests compared", "ms"),
            Figure("opened", "before: the first cell of the kernel", "ms"),
            Figure("ran", "the first time", "s"),
        ),
        ("disk-1", "parquet", "pickle"),
        limit=300,
    ),
)

BY_NAME: Final = {case.name: case for case in CASES}
