"""The files of a cluster of processes: the folder of its nodes' logs, and its key file; and what its nodes have in common."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...core.records import NodeId
from ...core.statistics import LogEntry
from ...discovery.process_identity import Process
from ...errors import ClusterError, NodeStateError
from ...raft.compaction import Compaction
from ...raft.replica import Timing
from ...storage.codec import Codec
from ...storage.shared_directory import add_folder, drop_folder
from ...transport.certificate import Certificate
from ...transport.tls import Tls
from ..recovery import DataDirectory
from ..spread import Spread
from .announcement import KeyFileOfProcesses
from .last_known import stored_entries
from .log_directory import Directory
from .messages import Address, Shared


class Installation:
    """The files of a cluster: made by `found`; if it runs already, read from its key file and learned from its nodes."""

    def __init__(self, announced: KeyFileOfProcesses | None) -> None:
        self.announced = announced
        """The key file; None until the cluster is founded."""
        self.shared: Shared | None = None
        """The settings that the nodes have in common; None until the cluster is founded, or a node of it is met."""
        self._directory: Directory | None = None
        self._tls: Tls | None = None

    # --- a new cluster

    def use(self, data: DataDirectory, name: str, numbers: Sequence[NodeId]) -> None:
        """Keep the logs in a data directory. Raises `StorageError`."""
        self._directory = Directory.prepare(data, name, numbers)

    def found(
        self,
        name: str,
        key: bytes,
        numbers: Sequence[NodeId],
        *,
        founders: Sequence[NodeId],
        timing: Timing,
        compaction: Compaction,
        proposal_timeout: float,
        outlives: bool,
        executors: Mapping[str, bytes],
        spread: Spread,
    ) -> None:
        """Make the folder, if there is none yet, and the key file. Raises `ClusterError`, `KeyFileError`, `StorageError`."""
        if self._directory is None:
            if outlives:
                raise ClusterError(
                    "a cluster that is to outlive this process needs a data_dir: its state must be kept somewhere"
                )
            self._directory = Directory.temporary(name, numbers)
        self.shared = Shared(
            name=name,
            founders=tuple(founders),
            data_dir=str(self._directory.path),
            temporary=self._directory.is_temporary,
            durability=self._directory.durability,
            timing=timing,
            compaction=compaction,
            proposal_timeout=proposal_timeout,
            path=tuple(sys.path),
            executors=executors,
            spread=spread,
        )
        self.announced = KeyFileOfProcesses.begin(name, key, self.shared.data_dir, outlives)

    @property
    def codec(self) -> Codec | None:
        """The codec of what the nodes write; None without one, or if it is not known here."""
        return None if self._directory is None else self._directory.codec

    # --- the key file

    @property
    def unlisted(self) -> str | None:
        """The reason why there is no key file, where one was wanted."""
        return None if self.announced is None else self.announced.problem

    @property
    def owner(self) -> Process | None:
        """The process with which the nodes end; None if they outlive all others."""
        return None if self.announced is None else self.announced.content.owner

    @property
    def certificate(self) -> Certificate | None:
        """The cluster's certificate; None if its connections are not encrypted."""
        return None if self.announced is None else self.announced.content.certificate

    @property
    def tls(self) -> Tls | None:
        """The TLS that encrypts connections to the nodes; None if nothing does."""
        if self._tls is None and self.certificate is not None:
            self._tls = Tls(self.certificate)
        return self._tls

    def listed_processes(self) -> Mapping[NodeId, Process]:
        """Return those in the key file, which other handles keep up to date as well. Reads the file."""
        return {} if self.announced is None else self.announced.read_again().processes

    def place(self, number: NodeId, address: Address, process: Process) -> None:
        """Note a node's address and process."""
        if self.announced is not None:
            self.announced.place(number, address, process)

    def drop(self, number: NodeId) -> None:
        """Drop a node that is no longer a member."""
        if self.announced is not None:
            self.announced.drop(number)

    # --- the folder

    @property
    def is_elsewhere(self) -> bool:
        """True if each node was started where it is (`raftoral-nb node`), with a folder of its own that is nobody else's."""
        return self.announced is not None and self.announced.content.data_dir is None

    def refuse_elsewhere(self, what: str) -> None:
        """Raise `NodeStateError`, which begins with `what`, if nodes are started where they are: their folders are not here."""
        if self.is_elsewhere:
            raise NodeStateError(f"{what}: the nodes of this cluster are started where they are, with raftoral-nb node")

    def add_folder(self, number: NodeId) -> None:
        """Make the part for a new node. Raises `StorageError`."""
        assert self.shared is not None
        add_folder(Path(self.shared.data_dir), number, self.codec)

    def drop_folder(self, number: NodeId) -> None:
        """Remove the part of a node that is none any more, if it can be reached from here. Raises `StorageError`."""
        assert self.shared is not None
        if not self.is_elsewhere and Path(self.shared.data_dir).is_dir():
            drop_folder(Path(self.shared.data_dir), number)

    def stored_entries(self, number: NodeId, last: int) -> tuple[LogEntry, ...]:
        """Return the last entries of a node's log, read from the disk; nothing if they are not on a disk here."""
        return () if self.shared is None else stored_entries(Path(self.shared.data_dir), number, last, self.codec)

    def clear_away(self) -> None:
        """Remove the key file, and a temporary folder: the cluster has ended. Idempotent."""
        if self.shared is not None and self.shared.temporary:
            shutil.rmtree(self.shared.data_dir, ignore_errors=True)
        if self.announced is not None:
            self.announced.end()
