"""The record of one execution of a cell, as it stands in the log."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from .cell_blobs import CellBlob


class StoredBuffer(msgspec.Struct, frozen=True):
    """A raw buffer of a pickle: a part of the pack, or a file of its own."""

    at: int
    """Where it begins in the pack; -1 if it has a file of its own."""
    size: int
    blob: CellBlob | None = None


class StoredGroup(msgspec.Struct, frozen=True):
    """Names that share objects, pickled together so that they share them again."""

    names: tuple[str, ...]
    pack: CellBlob
    """The pickle, and its small buffers behind it."""
    pickled: int
    """Bytes of the pickle."""
    buffers: tuple[StoredBuffer, ...]
    """In the order in which the pickle asks for them."""

    @property
    def size(self) -> int:
        """The bytes that it takes."""
        return self.pack.size + sum(one.size for one in self.buffers if one.blob is not None)


class LostName(msgspec.Struct, frozen=True):
    """A name that the cell bound, and that could not be recorded."""

    name: str
    why: str
    line: int = 0
    """Of the cell, from 1; 0 if that is not known."""
    quiet: bool = False
    """True for what nobody misses: a file that was closed."""


class CellRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of a cell: what it was the execution of, what it left, and what it showed."""

    name: str
    key: str
    code: str
    """Digest of the cell's code."""
    began: float
    """Unix time, in seconds."""
    seconds: float
    """How long it ran."""
    reads: dict[str, str]
    """The digests of the data that it read, by name."""
    functions: dict[str, str]
    """Digests of the functions, classes and modules that it used, by name."""
    contents: dict[str, str]
    """The digests of what it left, by name: what later cells that read these names are keyed by."""
    groups: tuple[StoredGroup, ...]
    shared: tuple[tuple[str, ...], ...]
    """Names that share objects, as groups of more than one."""
    bound: tuple[str, ...]
    """Names that the cell bound, whatever to; others that it left are changed, or share objects with those."""
    free: tuple[str, ...]
    """Those of them that were not bound before: the cell cannot have read them."""
    modules: dict[str, str]
    """Names bound to modules, with what to import."""
    definitions: tuple[str, ...]
    """Names bound by a `def` or `class` of the cell, which is run again."""
    deleted: tuple[str, ...]
    lost: tuple[LostName, ...]
    output: CellBlob | None
    source: str
    """The cell as plain Python: functions that were recorded by value have their lines in it."""
    filename: str
    """The name of its file in tracebacks."""
    paths: tuple[str, ...] = ()
    """What `sys.path` was at its end, if it has changed that: its imports need it."""
    versions: dict[str, str]
    """Python, and the packages that the values are of."""

    @property
    def variables(self) -> tuple[str, ...]:
        """The names that it left, whatever they are; not the value that was displayed, nor the state of libraries."""
        held = {name for group in self.groups for name in group.names if name.isidentifier()}
        return tuple(sorted(held - {"_"} | set(self.modules) | set(self.definitions)))

    @property
    def size(self) -> int:
        """The bytes that its values and its output take. What is shared with other cells counts here, too."""
        return sum({blob.digest: blob.size for blob in self.blobs()}.values())

    def blobs(self) -> Iterator[CellBlob]:
        """Return all that is stored beside the log for it."""
        for group in self.groups:
            yield group.pack
            yield from (one.blob for one in group.buffers if one.blob is not None)
        if self.output is not None:
            yield self.output


class DamagedCell(msgspec.Struct, frozen=True):
    """A cell that was restored from a damaged file."""

    record: CellRecord
    wrong: tuple[str, ...]
    """Names that are still bound to what was in the file."""
    used_by: tuple[str, ...]
    """Durable cells that ran since, and read it; none of them was recorded."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(CellRecord)


def encode_record(record: CellRecord) -> bytes:
    """Return the bytes of a record."""
    return _encoder.encode(record)


def decode_record(data: bytes) -> CellRecord:
    """Return the record that these bytes are. Raises `msgspec.DecodeError`."""
    return _decoder.decode(data)
