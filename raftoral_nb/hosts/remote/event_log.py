"""The event log of a node, for what the Raft log does not hold: its events and the output of its workflows, numbered, as many as are kept."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from ...core.cluster_events import OutputLine
from ...core.events import ClusterEvent
from ...limits import MAX_EVENTS_KEPT, MAX_OUTPUT_LINES_KEPT
from .messages import MAX_ANSWER_BYTES, MAX_ITEMS, Item, Moved, packed


class EventLog:
    """The event log of a node, on the consensus loop of its process."""

    def __init__(self) -> None:
        # Invariant: consecutive numbers, the latest last.
        self._items: deque[Item] = deque(maxlen=MAX_EVENTS_KEPT + MAX_OUTPUT_LINES_KEPT)
        self.told = 0
        """The number of the latest item; 0 if there is none."""
        self._waiting: set[asyncio.Future[None]] = set()

    def add(self, what: ClusterEvent | OutputLine | Moved, at: float | None = None) -> None:
        """Tell something, that happened at a time (Unix seconds; now if not given)."""
        kind, data = packed(what)
        self.put(kind, data, "", time.time() if at is None else at)

    def put(self, kind: str, data: bytes, origin: str, at: float) -> None:
        """Add something that is packed already."""
        self.told += 1
        self._items.append(Item(self.told, at, kind, data, origin))
        self.wake()

    def behind(self, told: int) -> tuple[tuple[Item, ...], int]:
        """Return the next items behind a number, as many as an answer holds, and how many were dropped before they were told."""
        first = self._items[0].number if self._items else self.told + 1
        missed = max(0, first - told - 1)
        found: list[Item] = []
        size = 0
        # Most who ask are nearly up to date: counted from the end it is quick.
        start = max(0, len(self._items) - (self.told - max(told, first - 1)))
        for position in range(start, len(self._items)):
            item = self._items[position]
            size += len(item.data)
            if found and (size > MAX_ANSWER_BYTES or len(found) >= MAX_ITEMS):
                break
            found.append(item)
        return tuple(found), missed

    def wake(self) -> None:
        """Wake the waiters, who look again."""
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def news(self) -> None:
        """Wait until there is something new, here or in what `wake` stands for."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            await waiter
        finally:
            self._waiting.discard(waiter)
