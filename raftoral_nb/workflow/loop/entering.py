"""Making a loop the running one of a thread on which another may be running."""

from __future__ import annotations

import asyncio
import asyncio.tasks
import sys
import threading
from types import TracebackType
from typing import Any, Final

from ...errors import InternalError

SWAP_CURRENT_TASK: Final[Any] = (
    getattr(asyncio.tasks, "_swap_current_task", None) if sys.version_info >= (3, 14) else None
)
"""From 3.14 on the current task is the thread's, no longer that of a loop. In 3.12 and 3.13 the function needs a task that runs."""


class EnterableLoop(asyncio.AbstractEventLoop):
    """A loop that can be entered, and knows whether it is."""

    is_entered: bool
    # Invariant: the ident of the thread whose running loop this is; None if it is none. What asks compares it with its own: up to
    # Python 3.11, to ask which loop is running takes a system call.
    thread: int | None


class EnteredLoop:
    """Makes a loop the running one of this thread, and puts aside what ran here. One for each loop: it may be entered again and again."""

    __slots__ = ("_hooks", "_loop", "_mine", "_outer", "_outer_task", "_outer_thread")

    def __init__(self, loop: EnterableLoop, hooks: tuple[Any, Any]) -> None:
        self._loop = loop
        self._mine = hooks
        self._outer: asyncio.AbstractEventLoop | None = None
        self._outer_task: asyncio.Task[Any] | None = None
        self._outer_thread: int | None = None
        # Invariant: None unless entered. The collector does not see into what `get_asyncgen_hooks` returns: kept, it would keep the
        # outer loop for ever, and all that lies on it.
        self._hooks: Any = None

    def __enter__(self) -> None:
        loop = self._loop
        if loop.is_entered:
            raise InternalError("the loop of a run was entered again before it was left")
        outer = self._outer = asyncio._get_running_loop()
        if outer is not None and SWAP_CURRENT_TASK is not None:
            # While the outer loop is still the running one: that is checked.
            self._outer_task = SWAP_CURRENT_TASK(outer, None)
        if isinstance(outer, EnterableLoop):
            self._outer_thread, outer.thread = outer.thread, None
        asyncio._set_running_loop(loop)
        loop.is_entered = True
        loop.thread = threading.get_ident()
        self._hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(*self._mine)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        hooks, self._hooks = self._hooks, None
        sys.set_asyncgen_hooks(*hooks)
        self._loop.is_entered = False
        self._loop.thread = None
        outer, self._outer = self._outer, None
        asyncio._set_running_loop(outer)
        if isinstance(outer, EnterableLoop):
            outer.thread, self._outer_thread = self._outer_thread, None
        if outer is not None and SWAP_CURRENT_TASK is not None:
            task, self._outer_task = self._outer_task, None
            SWAP_CURRENT_TASK(outer, task)
