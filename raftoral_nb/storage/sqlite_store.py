"""Stores for a durable journal's records: what a store promises, and the one on SQLite.

A node's folder holds `log.db` (SQLite in WAL mode, with `log.db-wal` beside it) and `log.head`. SQLite alone is not enough: after a
flipped bit in its write-ahead log it drops every transaction from there on without a word. So the records are chained
(`record_chain`), and the head, in a file of its own, says how far they were written.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Protocol, Self

from ..errors import DamagedStorageError, ForeignDirectoryError, NewerFormatError, StorageError, StorageWriteError
from .codec import Codec
from .record_chain import (
    FORMAT,
    HEAD_BYTES,
    ChainBrokenError,
    Head,
    NewerRecordsError,
    Recovered,
    Row,
    follow_chain,
    mended_head,
    pieces_digest,
    read_head,
    slot_offset,
)

LOG_FILE: Final = "log.db"
HEAD_FILE: Final = "log.head"

APPLICATION_ID: Final = 0x526E624C
"""The application id of our SQLite files ("RnbL")."""

HEAD_SYNC_SECONDS: Final = 1.0
"""The head is written with every group of records, and synced at most this often (seconds): it only guards the records against
damage, and is behind them by no more than this after a power loss."""

_SCHEMA: Final = (
    "CREATE TABLE records (number INTEGER PRIMARY KEY, body BLOB NOT NULL, digest BLOB NOT NULL)",
    "CREATE TABLE pieces (snapshot INTEGER, number INTEGER, body BLOB NOT NULL, PRIMARY KEY (snapshot, number))",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {FORMAT}",
)


class Piece(NamedTuple):
    """A piece of the snapshot of entry `snapshot`."""

    snapshot: int
    number: int
    body: bytes


class Group(NamedTuple):
    """A group of changes written together: rows and pieces, and what they supersede."""

    rows: tuple[Row, ...]
    pieces: tuple[Piece, ...]
    base: int | None
    """The rows before this number are superseded."""
    snapshot: int | None
    """The pieces of other snapshots are superseded."""


class RecordReader(Protocol):
    """The reader of a store."""

    may_be_torn: bool
    """True if a crash may leave a part of a group, or a torn row."""

    def head(self) -> bytes:
        """Return the head file."""
        ...

    def rows(self) -> Iterator[Row]:
        """Return all rows, by number."""
        ...

    def pieces(self, snapshot: int) -> list[bytes]:
        """Return the pieces of a snapshot, by number."""
        ...


class RecordWriter(Protocol):
    """The writer of a store."""

    def write(self, group: Group, head: Head) -> None:
        """Store a group and then the head behind it. When this returns it survives what the level says it survives.

        Raises `StorageWriteError`; then nothing of the group may be counted on.
        """
        ...

    def close(self) -> None:
        """Let go of the files. Idempotent."""
        ...


def recover(reader: RecordReader, own: bytes) -> tuple[Recovered, tuple[bytes, ...]]:
    """Read and check everything: the log, and the pieces of its snapshot. Raises `ChainBrokenError`, `NewerRecordsError`."""
    head = read_head(reader.head(), own)
    found = follow_chain(reader.rows(), head, own, may_be_torn=reader.may_be_torn)
    kept = found.contents.kept
    pieces: tuple[bytes, ...] = ()
    if kept is not None:
        pieces = tuple(reader.pieces(kept.index))
        if len(pieces) != kept.pieces or pieces_digest(pieces) != kept.digest:
            raise ChainBrokenError(f"the snapshot of entry {kept.index} does not match its checksum")
        entries = found.contents.entries
        if not entries or entries[0][1] > kept.index:
            raise ChainBrokenError(f"the log does not continue from the snapshot of entry {kept.index}")
    return found, pieces


# --- SQLite -----------------------------------------------------------------------------------------------------------


class SqliteReader:
    """The reader of a node's folder, from a private copy: not even SQLite's own recovery changes a damaged file.

    A context manager: the copy is made when it is entered, in the folder for temporary files. Raises
    `DamagedStorageError` for a file that is missing or no database of SQLite's, `NewerFormatError`,
    `ForeignDirectoryError`, and `StorageError` if it cannot be read.
    """

    may_be_torn = False

    def __init__(self, folder: Path, codec: Codec | None = None) -> None:
        self.folder = folder
        self._codec = codec
        self._file = folder / LOG_FILE
        self.watch: Callable[[int, int], None] | None = None
        """Called as it is read, with the bytes that were, and about how many there are."""

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            try:
                # The head first: what is written meanwhile is behind it.
                self._head = (self.folder / HEAD_FILE).read_bytes()
                copies = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="raftoral-nb-")))
                shutil.copyfile(self._file, copies / LOG_FILE)
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(wal_of(self._file), wal_of(copies / LOG_FILE))
                self._size = sum(file.stat().st_size for file in copies.iterdir())
            except FileNotFoundError as error:
                raise DamagedStorageError(f"{error.filename} is missing; {ADVICE}") from None
            except OSError as error:
                raise StorageError(f"{self._file} cannot be read: {error}") from error
            if len(self._head) != HEAD_BYTES:
                raise damaged(
                    self.folder / HEAD_FILE, f"it has {len(self._head)} bytes, and is written with {HEAD_BYTES}"
                )
            self._db = stack.enter_context(contextlib.closing(sqlite3.connect(copies / LOG_FILE, isolation_level=None)))
            self._look()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.close()

    def _look(self) -> None:
        try:
            (application,) = self._db.execute("PRAGMA application_id").fetchone()
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if application != APPLICATION_ID:
                raise ForeignDirectoryError(f"{self._file} was not made by raftoral-nb, or is damaged; {ADVICE}")
            if version > FORMAT:
                raise newer(self._file, version)
            # Records say what is lost; this says what would be, as soon as SQLite uses a page twice.
            (problem,) = self._db.execute("PRAGMA integrity_check(1)").fetchone()
            if problem != "ok":
                raise damaged(self._file, str(problem))
        except sqlite3.Error as error:
            raise damaged(self._file, str(error)) from error

    def head(self) -> bytes:
        """Return the head file."""
        return self._head

    def rows(self) -> Iterator[Row]:
        """Return all rows, by number. Raises `ChainBrokenError` where the database cannot be read."""
        done = 0
        for number, body, digest in self._select("SELECT number, body, digest FROM records ORDER BY number"):
            if self.watch is not None and isinstance(body, bytes):
                done += len(body)
                self.watch(done, self._size)
            if not (isinstance(number, int) and isinstance(body, bytes) and isinstance(digest, bytes)):
                raise ChainBrokenError(f"record {number} is no record")
            yield Row(number, self._decoded(body), digest)

    def pieces(self, snapshot: int) -> list[bytes]:
        """Return the pieces of a snapshot, by number. Raises `ChainBrokenError` where the database cannot be read."""
        found = self._select("SELECT body FROM pieces WHERE snapshot = ? ORDER BY number", snapshot)
        return [self._decoded(body) if isinstance(body, bytes) else b"" for (body,) in found]

    def _decoded(self, body: bytes) -> bytes:
        try:
            return body if self._codec is None else self._codec.decode(body)
        except Exception as error:  # whatever a codec raises for bytes that it did not make
            raise ChainBrokenError(f"the codec cannot decode a record ({type(error).__name__})") from error

    def _select(self, question: str, *values: int) -> Iterator[tuple[object, ...]]:
        try:
            # Not `yield from`: a reader that stops in the middle would have the cursor closed, after the database
            # perhaps.
            for row in self._db.execute(question, values):  # noqa: UP028
                yield row
        except (sqlite3.Error, OverflowError) as error:
            raise ChainBrokenError(str(error)) from error

    def recover(self, own: bytes) -> tuple[Recovered, tuple[bytes, ...]]:
        """Read and check everything. Raises `DamagedStorageError`, naming the file, or `NewerFormatError`."""
        try:
            read_head(self._head, own)
        except ChainBrokenError as error:
            raise damaged(self.folder / HEAD_FILE, str(error)) from error
        except NewerRecordsError as error:
            raise NewerFormatError(f"{self.folder / HEAD_FILE}: {error}; use that version") from error
        try:
            return recover(self, own)
        except ChainBrokenError as error:
            raise damaged(self._file, str(error)) from error
        except NewerRecordsError as error:
            raise NewerFormatError(f"{self._file}: {error}; use that version") from error


class SqliteWriter:
    """The writer of a node's folder that was read up to `last`, and found whole.

    Raises `StorageWriteError` if it cannot be opened for that.

    With `synced` a group is on the disk when `write` returns; without, it is with the operating system, which survives the end of
    this process and not that of the machine. Calls must not overlap; they may come from any thread.
    """

    def __init__(self, folder: Path, own: bytes, last: Head, *, synced: bool, codec: Codec | None = None) -> None:
        self._file = folder / LOG_FILE
        self._codec = codec
        self._own = own
        self._synced = synced
        self._heads = 0
        self._head_synced_at = 0.0
        self._head = -1
        with _writing(self._file):
            self._db = sqlite3.connect(
                f"{self._file.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False
            )
            try:
                configure(self._db)
                # Whatever level wrote it: what is found now is on the disk from here on.
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if not synced:
                    self._db.execute("PRAGMA synchronous = OFF")
                head = (folder / HEAD_FILE).read_bytes()
                self._head = os.open(folder / HEAD_FILE, os.O_RDWR | getattr(os, "O_BINARY", 0))
                half = HEAD_BYTES // 2
                for mended in mended_head(head, own, last):
                    for offset in (0, half):
                        slot = mended[offset : offset + half]
                        if head[offset : offset + half] != slot:
                            _write_fully(self._head, slot, offset)
                            sync_file(self._head)
                    head = mended
            except BaseException:
                self._db.close()
                raise

    def write(self, group: Group, head: Head) -> None:
        """Store a group, then the head."""
        if (codec := self._codec) is not None:
            rows = tuple(row._replace(body=codec.encode(row.body)) for row in group.rows)
            group = group._replace(
                rows=rows, pieces=tuple(piece._replace(body=codec.encode(piece.body)) for piece in group.pieces)
            )
        with _writing(self._file):
            if group.base is not None and self._synced:
                # The rows that the head on the disk may still speak of are about to go.
                sync_file(self._head)
            db = self._db
            db.execute("BEGIN IMMEDIATE")
            try:
                db.executemany("INSERT INTO records VALUES (?, ?, ?)", group.rows)
                db.executemany("INSERT OR REPLACE INTO pieces VALUES (?, ?, ?)", group.pieces)
                if group.base is not None:
                    db.execute("DELETE FROM records WHERE number < ?", (group.base,))
                if group.snapshot is not None:
                    db.execute("DELETE FROM pieces WHERE snapshot != ?", (group.snapshot,))
                db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    if db.in_transaction:
                        db.execute("ROLLBACK")
                raise
            self._heads += 1
            _write_fully(self._head, head.slot(self._own), slot_offset(self._heads))
            # Behind a base at once: else both slots might speak of rows that are gone, if the next one is torn.
            if self._synced and (
                group.base is not None or time.monotonic() - self._head_synced_at >= HEAD_SYNC_SECONDS
            ):
                self._sync_head()

    def _sync_head(self) -> None:
        sync_file(self._head)
        self._head_synced_at = time.monotonic()

    def close(self) -> None:
        """Let go of the files."""
        if self._head >= 0:
            with contextlib.suppress(OSError):
                if self._synced:
                    sync_file(self._head)
            os.close(self._head)
            self._head = -1
            with contextlib.suppress(sqlite3.Error):
                self._db.close()


def create(folder: Path, first: Row, own: bytes, codec: Codec | None = None) -> None:
    """Make a node's folder with the first row of its log; it is on the disk when this returns. Raises `StorageWriteError`."""
    file = folder / LOG_FILE
    with _writing(file):
        folder.mkdir(mode=0o700, parents=True)  # what is in it is run: no other user is to read or write it
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as db:
            configure(db)
            for statement in _SCHEMA:
                db.execute(statement)
            stored = first if codec is None else first._replace(body=codec.encode(first.body))
            db.execute("INSERT INTO records VALUES (?, ?, ?)", stored)
        slot = Head(first.number, first.digest).slot(own)
        padded = b"".join(slot.ljust(HEAD_BYTES // 2, b"\0") for _ in range(2))
        write_file(folder / HEAD_FILE, padded)
        sync_folder(folder.parent)


def configure(db: sqlite3.Connection) -> None:
    """Set up a database as all of ours are: written by one process, through a write-ahead log, synced."""
    db.execute("PRAGMA locking_mode = EXCLUSIVE")  # and so no shared-memory file either
    (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise sqlite3.OperationalError(f"SQLite keeps no write-ahead log here (journal_mode is {mode})")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA fullfsync = ON")  # macOS: a plain fsync leaves it in the drive's cache
    db.execute("PRAGMA checkpoint_fullfsync = ON")


# --- files ------------------------------------------------------------------------------------------------------------

ADVICE: Final = (
    "nothing was changed. Restore the whole data directory from a backup, or start with leave_out=[N] to continue without that "
    "node while most of the nodes are undamaged"
)


def damaged(file: Path, problem: str) -> DamagedStorageError:
    """Return the error for a damaged file."""
    return DamagedStorageError(f"{file} is damaged: {problem}; {ADVICE}")


def newer(file: Path, version: object) -> NewerFormatError:
    """Return the error for a file of a later version."""
    return NewerFormatError(
        f"{file} has format {version}, this version reads format {FORMAT}; use the one that wrote it"
    )


def wal_of(file: Path) -> Path:
    """Return the write-ahead log that SQLite keeps beside a database."""
    return file.with_name(file.name + "-wal")


def sync_file(descriptor: int) -> None:
    """Have the operating system put a file's content on the disk."""
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        getattr(os, "fdatasync", os.fsync)(descriptor)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder put on the disk, where that is a thing of its own."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def beside(file: Path) -> Path:
    """Return the temporary path that `write_file` writes to.

    The file stays there if the process is killed meanwhile.
    """
    return file.with_name(file.name + ".new")


def write_file(file: Path, data: bytes) -> None:
    """Make or replace a file, wholly or not at all; it is on the disk when this returns."""
    new = beside(file)
    descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)
    try:
        _write_fully(descriptor, data, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    new.replace(file)
    sync_folder(file.parent)


def _write_fully(descriptor: int, data: bytes, offset: int) -> None:
    written = os.pwrite(descriptor, data, offset)
    if written != len(data):
        raise OSError(f"{written} of {len(data)} bytes were written")


@contextlib.contextmanager
def _writing(file: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StorageWriteError(
            f"{file} cannot be written: {error}. Nothing is acknowledged that is not stored; make room, or make the folder "
            "writable"
        ) from error


def numbered(pieces: Sequence[bytes], snapshot: int) -> tuple[Piece, ...]:
    """Return the pieces of a snapshot as they are stored."""
    return tuple(Piece(snapshot, number, body) for number, body in enumerate(pieces))
