"""A cluster's events as an async iterator."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol, Self

import anyio

from ..core.events import ClusterEvent
from ..errors import ClusterError
from ..limits import MAX_EVENTS_KEPT
from ..threads.user_loop import current_poster


class EventSource(Protocol):
    """A source of events."""

    def attach(self, callback: Callable[[ClusterEvent], None], ended: Callable[[], None]) -> Callable[[], None]:
        """Have `callback(event)` called for every event, from any thread; returns what undoes it."""
        ...


class EventStream:
    """Events from the moment this was made, in the order they were published. Ends when the cluster stops, or by `aclose`.

    To be read by one task, on any anyio backend. Raises `ClusterError` once more than `MAX_EVENTS_KEPT` events wait.
    """

    def __init__(self, source: EventSource) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[ClusterEvent] = deque()
        self._ended = False
        self._behind = False
        self._wake: Callable[[], None] | None = None
        # Whoever forgets to close it is not kept alive by the cluster.
        weak = weakref.WeakMethod(self._put)
        weak_end = weakref.WeakMethod(self._end)
        self._detach = source.attach(
            lambda event: (put := weak()) and put(event), lambda: (end := weak_end()) and end()
        )
        weakref.finalize(self, self._detach)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ClusterEvent:
        while True:
            post = current_poster()
            event = anyio.Event()
            with self._lock:
                if self._waiting:
                    return self._waiting.popleft()
                if self._behind:
                    raise ClusterError(f"more than {MAX_EVENTS_KEPT} events were waiting: read them faster")
                if self._ended:
                    raise StopAsyncIteration
                self._wake = partial(post, event.set)
            try:
                await event.wait()
            finally:
                self._wake = None

    async def aclose(self) -> None:
        """Stop reading."""
        self._detach()
        self._end()

    def _put(self, event: ClusterEvent) -> None:
        with self._lock:
            if len(self._waiting) >= MAX_EVENTS_KEPT:
                self._behind = True
            if not self._behind:
                self._waiting.append(event)
            wake = self._wake
        if wake is not None:
            wake()

    def _end(self) -> None:
        with self._lock:
            self._ended = True
            wake = self._wake
        if wake is not None:
            wake()
