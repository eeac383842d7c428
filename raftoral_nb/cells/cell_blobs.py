"""Files that hold what cells recorded, each under the digest of its bytes.

A file is written under another name, synced and renamed: under its own name it is whole. It is mapped when it is read, privately and
writeable: what is done to the values does not reach the file, and memory is read as it is needed.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from ..storage.sqlite_store import sync_folder
from ..workflow.codec.blobs import ALIGNMENT, new_hasher

MAPPED_BYTES: Final = 1024 * 1024
"""Files from here on are mapped; smaller ones are read, as a mapping takes a file descriptor."""

_CHUNK: Final = 16 * 1024 * 1024


class CellBlob(msgspec.Struct, frozen=True):
    """A stored file: how it is found and checked."""

    digest: str
    """XXH3-128 of its bytes: 32 hexadecimal digits."""
    size: int
    """In bytes."""


class Blobs(Protocol):
    """A store of bytes, each found by what it holds."""

    def put(self, parts: Sequence[Any]) -> CellBlob:
        """Store the bytes of these buffers, one behind the other, unless they are there already. Raises `OSError`."""

    def load(self, blob: CellBlob) -> memoryview:
        """Return writeable bytes, of which nothing reaches the store. Raises `OSError` if they are not there."""

    def is_whole(self, blob: CellBlob) -> bool:
        """Read it, and tell whether it is what was stored."""

    def is_there(self, blob: CellBlob) -> bool:
        """Tell whether it is there in its size, without reading it."""

    def sweep(self, kept: Collection[CellBlob]) -> None:
        """Remove all others. Never raises: what cannot be removed now will be later."""

    def discard(self, blob: CellBlob) -> None:
        """Remove one that is damaged, so that it is stored anew. Never raises."""


class FileBlobs:
    """A folder of files; see `Blobs`. One process writes to it at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, parts: Sequence[Any]) -> CellBlob:
        """See `Blobs.put`."""
        views = [memoryview(part).cast("B") for part in parts if memoryview(part).nbytes]
        hasher = new_hasher()
        for view in views:
            hasher.update(view)
        blob = CellBlob(hasher.hexdigest(), sum(view.nbytes for view in views))
        if not self.is_there(blob):
            self._write(self._path(blob), views)
        return blob

    def _write(self, path: Path, views: Sequence[memoryview]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{secrets.token_hex(8)}.new")
        try:
            with temporary.open("wb", buffering=0) as file:
                for view in views:
                    written = 0
                    while written < view.nbytes:
                        written += file.write(view[written : written + _CHUNK]) or 0
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        with contextlib.suppress(OSError):  # of a file system that cannot
            sync_folder(self._folder)

    def load(self, blob: CellBlob) -> memoryview:
        """See `Blobs.load`."""
        path = self._path(blob)
        with path.open("rb") as file:
            if blob.size < MAPPED_BYTES:
                return memoryview(bytearray(file.read()))
            try:
                return memoryview(mmap.mmap(file.fileno(), blob.size, access=mmap.ACCESS_COPY))
            except (OSError, ValueError):  # too many mappings, or a file system without them
                return memoryview(bytearray(file.read()))

    def is_whole(self, blob: CellBlob) -> bool:
        """See `Blobs.is_whole`."""
        hasher = new_hasher()
        try:
            with self._path(blob).open("rb") as file:
                while chunk := file.read(_CHUNK):
                    hasher.update(chunk)
        except OSError:
            return False
        return hasher.hexdigest() == blob.digest

    def is_there(self, blob: CellBlob) -> bool:
        """See `Blobs.is_there`."""
        try:
            return self._path(blob).stat().st_size == blob.size
        except OSError:
            return False

    def sweep(self, kept: Collection[CellBlob]) -> None:
        """See `Blobs.sweep`."""
        names = {blob.digest for blob in kept}
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                if path.name not in names:
                    with contextlib.suppress(OSError):  # of another system: it is still mapped
                        path.unlink()

    def discard(self, blob: CellBlob) -> None:
        """See `Blobs.discard`."""
        with contextlib.suppress(OSError):
            self._path(blob).unlink()

    def _path(self, blob: CellBlob) -> Path:
        return self._folder / blob.digest


def aligned(parts: Iterable[memoryview]) -> tuple[list[Any], list[int]]:
    """Return the parts with padding between them, so that each begins at a multiple of `ALIGNMENT`; and where each begins."""
    filled: list[Any] = []
    places: list[int] = []
    at = 0
    for part in parts:
        padding = -at % ALIGNMENT
        if padding:
            filled.append(bytes(padding))
        places.append(at + padding)
        filled.append(part)
        at += padding + part.nbytes
    return filled, places
