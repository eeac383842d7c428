"""What is told of durable cells, in words and as a table. Pure."""

from __future__ import annotations

import re
import time
from html import escape
from typing import TYPE_CHECKING, Final

from raftoral_nb.core.sizes import size_words

from .display import Shown, notice
from .html import table_html
from .tables import Table
from .text import table_text
from .words import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from raftoral_nb.cells.cell_records import CellRecord, DamagedCell

MAX_NAMES: Final = 6
"""Names that a sentence lists; of more it says how many there are."""

_STYLE: Final = (
    "margin:2px 0;padding:1px 8px;border-left:3px solid {bar};"
    "color:var(--jp-ui-font-color2,GrayText);font-size:var(--jp-ui-font-size1,13px)"
)
_QUOTED: Final = re.compile("`([^`]*)`")
_PLAIN: Final = "var(--jp-border-color1,#9e9e9e)"
_DONE: Final = "var(--jp-success-color1,#388e3c)"
_WARNED: Final = "var(--jp-warn-color1,#f57c00)"


def begins(why: Sequence[str], notes: Sequence[str], interrupted: str = "") -> Shown | None:
    """What is said before a cell runs; None if there is nothing to say."""
    lines = [f"runs again, as {', '.join(why)}"] if why else []
    if interrupted:
        lines.append(interrupted)
    return _line([*lines, *notes], _WARNED if notes else _PLAIN) if lines or notes else None


def interruption(began: float) -> str:
    """The sentence about a cell in which the kernel ended."""
    return f"the kernel ended while this cell ran, which had begun at {clock(began)}"


def recorded(record: CellRecord, changed: Sequence[str], unsteady: Sequence[str] = ()) -> Shown:
    """What was recorded of a cell that ran."""
    first = f"ran {duration(record.seconds)}; recorded {_what(record)}"
    lost = [one for one in record.lost if not one.quiet]
    lines = [first + (f"; changed {listed(changed)}" if changed else "")]
    for one in lost:
        where = f" (line {one.line})" if one.line else ""
        lines.append(f"not recorded: `{one.name}`{where}, {one.why}")
    lines += [
        f"`{name}` has another pickle each time: if this cell changed it, that was not seen, and is not recorded"
        for name in unsteady
    ]
    return _line(lines, _WARNED if lost or unsteady else _DONE)


def restored(record: CellRecord, notes: Sequence[str]) -> Shown:
    """What was restored of a cell that did not run."""
    lines = [f"restored {_what(record)}, from {clock(record.began)}; ran {duration(record.seconds)} then", *notes]
    lines += [f"not there: `{one.name}`, {one.why}" for one in record.lost if not one.quiet]
    return _line(lines, _WARNED if len(lines) > 1 else _DONE)


def failed(changed: Sequence[str]) -> Shown:
    """A cell that failed or was interrupted."""
    words = "nothing is recorded of this cell, as it did not end"
    if changed:
        words += f". It has changed {listed(changed)}: run the cells that make {'it' if len(changed) == 1 else 'them'} again, or Run All"
    return _line([words], _WARNED)


def not_recorded(problem: str) -> Shown:
    """A cell that ran, and of which nothing could be recorded."""
    return _line([problem], _WARNED)


def missing(sentences: Sequence[str]) -> Shown:
    """Names that an ordinary cell reads, and that were not restored."""
    return _line(sentences, _WARNED)


def damage(cells: Sequence[DamagedCell]) -> Shown:
    """Cells that were restored from files which turned out to be damaged."""
    lines = []
    for one in cells:
        line = f"what was recorded of {one.record.name} is damaged, and was dropped"
        if one.wrong:
            line += f": {listed([f'`{name}`' for name in one.wrong])} {'is' if len(one.wrong) == 1 else 'are'} wrong in memory"
        if one.used_by:
            line += f", and {listed(one.used_by)} used that. Execute {listed([one.record.name, *one.used_by])} again, in this order"
        else:
            line += ". Execute it again, and what used it"
        lines.append(line)
    return _line(lines, _WARNED)


def nameless(folder: str) -> Shown:
    """A kernel that was not told which notebook it runs."""
    words = (
        f"this kernel was not told its notebook's name: it records in {folder}, as all such notebooks of this folder do, whose "
        "cells take each other's place. Set `%config RaftoralMagics.cells_dir = '...'` in each before its first durable cell"
    )
    return _line([words], _WARNED)


def forgotten(name: str) -> Shown:
    """A cell whose record was dropped."""
    return notice(f"cell {name}: its record was dropped, it will run again")


def closed(folder: str) -> Shown:
    """The folder that was let go of."""
    return notice(f"{folder} is closed: another kernel may use it")


def table(records: Mapping[str, CellRecord], folder: str) -> Shown:
    """All recorded cells, those that ran first at the top."""
    if not records:
        return notice("no cell is recorded here yet: begin one with %%durable NAME")
    rows = tuple(
        (name, clock(one.began), duration(one.seconds), listed(one.variables) or "-", size_words(one.size))
        for name, one in records.items()
    )
    header = ("cell", "recorded", "ran", "variables", "size")
    made = Table(f"cells recorded in {folder}", header, rows, frozenset({2, 4}))
    return Shown(table_text(made), table_html(made))


def _what(record: CellRecord) -> str:
    names = record.variables
    if not names:
        return "its output" if record.output is not None else "that it ran"
    words = counted(len(names), "variable")
    if record.size < 1_000_000:
        return words
    return f"{words}, {size_words(record.size)}"


def _line(lines: Sequence[str], bar: str) -> Shown:
    html = "<br>".join(_QUOTED.sub(r"<code>\1</code>", escape(one)) for one in lines)
    return Shown("\n".join(lines), f'<div style="{_STYLE.format(bar=bar)}">{html}</div>')


def listed(names: Sequence[str]) -> str:
    """`a, b and c`; of many the first, and how many more."""
    shown = list(names[:MAX_NAMES])
    more = len(names) - len(shown)
    if more > 0:
        shown.append(f"{more} more")
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)


def clock(moment: float) -> str:
    """A Unix time as the local time of day; with the day, if that was not today."""
    then, today = time.localtime(moment), time.localtime()
    form = "%H:%M" if then[:3] == today[:3] else "%H:%M on %-d %B" if then[0] == today[0] else "%Y-%m-%d %H:%M"
    if "%-d" in form:
        form = form.replace("%-d", str(then.tm_mday))
    return time.strftime(form, then)


def duration(seconds: float) -> str:
    """A time in the words of people: `40 min`, `2 h 5 min`, `2.3 s`, `20 ms`."""
    if seconds < 0.95:
        return f"{max(round(seconds * 1000), 1)} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
