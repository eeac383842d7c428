"""A cluster's data directory: whose it is, who uses it, and the journals of the nodes in it.

DIR/cluster.json     the cluster's id, name and nodes, and the formats' version
DIR/lock             locked by the process that uses the directory, and names it
DIR/node-1/ ...      the node's log, term, vote and snapshot; see `sqlite_store`
DIR/node-1/blobs/    the large values that its log refers to; see `directory_blobs`
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import msgspec

from ..core.records import NodeId
from ..errors import (
    DamagedStorageError,
    DirectoryInUseError,
    ForeignDirectoryError,
    NewerFormatError,
    StorageError,
    StorageWriteError,
)
from ..limits import MAX_NODES
from ..raft.journal import Journals, MemoryJournal
from .codec import Codec, mark, refuse_other
from .directory_blobs import DirectoryBlobs
from .durable_journal import DurableJournal, SaverThread
from .record_chain import FORMAT, Chain, ChainContents, Recovered, identity
from .sqlite_store import ADVICE, SqliteReader, SqliteWriter, beside, create, damaged, write_file

Durability = Literal["process", "disk"]
"""The kind of crash that stored data survives: the end of the process (a killed kernel), or a power loss as well."""

MANIFEST_FILE: Final = "cluster.json"
LOCK_FILE: Final = "lock"
CREATING_FILE: Final = "creating"

PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"


class Manifest(msgspec.Struct, frozen=True):
    """The description of the cluster in a data directory."""

    format: int
    cluster: str
    """A random id."""
    name: str
    founders: tuple[NodeId, ...]
    """The nodes that it was made with. Who joined later begins without members, until the log names it."""
    nodes: tuple[NodeId, ...]
    """Those that have a folder."""
    python: str
    """The version of Python that the workflows' code in it is for, as `3.11`."""
    made: float
    """The time when it was made (Unix seconds)."""
    checksum: str = ""
    codec: str = ""
    """What the codec made of bytes that are known, by which it is known; "" if the directory is written without one."""

    def sealed(self) -> Manifest:
        """Return the same with its checksum."""
        parts = [self.format, self.cluster, self.name, self.founders, self.nodes, self.python, self.made]
        body = json.dumps([*parts, self.codec] if self.codec else parts)  # manifests of before have no codec
        return msgspec.structs.replace(self, checksum=blake2b(body.encode(), digest_size=16).hexdigest())


def node_folder(path: Path, node: NodeId) -> Path:
    """Return the folder of a node's files."""
    return path / f"node-{node}"


def read_manifest(path: Path) -> Manifest | None:
    """Read the description of the cluster in a directory; None if there is no cluster in it yet. Changes nothing.

    Raises `ForeignDirectoryError` for a directory with other things in it, `DamagedStorageError`, `NewerFormatError`, and
    `StorageError` if it cannot be read.
    """
    file = path / MANIFEST_FILE
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        _refuse_foreign(path)
        return None
    except NotADirectoryError:
        raise ForeignDirectoryError(f"{path} is a file; give a directory, or a name that is not used yet") from None
    except OSError as error:
        raise StorageError(f"{file} cannot be read: {error}") from error
    try:
        written = msgspec.json.decode(data)
        version = written["format"]
        if isinstance(version, int) and version > FORMAT:
            raise NewerFormatError(
                f"{file} has format {version}, this version reads format {FORMAT}; use the one that wrote it"
            )
        manifest = msgspec.json.decode(data, type=Manifest)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise damaged(file, f"it is not as it was written ({error})") from error
    if manifest.sealed() != manifest or not 1 <= len(manifest.nodes) <= MAX_NODES:
        raise damaged(file, "it does not match its checksum")
    return manifest


def _refuse_foreign(path: Path) -> None:
    try:
        names = {one.name for one in path.iterdir()}
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error}") from error
    if CREATING_FILE in names or names <= {LOCK_FILE, beside(path / CREATING_FILE).name}:
        return
    if any((path / name).is_dir() and name.startswith("node-") for name in names):
        raise DamagedStorageError(f"{path / MANIFEST_FILE} is missing; {ADVICE}")
    raise ForeignDirectoryError(
        f"{path} holds other files ({', '.join(sorted(names)[:3])}) and no cluster; give an empty directory or a new name"
    )


def refuse_others(path: Path) -> None:
    """Raise `ForeignDirectoryError` if a data directory, or a log in it, is another user's: what is in it is code.

    Root's are anybody's, and root may use all: in containers folders often belong to another user.
    """
    us = os.geteuid()
    for part in (path, path / MANIFEST_FILE, *path.glob("node-*"), *path.glob("node-*/*"), *path.glob("node-*/*/*")):
        try:
            owner = part.lstat().st_uid
        except OSError:  # whoever reads it will say so
            continue
        if owner not in (us, 0) and us != 0:
            raise ForeignDirectoryError(
                f"{part} belongs to user {owner}, not to you ({us}): the workflows in it are code, which would be run as you. "
                "Give a directory of your own"
            )


class Lock:
    """The lock on a directory, which this process holds for as long as it lives.

    A lock whose process is gone is no lock.
    """

    def __init__(self, path: Path, cluster: str, *, shared: bool = False) -> None:
        """Lock the directory; with `shared`, together with others who share it.

        Raises `DirectoryInUseError`, naming the owner, and `StorageWriteError`.
        """
        try:
            import fcntl
        except ImportError:
            raise StorageError("a data directory needs file locks as Linux and macOS have them") from None
        self.file = path / LOCK_FILE
        self._shared = shared
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StorageWriteError(
                f"{path} cannot be used as a data directory: {error}; make it writable, or give another directory"
            ) from error
        try:
            fcntl.flock(self._descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            text = json.dumps(
                {"pid": os.getpid(), "host": socket.gethostname(), "cluster": cluster, "since": time.time()}
            )
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, text.encode(), 0)
        except BlockingIOError:
            os.close(self._descriptor)
            raise DirectoryInUseError(
                f"{path} is in use by {owner(path) or 'another process'}; stop that cluster, or give another directory"
            ) from None
        except OSError as error:
            os.close(self._descriptor)
            raise StorageWriteError(
                f"{self.file} cannot be written: {error}; make room, or make it writable"
            ) from error
        _held.add(self)

    def release(self) -> None:
        """Let others use the directory. Idempotent."""
        if self in _held:
            _held.discard(self)
            if not self._shared:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)

    def forget(self) -> None:
        """Close the copy of the lock in a forked child, which would outlive the parent otherwise."""
        os.close(self._descriptor)


_held: set[Lock] = set()


def _forget_in_child() -> None:
    for lock in tuple(_held):
        with contextlib.suppress(OSError):
            lock.forget()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


def owner(path: Path) -> str | None:
    """Return which process uses a directory, as text from its lock file; None if none does.

    Changes nothing, takes no lock for long.
    """
    import fcntl

    try:
        descriptor = os.open(path / LOCK_FILE, os.O_RDONLY)
    except OSError:
        return None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return _described(os.pread(descriptor, 4096, 0))
        return None
    finally:
        os.close(descriptor)


def _described(text: bytes) -> str:
    try:
        found: dict[str, Any] = json.loads(text)
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found["since"]))
        own = " (this process)" if found["pid"] == os.getpid() else ""
        return f"cluster {found['cluster']!r} of process {found['pid']}{own} on {found['host']}, since {since}"
    except (ValueError, KeyError, TypeError):
        return "another process"


class ReadingWatch(Protocol):
    """An observer of how far reading the logs has come. Called on any thread; must neither wait nor raise."""

    def reading(self, node: NodeId, done: int, total: int) -> None:
        """Note that so many bytes of a node's log are read and checked."""
        ...

    def was_read(self, node: NodeId, last_index: int) -> None:
        """Note that a node's log is in memory; `last_index` is its last entry's."""
        ...


def refuse_other_python(path: Path, manifest: Manifest) -> None:
    """Raise `ForeignDirectoryError` if the code in a directory is of another version of Python."""
    if manifest.python != PYTHON:
        raise ForeignDirectoryError(
            f"the workflows in {path} are code of Python {manifest.python}, which Python {PYTHON} cannot load; "
            f"use Python {manifest.python}"
        )


class DirectoryJournals(Journals):
    """The journals of a cluster whose nodes keep theirs in a data directory. Holds the directory's lock until `end`."""

    def __init__(
        self,
        path: Path,
        name: str,
        nodes: Sequence[NodeId],
        durability: Durability,
        watch: ReadingWatch | None = None,
        codec: Codec | None = None,
    ) -> None:
        """Take the directory, and make what is missing in a new one.

        Raises `DirectoryInUseError`, `ForeignDirectoryError` (another name, other nodes, another Python's code), `CodecError`,
        `DamagedStorageError`, `NewerFormatError`, and `StorageWriteError`.
        """
        super().__init__()
        self.path = path
        self._durability: Durability = durability
        self._name = name
        self._watch = watch
        self._codec = codec
        read_manifest(path)  # before a lock file is made in a directory of another cluster
        refuse_others(path)
        self._lock = Lock(path, name)
        try:
            found = read_manifest(path)
            if found is not None:
                (path / CREATING_FILE).unlink(missing_ok=True)
            self.manifest = found or _make(path, name, tuple(nodes), codec)
            refuse_other(self.manifest.codec, codec, str(path))
            if self.manifest.nodes != tuple(nodes) or self.manifest.name != name:
                raise ForeignDirectoryError(
                    f"{path} holds cluster {self.manifest.name!r} of nodes {', '.join(map(str, self.manifest.nodes))}, not "
                    f"{name!r} of nodes {', '.join(map(str, nodes))}; leave name and nodes out to continue it"
                )
            refuse_other_python(path, self.manifest)
        except BaseException:
            self._lock.release()
            raise

    async def open(self, node: NodeId) -> MemoryJournal:
        """Read and check a node's log from the disk, beside the loop; an unknown node gets an empty one. Raises `StorageError`."""
        self.close(node)
        if node not in self.manifest.nodes:
            self._add(node)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[DurableJournal] = loop.create_future()
        thread = SaverThread(f"{self._name}-node-{node}-disk")
        made: list[DurableJournal | BaseException] = []

        def work() -> None:
            try:
                made.append(self._read(node, thread))
            except BaseException as error:
                made.append(error)

        def finished() -> None:
            (outcome,) = made
            if isinstance(outcome, DurableJournal):
                if future.cancelled():
                    outcome.close_store()
                else:
                    future.set_result(outcome)
            elif not future.cancelled():
                future.set_exception(outcome)

        thread.submit(loop, work, finished)
        try:
            journal = await future
        except BaseException:
            thread.close()
            raise
        if self._durability == "process":
            thread.close()  # storing is a call of the operating system: quicker than handing it over
        self._journals[node] = journal
        return journal

    def _read(self, node: NodeId, thread: SaverThread) -> DurableJournal:
        folder = node_folder(self.path, node)
        own = identity(self.manifest.cluster, node)
        watch = self._watch
        with SqliteReader(folder, self._codec) as reader:
            if watch is not None:
                reader.watch = lambda done, total: watch.reading(node, done, total)
            recovered, pieces = reader.recover(own)
        synced = self._durability == "disk"
        journal = DurableJournal(
            SqliteWriter(folder, own, recovered.chain.head, synced=synced, codec=self._codec),
            recovered,
            pieces,
            saver=thread if synced else None,
        )
        journal.blobs = DirectoryBlobs(folder, f"{self._name}-node-{node}-blobs", synced=synced, codec=self._codec)
        try:
            journal.begin()
        except BaseException:
            journal.close_store()
            raise
        if watch is not None:
            watch.was_read(node, journal.last_index)
        return journal

    def _add(self, node: NodeId) -> None:
        manifest = self.manifest
        _drop_folder(node_folder(self.path, node))  # of one that was removed before
        _make_node(self.path, manifest.cluster, node, self._codec)
        nodes = tuple(sorted((*manifest.nodes, node)))
        self.manifest = _write_manifest(self.path, msgspec.structs.replace(manifest, nodes=nodes))

    def forget(self, node: NodeId) -> None:
        """Drop the log of a node that will never come back. Raises `StorageWriteError`."""
        self.close(node)
        super().forget(node)
        if node in self.manifest.nodes:
            nodes = tuple(one for one in self.manifest.nodes if one != node)
            self.manifest = _write_manifest(self.path, msgspec.structs.replace(self.manifest, nodes=nodes))
            _drop_folder(node_folder(self.path, node))

    def close(self, node: NodeId) -> None:
        """Note that the incarnation has ended: what it had not stored is lost."""
        self.of(node).close()

    def end(self) -> None:
        """Let others use the directory."""
        for journal in self._journals.values():
            journal.close()
            journal.blobs.end()
        self._lock.release()


def _make(path: Path, name: str, nodes: tuple[NodeId, ...], codec: Codec | None) -> Manifest:
    """Make a new cluster's directory. Until `cluster.json` is there nothing in it counts, and it is made anew."""
    try:
        write_file(path / CREATING_FILE, b"")
        for folder in path.glob("node-*"):
            _drop_folder(folder)
        manifest = Manifest(
            FORMAT, secrets.token_hex(16), name, nodes, nodes, PYTHON, round(time.time(), 3), codec=mark(codec)
        )
        for node in nodes:
            _make_node(path, manifest.cluster, node, codec)
        manifest = _write_manifest(path, manifest)
        (path / CREATING_FILE).unlink()
    except OSError as error:
        raise StorageWriteError(f"{path} cannot be written: {error}; make room, or make it writable") from error
    return manifest


def _drop_folder(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(
            folder, ignore_errors=True
        )  # its thread may still write a large value: what is left goes when the number is used again


def _make_node(path: Path, cluster: str, node: NodeId, codec: Codec | None) -> None:
    own = identity(cluster, node)
    chain = Chain(0, own, own)
    create(node_folder(path, node), chain.append(ChainContents().base(own)), own, codec)


def _write_manifest(path: Path, manifest: Manifest) -> Manifest:
    manifest = manifest.sealed()
    try:
        write_file(path / MANIFEST_FILE, msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    except OSError as error:
        raise StorageWriteError(f"{path / MANIFEST_FILE} cannot be written: {error}; make room") from error
    return manifest


def read_node(
    path: Path, manifest: Manifest, node: NodeId, codec: Codec | None = None
) -> tuple[Recovered, tuple[bytes, ...]]:
    """Read a node's log and its snapshot's pieces, without changing anything. Raises `StorageError`."""
    refuse_other(manifest.codec, codec, str(path))
    with SqliteReader(node_folder(path, node), codec) as reader:
        return reader.recover(identity(manifest.cluster, node))
