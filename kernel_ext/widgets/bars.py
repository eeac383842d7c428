"""Progress bars in the page, bound to a replicated variable of a run."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, Final

from raftoral_nb import ClusterError, RaftoralError

from ..shown import html
from ..shown.display import Shown
from ..shown.text import one_line
from .buttons import MAX_LABEL
from .coalescer import Coalescer
from .support import widgets_can_be_shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftoral_nb import Progress, ProgressLook, WorkflowRun

RATE: Final = 10.0
"""Drawings of a bar a second, at most."""
_MAX_WORDS: Final = 2 * MAX_LABEL


def progress_bar(run: WorkflowRun[Any], variable: str, total: float | str | None = None) -> Any:
    """`run.progress(variable, total)` as a bar in the page, which follows the run until it ends; to be shown in a cell.

    Where no widgets can be shown it is a line of text, as it is now. Raises `RunNotFoundError`, and what `run.progress` raises.
    """
    return shown(run.progress(variable, total))


def shown(progress: Progress) -> Any:
    """A live bar where widgets can be shown, else a picture of it."""
    if not widgets_can_be_shown():
        return picture(progress.now())
    from .controls import Control

    bar = _Bar(progress)
    control = Control(lambda: bar.state, picture(progress.now()))
    control.observe(lambda _: bar.close(), names="comm")
    bar.follow(control.draw)
    return control


def picture(look: ProgressLook) -> Shown:
    """The bar as it is at one moment."""
    state = _state(look)
    element = "" if look.fraction is None else f'<progress value="{look.fraction:.4f}" max="1"></progress> '
    rest = " · ".join(part for part in (state["words"], state["note"]) if part)
    return Shown(str(look), f"<p>{_escaped(state['title'])} {element}{_escaped(rest)}</p>")


def _escaped(text: str) -> str:
    return html.line_html(text).removeprefix("<p>").removesuffix("</p>")


def _state(look: ProgressLook) -> dict[str, Any]:
    """The data that is drawn; see `controls`."""
    bad = look.ended and look.status != "completed"
    return {
        "kind": "bar",
        "title": one_line(f"{look.run_id} {look.variable}", _MAX_WORDS),
        "fraction": look.fraction,
        "words": one_line(look.words, _MAX_WORDS),
        "note": look.note,
        "ended": look.ended or look.stopped,
        "tone": "bad" if bad else "good" if look.ended else "",
    }


class _Bar:
    """One bar while its run is not over."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._state = _state(progress.now())
        self._unsubscribe: Callable[[], None] = _nothing
        self._coalescer: Coalescer | None = None

    @property
    def state(self) -> dict[str, Any]:
        """The data that is drawn; see `controls`."""
        with self._lock:
            return dict(self._state)

    def follow(self, drawn: Callable[[], None]) -> None:
        """Call `drawn()` whenever there is another state, from a thread of the coalescer's, until the run ends."""

        def paint() -> bool:
            state = self._look()
            with self._lock:
                changed, self._state = state != self._state, state
            if changed:
                drawn()
            if state["ended"]:
                self.close()
            return False

        self._coalescer = Coalescer(paint, RATE)
        with contextlib.suppress(ClusterError):  # if it has stopped, it is what it was
            self._unsubscribe = self._progress.follow(self._coalescer.poke)
        # Whatever happened between the first look and the subscription is seen by this second look.
        self._coalescer.poke()

    def _look(self) -> dict[str, Any]:
        try:
            return _state(self._progress.now())
        except RaftoralError as problem:  # its records were evicted
            return {**self.state, "note": one_line(str(problem), _MAX_WORDS), "ended": True}

    def close(self) -> None:
        """Follow the run no more. Idempotent."""
        self._unsubscribe()
        if self._coalescer is not None:
            self._coalescer.close()


def _nothing() -> None:
    pass
