"""Nodes whose disks do not take what is to be stored: why, and how they come back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ..core.cluster_events import StorageFailed
from ..core.events import ClusterEvent
from ..core.records import NodeId
from ..errors import (
    ClusterError,
    DamagedStorageError,
    ForeignDirectoryError,
    NewerFormatError,
    NodeStateError,
    StorageError,
)

STORAGE_RETRY_SECONDS = (0.5, 10.0)
"""The time a node whose disk failed waits before it starts again, at first and at most (seconds); each time twice as long."""


class FailedDisks:
    """A node whose disk failed counts as killed, and is started again from what is stored as soon as its disk works.

    Everything is called on the consensus loop, but `reason`. `boot(node)` starts a node, `alive(node)` says whether it runs.
    """

    def __init__(
        self,
        boot: Callable[[NodeId], Awaitable[None]],
        alive: Callable[[NodeId], object | None],
        tell: Callable[[ClusterEvent], None],
    ) -> None:
        self._boot = boot
        self._alive = alive
        self._tell = tell
        self._reasons: dict[NodeId, str] = {}
        self._retries: dict[NodeId, asyncio.Task[None]] = {}

    def reason(self, node: NodeId) -> str | None:
        """Return why a node's disk does not work; None if it does. From any thread."""
        return self._reasons.get(node)

    def failed(self, node: NodeId, error: StorageError) -> None:
        """Note that a node was stopped because its disk failed."""
        self._say(node, error)
        if node not in self._retries:
            retry = asyncio.get_running_loop().create_task(self._retry(node), name=f"retry node {node}")
            self._retries[node] = retry

    def works(self, node: NodeId) -> None:
        """Note that a node was started: its disk works."""
        self._reasons.pop(node, None)

    def forget(self) -> None:
        """Forget all failures: the cluster ends."""
        for retry in self._retries.values():
            retry.cancel()

    def _say(self, node: NodeId, error: Exception) -> None:
        if self._reasons.get(node) != str(error):
            self._reasons[node] = str(error)
            self._tell(StorageFailed(node, str(error)))

    async def _retry(self, node: NodeId) -> None:
        # No store says when there is room again, so it is asked: at first soon, then less and less often.
        delay, longest = STORAGE_RETRY_SECONDS
        try:
            while node in self._reasons and self._alive(node) is None:
                await asyncio.sleep(delay)
                delay = min(longest, 2 * delay)
                try:
                    await self._boot(node)
                except NodeStateError:  # somebody restarted it
                    return
                except (DamagedStorageError, ForeignDirectoryError, NewerFormatError, ClusterError) as error:
                    self._say(node, error)  # waiting mends none of these
                    return
                except StorageError as error:
                    self._say(node, error)
        finally:
            del self._retries[node]
