"""An asyncio event loop whose time jumps to the next thing that is due, instead of passing."""

from __future__ import annotations

import asyncio
import asyncio.base_events
import contextvars
from collections.abc import Callable, Coroutine
from heapq import heappop, heappush
from typing import Any, TypeVar, TypeVarTuple, Unpack

from ..errors import InternalError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _Timer(asyncio.TimerHandle):
    """A callback with its time. Made without what a loop in debug mode would note of it: there are very many."""

    __slots__ = ()

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: VirtualClockLoop,
        context: contextvars.Context | None,
    ) -> None:
        self._when = when
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = contextvars.copy_context() if context is None else context
        self._cancelled = False
        self._source_traceback = None
        self._repr = None
        self._scheduled = False


class VirtualClockLoop(asyncio.base_events.BaseEventLoop):
    """An event loop that runs callbacks and tasks in a repeatable order on a clock of its own.

    The clock starts at `start` (seconds).

    When nothing is ready, the clock jumps to the very time of the next timer: one that fired a hair before its time
    would find nothing due, and be set anew for ever. Timers of one time fire in the order in which they were set. No
    sockets, pipes, signals, subprocesses or threads. Code that waits for something that is neither a timer nor a task
    raises `InternalError` instead of hanging.
    """

    def __init__(self, start: float = 1000.0) -> None:
        super().__init__()
        self._now = start
        self._numbers = 0
        # In place of the base class's heap of handles, whose order at equal times is up to the heap.
        self._timers: list[tuple[float, int, _Timer]] = []

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._now

    def jump(self, seconds: float) -> None:
        """Move the clock forward at one go, as if the whole process had been asleep."""
        self._now += seconds

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Call back in the next turn."""
        handle = _Timer(self._now, callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call back when the clock shows `when`."""
        handle = _Timer(when, callback, args, self, context)
        self._numbers += 1
        heappush(self._timers, (when, self._numbers, handle))
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call back after `delay` seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def close(self) -> None:
        """Forget everything that is scheduled."""
        self._timers.clear()
        super().close()

    def _run_once(self) -> None:
        """Run one turn: what is due and what was ready when it began, in order."""
        timers = self._timers
        ready: Any = self._ready  # type: ignore[attr-defined]
        while timers and timers[0][2]._cancelled:
            heappop(timers)
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            if self._find_work(timers[0][0] if timers else None):
                return
            self._now = max(self._now, timers[0][0])
        now = self._now
        while timers and timers[0][0] <= now:
            ready.append(heappop(timers)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def _find_work(self, due: float | None) -> bool:
        """Look for work before the clock moves to `due`, or stands for ever (None).

        Return whether there is something else to do first.
        """
        if due is None:
            raise InternalError("the simulation waits for something that nothing will cause")
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Do nothing: a cancelled timer is passed over when its time comes."""

    def _process_events(self, event_list: list[object]) -> None:
        """Do nothing: there are no events to wait for."""

    def _write_to_self(self) -> None:
        """Do nothing: the loop never sleeps."""


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `await main()` on a new virtual clock and return its result."""
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(main())
