"""The receivers of a cluster's events and captured output: a bounded history, and the observers who asked."""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from ..core.cluster_events import OutputLine
from ..core.events import CheckpointSet, ClusterEvent, WorkflowCompleted
from ..core.records import NodeId, RunId
from ..errors import ClusterError
from ..limits import MAX_EVENT_VALUE_BYTES_KEPT, MAX_EVENTS_KEPT, MAX_OUTPUT_LINES_KEPT
from .event_stream import EventStream

logger = logging.getLogger(__name__)

Callback = Callable[[ClusterEvent], None]


class Observers:
    """The latest events and output lines, and the subscribers who are told of events.

    Publishing never waits and may be done from any thread. Callbacks run one after another on a thread of their own,
    started with the first subscription: a slow one delays other callbacks, never the cluster. Once `MAX_EVENTS_KEPT` events
    wait for them, callbacks miss what is published until there is room again, and a warning says so.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._history: deque[tuple[float, ClusterEvent]] = deque(maxlen=MAX_EVENTS_KEPT)
        self._lines: deque[OutputLine] = deque(maxlen=MAX_OUTPUT_LINES_KEPT)
        self._numbers = itertools.count()
        self._callbacks: dict[int, Callback] = {}
        self._direct: dict[int, Callback] = {}
        self._detached: deque[int] = deque()
        """Keys of `_direct` to be dropped. Whoever detaches may be a finalizer, run where this very thread holds the lock."""
        self._queue: queue.SimpleQueue[ClusterEvent | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        # Invariant: how many events callbacks have missed since they last got one.
        self._missed = 0
        self._when_closed: dict[int, Callable[[], None]] = {}
        self.published = 0

    def publish(self, event: ClusterEvent) -> None:
        """Keep an event and tell everybody."""
        if logger.isEnabledFor(logging.INFO):
            logger.info("%s: %s", self._name, _slim(event))
        with self._lock:
            self.published += 1
            self._history.append((time.time(), _slim(event)))
            if self._callbacks and not self._closed:
                self._put(event)
            self._drop_detached()
            direct = tuple(self._direct.values()) if self._direct else ()
        for callback in direct:
            try:
                callback(event)
            except Exception:  # who publishes may be a replica, and would count as broken
                logger.exception("a reader of events failed on %r", event)

    def _put(self, event: ClusterEvent) -> None:
        """Called with the lock held."""
        if self._queue.qsize() >= MAX_EVENTS_KEPT:
            if not self._missed:
                logger.warning(
                    "%s: callbacks are too slow and miss events; %d wait for them", self._name, MAX_EVENTS_KEPT
                )
            self._missed += 1
            return
        if self._missed:
            logger.warning("%s: callbacks missed %d events", self._name, self._missed)
            self._missed = 0
        self._queue.put(event)

    def recall(self, past: Sequence[tuple[float, ClusterEvent]]) -> None:
        """Put what happened before this was made, oldest first, before what was published since; nobody is told of it."""
        with self._lock:
            since = tuple(self._history)
            self._history.clear()
            self._history.extend((at, _slim(event)) for at, event in past)
            self._history.extend(since)

    def write(self, line: OutputLine) -> None:
        """Keep a line of captured output."""
        self._lines.append(line)

    def history(self) -> tuple[tuple[float, ClusterEvent], ...]:
        """Return the latest events, oldest first, each with its time (Unix seconds).

        Values over `MAX_EVENT_VALUE_BYTES_KEPT` are left out: a step's value is then None, a result is empty.
        """
        with self._lock:
            return tuple(self._history)

    def lines(self, run_id: RunId | None, node: NodeId | None) -> tuple[OutputLine, ...]:
        """Return the latest output lines, oldest first, of one run and node or of all."""
        return tuple(
            line
            for line in tuple(self._lines)
            if (run_id is None or line.run_id == run_id) and (node is None or line.node == node)
        )

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Have `callback(event)` called for every event from now on; returns the function that ends it."""
        with self._lock:
            if self._closed:
                raise ClusterError("the cluster has stopped: there will be no more events")
            number = next(self._numbers)
            self._callbacks[number] = callback
            if self._thread is None:
                self._thread = threading.Thread(target=self._main, name=f"{self._name}-observer", daemon=True)
                self._thread.start()

        def unsubscribe() -> None:
            with self._lock:
                self._callbacks.pop(number, None)

        return unsubscribe

    def stream(self) -> EventStream:
        """Return every event from this call on, until the cluster stops, as an async iterator."""
        return EventStream(self)

    def attach(self, callback: Callback, ended: Callable[[], None]) -> Callable[[], None]:
        """Have `callback(event)` called wherever an event is published, and `ended()` at the end; returns what undoes it.

        Neither may wait or raise.
        """
        with self._lock:
            self._drop_detached()
            number = next(self._numbers)
            closed = self._closed
            if not closed:
                self._direct[number] = callback
                self._when_closed[number] = ended
        if closed:
            ended()

        return partial(self._detached.append, number)

    def _drop_detached(self) -> None:
        """Called with the lock held."""
        while self._detached:
            number = self._detached.popleft()
            self._direct.pop(number, None)
            self._when_closed.pop(number, None)

    def close(self, timeout: float) -> bool:
        """Tell the last events and end the thread; False if a callback keeps it for more than `timeout` seconds."""
        with self._lock:
            already, self._closed = self._closed, True
            thread = self._thread
            self._drop_detached()
            enders = tuple(self._when_closed.values())
        if not already:
            self._queue.put(None)
            for end in enders:
                end()
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(timeout)
        return not thread.is_alive()

    def _main(self) -> None:
        while (event := self._queue.get()) is not None:
            with self._lock:
                callbacks = tuple(self._callbacks.values())
            for callback in callbacks:
                try:
                    callback(event)
                except Exception:
                    logger.exception("a callback failed on %r", event)


def _slim(event: ClusterEvent) -> ClusterEvent:
    """Return the event without a large value: thousands of events are kept, and must not keep gigabytes."""
    match event:
        case CheckpointSet(step=step) if step.value is not None and len(step.value) > MAX_EVENT_VALUE_BYTES_KEPT:
            return CheckpointSet(event.run_id, msgspec.structs.replace(step, value=None))
        case WorkflowCompleted(result=result) if len(result) > MAX_EVENT_VALUE_BYTES_KEPT:
            return WorkflowCompleted(event.run_id, b"")
        case _:
            return event
