"""Many pokes, few paints: the clock of the live view."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)

MAX_LOOKS: Final = 10
"""The number of times in a row that it looks again, unpoked, at something that is not settled; the waits double each time."""


class Coalescer:
    """Calls `paint` soon after each `poke`, at most `rate` times a second, from a daemon thread.

    The thread exists only while something is to be painted: with no pokes there is neither a thread nor a timer. `paint`
    returns True if the picture will change once more without a poke (a queue that drains has no event of its own): then it
    is called again, later each time and a bounded number of times, until it returns False. What `paint` raises is logged.
    """

    def __init__(self, paint: Callable[[], bool], rate: float) -> None:
        self._paint = paint
        self._interval = 1.0 / rate
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._pending = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def poke(self) -> None:
        """Asks for a paint. Returns at once; may be called from any thread."""
        with self._lock:
            if self._closed:
                return
            self._pending = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="raftoral-view", daemon=True)
                self._thread.start()
            else:
                self._wake.set()

    def close(self) -> None:
        """Ends it; a paint that has begun is waited for (unless it is the paint that closes). Idempotent."""
        with self._lock:
            self._closed = True
            thread = self._thread
            self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        looks = 0
        while True:
            with self._lock:
                if self._closed or (not self._pending and not looks):
                    self._thread = None
                    return
                if self._pending:
                    looks = 0
                self._pending = False
                self._wake.clear()
            painted = time.monotonic()
            unsettled = self._painted()
            looks = looks + 1 if unsettled and looks < MAX_LOOKS else 0
            # First the pause that keeps the rate; then, if it looks again unpoked, the rest of a longer one, which a poke ends.
            self._rest(painted + self._interval)
            with self._lock:
                wait_more = looks > 1 and not self._pending and not self._closed
            if wait_more:
                self._wake.wait(self._interval * 2 ** (looks - 1))

    def _painted(self) -> bool:
        try:
            return self._paint()
        except Exception:
            _log.exception("the live view could not be painted")
            return False

    def _rest(self, until: float) -> None:
        """Waits until that time of the monotonic clock, or until it is closed; pokes only stay noted."""
        while not self._closed and (left := until - time.monotonic()) > 0:
            self._wake.wait(left)
            if self._wake.is_set() and not self._closed:
                self._wake.clear()
