"""Background work, and waiting for conditions: tools of the parts of a `RemoteHost`. They belong to its loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

logger = logging.getLogger(__name__)


class Tasks:
    """The tasks that run in the background until they are done, or `cancel`. What they raise is logged."""

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster
        self._running: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Begin something."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._done)

    def cancel(self) -> None:
        """Cancel all that runs; not waited for."""
        for task in tuple(self._running):
            task.cancel()

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a task of cluster %s failed", self._cluster, exc_info=error)


class Changes:
    """A condition that changes, and the tasks that wait until it is as they want it."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until `true()`, which is looked at now and at every `wake`."""
        while not true():
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)

    def wake(self) -> None:
        """Say that it has changed."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
