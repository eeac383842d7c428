"""The blobs of a node with a data directory: one file each (`content_files`), in the folder `blobs` of the node.

Nodes whose folders stand beside each other, in one data directory, share files by hard links: the disk has each blob once. What the disk has
to do is done by a thread of the store. What is damaged is fetched again from another node.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from ..errors import DamagedBlobError, StorageWriteError
from ..raft.blob_store import Arriving, Done
from ..workflow.codec.blobs import Content, add_shelf
from .codec import Codec
from .content_files import ContentFiles, Part
from .note_files import NoteFiles

logger = logging.getLogger(__name__)

FOLDER: Final = "blobs"
NOTES: Final = "held"
"""The folder, beside that of the blobs, of notes: which of them are held back, and for which steps."""


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
        self._files = ContentFiles(folder / FOLDER, synced=synced, codec=codec)
        self._notes = NoteFiles(folder / NOTES, synced=synced, codec=codec)
        self._beside = folder.parent
        self._worker = _Worker(name)
        self.closed = False
        add_shelf(self)

    # --- on the consensus loop

    def holds(self, digest: str) -> bool:
        """See `BlobStore`. What was not checked yet is not held: it can be adopted."""
        return self._files.holds(digest)

    def digests(self) -> tuple[str, ...]:
        """See `BlobStore`. Those that were not checked are among them."""
        return self._files.digests()

    def put(self, digest: str, content: Content, done: Done) -> None:
        """See `BlobStore`."""
        if self._files.holds(digest):
            done(None)
            return

        def work() -> BaseException | None:
            try:
                with self._files.begin(digest) as part:
                    for piece in content.pieces():
                        part.write(piece)
                        if self.closed:
                            return None
                    part.keep()
            except Exception as error:  # a codec may raise anything
                return _told(self._files.folder, error)
            return None

        self.do(work, done)

    def adopt(self, digest: str, done: Callable[[bool], None]) -> None:
        """See `BlobStore`. A file of its own that was not checked yet is taken first."""

        def work() -> bool:
            if self.closed:
                return False  # nobody is told, and whoever waits for the end need not wait for this
            try:
                if self.find(digest) is not None:
                    self._files.sync(digest)
                    return True
            except (DamagedBlobError, OSError) as error:
                logger.warning("%s", error)
            return self._link(digest)

        # At a start there are as many as the log refers to; each is hashed, and new values must not wait for that.
        self.do(work, done, later=True)

    def arrive(self, digest: str, size: int) -> Arriving:  # noqa: ARG002 - a file grows
        """See `BlobStore`."""
        return _Arriving(self, self._files, digest)

    def read(self, digest: str, offset: int, length: int, done: Callable[[bytes | None], None]) -> None:
        """See `BlobStore`."""

        def work() -> bytes | None:
            try:
                return self._files.read_piece(digest, offset, length)
            except Exception:
                return None

        if self._files.holds(digest):
            self.do(work, done)
        else:
            done(None)

    def remove(self, digests: Iterable[str]) -> None:
        """See `BlobStore`."""
        gone = tuple(digests)
        self._files.forget(gone)

        def work() -> None:
            for digest in () if self.closed else gone:  # the files are the next incarnation's
                self._files.remove(digest)

        if gone:
            self._worker.submit(work, later=True)

    def notes(self) -> Mapping[str, bytes]:
        """See `BlobStore`. One that cannot be read is left out."""
        return self._notes.all()

    def set_note(self, name: str, note: bytes | None) -> None:
        """See `BlobStore`."""
        self._worker.submit(lambda: self._notes.set(name, note))

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
        return self._files.find(digest)

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
            if file.parent != self._files.folder:
                try:
                    return self._files.link(file, digest)
                except DamagedBlobError as error:
                    logger.warning("%s", error)
                except OSError:
                    pass
        return False

    def submit(self, work: Callable[[], Any]) -> None:
        """Have something done on the thread, also if the node is gone: files must be closed."""
        self._worker.submit(work)


class _Arriving:
    """A blob that comes in pieces (`blob_store.Arriving`): on the consensus loop, its writing on the thread."""

    def __init__(self, store: DirectoryBlobs, files: ContentFiles, digest: str) -> None:
        self._store = store
        self._files = files
        self._digest = digest
        self._part: Part | None = None
        self._error: BaseException | None = None

    def add(self, data: bytes) -> None:
        """See `Arriving`."""
        self._store.do(lambda: self._add(data), _ignored)

    def finish(self, done: Done) -> None:
        """See `Arriving`."""
        self._store.do(self._end, done)

    def abandon(self) -> None:
        """See `Arriving`."""
        self._store.submit(self._drop)

    def _add(self, data: bytes) -> None:
        if self._error is None:
            try:
                self._begun().write(data)
            except OSError as error:
                self._error = error

    def _begun(self) -> Part:
        if self._part is None:
            self._part = self._files.begin(self._digest)
        return self._part

    def _end(self) -> BaseException | None:
        try:
            if self._error is not None:
                raise self._error
            self._begun().keep()
        except Exception as error:  # a codec may raise anything
            return error
        finally:
            self._drop()
        return None

    def _drop(self) -> None:
        if self._part is not None:
            self._part.drop()


def _told(folder: Path, error: BaseException) -> BaseException:
    if isinstance(error, OSError):
        return StorageWriteError(f"{folder} cannot be written: {error}; make room, or make it writable")
    return error


def _ignored(outcome: object) -> None:
    del outcome
