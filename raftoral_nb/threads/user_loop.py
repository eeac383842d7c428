"""From the cluster's threads into whatever event loop the user's code runs on."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel

INTERRUPT_TICK = 0.1
"""Seconds between looks at a quiet kernel's interrupt flag; see `wait_for`."""


def current_poster() -> Callable[..., None]:
    """Return a function `post(fn, *args)` that has the loop running here call `fn` soon; any thread may call it.

    Works on both anyio backends. A call that comes after the loop was closed does nothing.
    """
    native: Any = anyio.lowlevel.current_token().native_token
    schedule = getattr(native, "call_soon_threadsafe", None) or native.run_sync_soon
    gone: tuple[type[Exception], ...] = (RuntimeError,)
    if "trio" in sys.modules:
        import trio

        gone = (RuntimeError, trio.RunFinishedError)

    def post(fn: Callable[..., object], *args: Any) -> None:
        with contextlib.suppress(*gone):
            schedule(fn, *args)

    return post


async def wait_for(event: anyio.Event) -> None:
    """Wait for an event that another thread sets by way of `current_poster`.

    In a kernel's main thread the wait is cut into pieces: a top-level `await` on which nothing happens sees an interrupt
    only when the loop wakes for another reason. This is the one place where anything wakes without need.
    """
    if "ipykernel" not in sys.modules or threading.current_thread() is not threading.main_thread():
        await event.wait()
        return
    while not event.is_set():
        with anyio.move_on_after(INTERRUPT_TICK):
            await event.wait()
