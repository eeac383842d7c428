"""Rounds: the sides of a case take turns, each in a process of its own, and each must have computed the same."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.cases import Case, Numbers
from benchmarks.environments import HERE, Absent, Environments, Ready
from benchmarks.measuring import Found, Task, heard, quantile
from benchmarks.sides import Side, matches


@dataclass
class Measured:
    """What the rounds of one side gave: its figures by round, its durations of all rounds, or why there is nothing."""

    version: str = ""
    figures: list[dict[str, float]] = field(default_factory=list)
    """Those of each round; the quantiles of a series are among them, as `NAME.p50`, `NAME.p99` and `NAME.max`."""
    series: dict[str, list[float]] = field(default_factory=dict)
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """Those of the last round."""
    absent: str = ""
    """Why it could not be set up, or cannot do the case."""
    failed: str = ""
    """What went wrong."""

    def add(self, found: Found) -> None:
        """Take what one round gave."""
        figures = dict(found.figures)
        for name, values in found.series.items():
            figures |= {
                f"{name}.p50": quantile(values, 0.5),
                f"{name}.p99": quantile(values, 0.99),
                f"{name}.max": max(values),
            }
            self.series.setdefault(name, []).extend(values)
        self.figures.append(figures)
        self.curves = found.curves or self.curves

    def figure(self, name: str) -> float | None:
        """Return a figure: the median of the rounds; of series the quantile of all rounds together. None if it was not measured."""
        series, dot, share = name.rpartition(".")
        if dot and series in self.series:
            values = self.series[series]
            return max(values) if share == "max" else quantile(values, float(share[1:]) / 100)
        values = [one[name] for one in self.figures if name in one]
        return statistics.median(values) if values else None


@dataclass(frozen=True)
class Ratio:
    """One side's figure over another's: the median of the rounds, and its spread."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        if self.least == self.most:
            return f"{self.median:.2f}"
        return f"{self.median:.2f} ({self.least:.2f}-{self.most:.2f})"


Results = dict[str, dict[str, Measured]]
"""What was measured, by the names of case and side."""


def ratio(of: Measured, to: Measured, name: str) -> Ratio | None:
    """Return one side's figure over another's, round by round; None if they have none in common."""
    pairs = zip(of.figures, to.figures, strict=False)
    ratios = sorted(a[name] / b[name] for a, b in pairs if name in a and b.get(name))
    return Ratio(statistics.median(ratios), ratios[0], ratios[-1]) if ratios else None


@dataclass
class Rounds:
    """The runner of rounds."""

    environments: Environments
    rounds: int = 1
    smoke: bool = False
    scratch: Path | None = None
    """Where the folders of the sides are made; the system's folder for temporary files if None."""

    def measure(self, cases: Sequence[Case], sides: Sequence[Side]) -> Iterator[tuple[Case, dict[str, Measured]]]:
        """Measure case after case; the sides of each take turns, round after round."""
        for case in cases:
            numbers = self.numbers(case)
            found = {side.name: Measured() for side in sides if matches(side.name, case.sides)}
            rounds = min(self.rounds, case.rounds)
            for number in range(rounds):
                for side in sides:
                    measured = found.get(side.name)
                    if measured is None or measured.absent or measured.failed:
                        continue
                    say(f"{case.name}: round {number + 1} of {rounds}: {side.name}")
                    self._take(case, numbers, side, measured)
            say("")
            yield case, found

    def numbers(self, case: Case) -> Numbers:
        """Return how often and how many."""
        return case.smoke if self.smoke else case.numbers

    def _take(self, case: Case, numbers: Numbers, side: Side, measured: Measured) -> None:
        try:
            ready = self.environments.of(side)
        except Absent as reason:
            measured.absent = str(reason)
            return
        measured.version = ready.version
        found = run(case, numbers, side, ready, self.scratch)
        if isinstance(found, str):
            measured.failed = found
        elif found.absent:
            measured.absent = found.absent
        elif found.result != case.result(numbers):
            measured.failed = f"it computed {found.result!r}, and not {case.result(numbers)!r}"
        else:
            measured.add(found)


def run(case: Case, numbers: Numbers, side: Side, ready: Ready, scratch: Path | None = None) -> Found | str:
    """Have one side measure a case once, in a process of its own; returns what it found, or what went wrong."""
    with tempfile.TemporaryDirectory(prefix="raftoral-bench-", dir=scratch, ignore_cleanup_errors=True) as folder:
        # Only `benchmarks` is on the path, not the checkout around it: another build must not get this one's modules.
        path, work = Path(folder) / "path", Path(folder) / "work"
        path.mkdir()
        work.mkdir()
        (path / HERE.name).symlink_to(HERE)
        task = Task(case.name, dict(numbers), side.options | ready.options, str(work))
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join((str(path), *ready.path)),
            "PYTHONDONTWRITEBYTECODE": "1",
            "JUPYTER_RUNTIME_DIR": str(Path(folder) / "runtime"),
        }
        output, errors = Path(folder) / "output", Path(folder) / "errors"
        with output.open("w") as out, errors.open("w") as err:
            process = subprocess.Popen(
                [ready.python, "-P", "-m", side.module, json.dumps(vars(task))],
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
            code = _ended(process, case.limit)
        if code is None:
            return f"it had not ended after {case.limit} s"
        found = heard(output.read_text("utf-8", errors="replace"))
        if found is None:
            said = [line for line in errors.read_text("utf-8", errors="replace").splitlines() if line.strip()]
            return f"it ended with {code} and found nothing: {said[-1].strip() if said else 'it said nothing'}"
        return found


def _ended(process: subprocess.Popen[bytes], limit: float) -> int | None:
    """Wait for a process and what it has started; returns how it ended, or None if it had to be ended."""
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        return None
    finally:
        # Whatever it started is in its session; a server that it left behind would disturb the next side.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(0.05)


def say(progress: str) -> None:
    """Show what is being measured, where somebody watches."""
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns - 1
        print(f"\r\x1b[K{progress[:width]}", end="", file=sys.stderr, flush=True)
