"""An asyncio event loop whose time jumps to the next thing that is due, instead of passing."""

from __future__ import annotations

import asyncio
import asyncio.base_events
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ..errors import InternalError

T = TypeVar("T")


class _Jump:
    """Stands where a loop has its selector: nothing is waited for, time moves on instead."""

    def __init__(self, loop: VirtualClockLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[object]:
        if timeout is None:
            raise InternalError("the simulation waits for something that nothing will bring about")
        if timeout > 0:
            self._loop.jump(timeout)
        return []

    def close(self) -> None:
        """Nothing is open."""


class VirtualClockLoop(asyncio.base_events.BaseEventLoop):
    """Runs callbacks and tasks in a repeatable order on a clock of its own, which starts at `start` (seconds).

    No sockets, pipes, signals, subprocesses or threads. Code that waits for something that is neither a timer nor a task
    raises `InternalError` instead of hanging.
    """

    def __init__(self, start: float = 1000.0) -> None:
        super().__init__()
        self._now = start
        self._selector = _Jump(self)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        """The virtual time in seconds."""
        return self._now

    def jump(self, seconds: float) -> None:
        """Move the clock forward; to the very time of the next timer if that is what `seconds` mean, whatever rounding says.

        A timer that fires a hair before its time would find nothing due, and be set anew for ever on a clock that stands.
        """
        self._now += seconds
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        if scheduled and 0 < (at := scheduled[0].when()) - self._now < 1e-6:
            self._now = at

    def _process_events(self, event_list: list[object]) -> None:
        """There are no events: nothing is waited for."""

    def _write_to_self(self) -> None:
        """Nobody sleeps who would have to be woken."""


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `await main()` on a new virtual clock and return its result."""
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(main())
