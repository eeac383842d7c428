"""Waiting on a node's loop for what runs on the loop of an executor's client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

from ..threads.loop_thread import LoopThread

T = TypeVar("T")


async def on_thread(thread: LoopThread, fn: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
    """Run `await fn(*args)` on a thread's loop, and return or raise what it did. Whoever stops waiting does not stop it."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
            future.exception()
        else:
            future.set_result(cast("T", result))

    def done(result: T | None, error: BaseException | None) -> None:
        with contextlib.suppress(RuntimeError):  # the node's loop has ended
            loop.call_soon_threadsafe(settle, result, error)

    thread.begin(fn, *args, done=done)
    return await future
