"""Notices a workflow that keeps its node's thread busy without awaiting anything.

No polling: a timer on another thread's loop exists only while a workflow runs (and up to the limit longer), at most one per
node. A resumption is the stretch of a coroutine between being resumed and awaiting (or ending).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from ..threads.user_code import where_is

if TYPE_CHECKING:
    from types import CodeType

T = TypeVar("T")

MAX_BUSY_SECONDS: Final = 1.0
"""The time a workflow may run without awaiting anything before it is reported (seconds)."""

_logger: Final = logging.getLogger(__name__)


class Blocked(NamedTuple):
    """A run that keeps its node's thread busy, and where it did when that was noticed ("file:line in function")."""

    run_id: str
    where: str


class _Resumption:
    """One resumption: whose, where, since when."""

    __slots__ = ("began", "file", "run_id", "thread")

    def __init__(self, began: float, run_id: str, file: str | None, thread: int) -> None:
        self.began = began
        self.run_id = run_id
        self.file = file
        self.thread = thread


class Watchdog:
    """The watchdog over the workflows of one node, all of which run on one thread.

    `arm(seconds, callback)` must call `callback` once after that time, from another thread than the node's; it is
    called from the node's thread and from callbacks. `clock` gives seconds and never goes back. `report(run_id, where)`
    is called from the callback, once per blocked resumption; `cleared(run_id)` on the node's thread when that
    resumption ends, never before its `report` has returned, so `report` must not wait for the node's thread. Exceptions
    of both are logged.
    """

    def __init__(
        self,
        arm: Callable[[float, Callable[[], None]], object],
        clock: Callable[[], float],
        report: Callable[[str, str], object],
        cleared: Callable[[str], object],
        *,
        limit: float = MAX_BUSY_SECONDS,
    ) -> None:
        self._arm = arm
        self._clock = clock
        self._report = report
        self._cleared = cleared
        self._limit = limit
        # The node's thread writes `current` and then reads `armed` and `blocked`; the timer's thread writes one of these and
        # then reads `current`. So at least one of the two sees what the other did, and only then the lock is taken.
        self._current: _Resumption | None = None
        self._armed = False
        self._blocked: Blocked | None = None
        self._lock = threading.Lock()

    @property
    def blocked(self) -> Blocked | None:
        """The run that has been reported and still blocks, as (run_id, where)."""
        return self._blocked

    def watched(self, coro: Coroutine[Any, Any, T], run_id: str) -> Watched[T]:
        """Return an awaitable that runs `coro` and notes each of its resumptions.

        It is to be awaited once, on the node's thread.

        Values, exceptions and closing pass through as if `coro` itself were awaited.
        """
        return Watched(self, coro, run_id)

    # --- on the node's thread

    def _enter(self, run_id: str, file: str | None) -> _Resumption | None:
        """Note that a resumption begins.

        Returns the one around it, to be given to `_leave` (None unless workflows are nested).
        """
        around = self._current
        self._current = _Resumption(self._clock(), run_id, file, threading.get_ident())
        if not self._armed:
            self._arm_once(self._limit)
        return around

    def _leave(self, run_id: str, around: _Resumption | None) -> None:
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
        if current is None or (left := current.began + self._limit - self._clock()) <= 0:
            if current is not None:
                self._notice(current)
        else:
            self._arm_once(left)

    def _notice(self, current: _Resumption) -> None:
        where = where_is(current.thread, prefer=current.file, below=_DRIVER) or "an unknown place"
        with self._lock:  # the end of the resumption waits for it: `cleared` never comes before `report`
            self._blocked = Blocked(current.run_id, where)
            if self._current is not current:  # it ended while we looked
                self._blocked = None
                return
            self._say(self._report, current.run_id, where)

    def _say(self, callback: Callable[..., object], *args: str) -> None:
        try:
            callback(*args)
        except Exception:
            _logger.exception("telling about a blocked run failed")


class Watched(Generic[T]):
    """The awaitable that `Watchdog.watched` makes. One that is never awaited leaves its coroutine to be closed or warned about."""

    __slots__ = ("_coro", "_dog", "_run_id")

    def __init__(self, dog: Watchdog, coro: Coroutine[Any, Any, T], run_id: str) -> None:
        self._dog = dog
        self._coro = coro
        self._run_id = run_id

    def close(self) -> None:
        """Close the coroutine, for one that was never awaited."""
        self._coro.close()

    def __await__(self) -> Generator[Any, Any, T]:
        """Drive the coroutine as `await` does (PEP 380), noting when it is entered and left."""
        coro, run_id = self._coro, self._run_id
        enter, leave = self._dog._enter, self._dog._leave
        code = getattr(coro, "cr_code", None)
        file: str | None = code.co_filename if code is not None else None
        value: Any = None
        error: BaseException | None = None
        while True:
            around = enter(run_id, file)
            try:
                if error is None:
                    awaited = coro.send(value)
                elif isinstance(error, GeneratorExit):
                    coro.close()
                    raise error
                else:
                    awaited = coro.throw(error)
            except StopIteration as stop:
                result: T = stop.value
                return result
            finally:
                leave(run_id, around)
                value = error = None  # an exception must not hold itself through this frame
            try:
                value = yield awaited
            except BaseException as thrown:
                error = thrown


_DRIVER: Final[CodeType] = Watched.__await__.__code__
