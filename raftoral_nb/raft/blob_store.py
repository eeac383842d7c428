"""Where a node keeps blobs: what every store does, and the one in memory.

A store belongs to a node as its journal does, and outlives the node's incarnations. It says that it `holds` a blob only when it has
all of it, checked, and as durably as the log is kept.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, Protocol

from ..errors import DamagedBlobError
from ..workflow.codec.blobs import Content, InMemory, add_shelf, digest_of

Done = Callable[[BaseException | None], None]
"""Is told, on the loop, that something is stored (None) or why it is not."""


class Arriving(Protocol):
    """A blob on its way into a store, from its first byte to its last."""

    def add(self, data: bytes) -> None:
        """Take the bytes that come next. What keeps them from being stored is told at the end."""
        ...

    def finish(self, done: Done) -> None:
        """Check and store the whole; `done` gets `DamagedBlobError` if it is not what its digest says."""
        ...

    def abandon(self) -> None:
        """Drop what came."""
        ...


class BlobStore(Protocol):
    """The blobs of one node. Called on the consensus loop, but for `find`; nothing waits for a disk there."""

    def holds(self, digest: str) -> bool:
        """Return whether the whole blob is stored here."""
        ...

    def digests(self) -> tuple[str, ...]:
        """Return what is stored."""
        ...

    def put(self, digest: str, content: Content, done: Done) -> None:
        """Store a blob; one that is there is left as it is."""
        ...

    def adopt(self, digest: str, done: Callable[[bool], None]) -> None:
        """Take a blob from the store of a node beside this one, if one has it and shares it; `done(whether it is here now)`."""
        ...

    def arrive(self, digest: str, size: int) -> Arriving:
        """Begin to receive a blob of so many bytes."""
        ...

    def read(self, digest: str, offset: int, length: int, done: Callable[[bytes | None], None]) -> None:
        """Read so many bytes of a blob, for somebody else; `done(None)` if it is not here, or damaged."""
        ...

    def remove(self, digests: Iterable[str]) -> None:
        """Drop blobs that nothing refers to any more."""
        ...

    def notes(self) -> Mapping[str, bytes]:
        """Return the notes that lie beside the blobs, by name."""
        ...

    def set_note(self, name: str, note: bytes | None) -> None:
        """Put a few bytes beside the blobs, under a name, or take them away (None). If that fails it is logged, and the blobs stay."""
        ...

    def find(self, digest: str) -> Content | None:
        """See `Shelf`. From any thread."""
        ...

    def close(self) -> None:
        """Note that the node is gone: what is under way ends soon, and nobody is told. What is stored can still be found."""
        ...

    def end(self) -> None:
        """Wait until all that was under way has ended. Not on the consensus loop."""
        ...


class MemoryBlobs:
    """The blobs of a node without a data directory.

    Nodes of one process that have the same blob have one copy of its bytes, as long as one of them keeps it.
    """

    _shared: ClassVar[weakref.WeakValueDictionary[str, InMemory]] = weakref.WeakValueDictionary()

    def __init__(self, *, share: bool = True) -> None:
        """`share`: false for a node that is to have nothing but what came over its links, as in a simulation."""
        self._share = share
        # Invariant: whole, and checked.
        self._blobs: dict[str, InMemory] = {}
        self._notes: dict[str, bytes] = {}
        add_shelf(self)

    def holds(self, digest: str) -> bool:
        """See `BlobStore`."""
        return digest in self._blobs

    def digests(self) -> tuple[str, ...]:
        """See `BlobStore`."""
        return tuple(self._blobs)

    def put(self, digest: str, content: Content, done: Done) -> None:
        """See `BlobStore`."""
        if digest not in self._blobs:
            if not isinstance(content, InMemory):
                content = InMemory(content.view(private=True))
            self._keep(digest, content)
        done(None)

    def adopt(self, digest: str, done: Callable[[bool], None]) -> None:
        """See `BlobStore`."""
        known = self._shared.get(digest) if self._share else None
        if known is not None:
            self._blobs[digest] = known
        done(digest in self._blobs)

    def arrive(self, digest: str, size: int) -> Arriving:
        """See `BlobStore`."""
        return _ArrivingInMemory(self, digest, size)

    def read(self, digest: str, offset: int, length: int, done: Callable[[bytes | None], None]) -> None:
        """See `BlobStore`."""
        blob = self._blobs.get(digest)
        done(None if blob is None else bytes(blob.view(private=False)[offset : offset + length]))

    def remove(self, digests: Iterable[str]) -> None:
        """See `BlobStore`."""
        for digest in digests:
            self._blobs.pop(digest, None)

    def notes(self) -> Mapping[str, bytes]:
        """See `BlobStore`."""
        return self._notes.copy()

    def set_note(self, name: str, note: bytes | None) -> None:
        """See `BlobStore`."""
        if note is None:
            self._notes.pop(name, None)
        else:
            self._notes[name] = note

    def find(self, digest: str) -> Content | None:
        """See `Shelf`."""
        return self._blobs.get(digest)

    def close(self) -> None:
        """See `BlobStore`."""

    def end(self) -> None:
        """See `BlobStore`."""

    def _keep(self, digest: str, content: InMemory) -> None:
        if self._share:
            content = self._shared.setdefault(digest, content)
        self._blobs[digest] = content

    def arrived(self, digest: str, data: bytearray) -> None:
        """Keep a blob that came whole. Raises `DamagedBlobError` if it is not what its digest says."""
        content = InMemory(data)
        if digest_of(content) != digest:
            raise DamagedBlobError(f"blob {digest} came with other bytes than it was sent with")
        self._keep(digest, content)


class _ArrivingInMemory:
    def __init__(self, store: MemoryBlobs, digest: str, size: int) -> None:
        self._store = store
        self._digest = digest
        self._size = size
        self._data = bytearray()

    def add(self, data: bytes) -> None:
        """See `Arriving`."""
        self._data += data

    def finish(self, done: Done) -> None:
        """See `Arriving`."""
        try:
            self._store.arrived(self._digest, self._data)
        except DamagedBlobError as error:
            done(error)
        else:
            done(None)

    def abandon(self) -> None:
        """See `Arriving`."""
        self._data = bytearray()
