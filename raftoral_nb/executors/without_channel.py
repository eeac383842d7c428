"""What a function has that runs where nothing can be passed on to its node while it runs."""

from __future__ import annotations

import threading
from typing import Final

from ..errors import WrongTaskError
from .step_work import Answered, Checkpoint, Said, SavedValue

MAX_SAID: Final = 1000
"""Lines of output that come back with an answer, the last ones."""


class WithoutChannel:
    """A `Channel` that leads nowhere: what the function prints comes with its outcome, and it saves nothing."""

    spacing = 0.0

    def __init__(self) -> None:
        self._said: list[Said] = []
        self._lock = threading.Lock()

    def __call__(self, said: Said) -> None:
        """Keep what it prints."""
        if said.kind in ("stdout", "stderr", "log"):
            with self._lock:
                self._said.append(said)
                del self._said[:-MAX_SAID]

    def save(self, checkpoint: Checkpoint, answered: Answered) -> None:  # noqa: ARG002
        """Raise `WrongTaskError`."""
        raise WrongTaskError(
            "current_step().checkpoint() has no way to the node from here: this executor passes nothing on while a function runs, and the "
            "node's own socket cannot be reached, as from another machine. Leave on= out, take an executor that can "
            '(on="processes", Dask, Ray, pools on the node\'s machine), or make several steps of it'
        )

    def kept(self) -> SavedValue | None:
        """Nothing is kept."""
        return None

    def said(self) -> tuple[Said, ...]:
        """Return what it printed."""
        with self._lock:
            return tuple(self._said)
