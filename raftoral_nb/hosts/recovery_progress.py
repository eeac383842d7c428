"""The progress of a cluster's recovery from a data directory, reported while it lasts."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Final, Protocol

from ..core.cluster_events import RecoveryProgress
from ..core.events import ClusterEvent
from ..core.records import NodeId
from ..core.state import State
from .observers import Observers

QUIET_SECONDS: Final = 1.0
"""The time within which a recovery is not reported at all (seconds)."""

INTERVAL_SECONDS: Final = 0.2
"""The time between two events about a recovery (seconds)."""

READING_SHARE: Final = 0.6
"""The share of a recovery that reading and checking the files is taken to be; the rest is applying what they hold."""


class RecoveryEnv(Protocol):
    """The part of a backend that recovery needs."""

    @property
    def observers(self) -> Observers:
        """Those who are told of events."""
        ...

    def head(self) -> State:
        """Return the state of the most advanced node."""
        ...


class Recovering:
    """The publisher of `RecoveryProgress`: a few a second at most, once a recovery has taken a moment. Any thread.

    What is told grows, and is an estimate: it counts bytes of files, then entries of the log.
    """

    def __init__(self, host: RecoveryEnv, nodes: Sequence[NodeId]) -> None:
        self._host = host
        self._read = dict.fromkeys(nodes, 0.0)
        self._last_index = 0
        self._lock = threading.Lock()
        self._fraction = 0.0
        self._due = time.monotonic() + QUIET_SECONDS
        self._over = False
        self._detach = host.observers.attach(self._happened, _nothing)

    def reading(self, node: NodeId, done: int, total: int) -> None:
        """Note how many bytes of a node's log are read and checked."""
        self._read[node] = min(1.0, done / max(1, total))
        if self._is_due():
            read = sum(self._read.values()) / len(self._read)
            self._tell(READING_SHARE * read, f"reading and checking the log of node {node}")

    def was_read(self, node: NodeId, last_index: int) -> None:
        """Note that a node's log was read into memory; `last_index` is its last entry's."""
        self._read[node] = 1.0
        self._last_index = max(self._last_index, last_index)

    def end(self) -> None:
        """End the report: nothing is told any more. Idempotent."""
        with self._lock:
            self._over = True
        self._detach()

    def _happened(self, event: ClusterEvent) -> None:
        """Count an event, which comes as entries are applied."""
        if isinstance(event, RecoveryProgress) or not self._last_index or not self._is_due():
            return
        index = min(self._host.head().index, self._last_index)
        read = sum(self._read.values()) / len(self._read)
        applied = index / self._last_index if read >= 1.0 else 0.0  # a node may go ahead while others are still read
        self._tell(
            READING_SHARE * read + (1 - READING_SHARE) * applied,
            f"applying entry {index:,} of {self._last_index:,}",
        )

    def _is_due(self) -> bool:
        return not self._over and time.monotonic() >= self._due

    def _tell(self, fraction: float, text: str) -> None:
        with self._lock:
            if not self._is_due():
                return
            self._due = time.monotonic() + INTERVAL_SECONDS
            self._fraction = max(self._fraction, min(1.0, fraction))
            event = RecoveryProgress(round(self._fraction, 3), text)
        self._host.observers.publish(event)


def _nothing() -> None:
    pass
