"""What was measured, as text, as JSON and as pictures."""

from __future__ import annotations

import datetime as dt
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.cases import BY_NAME, Case, Numbers
from benchmarks.curve import Bar, Line, bars, draw
from benchmarks.rounds import Measured, Results, ratio
from benchmarks.sides import SIDES
from benchmarks.targets import RESTATE, Verdict

_PANELS: Final = ("step", "one", "batch")
"""The cases of the picture of speed; of each the main figure."""
_DRAWN: Final = {
    "memory-3": "here, memory, 3 nodes",
    "process-3": "here, process, 3 nodes",
    "disk-3": "here, disk, 3 nodes",
    "disk-1": "here, disk, 1 node",
    "restate-1": "Restate, 1 node",
    "restate-3": "Restate, 3 nodes",
    "dbos-sqlite": "DBOS, SQLite",
    "dbos-postgres": "DBOS, PostgreSQL",
}


def busy() -> str:
    """Return a warning if the machine does so much else that times mean little, else nothing."""
    load, processors = os.getloadavg()[0], os.cpu_count() or 1
    if load < processors:
        return ""
    return f"The load is {load:.1f} on {processors} processors: something else runs. Only processor times and counts mean much now.\n"


def machine() -> str:
    """Return what it was measured on."""
    return (
        f"CPython {platform.python_version()}, {os.cpu_count()} processors, {platform.machine()}, "
        f"load {os.getloadavg()[0]:.1f}, {dt.datetime.now(dt.UTC):%Y-%m-%d}"
    )


def table(case: Case, numbers: Numbers, found: dict[str, Measured]) -> str:
    """Return a case as a table: a row for each side, and why some have nothing. Main figures are also compared."""
    shown = [one for one in case.figures if any(side.figure(one.name) is not None for side in found.values())]
    good = {name: side for name, side in found.items() if side.figures}
    lines = [f"{case.title} ({', '.join(f'{value:,} {name}' for name, value in numbers.items())})"]
    if good:
        main = case.figures[0]
        others = any(_earlier(name) in good for name in good), RESTATE in good
        head = ["", *(one.title for one in shown), *_if(others, f"{main.title} ÷ before", f"÷ {RESTATE}")]
        rows = [head]
        for name, side in good.items():
            cells = [name]
            for one in shown:
                value = side.figure(one.name)
                cells.append("" if value is None else one.shown(value))
            cells += _if(others, *(_compared(good, name, to, main.name) for to in (_earlier(name), RESTATE)))
            rows.append(cells)
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        lines += ["  ".join((f"  {row[0]:{widths[0]}}", *map(str.rjust, row[1:], widths[1:]))).rstrip() for row in rows]
    for name, side in found.items():
        if side.absent:
            lines.append(f"  {name}: absent: {side.absent}")
        elif side.failed:
            lines.append(f"  {name}: FAILED: {side.failed}")
    return "\n".join(lines)


def _if(which: tuple[bool, bool], first: str, second: str) -> list[str]:
    return [text for text, wanted in zip((first, second), which, strict=True) if wanted]


def _earlier(name: str) -> str:
    return f"before-{name}"


def _compared(found: dict[str, Measured], name: str, to: str, figure: str) -> str:
    if to not in found or to == name:
        return ""
    compared = ratio(found[name], found[to], figure)
    return "" if compared is None else str(compared)


def sides_of(results: Results) -> str:
    """Return what was compared: the version of each side, and what it has synced to disk when a step counts as done."""
    versions = {name: one.version for sides in results.values() for name, one in sides.items() if one.version}
    named = [side for side in SIDES if side.name in versions]
    return "\n".join(f"  {side.name:18} {versions[side.name]}; syncs {side.syncs}" for side in named)


def as_data(results: Results, verdicts: Sequence[Verdict], rounds: int) -> dict[str, Any]:
    """Return everything as plain data. Times are in seconds, sizes in bytes."""
    cases = {
        case: {
            name: {
                "version": one.version,
                "figures": {figure.name: one.figure(figure.name) for figure in BY_NAME[case].figures},
                "rounds": one.figures,
                **({"absent": one.absent} if one.absent else {}),
                **({"failed": one.failed} if one.failed else {}),
            }
            for name, one in sides.items()
        }
        for case, sides in results.items()
    }
    return {
        "machine": machine(),
        "rounds": rounds,
        "cases": cases,
        "targets": [{"target": str(one).strip(), "met": one.met, "margin": one.margin} for one in verdicts],
    }


def pictures(results: Results) -> dict[str, str]:
    """Return the pictures that can be drawn, by the names of their files."""
    drawn: dict[str, str] = {}
    panels = []
    for name in _PANELS:
        rows = _bars(name, results.get(name, {}))
        if rows:
            main = BY_NAME[name].figures[0]
            better = "more is better" if main.better == "more" else "less is better"
            panels.append((f"{BY_NAME[name].title}: {main.title}, {main.unit} ({better})", rows))
    if panels:
        drawn["speed.svg"] = bars("Durable steps, side by side", panels)
    memory = _curves(results, "long")
    if memory:
        title = "Memory of a cluster of three nodes"
        drawn["memory.svg"] = draw(title, memory, x_title="checkpoints", y_title="MB")
    growth = _curves(results, "growth")
    if growth:
        title = "Processor time for each race, receive and sleep in one run"
        drawn["growth.svg"] = draw(title, growth, x_title="how many in the run", y_title="ms")
    return drawn


def _curves(results: Results, case: str) -> list[Line]:
    side = results.get(case, {}).get("memory-3")
    return [] if side is None else [Line(name, points) for name, points in side.curves.items()][:3]


def _bars(case: str, sides: dict[str, Measured]) -> list[Bar]:
    main = BY_NAME[case].figures[0]
    rows = []
    for name, title in _DRAWN.items():
        values = [one[main.name] for one in sides[name].figures if main.name in one] if name in sides else []
        if values:
            middle = statistics.median(values)
            own = not name.startswith(("restate", "dbos"))
            rows.append(Bar(title, middle, main.shown(middle), min(values), max(values), own))
    return rows


def write_pictures(results: Results, folder: Path) -> list[str]:
    """Write the pictures into a folder; returns their names."""
    drawn = pictures(results)
    for name, picture in drawn.items():
        (folder / name).write_text(picture, encoding="utf-8")
    return sorted(drawn)
