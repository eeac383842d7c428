"""What has happened in a cluster: its events as they come, the latest of them, and what workflows wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..hosts.backend_parts import NodesBackend
from .access import ClusterAccess

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..core.cluster_events import OutputLine
    from ..core.events import ClusterEvent
    from ..core.records import NodeId, RunId
    from ..hosts.event_stream import EventStream


class Observing:
    """The events and the output of one cluster. From any thread; also after its stop."""

    def __init__(self, access: ClusterAccess[NodesBackend]) -> None:
        self._access = access

    def events(self) -> EventStream:
        """Typed events from this call on, as an async iterator (any anyio backend) that ends when the cluster stops."""
        return self._access.host.observers.stream()

    def subscribe(self, callback: Callable[[ClusterEvent], None]) -> Callable[[], None]:
        """Call `callback(event)` for every event, in order, on the cluster's observer thread; returns what ends it.

        What a callback raises is logged. A slow callback delays other callbacks, not the cluster; once `MAX_EVENTS_KEPT` events
        wait, callbacks miss some, and a warning is logged.
        """
        return self._access.host.observers.subscribe(callback)

    def history(self) -> tuple[tuple[float, ClusterEvent], ...]:
        """Return the latest events with their times (Unix seconds), oldest first; at most `MAX_EVENTS_KEPT`."""
        return self._access.host.observers.history()

    def log(self, run_id: RunId | None = None, node: NodeId | None = None) -> tuple[OutputLine, ...]:
        """Return what workflows printed and logged, and what the engine says of them; at most `MAX_OUTPUT_LINES_KEPT` lines."""
        return self._access.host.observers.lines(run_id, node)
