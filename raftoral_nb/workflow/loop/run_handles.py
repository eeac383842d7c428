"""The handles of a workflow's callbacks and timers."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

Context = contextvars.Context | None
"""The context to run in; None stands for a copy of the one that is current."""


class ReadyHandle(asyncio.Handle):
    """A callback that is to be run. Made without what a loop in debug mode would note of it: there are very many."""

    __slots__ = ()

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: asyncio.AbstractEventLoop,
        context: Context = None,
    ) -> None:
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = contextvars.copy_context() if context is None else context
        self._cancelled = False
        self._repr = None
        self._source_traceback = None

    def cancel(self) -> None:
        """Do not run it."""
        if not self._cancelled:
            self._cancelled = True
            self._callback = None  # type: ignore[assignment] # as asyncio does: what it holds can go
            self._args = ()


class DurableTimer(asyncio.TimerHandle):
    """A durable timer. `number` is its ordinal, 0 once it is no longer set."""

    __slots__ = ("number",)

    def __init__(
        self,
        due: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: asyncio.AbstractEventLoop,
        context: Context,
    ) -> None:
        self._when = due
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = contextvars.copy_context() if context is None else context
        self._cancelled = False
        self._scheduled = False
        self._repr = None
        self._source_traceback = None
        self.number = 0

    def cancel(self) -> None:
        """Do not fire. No record is needed for that."""
        if not self._cancelled:
            self._cancelled = True
            self._callback = None  # type: ignore[assignment]
            self._args = ()
            if self.number:
                loop: Any = self._loop
                loop._timer_cancelled(self)
