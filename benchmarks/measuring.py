"""What the processes that measure share: clocks, processor time, memory, disk, and the line that says what was found.

It runs in the environments of all sides, so it needs nothing but the standard library. Processor time and memory of other processes are
read from `/proc`; where there is none, only those of this process are told.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

MARK: Final = "FOUND "
"""The beginning of the line on which a process says what it found."""
_PROC: Final = Path("/proc")
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass
class Found:
    """The findings of one process: what the work gave, durations by name (seconds), and single figures by name."""

    result: Any = None
    series: dict[str, list[float]] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """Points of what is drawn, by the name of the line."""
    absent: str = ""
    """The reason why this side cannot do the case; nothing else counts then."""

    def say(self) -> None:
        """Print it for the runner."""
        print(f"\n{MARK}{json.dumps(asdict(self))}", flush=True)


def heard(output: str) -> Found | None:
    """Return what a process said, or None if it said nothing."""
    said = [line.removeprefix(MARK) for line in output.splitlines() if line.startswith(MARK)]
    return Found(**json.loads(said[-1])) if said else None


def quantile(values: Iterable[float], share: float) -> float:
    """Return what this share of the values does not exceed; there must be at least one."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def family(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    found = [pid]
    for one in found:
        for task in sorted(_PROC.glob(f"{one}/task/*/children")):
            try:
                found += map(int, task.read_text().split())
            except OSError:  # it has ended meanwhile
                continue
    return found


def processor_seconds(pids: Iterable[int] = ()) -> float:
    """Return what this process and those have used so far, with their descendants that live."""
    total = time.process_time()
    for pid in {one for root in pids for one in family(root)} - {os.getpid()}:
        try:
            after_name = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += (int(after_name[11]) + int(after_name[12])) / _TICKS
    return total


def peak_bytes(pids: Iterable[int] = ()) -> int:
    """Return the most that this process had in memory, and each of those with their descendants, added up."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return most + sum(_status(pid, "VmHWM") for pid in {one for root in pids for one in family(root)} - {os.getpid()})


def resident_bytes(pids: Iterable[int] = ()) -> int:
    """Return what this process has in memory now (Linux; elsewhere the most it had), and those with their descendants."""
    own = _status(os.getpid(), "VmRSS") or peak_bytes()
    return own + sum(_status(pid, "VmRSS") for pid in {one for root in pids for one in family(root)} - {os.getpid()})


def _status(pid: int, name: str) -> int:
    try:
        lines = (_PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)


def disk_bytes(folder: Path) -> int:
    """Return the size of all files of a folder that are there now, as they are stored (holes count nothing)."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_blocks * 512 if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


@dataclass
class Spent:
    """The time and the processor time of a stretch of work, in seconds; set when it ends."""

    seconds: float = 0.0
    processor: float = 0.0


@contextmanager
def spent(pids: Iterable[int] = ()) -> Iterator[Spent]:
    """Measure a stretch of work, of this process and those with their descendants."""
    pids = tuple(pids)
    stretch = Spent()
    before = processor_seconds(pids)
    begun = time.perf_counter()
    yield stretch
    stretch.seconds = time.perf_counter() - begun
    stretch.processor = processor_seconds(pids) - before


@dataclass(frozen=True)
class Task:
    """What a process is asked to measure: a case with its numbers, and how its side is set up."""

    case: str
    numbers: dict[str, int]
    side: dict[str, Any]
    scratch: str
    """An empty folder that the runner removes afterwards."""

    @classmethod
    def given(cls) -> Task:
        """Return the task that the command line names."""
        return cls(**json.loads(sys.argv[1]))
