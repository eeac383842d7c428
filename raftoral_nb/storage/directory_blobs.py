"""The blobs of a node with a data directory: one file each, named by its digest, in the folder `blobs` of the node.

A file is written under another name and renamed when it is whole, and never changed. Nodes whose folders stand beside each other, in one
data directory, share files by hard links: the disk has each blob once. What a file holds is checked against its name once in each process, by
a thread of the store or by whoever reads it first; what is damaged is renamed, and fetched again from another node.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import mmap
import os
import queue
import re
import secrets
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from ..errors import DamagedBlobError, StorageWriteError
from ..raft.blob_store import Arriving, Done
from ..workflow.codec.blobs import PIECE_BYTES, Content, InMemory, add_shelf, digest_of, new_hasher, room
from .codec import Codec
from .sqlite_store import sync_file, sync_folder

logger = logging.getLogger(__name__)

FOLDER: Final = "blobs"
NOTES: Final = "held"
"""The folder, beside that of the blobs, of notes: which of them are held back, and for which steps."""
_MOST_MAPPED: Final = 256
"""Files that are mapped at the same time: each mapping has a file descriptor (until Python 3.13), and a process few of those."""
_mapped: Final[weakref.WeakSet[mmap.mmap]] = weakref.WeakSet()
_NAME: Final = re.compile("[0-9a-f]{32}")


class Mapped:
    """The content of a blob in a file, which is mapped into memory when it is looked at: what is not touched is not read."""

    def __init__(self, file: Path) -> None:
        """Raises OSError if there is no such file."""
        self._file = file
        self.size = file.stat().st_size

    def pieces(self) -> Iterator[memoryview]:
        """See `Content`. Raises OSError."""
        if self.size:
            whole = self.view(private=False)
            for offset in range(0, self.size, PIECE_BYTES):
                yield whole[offset : offset + PIECE_BYTES]

    def view(self, *, private: bool) -> memoryview:
        """See `Content`. Raises OSError."""
        if not self.size:
            return memoryview(b"")
        with self._file.open("rb") as opened:
            if len(_mapped) >= _MOST_MAPPED:
                data = room(self.size)
                if opened.readinto(data) != self.size:
                    raise OSError(f"{self._file} is shorter than it was")
                return data if private else data.toreadonly()
            access = mmap.ACCESS_COPY if private else mmap.ACCESS_READ
            mapping = mmap.mmap(opened.fileno(), 0, access=access)
            _mapped.add(mapping)
            return memoryview(mapping)


class _Worker:
    """A daemon thread that does a store's work on the disk, one thing after the other. Begins with the first, ends by `close`."""

    def __init__(self, name: str) -> None:
        self._name = name
        # What waits, by whether it can wait for the rest, then in order.
        self._work: queue.PriorityQueue[tuple[int, int, Callable[[], None] | None]] = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    def submit(self, work: Callable[[], None], *, later: bool = False) -> None:
        """Have something done; `later`: when nothing else waits. To be called on one thread."""
        self._work.put((int(later), next(self._numbers), work))
        if self._thread is None:
            self._thread = threading.Thread(target=self._main, name=self._name, daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End, after what was submitted."""
        self._work.put((2, next(self._numbers), None))

    def join(self) -> None:
        """Wait for the end."""
        if self._thread is not None:
            self._thread.join()

    def _main(self) -> None:
        while (work := self._work.get()[2]) is not None:
            try:
                work()
            except Exception:  # a bug of ours, or a codec's: what comes next is to be done all the same
                logger.exception("work on large values failed")


class DirectoryBlobs:
    """The store of one incarnation of a node (`raft.blob_store.BlobStore`)."""

    def __init__(self, folder: Path, name: str, *, synced: bool, codec: Codec | None = None) -> None:
        """`folder` is the node's; `synced`: a blob is stored when it survives a power loss. `name` is that of its thread.

        With a `codec` blobs are decoded into memory, where others are mapped.
        """
        self._codec = codec
        # Invariant: the blob that was decoded last; it may be read piece by piece.
        self._decoded: tuple[str, InMemory] | None = None
        self._folder = folder / FOLDER
        self._notes = folder / NOTES
        self._beside = folder.parent
        self._synced = synced
        self._worker = _Worker(name)
        # Invariant: whole and checked by this process. Replaced, added to and taken from by single operations: read on any thread.
        self._checked: set[str] = set()
        # What is checked, and whether its file is there, changes under it.
        self._lock = threading.Lock()
        self._removals = 0
        self.closed = False
        with contextlib.suppress(OSError):
            for part in (*self._folder.glob(".*"), *self._notes.glob(".*")):  # of a process that ended while it wrote
                part.unlink()
        add_shelf(self)

    # --- on the consensus loop

    def holds(self, digest: str) -> bool:
        """See `BlobStore`. What was not checked yet is not held: it can be adopted."""
        return digest in self._checked

    def digests(self) -> tuple[str, ...]:
        """See `BlobStore`. Those that were not checked are among them."""
        with contextlib.suppress(OSError):
            return tuple(file.name for file in self._folder.iterdir() if _NAME.fullmatch(file.name))
        return ()

    def put(self, digest: str, content: Content, done: Done) -> None:
        """See `BlobStore`."""
        if digest in self._checked:
            done(None)
            return

        def work() -> BaseException | None:
            arriving = _Writing(self, digest)
            try:
                for piece in self.written(content).pieces():
                    arriving.write(piece)
                    if self.closed:
                        break
                else:
                    arriving.end()
                    return None
                arriving.drop()
            except Exception as error:  # a codec may raise anything
                arriving.drop()
                return _told(self._folder, error)
            return None

        self.do(work, done)

    def adopt(self, digest: str, done: Callable[[bool], None]) -> None:
        """See `BlobStore`. A file of its own that was not checked yet is taken first."""

        def work() -> bool:
            if self.closed:
                return False  # nobody is told, and whoever waits for the end need not wait for this
            try:
                if self.find(digest) is not None:
                    self._sync(digest)
                    return True
            except (DamagedBlobError, OSError) as error:
                logger.warning("%s", error)
            return self._link(digest)

        # At a start there are as many as the log refers to; each is hashed, and new values must not wait for that.
        self.do(work, done, later=True)

    def arrive(self, digest: str, size: int) -> Arriving:  # noqa: ARG002 - a file grows
        """See `BlobStore`."""
        return _Arriving(self, digest)

    def read(self, digest: str, offset: int, length: int, done: Callable[[bytes | None], None]) -> None:
        """See `BlobStore`."""

        def work() -> bytes | None:
            try:
                if self._codec is not None:
                    found = self.find(digest)
                    return None if found is None else bytes(found.view(private=False)[offset : offset + length])
                with (self._folder / digest).open("rb") as file:
                    return os.pread(file.fileno(), length, offset)
            except Exception:
                return None

        if digest in self._checked:
            self.do(work, done)
        else:
            done(None)

    def remove(self, digests: Iterable[str]) -> None:
        """See `BlobStore`."""
        gone = tuple(digests)
        self._checked.difference_update(gone)

        def work() -> None:
            for digest in () if self.closed else gone:  # the files are the next incarnation's
                with self._lock:
                    if digest not in self._checked:  # else it came again
                        self._removals += 1
                        if self._decoded is not None and self._decoded[0] == digest:
                            self._decoded = None
                        with contextlib.suppress(OSError):
                            (self._folder / digest).unlink()

        if gone:
            self._worker.submit(work, later=True)

    def notes(self) -> Mapping[str, bytes]:
        """See `BlobStore`. One that cannot be read is left out."""
        found: dict[str, bytes] = {}
        with contextlib.suppress(OSError):
            for file in self._notes.iterdir():
                if _NAME.fullmatch(file.name):
                    with contextlib.suppress(Exception):  # whatever a codec raises for bytes that it did not make
                        data = file.read_bytes()
                        found[file.name] = data if self._codec is None else self._codec.decode(data)
        return found

    def set_note(self, name: str, note: bytes | None) -> None:
        """See `BlobStore`."""

        def work() -> None:
            file = self._notes / name
            try:
                if note is None:
                    file.unlink(missing_ok=True)
                    return
                make_folder(self._notes, synced=self._synced)
                part = file.with_name(f".{name}.{secrets.token_hex(4)}")
                with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
                    opened.write(note if self._codec is None else self._codec.encode(note))
                    opened.flush()
                    if self._synced:
                        sync_file(opened.fileno())
                part.replace(file)
                if self._synced:
                    sync_folder(self._notes)
            except Exception as error:  # a codec may raise anything
                logger.warning("%s cannot be written, and its step would run again after a restart: %s", file, error)

        self._worker.submit(work)

    def close(self) -> None:
        """See `BlobStore`."""
        self.closed = True
        self._worker.close()

    def end(self) -> None:
        """See `BlobStore`."""
        self._worker.join()

    # --- from any thread

    def find(self, digest: str) -> Content | None:
        """See `Shelf`."""
        file = self._folder / digest
        try:
            if digest in self._checked:
                return self._read(file, digest)
            removals, found = self._removals, file.stat()
            content = self._read(file, digest)
            if content is None or digest_of(content) != digest:
                with self._lock:
                    self._decoded = None
                    if file.stat().st_ino == found.st_ino:  # else it was written anew meanwhile
                        file.replace(file.with_name(f"{digest}.damaged"))
                raise DamagedBlobError(
                    f"{file} does not hold what was written: the disk, or somebody, changed it. It was renamed to "
                    f"{digest}.damaged; a node that has the value gives it again"
                )
            with self._lock:
                # Not if it was removed meanwhile, or is another file now: then it is not stored, though it can be read.
                if removals == self._removals and file.stat().st_ino == found.st_ino:
                    self._checked.add(digest)
        except FileNotFoundError:
            self._checked.discard(digest)  # somebody removed it: it is not stored any more
            return None
        except OSError:
            return None
        return content

    def _read(self, file: Path, digest: str) -> Content | None:
        """Return what a file holds; None if it cannot be decoded. Raises OSError."""
        if self._codec is None:
            return Mapped(file)
        last = self._decoded
        if last is None or last[0] != digest:
            data = file.read_bytes()
            try:
                last = digest, InMemory(self._codec.decode(data))
            except Exception:  # whatever a codec raises for bytes that it did not make
                return None
            self._decoded = last
        return last[1]

    def written(self, content: Content) -> Content:
        """Return what is written of a blob."""
        if self._codec is None:
            return content
        return InMemory(self._codec.encode(bytes(content.view(private=False))))

    @property
    def encodes(self) -> bool:
        """Whether files hold something else than their blobs."""
        return self._codec is not None

    # --- on the thread

    def do(self, work: Callable[[], Any], done: Callable[[Any], None], *, later: bool = False) -> None:
        """Have something done on the thread, and `done(what it returned)` called on this loop, unless the node is gone by then."""
        if self.closed:
            return
        loop = asyncio.get_running_loop()

        def call() -> None:
            outcome = work()
            with contextlib.suppress(RuntimeError):  # the loop is gone, and with it whoever waited
                loop.call_soon_threadsafe(self._tell, done, outcome)

        self._worker.submit(call, later=later)

    def _tell(self, done: Callable[[Any], None], outcome: Any) -> None:
        if not self.closed:
            done(outcome)

    def _link(self, digest: str) -> bool:
        """Take the file of a node beside this one, if it has one that is whole."""
        for file in self._beside.glob(f"node-*/{FOLDER}/{digest}"):
            if file.parent == self._folder:
                continue
            with contextlib.suppress(OSError):
                self.make_folder()
                os.link(file, self._folder / digest)
                if self._synced:
                    sync_folder(self._folder)
                try:
                    return self.find(digest) is not None
                except DamagedBlobError as error:
                    logger.warning("%s", error)
        return False

    def _sync(self, digest: str) -> None:
        """Put on the disk what an earlier incarnation, which may not have cared for power losses, has written. Raises OSError."""
        if self._synced:
            with (self._folder / digest).open("rb") as file:
                sync_file(file.fileno())
            sync_folder(self._folder)

    def make_folder(self) -> None:
        """Make the folder, unless it is there. Raises OSError."""
        make_folder(self._folder, synced=self._synced)

    def open_part(self, digest: str) -> tuple[Path, int]:
        """Open a new file that is to become a blob's. Raises OSError."""
        self.make_folder()
        part = self._folder / f".{digest}.{secrets.token_hex(4)}"
        return part, os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    def keep(self, digest: str, part: Path, descriptor: int) -> None:
        """Make a whole file the blob's. Raises OSError."""
        if self._synced:
            sync_file(descriptor)
        with self._lock:
            part.replace(self._folder / digest)
            if self._synced:
                sync_folder(self._folder)
            self._checked.add(digest)

    def submit(self, work: Callable[[], Any]) -> None:
        """Have something done on the thread, also if the node is gone: files must be closed."""
        self._worker.submit(work)


class _Writing:
    """A file that is being written, on the store's thread."""

    def __init__(self, store: DirectoryBlobs, digest: str) -> None:
        self._store = store
        self._digest = digest
        self._hasher = new_hasher()
        self._part: tuple[Path, int] | None = None

    def write(self, piece: memoryview | bytes) -> None:
        """Write what comes next. Raises OSError."""
        if self._part is None:
            self._part = self._store.open_part(self._digest)
        left = memoryview(piece)
        self._hasher.update(left)
        while left.nbytes:
            left = left[os.write(self._part[1], left) :]

    def end(self) -> None:
        """Check what was written, and make it the blob. Raises OSError, `DamagedBlobError`."""
        if not self._store.encodes and self._hasher.hexdigest() != self._digest:
            raise DamagedBlobError(f"blob {self._digest} came with other bytes than its digest says")
        if self._part is None:
            self._part = self._store.open_part(self._digest)
        part, descriptor = self._part
        self._store.keep(self._digest, part, descriptor)
        os.close(descriptor)
        self._part = None

    def drop(self) -> None:
        """Remove what was written."""
        if self._part is not None:
            part, descriptor = self._part
            self._part = None
            with contextlib.suppress(OSError):
                os.close(descriptor)
            with contextlib.suppress(OSError):
                part.unlink()


class _Arriving:
    """A blob that comes in pieces (`blob_store.Arriving`): on the consensus loop, its writing on the thread."""

    def __init__(self, store: DirectoryBlobs, digest: str) -> None:
        self._store = store
        self._digest = digest
        self._writing = _Writing(store, digest)
        # What came, if it is to be encoded as a whole.
        self._whole = bytearray() if store.encodes else None
        self._error: BaseException | None = None

    def add(self, data: bytes) -> None:
        """See `Arriving`."""
        self._store.do(lambda: self._write(data), _ignored)

    def finish(self, done: Done) -> None:
        """See `Arriving`."""
        self._store.do(self._end, done)

    def abandon(self) -> None:
        """See `Arriving`."""
        self._store.submit(self._writing.drop)

    def _write(self, data: bytes) -> None:
        if self._whole is not None:
            self._whole += data
        elif self._error is None:
            try:
                self._writing.write(data)
            except OSError as error:
                self._error = error

    def _end(self) -> BaseException | None:
        try:
            if self._error is not None:
                raise self._error
            if self._whole is not None:
                whole = InMemory(self._whole)
                if digest_of(whole) != self._digest:
                    raise DamagedBlobError(f"blob {self._digest} came with other bytes than its digest says")
                for piece in self._store.written(whole).pieces():
                    self._writing.write(piece)
            self._writing.end()
        except Exception as error:
            self._writing.drop()
            return error
        return None


def make_folder(folder: Path, *, synced: bool) -> None:
    """Make a folder in one that is there, unless it is there too. Raises OSError."""
    if not folder.is_dir():
        folder.mkdir(mode=0o700)
        if synced:
            sync_folder(folder.parent)


def _told(folder: Path, error: BaseException) -> BaseException:
    if isinstance(error, OSError):
        return StorageWriteError(f"{folder} cannot be written: {error}; make room, or make it writable")
    return error


def _ignored(outcome: object) -> None:
    del outcome
