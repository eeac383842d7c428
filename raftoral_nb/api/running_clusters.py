"""The clusters that run in this process, and which of them is meant when none is named."""

from __future__ import annotations

import atexit
import threading
from typing import Protocol


class RunningCluster(Protocol):
    """The methods of any running cluster, whatever its kind."""

    name: str

    def _exit(self) -> None: ...


_lock = threading.Lock()
_running: list[RunningCluster] = []
_chosen: RunningCluster | None = None
_aside: list[RunningCluster] = []


def current_cluster() -> RunningCluster | None:
    """Return the running cluster that the magics drive; else the one started last in this process; else None."""
    with _lock:
        if _chosen is not None and _chosen in _running:
            return _chosen
        return _running[-1] if _running else None


def set_current_cluster(cluster: RunningCluster | None) -> None:
    """Let this cluster be the current one for as long as it runs, whichever others are started; None ends that."""
    global _chosen
    with _lock:
        _chosen = cluster


def started(cluster: RunningCluster) -> None:
    """Note a cluster that runs."""
    with _lock:
        _running.append(cluster)


def stopped(cluster: RunningCluster) -> None:
    """Note a cluster that stops."""
    with _lock:
        for running in (_running, _aside):
            if cluster in running:
                running.remove(cluster)


def set_aside(cluster: RunningCluster) -> None:
    """Let a cluster that runs never be the current one: it serves something else than its user. It is stopped as the others are."""
    with _lock:
        if cluster in _running:
            _running.remove(cluster)
            _aside.append(cluster)


@atexit.register
def stop_all() -> None:
    """Stop what still runs when the interpreter ends."""
    while (cluster := current_cluster()) is not None:
        cluster._exit()
    while _aside:
        _aside.pop()._exit()
