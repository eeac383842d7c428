"""The redial backoff: why a handle cannot follow a node whose process runs, and how long it waits before it tries again."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import msgspec

from ...core.records import NodeId
from ...transport.network import FIRST_REDIAL

logger = logging.getLogger(__name__)

MAX_REDIAL: Final = 1.0
"""Seconds; the wait before the next attempt doubles from `FIRST_REDIAL` up to this."""

STEADY_SECONDS: Final = 5.0
"""After so long without a failure all is well again: the next one is a new one."""


class _DialFailure(msgspec.Struct, frozen=True):
    reason: str
    wait: float
    end: asyncio.TimerHandle


class RedialBackoff:
    """Belongs to the loop of the handle; `reason` may be read from any thread."""

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster
        self._found: dict[NodeId, _DialFailure] = {}

    def failed(self, node: NodeId, error: Exception) -> float:
        """Note why a node cannot be followed; returns how long to wait before the next attempt (seconds)."""
        before = self._found.get(node)
        wait = FIRST_REDIAL if before is None else min(2 * before.wait, MAX_REDIAL)
        reason = str(error)
        if before is not None:
            before.end.cancel()
        if before is None or before.reason != reason:
            logger.warning("%s: node %d cannot be followed, and is tried again: %s", self._cluster, node, reason)
        end = asyncio.get_running_loop().call_later(wait + STEADY_SECONDS, self.forget, node)
        self._found[node] = _DialFailure(reason, wait, end)
        return wait

    def wait(self, node: NodeId) -> float:
        """Return how long to wait before the next attempt (seconds); 0 if nothing has failed lately."""
        found = self._found.get(node)
        return 0.0 if found is None else found.wait

    def reason(self, node: NodeId) -> str | None:
        """Return why a node cannot be followed, as it failed last; None if nothing has failed lately."""
        found = self._found.get(node)
        return None if found is None else found.reason

    def forget(self, node: NodeId) -> None:
        """Forget a node's failures: it is followed, or is another process from here on."""
        found = self._found.pop(node, None)
        if found is not None:
            found.end.cancel()
