"""Looks at a whole cluster: all of its statistics, or what a view shows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, TypeVar

from ..errors import ClusterError
from ..hosts.backend_parts import SeenBackend
from ..hosts.view_frame import Looker
from .access import ClusterAccess

if TYPE_CHECKING:
    from ..core.records import RunId
    from ..core.statistics import ClusterLook, ClusterStatistics

T = TypeVar("T")


class Looks:
    """What one cluster is asked for by those who look at it as a whole. From any thread; also after its stop."""

    def __init__(
        self, access: ClusterAccess[SeenBackend], statistics: Callable[[bool], ClusterStatistics], looker: Looker
    ) -> None:
        """`statistics(running)` and the looker make what is returned, on the consensus loop or after the stop."""
        self._access = access
        self._statistics = statistics
        self._looker = looker

    def statistics(self) -> ClusterStatistics:
        """Return one consistent look at everything, as frozen data."""
        return self._seen(lambda: self._statistics(self._access.running), None, 0)

    def look(self, *, runs: int = 12, entries: int = 16, records: int = 60) -> ClusterLook:
        """Return what a view shows: one cheap look, with at most so many runs, log entries per node and records per run."""
        return self._seen(
            lambda: self._looker.look(running=self._access.running, runs=runs, entries=entries, records=records),
            self._looker.shown(runs),
            entries,
        )

    def _seen(self, look: Callable[[], T], only: Collection[RunId] | None, entries: int) -> T:
        access = self._access
        if access.running:
            with contextlib.suppress(ClusterError):  # stopped meanwhile
                access.host.refresh(only, entries)
                return access.host.thread.call(look)
        return look()
