"""The life of a cluster: how its handle starts it, stops it, and lets go of one that outlives this process."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from ..core.cluster_events import ClusterRecovered
from ..core.commands import SetRetention, SetValueLimit
from ..core.records import NodeId
from ..errors import ClusterError
from ..hosts import collect_statistics, log_levels, open_files, recovery
from ..node.captured_output import capture
from ..threads.loop_thread import do_all, refuse_on_own_thread
from . import running_clusters

if TYPE_CHECKING:
    from ..hosts.backend_parts import LifeBackend
    from ..hosts.local_announcement import Announcement
    from .access import ClusterAccess
    from .run_retention import RunRetention
    from .scenario_plays import ScenarioPlays
    from .telemetry import Telemetry
    from .value_limit import ValueLimit

STOP_SECONDS = 2.0
"""The time `stop` waits for user code before it names that code and continues without it (seconds)."""


OFFERS_SECONDS = 2.0
"""The time that `start` waits for nodes to offer to take runs (seconds)."""


class StopReport(msgspec.Struct, frozen=True):
    """The remains of a `Cluster.stop`: user code that could not be interrupted, by thread and place. Normally nothing."""

    stuck: tuple[str, ...] = ()


class Founding(msgspec.Struct, frozen=True):
    """What a cluster is started with, beside what its backend knows already."""

    data: recovery.DataDirectory | None = None
    leave_out: Collection[NodeId] = frozenset()
    """Nodes that are not started."""
    logs: bool = False
    """True if the level of the logs was set, and is reset at the end."""
    retention: SetRetention | None = None
    """What is to be kept of finished runs, where that was said."""
    value_limit: SetValueLimit | None = None
    """How large values may be, where that was said."""
    spreads: bool = False
    """True if every node takes runs."""


class ClusterLife:
    """The start and the end of one cluster. Both may be asked for on any thread but the cluster's own, and wait."""

    def __init__(
        self,
        access: ClusterAccess[LifeBackend],
        founding: Founding,
        announcement: Announcement,
        telemetry: Telemetry,
        plays: ScenarioPlays,
        kept: Sequence[RunRetention | ValueLimit],
    ) -> None:
        self._access = access
        self._host = access.host
        self._founding = founding
        self._announcement = announcement
        self._telemetry = telemetry
        self._plays = plays
        self._kept = kept
        self._change = threading.Lock()
        self.recovered: ClusterRecovered | None = None
        """See `Cluster.recovered`."""

    def start(self, cluster: running_clusters.RunningCluster) -> None:
        """See `Cluster.start`; `cluster` is what runs from then on."""
        refuse_on_own_thread("cluster.start()")
        with self._change:
            if self._access.status != "new":
                word = (
                    "runs already: use it, or end it with stop()" if self._access.status == "running" else "has stopped"
                )
                raise ClusterError(f"cluster {self._host.name!r} {word}; for a new one make another Cluster")
            self._access.status = "running"
        capture.install()
        self._telemetry.begin()
        data = self._founding.data
        try:
            began = time.monotonic()
            with open_files.told(f"cluster {self._host.name!r} cannot be started"):
                self._open(data)
            if not self._host.attached:  # one that has lost its majority can be attached to, and mended
                self._access.wait_for_leader(self._host.proposal_timeout)
                for one in self._kept:
                    one.begin()
                self._await_offers()
            if data is not None:
                data.end()
                self.recovered = recovery.recovered(self._host.head(), time.monotonic() - began)
                if self.recovered is not None:
                    self._host.announce(self.recovered)
        except BaseException:
            self.end(cluster, leave=self._host.attached)
            raise
        running_clusters.started(cluster)

    def _await_offers(self) -> None:
        """Wait until every node takes runs, or the first runs would be those of the quickest alone.

        Where the leader does all steps: until none takes any more, as those of before may have.
        """
        wait = partial(self._host.on_await_offers, runs=self._founding.spreads)
        with contextlib.suppress(TimeoutError):  # one that is slow takes those that come later
            self._host.thread.run(wait, timeout=OFFERS_SECONDS)

    def _open(self, data: recovery.DataDirectory | None) -> None:
        stored, numbers = data is not None, self._access.numbers
        needed = open_files.LOOP + stored + self._host.files_needed(len(numbers), stored=stored)
        open_files.check(needed, f"cluster {self._host.name!r} of {len(numbers)} nodes")
        if data is not None:
            data.begin(self._host)
            self._host.use(data)
        self._host.thread.start()
        self._host.thread.run(self._host.on_open, self._founding.leave_out)
        self._announcement.put_up()

    def leave(self, cluster: running_clusters.RunningCluster) -> None:
        """See `Cluster.leave`."""
        self._access.check_running()
        if not self._host.outlives:
            raise ClusterError(
                f"cluster {self._host.name!r} ends with this process and cannot be left running: end it with stop(). One that "
                "can be left is started with detach=True and a data_dir"
            )
        self.end(cluster, leave=True)

    def end(self, cluster: running_clusters.RunningCluster, *, leave: bool) -> StopReport:
        """Stop everything, or only let go of nodes that keep running (`leave`). Done twice, it does nothing."""
        refuse_on_own_thread("cluster.stop()")
        with self._change:
            if self._access.status != "running":
                self._access.status = "stopped"
                return StopReport()
            self._access.status = "stopped"
        running_clusters.stopped(cluster)
        self._plays.halt()
        stuck: list[str] = []
        try:
            self._shut_nodes(leave=leave)
        finally:
            left = collect_statistics.deadline(STOP_SECONDS)
            do_all(
                lambda: stuck.extend(self._host.end(left, leave=leave)),
                lambda: stuck.extend(self._plays.end(left())),
                self._announcement.take_down,
                lambda: stuck.extend(
                    () if self._host.observers.close(left()) else ("a callback given to subscribe()",)
                ),
                lambda: stuck.extend(self._telemetry.end(left())),
                capture.uninstall,
                *([log_levels.reset] if self._founding.logs else []),
            )
        return StopReport(tuple(stuck))

    def _shut_nodes(self, *, leave: bool) -> None:
        def shut() -> None:
            if self._host.thread.alive:
                with contextlib.suppress(TimeoutError, ClusterError):
                    self._host.thread.run(partial(self._host.on_shut, leave=leave), timeout=STOP_SECONDS)

        try:
            shut()
        except BaseException:  # an interrupt: perhaps it has not even begun
            shut()
            raise
