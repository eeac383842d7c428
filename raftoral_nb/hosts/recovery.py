"""Recovery from a data directory: looking at it, taking it, and saying what was found there."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.cluster_events import ClusterRecovered
from ..core.records import NodeId
from ..errors import ClusterError, NoSuchNodeError
from .options import path_of
from .recovery_progress import Recovering, RecoveryEnv

if TYPE_CHECKING:
    from ..core.state import State
    from ..storage.codec import Codec
    from ..storage.data_directory import DirectoryJournals, Durability, Manifest


class DataDirectory:
    """A directory that a cluster is to use, and what is in it already (`found`; None: it is new)."""

    def __init__(self, path: Path, durability: Durability, codec: Codec | None) -> None:
        from ..storage.data_directory import read_manifest  # clusters in memory need none of it, nor SQLite

        self.codec = codec
        self.path = path
        self.durability = durability
        self.found: Manifest | None = read_manifest(path)
        self._recovering: Recovering | None = None

    def begin(self, host: RecoveryEnv) -> None:
        """Report the progress of the recovery from here on, if there is something to recover."""
        if self.found is not None:
            self._recovering = Recovering(host, self.found.nodes)

    def end(self) -> None:
        """End the report: the recovery is over, or has failed."""
        if self._recovering is not None:
            self._recovering.end()

    def numbers(self, count: int) -> tuple[NodeId, ...]:
        """Return the numbers of `count` nodes: those of the directory, if it has as many."""
        known = () if self.found is None else self.found.nodes
        return known if len(known) == count else tuple(range(1, count + 1))

    def take(self, name: str, numbers: Sequence[NodeId]) -> DirectoryJournals:
        """Take the directory for this process, and make it if it is new. Raises `StorageError`."""
        from ..storage.data_directory import DirectoryJournals

        return DirectoryJournals(self.path, name, numbers, self.durability, self._recovering, self.codec)


def look(
    data_dir: str | os.PathLike[str] | None, durability: object, codec: Codec | Sequence[Codec] | None = None
) -> DataDirectory | None:
    """Return the directory that was asked for; None for a cluster in memory.

    Raises `StorageError`, `BadArgumentError`, or `ClusterError`.
    """
    if durability not in (None, "memory", "process", "disk"):
        raise ClusterError(f"durability is 'memory', 'process' or 'disk', got {durability!r}")
    if data_dir is None:
        if durability in ("process", "disk"):
            raise ClusterError(f"durability={durability!r} needs a data_dir: where should it be stored?")
        if codec is not None:
            raise ClusterError("codec= is for what a data_dir holds: give one, or leave codec= out")
        return None
    if durability == "memory":
        raise ClusterError("durability='memory' stores nothing: leave data_dir out, or ask for 'process' or 'disk'")
    from ..storage.codec import checked

    level: Durability = "disk" if durability == "disk" else "process"
    return DataDirectory(path_of(data_dir, "data_dir"), level, checked(codec))


def left_out(given: Collection[NodeId], numbers: Sequence[NodeId]) -> frozenset[NodeId]:
    """Return the nodes not to start. Raises `NoSuchNodeError`, or `ClusterError` if the others are no majority."""
    unknown = [node for node in given if node not in numbers]
    if unknown:
        raise NoSuchNodeError(
            f"there is no node {unknown[0]!r} to leave out: the nodes are {', '.join(map(str, numbers))}"
        )
    if given and 2 * (len(numbers) - len(set(given))) <= len(numbers):
        raise ClusterError(
            f"without {', '.join(map(str, sorted(set(given))))} there is no majority of {len(numbers)} nodes: nothing could run"
        )
    return frozenset(given)


def recovered(head: State, seconds: float) -> ClusterRecovered | None:
    """Return what a cluster that has just found its leader recovered from, in `seconds`; None if there was nothing."""
    runs = tuple(head.runs.values())
    if not runs and not head.definitions:
        return None
    return ClusterRecovered(
        runs=len(runs),
        unfinished=sum(run.unfinished for run in runs),
        steps=sum(len(run.by_id) for run in runs),
        workflows=len(head.definitions),
        seconds=round(seconds, 3),
    )
