"""What is aimed at, as data: how much of another side's figure a side may take, or how much it may take at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.cases import BY_NAME, Figure
from benchmarks.rounds import Ratio, Results, ratio

RESTATE: Final = "restate-1"


@dataclass(frozen=True)
class Target:
    """One aim: a figure of a side is at most (or, where more is better, at least) `limit` times that of `against`.

    Without `against` the limit is of the figure itself, in seconds, bytes or plain numbers. `stretch` is what would be better still.
    """

    case: str
    figure: str
    side: str
    against: str | None
    limit: float
    stretch: float | None = None

    @property
    def shape(self) -> Figure:
        """How the figure is shown."""
        return next(one for one in BY_NAME[self.case].figures if one.name == self.figure)


TARGETS: Final[Sequence[Target]] = (
    Target("step", "step.p50", "memory-3", RESTATE, 1 / 4, 1 / 6),
    Target("step", "step.p50", "process-3", RESTATE, 1 / 4),
    Target("step", "step.p50", "disk-3", RESTATE, 1 / 2),
    Target("batch", "rate", "memory-3", RESTATE, 8),
    Target("batch", "rate", "process-3", RESTATE, 5),
    Target("batch", "rate", "disk-3", RESTATE, 4),
    Target("one", "run.p50", "memory-3", RESTATE, 1 / 5, 1 / 6),
    Target("one", "run.p50", "process-3", RESTATE, 1 / 4),
    Target("one", "run.p50", "disk-3", RESTATE, 1 / 2),
    Target("step", "step.p50", "memory-3", "before-memory-3", 1 / 2.5),
    Target("batch", "rate", "memory-3", "before-memory-3", 6),
    Target("one", "run.p50", "memory-3", "before-memory-3", 1 / 3),
    Target("wide", "processor", "memory-3", "before-memory-3", 1 / 5),
    Target("step", "processor", "memory-3", "before-memory-3", 1 / 2.5),
    Target("batch", "rate", "memory-1", "before-memory-1", 6),
    # The original, in Rust, says of itself: 30 to 171 µs for a command.
    Target("command", "command.p50", "memory-1", None, 50e-6),
    Target("command", "amortised", "memory-1", None, 30e-6),
    Target("starts", "start.p50", "memory-3", "before-memory-3", 1 / 5),
    Target("starts", "together", "memory-3", "before-memory-3", 1 / 20),
    Target("recovery", "recovery.p50", "process-3", RESTATE, 1),
    Target("late", "released", "memory-3", None, 50_000),
    Target("idle", "idle", "memory-3", None, 0.02),
    Target("values", "memory", "memory-3", None, 1.5),
    Target("growth", "steps", "memory-3", None, 1.5),
    Target("growth", "runs", "memory-3", None, 1.5),
    Target("kills", "pause.max", "memory-3", None, 0.3),
    Target("fan_out", "again", "memory-3", "joblib", 1.15),
    # Where something else runs as well, times of many processes depend on how the system groups them; processor time does not.
    Target("fan_out", "processor", "memory-3", "joblib", 1.15),
    Target("owners", "part", "memory-3", None, 0.6),
    Target("dask", "more", "memory-3", None, 5e-3),
    Target("restore", "touched", "disk-1", "pickle", 1),
    Target("restore", "touched", "disk-1", "parquet", 1),
    Target("long", "growth", "memory-3", None, 0.03),
)


@dataclass(frozen=True)
class Verdict:
    """Whether a target was met: what was found, and by how much it is better than asked (below 1: worse). Nothing if not measured."""

    target: Target
    found: Ratio | float | None

    @property
    def margin(self) -> float | None:
        """The factor by which it is better than the limit; None if it was not measured."""
        if self.found is None:
            return None
        found = self.found.median if isinstance(self.found, Ratio) else self.found
        limit = self.target.limit
        return found / limit if self.target.shape.better == "more" else limit / max(found, 1e-12)

    @property
    def met(self) -> bool | None:
        """Whether it is met; None if it was not measured."""
        return None if self.margin is None else self.margin >= 1

    def __str__(self) -> str:
        target, shape = self.target, self.target.shape
        of = f"{target.case}: {shape.title}, {target.side}"
        few = "at least" if shape.better == "more" else "at most"
        if target.against is None:
            asked = f"{of}: {few} {shape.shown(target.limit)}"
        else:
            asked = f"{of} ÷ {target.against}: {few} {_part(target.limit)}"
        if target.stretch is not None:
            asked += f" (better still: {_part(target.stretch)})"
        if self.margin is None:
            return f"  not measured  {asked}"
        found = str(self.found) if isinstance(self.found, Ratio) else shape.shown(float(self.found or 0))
        word = "met   " if self.met else "MISSED"
        how = f"{self.margin:.2f} times as good as asked" if self.met else f"{1 / self.margin:.2f} times away"
        return f"  {word}        {asked}; found {found}, {how}"


def _part(value: float) -> str:
    return f"{value:g}" if value >= 1 else f"1/{1 / value:g}"


def verdicts(results: Results) -> list[Verdict]:
    """Say of every target what was found."""
    return [Verdict(target, _found(target, results)) for target in TARGETS]


def _found(target: Target, results: Results) -> Ratio | float | None:
    sides = results.get(target.case, {})
    mine = sides.get(target.side)
    if mine is None:
        return None
    if target.against is None:
        return mine.figure(target.figure)
    other = sides.get(target.against)
    return None if other is None else ratio(mine, other, target.figure)
