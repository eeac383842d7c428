"""A data directory that several processes use, each for one node.

The process that starts them makes it, and each node locks its part.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from ..core.records import NodeId
from ..errors import StorageError
from ..raft.journal import Journals
from .codec import Codec, refuse_other
from .data_directory import (
    DirectoryJournals,
    Durability,
    Lock,
    _drop_folder,
    _make_node,
    _write_manifest,
    node_folder,
    read_manifest,
    refuse_other_python,
    refuse_others,
)


def prepare(
    path: Path,
    name: str,
    nodes: Sequence[NodeId],
    durability: Durability,
    founders: Sequence[NodeId] | None = None,
    codec: Codec | None = None,
) -> None:
    """Make a directory for the nodes, or check one that is there; a new one's are the founders, unless others are given.

    Raises as `DirectoryJournals`.
    """
    new = read_manifest(path) is None
    journals = DirectoryJournals(path, name, nodes, durability, codec=codec)
    if new and founders is not None:
        _write_manifest(path, msgspec.structs.replace(journals.manifest, founders=tuple(founders)))
    journals.end()


def add_folder(path: Path, node: NodeId, codec: Codec | None = None) -> None:
    """Make room for one more node. Raises `StorageError`."""
    manifest = read_manifest(path)
    if manifest is None:
        raise StorageError(f"{path} holds no cluster that a node could be added to")
    _drop_folder(node_folder(path, node))  # of one that was removed before
    _make_node(path, manifest.cluster, node, codec)
    nodes = tuple(sorted({*manifest.nodes, node}))
    _write_manifest(path, msgspec.structs.replace(manifest, nodes=nodes))


def drop_folder(path: Path, node: NodeId) -> None:
    """Drop the log of a node that will never come back. Raises `StorageError`."""
    manifest = read_manifest(path)
    if manifest is not None and node in manifest.nodes:
        nodes = tuple(one for one in manifest.nodes if one != node)
        _write_manifest(path, msgspec.structs.replace(manifest, nodes=nodes))
        _drop_folder(node_folder(path, node))


class NodeJournals(DirectoryJournals):
    """The journal of one node, in the process of that node.

    Other processes may use other nodes of the directory, but not this one.
    """

    def __init__(self, path: Path, node: NodeId, durability: Durability, codec: Codec | None = None) -> None:
        """Open the directory.

        Raises `DirectoryInUseError`, `ForeignDirectoryError`, `DamagedStorageError`, `NewerFormatError`,
        `StorageWriteError`.
        """
        Journals.__init__(self)
        self._watch = None  # the progress of reading is not reported here
        self.path = path
        self._durability: Durability = durability
        self._codec = codec
        manifest = read_manifest(path)
        if manifest is None or node not in manifest.nodes:
            raise StorageError(f"{path} has no log of node {node}: whoever starts the cluster makes it")
        refuse_other_python(path, manifest)
        refuse_other(manifest.codec, codec, str(path))
        refuse_others(path)
        self.manifest = manifest
        self._name = manifest.name
        self._all = Lock(path, manifest.name, shared=True)
        try:
            self._lock = Lock(node_folder(path, node), manifest.name)
        except BaseException:
            self._all.release()
            raise

    def end(self) -> None:
        """Let others use the node's part."""
        super().end()
        self._all.release()
