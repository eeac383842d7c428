"""Files that are named by the digest of what they hold, in a folder of their own: how they are written, read, checked and removed.

A file is written under another name, synced, and renamed when it is whole; then it is never changed. What it holds is checked against its
name once in each process, by whoever finds it first, and as often as `check` is called; what is damaged is renamed. Nobody but its owner
may read it.

Large values (`directory_blobs`) and what cells left (`cells/cell_blobs`) are kept so.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import secrets
import sys
import threading
import weakref
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final, Self

from ..errors import DamagedBlobError
from ..workflow.codec.blobs import PIECE_BYTES, Content, InMemory, digest_of, new_hasher, room
from .codec import Codec
from .sqlite_store import sync_file, sync_folder

MAPPED_BYTES: Final = 256 * 1024
"""Files from here on are mapped; smaller ones are read."""

_MOST_MAPPED: Final = 256
"""Files that are mapped at the same time: until Python 3.13 each mapping has a file descriptor, and a process few of those."""
_mapped: Final[weakref.WeakSet[mmap.mmap]] = weakref.WeakSet()
_NAME: Final = re.compile("[0-9a-f]{32}")


class Mapped:
    """The content of a file, which is mapped into memory when it is looked at: what is not touched is not read."""

    def __init__(self, file: Path) -> None:
        """Raises OSError if there is no such file."""
        self._file = file
        self.size = file.stat().st_size

    def pieces(self) -> Iterator[memoryview]:
        """See `Content`. They are read: where a disk fails that raises OSError, and a mapping would end the process."""
        with self._file.open("rb", buffering=0) as opened:
            while piece := opened.read(PIECE_BYTES):
                yield memoryview(piece)

    def view(self, *, private: bool) -> memoryview:
        """See `Content`. Raises OSError."""
        with self._file.open("rb") as opened:
            if self.size >= MAPPED_BYTES:
                with contextlib.suppress(OSError, ValueError):  # too many mappings, or a file system without them
                    return memoryview(_mapping(opened.fileno(), private=private))
            data = room(self.size)
            if opened.readinto(data) != self.size:
                raise OSError(f"{self._file} is shorter than it was")
            return data if private else data.toreadonly()


def _mapping(descriptor: int, *, private: bool) -> mmap.mmap:
    """Return a mapping of a whole file. Raises OSError."""
    access = mmap.ACCESS_COPY if private else mmap.ACCESS_READ
    if sys.version_info >= (3, 13) and sys.platform != "win32":
        return mmap.mmap(descriptor, 0, access=access, trackfd=False)
    if len(_mapped) >= _MOST_MAPPED:
        raise OSError("too many mappings")
    mapping = mmap.mmap(descriptor, 0, access=access)
    _mapped.add(mapping)
    return mapping


def make_folder(folder: Path, *, synced: bool) -> None:
    """Make a folder in one that is there, unless it is there too. Raises OSError."""
    if not folder.is_dir():
        folder.mkdir(mode=0o700)
        if synced:
            sync_folder(folder.parent)


class ContentFiles:
    """A folder of such files, which one process uses. All methods may be called on any thread."""

    def __init__(self, folder: Path, *, synced: bool, codec: Codec | None = None) -> None:
        """`folder` is made when it is needed; `synced`: a file is kept when it survives a power loss.

        With a `codec` files are decoded into memory, where others are mapped.
        """
        self.folder = folder
        self._synced = synced
        self._codec = codec
        # Invariant: the file that was decoded last; it may be read piece by piece.
        self._decoded: tuple[str, InMemory] | None = None
        # Invariant: whole and checked by this process. Replaced, added to and taken from by single operations.
        self._checked: set[str] = set()
        # What is checked, and whether its file is there, changes under it.
        self._lock = threading.Lock()
        self._removals = 0
        with contextlib.suppress(OSError):
            for part in folder.glob(".*"):  # of a process that ended while it wrote
                part.unlink()

    def holds(self, digest: str) -> bool:
        """Return whether it is here and was checked."""
        return digest in self._checked

    def digests(self) -> tuple[str, ...]:
        """Return what is here, those that were not checked yet among them."""
        with contextlib.suppress(OSError):
            return tuple(file.name for file in self.folder.iterdir() if _NAME.fullmatch(file.name))
        return ()

    # --- reading

    def find(self, digest: str) -> Content | None:
        """Return the content of a file, checked; None if it cannot be read. Raises `DamagedBlobError`."""
        try:
            return self.read(digest) if digest in self._checked else self.check(digest)
        except FileNotFoundError:
            self._checked.discard(digest)  # somebody removed it: it is not stored any more
        except OSError:
            pass
        return None

    def check(self, digest: str) -> Content:
        """Compare a file with its digest, and return its content. Raises OSError, and `DamagedBlobError` once it was renamed."""
        file = self.folder / digest
        removals, found = self._removals, file.stat()
        with contextlib.suppress(DamagedBlobError):
            content = self.read(digest)
            if digest_of(content) == digest:
                with self._lock:
                    # Not if it was removed meanwhile, or is another file now: then it is not stored, though it can be read.
                    if removals == self._removals and file.stat().st_ino == found.st_ino:
                        self._checked.add(digest)
                return content
        with self._lock:
            self._decoded = None
            if file.stat().st_ino == found.st_ino:  # else it was written anew meanwhile
                self._checked.discard(digest)
                file.replace(file.with_name(f"{digest}.damaged"))
        raise DamagedBlobError(
            f"{file} does not hold what was written: the disk, or somebody, changed it. It was renamed to {digest}.damaged; a node "
            "that has the value gives it again"
        )

    def read(self, digest: str) -> Content:
        """Return what a file holds, unchecked. Raises OSError, and `DamagedBlobError` if it cannot be decoded."""
        if self._codec is None:
            return Mapped(self.folder / digest)
        last = self._decoded
        if last is None or last[0] != digest:
            data = (self.folder / digest).read_bytes()
            try:
                last = digest, InMemory(self._codec.decode(data))
            except Exception as error:  # whatever a codec raises for bytes that it did not make
                raise DamagedBlobError(f"{self.folder / digest} cannot be decoded: {error}") from error
            self._decoded = last
        return last[1]

    def read_piece(self, digest: str, offset: int, length: int) -> bytes:
        """Return so many bytes of a file. Raises OSError, and `DamagedBlobError` if it cannot be decoded."""
        if self._codec is not None:
            return bytes(self.read(digest).view(private=False)[offset : offset + length])
        with (self.folder / digest).open("rb", buffering=0) as file:
            return os.pread(file.fileno(), length, offset)

    # --- writing

    def link(self, file: Path, digest: str) -> bool:
        """Take a file of another folder, which is on the disk once then; return whether it is whole. Raises OSError, `DamagedBlobError`."""
        make_folder(self.folder, synced=self._synced)
        os.link(file, self.folder / digest)
        self._sync_folder()
        return self.find(digest) is not None

    def sync(self, digest: str) -> None:
        """Put on the disk what an earlier process, which may not have cared for power losses, has written. Raises OSError."""
        if self._synced:
            with (self.folder / digest).open("rb") as file:
                sync_file(file.fileno())
            self._sync_folder()

    def begin(self, digest: str) -> Part:
        """Begin to write a file. Raises OSError."""
        make_folder(self.folder, synced=self._synced)
        return Part(self, digest, self._codec)

    def keep(self, digest: str, part: Path, descriptor: int) -> None:
        """Give a whole file its name: what `Part.keep` does. Raises OSError."""
        if self._synced:
            sync_file(descriptor)
        with self._lock:
            part.replace(self.folder / digest)
            self._sync_folder()
            self._checked.add(digest)

    def _sync_folder(self) -> None:
        if self._synced:
            sync_folder(self.folder)

    # --- removing

    def forget(self, digests: Iterable[str]) -> None:
        """Hold these no more: they are going to be removed."""
        self._checked.difference_update(digests)

    def remove(self, digest: str) -> None:
        """Remove a file, unless it was written again after `forget`. Never raises: what cannot be removed now is swept later."""
        with self._lock:
            if digest not in self._checked:
                self._removals += 1
                if self._decoded is not None and self._decoded[0] == digest:
                    self._decoded = None
                with contextlib.suppress(OSError):  # of another system: it is still mapped
                    (self.folder / digest).unlink()

    def sweep(self, kept: Collection[str]) -> None:
        """Remove all others, damaged ones and what was half written too. Never raises."""
        with contextlib.suppress(OSError):
            gone = [file.name for file in self.folder.iterdir() if file.name not in kept]
            self.forget(gone)
            for name in gone:
                self.remove(name)


class Part:
    """A file that is being written, on one thread; at the end of `with` it is dropped unless it was kept."""

    def __init__(self, files: ContentFiles, digest: str, codec: Codec | None) -> None:
        """See `ContentFiles.begin`."""
        self._files = files
        self._digest = digest
        self._hasher = new_hasher()
        self._codec = codec
        # What came, if it is to be encoded as a whole.
        self._whole = bytearray()
        self._kept = False
        self._path = files.folder / f".{digest}.{secrets.token_hex(4)}"
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    def write(self, piece: memoryview | bytes) -> None:
        """Write what comes next. Raises OSError."""
        self._hasher.update(piece)
        if self._codec is None:
            self._write(piece)
        else:
            self._whole += piece

    def _write(self, data: memoryview | bytes) -> None:
        left = memoryview(data)
        while left.nbytes:
            left = left[os.write(self._descriptor, left) :]

    def keep(self) -> None:
        """Check what was written, and give it its name. Raises OSError, `DamagedBlobError`, and whatever the codec raises."""
        if self._hasher.hexdigest() != self._digest:
            raise DamagedBlobError(f"blob {self._digest} came with other bytes than its digest says")
        if self._codec is not None:
            self._write(self._codec.encode(bytes(self._whole)))
        self._files.keep(self._digest, self._path, self._descriptor)
        self._kept = True

    def drop(self) -> None:
        """Close the file, and remove it if it was not kept. A second time does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        with contextlib.suppress(OSError):
            os.close(descriptor)
            if not self._kept:
                self._path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.drop()
