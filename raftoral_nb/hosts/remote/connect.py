"""Hosts of clusters whose nodes are in other processes: a new one's, and that of one that runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ...core.records import NodeId
from ...discovery import key_file
from ...errors import ClusterError
from ...limits import MAX_NODES
from ...raft.compaction import DEFAULT_COMPACTION
from ...raft.replica import Timing
from ..recovery import DataDirectory
from .announcement import KeyFileOfProcesses
from .remote_backend import RemoteBackend


def remote_host(
    name: str, numbers: Sequence[NodeId], data: DataDirectory | None, *, processes: bool, detach: bool, **options: Any
) -> RemoteBackend:
    """Return the host of a new cluster. Raises `ClusterError` for options that do not go together."""
    if detach and not processes:
        raise ClusterError("detach=True is for nodes in processes of their own: add processes=True")
    if detach and data is None:
        raise ClusterError(
            "a cluster that is to outlive this process needs a data_dir: its state must be kept somewhere. Example: "
            "Cluster(processes=True, detach=True, data_dir='lab')"
        )
    return RemoteBackend(name, numbers, detach=detach, **options)


def attached_host(given: str | os.PathLike[str]) -> RemoteBackend:
    """Return the host of a cluster that runs. Raises `UnknownClusterError`, `KeyFileError`, and `ClusterError`."""
    path = key_file.path_meant(given)
    if path is not None:
        # A copy on another machine, or one that `raftoral-nb node` keeps: it is read, and not changed.
        found = KeyFileOfProcesses(None, key_file.read(path))
    else:
        found = KeyFileOfProcesses.of(key_file.of_cluster(str(given), "processes"))
    name = found.content.name
    numbers = tuple(sorted(found.content.nodes))
    if not 1 <= len(numbers) <= MAX_NODES:
        raise ClusterError(f"the key file of cluster {name!r} names {len(numbers)} nodes")
    # Times and limits are the cluster's own: they are learned from its nodes.
    return RemoteBackend(
        name, numbers, timing=Timing(), proposal_timeout=10.0, compaction=DEFAULT_COMPACTION, found=found
    )
