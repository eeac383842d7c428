"""Line and bar charts as SVG, readable on light and dark pages; this module needs no other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 860, 380
LEFT, RIGHT, TOP, BOTTOM = 64, 44, 70, 56

# Colours that can be told apart without seeing colour well, with enough contrast on their page.
_STYLE = """
svg { --page: #ffffff; --ink: #24292f; --faint: #d0d7de; --c0: #0550ae; --c1: #b35900; --c2: #116329; }
@media (prefers-color-scheme: dark) {
  svg { --page: #0d1117; --ink: #e6edf3; --faint: #30363d; --c0: #79c0ff; --c1: #ffa657; --c2: #7ee787; }
}
text { fill: var(--ink); font: 13px system-ui, sans-serif; }
.title { font-size: 15px; font-weight: 600; }
.page { fill: var(--page); }
.grid { stroke: var(--faint); stroke-width: 1; }
.mark { stroke: var(--ink); stroke-width: 1; stroke-dasharray: 4 4; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.own { fill: var(--c0); }
.other { fill: var(--c1); }
.span { stroke: var(--ink); stroke-width: 1.5; }
"""

_BAR, _NAMES, _VALUES = 22, 180, 110
"""The height of a bar's row, and the room left and right of the bars."""


class Line(NamedTuple):
    """A name for the legend, and points (x, y) in the order of x."""

    name: str
    points: Sequence[tuple[float, float]]


def draw(
    title: str, lines: Sequence[Line], *, x_title: str, y_title: str, mark: tuple[float, str] | None = None
) -> str:
    """Return the picture as text. Both axes begin at 0; `mark` is an x with a word to it. At most 3 lines."""
    x_step, x_top = _ticks(max(x for line in lines for x, _ in line.points))
    y_step, y_top = _ticks(max(y for line in lines for _, y in line.points))

    def at(x: float, y: float) -> tuple[float, float]:
        across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return round(LEFT + across * x / x_top, 1), round(HEIGHT - BOTTOM - up * y / y_top, 1)

    parts = _page(title, HEIGHT, LEFT)
    for number in range(round(y_top / y_step) + 1):
        (x0, y), (x1, _) = at(0, number * y_step), at(x_top, 0)
        parts.append(f'<path class="grid" d="M{x0} {y}H{x1}"/>')
        parts.append(f'<text x="{x0 - 8}" y="{y + 4}" text-anchor="end">{number * y_step:,.10g}</text>')
    for number in range(round(x_top / x_step) + 1):
        x, y = at(number * x_step, 0)
        parts.append(f'<text x="{x}" y="{y + 20}" text-anchor="middle">{number * x_step:,.10g}</text>')
    middle, _ = at(x_top / 2, 0)
    parts.append(f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">{escape(x_title)}</text>')
    parts.append(f'<text x="{LEFT - 8}" y="{TOP - 14}" text-anchor="end">{escape(y_title)}</text>')
    if mark is not None:
        x, y = at(mark[0], 0)
        parts.append(f'<path class="mark" d="M{x} {y}V{TOP}"/>')
        parts.append(f'<text x="{x + 6}" y="{TOP + 12}">{escape(mark[1])}</text>')
    place = LEFT
    for number, line in enumerate(lines):
        way = " ".join(f"{x},{y}" for x, y in (at(*point) for point in line.points))
        parts.append(f'<polyline class="line" style="stroke: var(--c{number})" points="{way}"/>')
        parts.append(f'<path class="line" style="stroke: var(--c{number})" d="M{place} 44h22"/>')
        parts.append(f'<text x="{place + 28}" y="48">{escape(line.name)}</text>')
        place += 60 + round(7.2 * len(line.name))
    parts.append("</svg>\n")
    return "\n".join(parts)


class Bar(NamedTuple):
    """A row: its name, its value with what is written behind it, the spread of the value, and whether it is ours."""

    name: str
    value: float
    shown: str
    least: float
    most: float
    own: bool


def bars(title: str, panels: Sequence[tuple[str, Sequence[Bar]]]) -> str:
    """Return the picture as text: panels below each other, each with a title, its bars and a scale of its own that begins at 0."""
    height = 48 + sum(34 + _BAR * len(rows) for _, rows in panels)
    parts = _page(title, height, 16)
    y = 52
    for name, rows in panels:
        parts.append(f'<text x="16" y="{y + 6}" style="font-weight: 600">{escape(name)}</text>')
        y += 16
        scale = (WIDTH - _NAMES - _VALUES) / max(max(row.value, row.most) for row in rows)
        for row in rows:
            wide, middle = round(scale * row.value, 1), y + _BAR / 2
            end = round(_NAMES + scale * max(row.value, row.most) + 8, 1)
            kind = "own" if row.own else "other"
            parts.append(f'<text x="{_NAMES - 8}" y="{middle + 4.5}" text-anchor="end">{escape(row.name)}</text>')
            parts.append(f'<rect class="{kind}" x="{_NAMES}" y="{y + 3}" width="{wide}" height="{_BAR - 7}"/>')
            if row.least < row.most:
                least, most = (round(_NAMES + scale * at, 1) for at in (row.least, row.most))
                parts.append(f'<path class="span" d="M{least} {middle - 0.5}H{most}"/>')
            parts.append(f'<text x="{end}" y="{middle + 4.5}">{escape(row.shown)}</text>')
            y += _BAR
        y += 18
    parts.append("</svg>\n")
    return "\n".join(parts)


def _page(title: str, height: int, left: int) -> list[str]:
    """Return the beginning of a picture: its page and its title."""
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">',
        f"<style>{_STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}"/>',
        f'<text class="title" x="{left}" y="24">{escape(title)}</text>',
    ]


def _ticks(most: float) -> tuple[float, float]:
    """Return the distance of round numbers, five or so, and the first of them that is at least `most`."""
    rough = max(most, 1e-9) / 5
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * size for factor in (1, 2, 5, 10) if factor * size >= rough)
    return step, step * math.ceil(most / step - 1e-9) or step
