"""The static HTML form of everything shown: for pages without a kernel or widgets. Pure; all text is escaped.

It is plain markup with a few inline styles, and reads well where those are stripped.
"""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING, Final

from . import tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from raftoral_nb.core.statistics import ClusterStatistics

    from .tables import Table

_CELL: Final = "padding:2px 10px;text-align:{align}"


def table_html(table: Table) -> str:
    """The table with its caption."""

    def row(cells: tuple[str, ...], tag: str) -> str:
        scope = ' scope="col"' if tag == "th" else ""
        parts = (
            f'<{tag}{scope} style="{_CELL.format(align="right" if column in table.numbers else "left")}">{escape(cell)}</{tag}>'
            for column, cell in enumerate(cells)
        )
        return f"<tr>{''.join(parts)}</tr>"

    body = "".join(row(cells, "td") for cells in table.rows)
    return (
        f'<table><caption style="text-align:left">{escape(table.caption)}</caption>'
        f"<thead>{row(table.header, 'th')}</thead><tbody>{body}</tbody></table>"
    )


def commands_html(lead: str, groups: Mapping[str, Sequence[tuple[str, str, str]]]) -> str:
    """Commands in groups: each as its name, what it takes, and what it does."""
    cell = f"{_CELL.format(align='left')};vertical-align:top"
    parts = [f'<table><caption style="text-align:left">{escape(lead)}</caption>']
    for group, commands in groups.items():
        parts.append(f'<tbody><tr><th colspan="2" scope="rowgroup" style="{cell}">{escape(group)}</th></tr>')
        for name, takes, does in commands:
            # Lines break between options, and not at their hyphens.
            words = [name, *re.split(r" (?=\[)", takes)] if takes else [name]
            code = " ".join(f'<code style="white-space:nowrap">{escape(word)}</code>' for word in words)
            parts.append(f'<tr><td style="{cell};width:55%">{code}</td><td style="{cell}">{escape(does)}</td></tr>')
        parts.append("</tbody>")
    return f"{''.join(parts)}</table>"


def line_html(text: str) -> str:
    """A sentence, or a few lines."""
    return f"<p>{'<br>'.join(escape(line) for line in text.splitlines())}</p>"


def pre_html(text: str) -> str:
    """Text whose columns matter."""
    return f"<pre>{escape(text)}</pre>"


def cluster_html(statistics: ClusterStatistics) -> str:
    """The whole cluster: its nodes, its runs, its counters."""
    parts = [f"<p><b>{escape(tables.cluster_line(statistics))}</b></p>", table_html(tables.nodes_table(statistics))]
    if statistics.runs:
        parts.append(table_html(tables.runs_table(statistics)))
    if notes := tables.notes(statistics):
        parts.append(line_html("\n".join(notes)))
    parts.append(line_html(f"{tables.workflow_line(statistics)}\n{tables.counter_line(statistics)}"))
    return f'<div class="raftoral-static">{"".join(parts)}</div>'
