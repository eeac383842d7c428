"""A bar while a cluster recovers from a data directory, if that lasts: a widget where there are widgets, else text."""

from __future__ import annotations

import contextvars
import threading
from html import escape
from typing import TYPE_CHECKING, Any, Final

from raftoral_nb.core.cluster_events import RecoveryProgress

from ..shown.display import Shown, notice

if TYPE_CHECKING:
    from types import TracebackType

    from raftoral_nb import Cluster
    from raftoral_nb.core.events import ClusterEvent

WIDTH: Final = 30
"""Characters of the bar in text."""

LINE_STEP: Final = 0.1
"""The progress after which another line is written where outputs cannot be replaced (a terminal)."""


def bar_text(fraction: float, text: str) -> str:
    """`recovering [######........] 42%  reading ...`."""
    done = round(WIDTH * fraction)
    return f"recovering [{'#' * done}{'.' * (WIDTH - done)}] {fraction:.0%}  {text}".rstrip()


def bar_html(fraction: float, text: str) -> str:
    """The same with the page's own bar."""
    bar = f'<progress max="1" value="{fraction:.3f}" aria-label="recovering"></progress>'
    return f"<p>recovering {bar} {fraction:.0%} {escape(text)}</p>"


class RecoveryBar:
    """Around a cluster's start: shows how far it has come, each time that the cluster says so, and nothing if it never does."""

    def __init__(self, cluster: Cluster, *, kernel: bool, widgets: bool) -> None:
        self._cluster = cluster
        self._kernel = kernel
        self._widgets = widgets
        self._lock = threading.Lock()
        self._over = False
        self._handle: Any = None
        self._box: Any = None
        self._line = 0.0
        # Outputs of the observer's thread belong to the cell that runs now.
        self._context = contextvars.copy_context()

    def __enter__(self) -> None:
        self._unsubscribe = self._cluster.subscribe(self._happened)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._unsubscribe()
        with self._lock:
            self._over = True
            if self._handle is not None:
                whole = Shown(bar_text(1.0, ""), bar_html(1.0, ""))
                self._handle.update(whole if error is None else notice("recovering: it did not finish"))
            if self._box is not None:
                for one in (*self._box.children, self._box):
                    one.close()

    def _happened(self, event: ClusterEvent) -> None:
        """On the cluster's observer thread."""
        if isinstance(event, RecoveryProgress):
            with self._lock:
                if not self._over:
                    self._context.run(self._show, event)

    def _show(self, event: RecoveryProgress) -> None:
        shown = Shown(bar_text(event.fraction, event.text), bar_html(event.fraction, event.text))
        if not self._kernel:
            if event.fraction >= self._line:
                self._line = event.fraction + LINE_STEP
                _display(shown)
        elif self._box is not None:
            bar, label = self._box.children
            bar.value, label.value = event.fraction, f"{event.fraction:.0%} {event.text}"
        elif self._handle is not None:
            self._handle.update(shown)
        else:
            if self._widgets:
                shown = Shown(shown.plain, shown.html, self._make_box(event).model_id)
            self._handle = _display(shown, display_id=True)

    def _make_box(self, event: RecoveryProgress) -> Any:
        import ipywidgets

        bar = ipywidgets.FloatProgress(value=event.fraction, min=0.0, max=1.0, description="recovering")
        label = ipywidgets.Label(f"{event.fraction:.0%} {event.text}")
        self._box = ipywidgets.HBox([bar, label])
        return self._box


def _display(shown: Shown, **options: Any) -> Any:
    from IPython import display

    show: Any = display.display  # untyped
    return show(shown, **options)
