"""Notices a workflow that keeps its node's thread busy without awaiting anything.

No polling: a timer on another thread's loop exists only while a workflow runs (and up to the limit longer), at most one per
node. A resumption is the stretch in which an execution takes its turns.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from ..threads.user_code import where_is

if TYPE_CHECKING:
    from types import CodeType

MAX_BUSY_SECONDS: Final = 1.0
"""The time a workflow may run without awaiting anything before it is reported (seconds)."""

_logger: Final = logging.getLogger(__name__)


class Blocked(NamedTuple):
    """A run that keeps its node's thread busy, and where it did when that was noticed ("file:line in function")."""

    run_id: str
    where: str


Resumption = tuple[float, str, str | None, int]
"""One resumption: since when, whose, the file of its workflow, and the ident of the thread. Plain, as there is one for each turn."""


class Watchdog:
    """The watchdog over the workflows of one node, all of which run on one thread.

    `arm(seconds, callback)` must call `callback` once after that time, from another thread than the node's; it is
    called from the node's thread and from callbacks. `clock` gives seconds and never goes back. `report(run_id, where)`
    is called from the callback, once per blocked resumption; `cleared(run_id)` on the node's thread when that
    resumption ends, never before its `report` has returned, so `report` must not wait for the node's thread. Exceptions
    of both are logged. Frames outside of the innermost frame of `driver` are none of the workflow's.
    """

    def __init__(
        self,
        arm: Callable[[float, Callable[[], None]], object],
        clock: Callable[[], float],
        report: Callable[[str, str], object],
        cleared: Callable[[str], object],
        *,
        limit: float = MAX_BUSY_SECONDS,
        driver: CodeType | None = None,
    ) -> None:
        self._driver = driver
        self._arm = arm
        self._clock = clock
        self._report = report
        self._cleared = cleared
        self._limit = limit
        # The node's thread writes `current` and then reads `armed` and `blocked`; the timer's thread writes one of these and
        # then reads `current`. So at least one of the two sees what the other did, and only then the lock is taken.
        self._current: Resumption | None = None
        self._armed = False
        self._blocked: Blocked | None = None
        self._lock = threading.Lock()

    @property
    def blocked(self) -> Blocked | None:
        """The run that has been reported and still blocks, as (run_id, where)."""
        return self._blocked

    # --- on the node's thread

    def begin(self, run_id: str, file: str | None) -> Resumption | None:
        """Note that code of a run runs on the node's thread from here on, until `end`; `file` is that of its workflow.

        Returns the resumption around this one, to be given to `end` (None unless workflows are nested).
        """
        around = self._current
        self._current = (self._clock(), run_id, file, threading.get_ident())
        if not self._armed:
            self._arm_once(self._limit)
        return around

    def end(self, run_id: str, around: Resumption | None) -> None:
        """Note that the resumption is over."""
        self._current = around
        if self._blocked is not None:
            with self._lock:
                was, self._blocked = self._blocked, None
            if was is not None:
                self._say(self._cleared, run_id)

    # --- on either

    def _arm_once(self, seconds: float) -> None:
        with self._lock:
            if self._armed:
                return
            self._armed = True
        self._arm(seconds, self._fire)

    def _fire(self) -> None:
        self._armed = False
        current = self._current
        if current is None or (left := current[0] + self._limit - self._clock()) <= 0:
            if current is not None:
                self._notice(current)
        else:
            self._arm_once(left)

    def _notice(self, current: Resumption) -> None:
        _, run_id, file, thread = current
        where = where_is(thread, prefer=file, below=self._driver) or "an unknown place"
        with self._lock:  # the end of the resumption waits for it: `cleared` never comes before `report`
            self._blocked = Blocked(run_id, where)
            if self._current is not current:  # it ended while we looked
                self._blocked = None
                return
            self._say(self._report, run_id, where)

    def _say(self, callback: Callable[..., object], *args: str) -> None:
        try:
            callback(*args)
        except Exception:
            _logger.exception("telling about a blocked run failed")
