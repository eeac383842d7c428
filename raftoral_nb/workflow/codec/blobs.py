"""Blobs: the encoding of values that are too large for the log, and how they are read again.

A blob is a pickle of protocol 5 with its large buffers beside it (PEP 574), laid out so that a file of it can be mapped into memory:

    magic, length of the table | table | pickle | buffer | buffer ...

each part from the third on at a multiple of `ALIGNMENT`. The table has the places of the pickle and of each buffer. A pickle without
buffers that becomes much smaller by it is compressed: another magic, and the rest is that. A blob is found, and checked, by the digest of its bytes. In a record stands a reference to it (`core/blob_refs`).

Whoever makes a value has its blob in hand until it is stored: `Carried`, the reference, holds it. Whoever reads one finds it in a `Shelf`, a
place of this process where blobs are kept. Which one does not matter: what has the digest is the blob.
"""

from __future__ import annotations

import contextlib
import mmap
import sys
import threading
import weakref
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, Final, Protocol

import msgspec

from ...core.blob_refs import BlobRef, encode_reference, reference
from ...errors import BlobMissingError, DamagedBlobError
from .compression import compressed, decompressed

MAGIC: Final = b"RNBLOB1\n"
COMPRESSED: Final = b"RNBLOBZ\n"
"""How a blob begins that is a compressed pickle."""

ALIGNMENT: Final = 64
"""Where the pickle and each buffer begin in a blob: at multiples of it (bytes). Arrays are mapped as they are."""

PIECE_BYTES: Final = 1024 * 1024
"""The most of a blob that is hashed, written or looked at in one go (bytes)."""

_MAPPED: Final = 64 * 1024
_Place = tuple[int, int]


class _Table(msgspec.Struct, frozen=True, array_like=True):
    """The places of a blob's parts: (offset, length) in bytes from the end of the table's padding."""

    pickle: _Place
    buffers: tuple[_Place, ...]


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(_Table)
_HEAD: Final = len(MAGIC) + 8


def room(size: int) -> memoryview:
    """Return so many writeable bytes. They are the operating system's own again when nobody refers to them, whatever Python keeps."""
    return memoryview(_anonymous(size)) if size >= _MAPPED else memoryview(bytearray(size))


def _anonymous(size: int) -> mmap.mmap:
    if sys.platform != "linux":
        return mmap.mmap(-1, size)
    # Shared, as is the default, it has no huge pages; to be given small ones takes longer than to fill them.
    mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without them
        mapping.madvise(mmap.MADV_HUGEPAGE)
    return mapping


class Content(Protocol):
    """The bytes of a blob, wherever they are."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    def pieces(self) -> Iterator[memoryview]:
        """Return the bytes in order, at most `PIECE_BYTES` at a time."""
        ...

    def view(self, *, private: bool) -> memoryview:
        """Return all the bytes; with `private` in memory that is the caller's own, and may be written to."""
        ...


class Pickled:
    """The content of a blob that was just made: a pickle and the buffers of the value itself, which are not copied."""

    def __init__(self, pickled: bytes, buffers: list[memoryview]) -> None:
        places: list[_Place] = []
        at = 0
        parts = [memoryview(pickled), *buffers]
        for part in parts:
            at = _aligned(at)
            places.append((at, part.nbytes))
            at += part.nbytes
        table = _encoder.encode(_Table(places[0], tuple(places[1:])))
        head = MAGIC + len(table).to_bytes(8, "little") + table
        head += bytes(_aligned(len(head)) - len(head))
        self._parts = [
            (0, memoryview(head)),
            *((len(head) + place, part) for (place, _), part in zip(places, parts, strict=True)),
        ]
        self.size = len(head) + at

    def pieces(self) -> Iterator[memoryview]:
        """See `Content`."""
        at = 0
        for begin, part in self._parts:
            if begin > at:
                yield memoryview(bytes(begin - at))
            for offset in range(0, part.nbytes, PIECE_BYTES):
                yield part[offset : offset + PIECE_BYTES]
            at = begin + part.nbytes

    def view(self, *, private: bool) -> memoryview:  # noqa: ARG002 - it is always the caller's own
        """See `Content`."""
        return self.whole()

    def whole(self) -> memoryview:
        """Return a copy of all the bytes."""
        whole = room(self.size)
        at = 0
        for piece in self.pieces():
            whole[at : at + piece.nbytes] = piece
            at += piece.nbytes
        return whole


def made(pickled: bytes) -> InMemory:
    """Return the content of the blob of a pickle without buffers, compressed if that helps."""
    smaller = compressed(pickled)
    return InMemory(Pickled(pickled, []).whole() if smaller is None else COMPRESSED + smaller)


class InMemory:
    """The content of a blob in memory. Never changed."""

    __slots__ = ("__weakref__", "_data")

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data = memoryview(data).toreadonly()

    @property
    def size(self) -> int:
        """Bytes."""
        return self._data.nbytes

    def pieces(self) -> Iterator[memoryview]:
        """See `Content`."""
        for offset in range(0, self._data.nbytes, PIECE_BYTES):
            yield self._data[offset : offset + PIECE_BYTES]

    def view(self, *, private: bool) -> memoryview:
        """See `Content`."""
        if not private:
            return self._data
        copy = room(self._data.nbytes)
        copy[:] = self._data
        return copy


class Carried(bytes):
    """A reference with the blob's content, for as long as somebody has to bring that to a store."""

    content: Content
    ref: BlobRef

    @classmethod
    def of(cls, content: Content, digest: str, shown: str) -> Carried:
        """Return the reference to a blob."""
        ref = BlobRef(digest, content.size, shown)
        carried = cls(encode_reference(ref))
        carried.content, carried.ref = content, ref
        return carried


def carry(value: bytes, content: Content) -> bytes:
    """Return a reference with the content that came beside it. Raises `DamagedBlobError` if that is another blob's."""
    ref = reference(value)
    if ref is None or digest_of(content) != ref.digest:
        raise DamagedBlobError("a large value came with other bytes than it was sent with")
    return Carried.of(content, ref.digest, ref.shown)


def plain(value: bytes) -> bytes:
    """Return a record's value without what it carries."""
    return bytes(value) if isinstance(value, Carried) else value


def digest_of(content: Content) -> str:
    """Return the digest of a blob: XXH3-128 of its bytes, as 32 hexadecimal digits."""
    hasher = new_hasher()
    for piece in content.pieces():
        hasher.update(piece)
    return hasher.hexdigest()


class Hasher(Protocol):
    """A digest that is being made."""

    def update(self, data: Any, /) -> None:
        """Add bytes."""
        ...

    def hexdigest(self) -> str:
        """Return the digest of all that was added."""
        ...


def new_hasher() -> Hasher:
    """Return the hash that names blobs, of no bytes yet."""
    try:
        import xxhash  # only who has large values needs it
    except ImportError:  # in WebAssembly, where no node meets one that has it
        return blake2b(digest_size=16)
    hasher: Hasher = xxhash.xxh3_128()
    return hasher


# --- reading


class Shelf(Protocol):
    """A place of this process where blobs are kept."""

    def find(self, digest: str) -> Content | None:
        """Return the content of a blob, checked; None if it is not here. From any thread; may read a disk, but no network.

        Raises `DamagedBlobError` if it is here and is not what it was.
        """
        ...


_shelves: Final[weakref.WeakSet[Any]] = weakref.WeakSet()
_lock = threading.Lock()


def add_shelf(shelf: Shelf) -> None:
    """Have blobs looked for there too, for as long as the shelf exists or until `remove_shelf`."""
    with _lock:
        _shelves.add(shelf)


def remove_shelf(shelf: Shelf) -> None:
    """Undo `add_shelf`."""
    with _lock:
        _shelves.discard(shelf)


def find(ref: BlobRef) -> Content:
    """Return the content of a blob from any shelf of this process.

    Raises `BlobMissingError` if none has it, and `DamagedBlobError` if those that do have it damaged.
    """
    with _lock:
        shelves = list(_shelves)
    damaged: DamagedBlobError | None = None
    for shelf in shelves:
        try:
            content: Content | None = shelf.find(ref.digest)
        except DamagedBlobError as error:
            damaged = error
            continue
        if content is not None:
            return content
    if damaged is not None:
        raise damaged
    raise BlobMissingError(
        f"the value's {ref.size:,} bytes (blob {ref.digest}) are not in this process: no node that runs here has them. A node that has "
        "them must run, or the cluster that has the run must be attached to"
    )


def kept(value: bytes) -> bytes:
    """Return a record's value with the blob that it refers to, whatever becomes of that on the shelves; as it is if none has it."""
    ref = reference(value)
    if ref is None or isinstance(value, Carried):
        return value
    try:
        return Carried.of(InMemory(find(ref).view(private=False)), ref.digest, ref.shown)
    except (BlobMissingError, DamagedBlobError, OSError):
        return value


def parts(content: Content, *, private: bool) -> tuple[memoryview, list[memoryview]]:
    """Return a blob's pickle and buffers. `private` ones may be written to: nobody else sees that.

    Raises `DamagedBlobError` if it is not laid out as a blob, and ImportError if it is compressed and cannot be decompressed here.
    """
    whole = content.view(private=private)
    if bytes(whole[: len(COMPRESSED)]) == COMPRESSED:
        try:
            return memoryview(decompressed(whole[len(COMPRESSED) :])), []
        except ImportError:
            raise
        except Exception as error:  # whatever Zstandard raises for bytes that it did not make
            raise DamagedBlobError(f"a blob of {whole.nbytes:,} bytes cannot be decompressed: {error}") from error
    with contextlib.suppress(msgspec.DecodeError, ValueError):
        if whole.nbytes >= _HEAD and bytes(whole[: len(MAGIC)]) == MAGIC:
            length = int.from_bytes(whole[len(MAGIC) : _HEAD], "little")
            table = _decoder.decode(whole[_HEAD : _HEAD + length])
            base = _aligned(_HEAD + length)
            ends = [base + place + size for place, size in (table.pickle, *table.buffers)]
            if max(ends) <= whole.nbytes:
                cut = [whole[base + place : base + place + size] for place, size in (table.pickle, *table.buffers)]
                return cut[0], cut[1:]
    raise DamagedBlobError(f"a blob of {whole.nbytes:,} bytes does not begin as one of raftoral-nb does")


def _aligned(at: int) -> int:
    return -(-at // ALIGNMENT) * ALIGNMENT


def forget_locks() -> None:
    """Forget, in a forked child, the lock that another thread of the parent held."""
    global _lock
    _lock = threading.Lock()
