"""Tasks of one loop that wait for something to change."""

from __future__ import annotations

import asyncio


class Waiters:
    """Those who wait for the next change of one thing. On one loop."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    async def change(self) -> None:
        """Wait for the next change. Raises what `fail` is told."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        finally:
            self._waiting.remove(waiter)

    def tell(self) -> None:
        """Note that it has changed."""
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    def fail(self, error: Exception) -> None:
        """Note that it will not change any more."""
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(error)
