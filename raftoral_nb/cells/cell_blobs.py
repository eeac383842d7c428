"""Files that hold what cells recorded (`storage/content_files`), as the record has them: by digest and size."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..errors import DamagedBlobError
from ..storage.content_files import ContentFiles
from ..workflow.codec.blobs import ALIGNMENT, PIECE_BYTES, new_hasher


class CellBlob(msgspec.Struct, frozen=True):
    """A stored file: how it is found and checked."""

    digest: str
    """XXH3-128 of its bytes: 32 hexadecimal digits."""
    size: int
    """In bytes."""


class CellBlobs:
    """The files of one notebook's cells. One process writes to the folder at a time."""

    def __init__(self, folder: Path) -> None:
        """`folder` is made when it is needed, in one that is there."""
        self._files = ContentFiles(folder, synced=True)

    def put(self, parts: Sequence[Any]) -> CellBlob:
        """Store the bytes of these buffers, one behind the other, unless they are there already.

        Raises `OSError`, and `DamagedBlobError` if somebody changes them meanwhile.
        """
        views = [memoryview(part).cast("B") for part in parts if memoryview(part).nbytes]
        hasher = new_hasher()
        for view in views:
            hasher.update(view)
        blob = CellBlob(hasher.hexdigest(), sum(view.nbytes for view in views))
        if not self.is_there(blob, read=not self._files.holds(blob.digest)):
            with self._files.begin(blob.digest) as part:
                for view in views:
                    for offset in range(0, view.nbytes, PIECE_BYTES):
                        part.write(view[offset : offset + PIECE_BYTES])
                part.keep()
        return blob

    def load(self, blob: CellBlob) -> memoryview:
        """Return writeable bytes, unchecked, of which nothing reaches the store. Raises `OSError` if they are not there."""
        return self._files.read(blob.digest).view(private=True)

    def check(self, blob: CellBlob) -> None:
        """Read a file. Raises `OSError` if it cannot be, and `DamagedBlobError` if it is not what was stored: it will be stored anew."""
        self._files.check(blob.digest)

    def is_there(self, blob: CellBlob, *, read: bool) -> bool:
        """Tell whether it is there in its size; with `read` also whether it is what was stored."""
        try:
            content = self._files.check(blob.digest) if read else self._files.read(blob.digest)
        except (OSError, DamagedBlobError):
            return False
        return content.size == blob.size

    def sweep(self, kept: Collection[CellBlob]) -> None:
        """Remove all others. Never raises: what cannot be removed now will be later."""
        self._files.sweep({blob.digest for blob in kept})


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
