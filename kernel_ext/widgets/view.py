"""The live view: an anywidget that gets one snapshot at a time and draws it (in `static/view.mjs`).

Needs ipywidgets and anywidget; whoever imports this module does so only when a view is asked for.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

import anywidget
import traitlets
from msgspec import structs

from raftoral_nb.core.cluster_events import NodeChanged, StepRetrying
from raftoral_nb.core.records import RunId, StepId

from ..shown.display import Shown, cluster_picture
from .coalescer import Coalescer
from .details import Details
from .doer import Doer
from .scripts import STATIC, bundled
from .shells import beside_a_cell, hear_where_sent
from .snapshot import snapshot, taken, unsettled

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftoral_nb import Cluster
    from raftoral_nb.core.events import ClusterEvent
    from raftoral_nb.core.statistics import ClusterLook, ClusterStatistics

DEFAULT_RATE: Final = 20.0
"""Snapshots a second, at most."""


MAX_ATTEMPTS_KEPT: Final = 1000
"""Steps that were tried more than once of which it is known how often: the latest."""


class ClusterView(anywidget.AnyWidget):
    """A picture of one cluster that follows it, also while a cell blocks.

    What is clicked is done at once while no cell runs, and while one awaits something (ipykernel 7.4). While one blocks it is done
    at once if the front end sends it through a subshell, as JupyterLab does (ipykernel 7), and else when the cell has ended.

    `do(line)` carries out what is asked for in the page, and returns what to say of it.
    `refresh` is the largest number of snapshots a second. It lives until the cluster stops (the last picture then stays,
    and says so) or until `close`. Several displays of one view show the same.
    """

    _esm = bundled()
    _css = STATIC / "view.css"

    snapshot = traitlets.Dict(help="what is drawn; see kernel_ext/widgets/snapshot.py").tag(sync=True)
    details = traitlets.Dict(help="of runs that are opened in the page; see kernel_ext/widgets/details.py").tag(
        sync=True
    )
    code = traitlets.Dict(help="the text of their workflows; see kernel_ext/widgets/details.py").tag(sync=True)

    def __init__(self, cluster: Cluster, do: Callable[[str], str], refresh: float = DEFAULT_RATE) -> None:
        # ipywidgets' own locks are not made for threads: whoever sets a trait or handles a message holds this one.
        self._lock = threading.RLock()
        self._cluster = cluster
        self._number = 0
        self._stopped = False
        self._ended = False
        self._attempts: dict[tuple[RunId, StepId], int] = {}
        for _, event in cluster.history():
            self._heed(event)
        self._alive = taken(cluster)
        self._details = Details(cluster)
        self._doer = Doer(do, self._answer)
        super().__init__(snapshot=self._next(self._alive))
        hear_where_sent(self.comm)
        self.on_msg(self._asked)
        self._coalescer = Coalescer(self._paint, refresh)
        self._unsubscribe = cluster.subscribe(self._happened)
        # Whatever happened between the first look and the subscription is seen by this second look.
        self._coalescer.poke()

    @property
    def cluster(self) -> Cluster:
        """The cluster it shows."""
        return self._cluster

    @property
    def closed(self) -> bool:
        """True once it is closed: it cannot be shown again."""
        return self.comm is None

    def still(self) -> Shown:
        """The picture as it is now, with the live view where widgets can be shown."""
        return cluster_picture(self._statistics(), None if self.closed else self.model_id)

    def end(self) -> None:
        """Draws the last picture and follows the cluster no more; its displays stay, and say that it stopped. Idempotent."""
        self._unsubscribe()
        self._coalescer.close()
        with self._lock:
            if not self._ended:
                self._ended = self._stopped = True
                self._set(self._look())

    def close(self) -> None:
        """Ends it and removes its displays from the page. Idempotent."""
        # ipywidgets calls this from __del__ too, also of a view whose construction failed half way.
        if getattr(self, "_unsubscribe", None) is not None and not self.closed:
            self.end()
        super().close()

    def __repr__(self) -> str:
        return f"ClusterView({self._cluster.name})"

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.still()._repr_mimebundle_(), {}

    def _handle_msg(self, msg: dict[str, Any]) -> None:
        with self._lock:
            super()._handle_msg(msg)

    def _happened(self, event: ClusterEvent) -> None:
        """Runs on the cluster's observer thread: only notes that there is something to draw."""
        if isinstance(event, NodeChanged) and event.change == "stopped":
            self._stopped = True  # only a cluster that stops says this of its nodes
        self._heed(event)
        self._coalescer.poke()

    def _heed(self, event: ClusterEvent) -> None:
        """Keeps what no look tells: how often a step's function was called."""
        if isinstance(event, StepRetrying):
            self._attempts.pop((event.run_id, event.step_id), None)
            while len(self._attempts) >= MAX_ATTEMPTS_KEPT:
                del self._attempts[next(iter(self._attempts))]
            self._attempts[event.run_id, event.step_id] = event.attempt + 1

    def _asked(self, _: object, content: object, __: object) -> None:
        """A message of the page, in the kernel's main thread or that of a subshell.

        It is `{"do": line, "task": id}`, `{"open": [run, ...]}`, or `{"look": true}` for the next snapshot though nothing happened.
        """
        match content:
            case {"do": str(line), "task": str(task)}:
                self._doer.ask(task, line, beside=beside_a_cell())
            case {"look": True}:
                self._coalescer.poke()
            case {"open": list(runs)}:
                with self._lock:
                    self._details.open([run for run in runs if isinstance(run, str)])
                self._coalescer.poke()
                if self._ended:
                    self._set(self._look())
            case _:
                pass  # of a page with other code than ours

    def _answer(self, answer: dict[str, Any]) -> None:
        with self._lock:
            if not self.closed:
                self.send(answer)

    def _statistics(self) -> ClusterStatistics:
        """All of it, for the forms without a script; of a stopped cluster, with its nodes as they were last seen alive."""
        latest = self._cluster.statistics()
        return latest if latest.running else structs.replace(latest, nodes=self._alive.statistics.nodes)

    def _look(self) -> ClusterLook:
        """The cluster now; if it has stopped, with its nodes as they were last seen alive."""
        latest = taken(self._cluster)
        if latest.statistics.running:
            self._alive = latest
        else:
            nodes = self._alive.statistics.nodes
            latest = structs.replace(latest, statistics=structs.replace(latest.statistics, nodes=nodes))
        return latest

    def _paint(self) -> bool:
        look = self._look()
        self._set(look)
        return unsettled(look.statistics) and not self._stopped

    def _set(self, look: ClusterLook) -> None:
        with self._lock:
            if self.closed:
                return
            details, code = self._details.now(), self._details.code
            with self.hold_sync():
                self.snapshot = self._next(look)
                self.details = details
                self.code = code

    def _next(self, look: ClusterLook) -> dict[str, Any]:
        self._number += 1
        return snapshot(look, self._number, stopped=self._stopped, attempts=self._attempts)
