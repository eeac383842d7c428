"""The live view of a terminal: what `text.py` says, and the ends of the logs, drawn anew in place whenever something happened.

Needs rich; whoever imports this module does so only when a view is asked for.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table as RichTable
from rich.text import Text

from raftoral_nb.model import NodeChanged

from ..widgets.coalescer import Coalescer
from ..widgets.snapshot import taken, unsettled
from . import tables

if TYPE_CHECKING:
    from raftoral_nb import Cluster
    from raftoral_nb.model import ClusterEvent
    from raftoral_nb.statistics import ClusterLook

    from .tables import Table

ENTRIES_SHOWN = 6
"""The last entries of each log."""
HINT = "Ctrl-C ends the view; the cluster goes on"


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


def watch(cluster: Cluster, rate: float, console: Console | None = None) -> None:
    """Draws the cluster, at most `rate` times a second and only when something happened, until Ctrl-C or until it stops.

    The last picture stays where it is. Leaves no thread and no subscription behind.
    """
    ended = threading.Event()
    shown = console or Console()
    with Live(console=shown, auto_refresh=False, vertical_overflow="ellipsis") as live:

        def paint() -> bool:
            look = taken(cluster)
            hint = [] if ended.is_set() else [Text(HINT, style="dim")]
            live.update(Group(picture(look), *hint), refresh=True)
            if not look.statistics.running:
                ended.set()
            return unsettled(look.statistics)

        coalescer = Coalescer(paint, rate)

        def happened(event: ClusterEvent) -> None:
            coalescer.poke()
            if isinstance(event, NodeChanged) and event.change == "stopped":
                ended.set()  # only a cluster that stops says this of its nodes

        unsubscribe = cluster.subscribe(happened)
        try:
            coalescer.poke()
            ended.wait()
        except KeyboardInterrupt:
            ended.set()
        finally:
            unsubscribe()
            coalescer.close()
            paint()
