"""The live view of a terminal: `shown.terminal`'s picture, drawn anew in place whenever something happened.

Needs rich; whoever imports this module does so only when a view is asked for.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from raftoral_nb.core.cluster_events import NodeChanged

from ..shown.terminal import picture
from .coalescer import Coalescer
from .snapshot import taken, unsettled

if TYPE_CHECKING:
    from raftoral_nb import Cluster
    from raftoral_nb.core.events import ClusterEvent

HINT = "Ctrl-C ends the view; the cluster keeps running"


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
