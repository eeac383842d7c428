"""The picture of a cluster for a terminal: what `text.py` says, and the ends of the logs, in colour. Pure.

Needs rich; whoever imports this module does so only when a view is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from . import tables, waiting

if TYPE_CHECKING:
    from raftoral_nb.core.statistics import ClusterLook

    from .tables import Table

ENTRIES_SHOWN = 6
"""The last entries of each log."""


def picture(look: ClusterLook) -> Group:
    """The cluster as it is in this look."""
    statistics = look.statistics
    parts: list[Any] = [Text(tables.cluster_line(statistics), style="bold"), Text()]
    parts.append(_drawn(tables.nodes_table(statistics), {"leader": "bold green", "dead": "red", "candidate": "yellow"}))
    parts.append(Text())
    if statistics.running:
        parts += [_drawn(tables.log_tails(look.logs, statistics, ENTRIES_SHOWN), {}), Text()]
    if statistics.runs:
        parts += [_drawn(tables.runs_table(statistics), {"completed": "green", "held": "bold red"}), Text()]
        if (waits := waiting.waits_table(statistics, look.time)).rows:
            parts += [_drawn(waits, {"nothing can wake it": "bold red"}), Text()]
    more = tables.omitted_line(look.omitted)
    if more:
        parts.append(Text(more))
    parts.append(Text(f"{tables.workflow_line(statistics)}\n{tables.counter_line(statistics)}", style="dim"))
    return Group(*parts)


def _drawn(table: Table, styles: dict[str, str]) -> RichTable:
    drawn = RichTable(title=table.caption, title_justify="left", title_style="dim", box=None, pad_edge=False)
    for column, name in enumerate(table.header):
        drawn.add_column(name, justify="right" if column in table.numbers else "left", overflow="fold")
    for row in table.rows:
        # The words say it all; colour only helps to find them.
        drawn.add_row(*(Text(cell, style=styles.get(cell.partition(":")[0], "")) for cell in row))
    return drawn
