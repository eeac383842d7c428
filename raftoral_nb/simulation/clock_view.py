"""One node's view of the simulation's clock: it may run fast or slow, and started at a time of its own."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

T = TypeVar("T")


class ViewTimer:
    """A timer set on a `ClockView`; it can be cancelled, as a loop's own can."""

    __slots__ = ("args", "callback", "context", "inner", "view", "when")

    def __init__(
        self,
        view: ClockView,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context | None,
    ) -> None:
        self.view = view
        self.when = when
        self.callback = callback
        self.args = args
        self.context = context
        self.inner: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        """Do not call back."""
        self.view.forget(self)

    def fire(self) -> None:
        """Call back: the loop calls this when the time has come."""
        self.view.reached(self)
        self.callback(*self.args)


class ClockView:
    """The part of an event loop that a node's consensus uses, with `time()` and timers by that node's own clock.

    A second of this clock takes `1 / rate` seconds of the loop's. `set_rate` may be called at any time: the clock continues
    from where it is, and timers that are set move with it. The clock never goes back.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, rate: float = 1.0, start: float | None = None) -> None:
        self._loop = loop
        self._loop_time = loop.time
        self._rate = rate
        self._base = loop.time()
        self._start = self._base if start is None else start
        self._floor = self._start
        self._stopped = False
        # In the order in which they were set, which is the order they are set anew in.
        self._timers: dict[ViewTimer, None] = {}

    @property
    def rate(self) -> float:
        """Seconds of this clock in a second of the loop's."""
        return self._rate

    def set_rate(self, rate: float) -> None:
        """Let the clock run faster or slower from now on."""
        if rate == self._rate:
            return
        self._start = self.time()
        self._base = self._loop.time()
        self._rate = rate
        for timer in self._timers:
            if timer.inner is not None:
                timer.inner.cancel()
            self._set(timer)

    def stop(self) -> None:
        """Let the clock stand still, and its timers with it, until `go_on`. Does nothing if it stands."""
        if not self._stopped:
            self._start = self.time()
            self._stopped = True
            for timer in self._timers:
                if timer.inner is not None:
                    timer.inner.cancel()
                    timer.inner = None

    def go_on(self) -> None:
        """End `stop`: the clock continues from what it shows."""
        if self._stopped:
            self._base = self._loop.time()
            self._stopped = False
            for timer in self._timers:
                self._set(timer)

    def reached(self, timer: ViewTimer) -> None:
        """Note that a timer fires: whatever rounding says, its time has come on this clock."""
        self._floor = max(self._floor, timer.when)
        self.forget(timer)

    def forget(self, timer: ViewTimer) -> None:
        """Take a timer off."""
        if timer.inner is not None:
            timer.inner.cancel()
            timer.inner = None
        self._timers.pop(timer, None)

    def _set(self, timer: ViewTimer) -> None:
        if self._stopped:
            return
        at = self._base + (timer.when - self._start) / self._rate
        timer.inner = self._loop.call_at(at, timer.fire, context=timer.context)

    # --- what is used of an event loop

    def time(self) -> float:
        """Return the time on this clock, in seconds."""
        now = self._start if self._stopped else self._start + (self._loop_time() - self._base) * self._rate
        floor = self._floor
        return now if now > floor else floor  # noqa: FURB136 - `max` takes three times as long; this is asked very often

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> ViewTimer:
        """Call back when this clock shows `when`."""
        timer = ViewTimer(self, when, callback, args, context)
        self._timers[timer] = None
        self._set(timer)
        return timer

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> ViewTimer:
        """Call back after `delay` seconds of this clock."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Call back in the loop's next turn."""
        return self._loop.call_soon(callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of the loop."""
        return self._loop.create_future()

    def create_task(self, coro: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
        """Return a task of the loop."""
        return self._loop.create_task(coro, name=name)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Report to the loop."""
        self._loop.call_exception_handler(context)

    def as_loop(self) -> asyncio.AbstractEventLoop:
        """Return itself, for code that asks for a loop and uses no more of it than the above."""
        return cast("asyncio.AbstractEventLoop", self)
