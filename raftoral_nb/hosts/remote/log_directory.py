"""The folder of a cluster's logs: a data directory, or a temporary one that goes with the cluster."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from ...core.records import NodeId
from ...storage.codec import Codec
from ...storage.data_directory import Durability
from ...storage.shared_directory import prepare
from ..recovery import DataDirectory


class Directory:
    """A folder with a part for each node."""

    def __init__(self, path: Path, durability: Durability, codec: Codec | None = None, *, temporary: bool) -> None:
        self.path = path
        self.durability: Durability = durability
        self.codec = codec
        self.is_temporary = temporary

    @classmethod
    def prepare(cls, data: DataDirectory, name: str, numbers: Sequence[NodeId]) -> Directory:
        """Make the user's data directory, or check what is in it. Raises `StorageError`."""
        prepare(data.path, name, numbers, data.durability, codec=data.codec)
        return cls(data.path, data.durability, data.codec, temporary=False)

    @classmethod
    def temporary(cls, name: str, numbers: Sequence[NodeId]) -> Directory:
        """Make a folder that stands for the disks of nodes that can be killed and restarted; it is removed when the cluster ends."""
        path = Path(tempfile.mkdtemp(prefix="raftoral-nb-"))
        prepare(path, name, numbers, "process")
        return cls(path, "process", temporary=True)
