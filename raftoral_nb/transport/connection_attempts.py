"""Attempts to get in: counted, and told, without letting anybody fill a log or a history from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ..core.cluster_events import UnauthenticatedConnectionsRefused
from ..core.records import NodeId

REPORT_INTERVAL: Final = 10.0
"""Seconds between two events about attempts; those between are told together."""


class ConnectionAttempts:
    """Counts of connections that were closed for what came over them, or for what did not. Used on one loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, tell: Callable[[UnauthenticatedConnectionsRefused], None] | None
    ) -> None:
        self.refused_frames = 0
        """Closed for bytes that were not authentic, too long, or malformed."""
        self.dropped_unauthenticated = 0
        """Closed because they did not prove the key: silent, slow, crowded out by others, or torn off in the middle."""
        self._loop = loop
        self._tell = tell
        self._timer: asyncio.TimerHandle | None = None
        self._untold = 0
        self._latest: tuple[NodeId, str] | None = None

    def refused(self, node: NodeId, reason: str) -> None:
        """Count bytes that were refused."""
        self.refused_frames += 1
        self._note(node, reason)

    def dropped(self, node: NodeId, reason: str) -> None:
        """Count an unauthenticated peer that left, or was closed, without proving the key."""
        self.dropped_unauthenticated += 1
        self._note(node, reason)

    def close(self) -> None:
        """Tell what is untold, and end."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._report()

    def _note(self, node: NodeId, reason: str) -> None:
        self._untold += 1
        self._latest = (node, reason)
        if self._timer is None:
            self._report()
            self._timer = self._loop.call_later(REPORT_INTERVAL, self._due)

    def _due(self) -> None:
        self._timer = None
        if self._untold:
            self._report()
            self._timer = self._loop.call_later(REPORT_INTERVAL, self._due)

    def _report(self) -> None:
        count, self._untold = self._untold, 0
        if count and self._tell is not None and self._latest is not None:
            node, reason = self._latest
            self._tell(UnauthenticatedConnectionsRefused(node, count, reason))
