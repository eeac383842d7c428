"""The records of a durable journal: a chain, so that none can be changed, dropped or swapped unnoticed. No I/O.

A record says what was done to the log. Each is stored with a digest of its own bytes, its number and the digest before it.
The first one held is a `Base`: the whole log as it was then. The `Head` is kept in a file of its own: it says how far the chain
is known to be written, so that a chain that merely ends too early is noticed as well.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from ..core.records import NodeId
from ..raft.journal import LogEntry, Snapshot

FORMAT: Final = 1
"""The version of the format, raised whenever earlier versions cannot read what is written."""

DIGEST_BYTES: Final = 16

HEAD_BYTES: Final = 1024
"""Size of a head file. It has two slots, written in turn: a torn write leaves the other one."""

_SLOT_BYTES: Final = HEAD_BYTES // 2
_MAGIC: Final = b"RaftNbHd"
_HEAD: Final = struct.Struct(f">8sIQ{DIGEST_BYTES}s{DIGEST_BYTES}s")


class ChainBrokenError(ValueError):
    """The records are not those that were written; says what is wrong."""


class NewerRecordsError(ValueError):
    """The records are of a later version of this package."""


class Kept(msgspec.Struct, frozen=True, array_like=True, tag="keep"):
    """A snapshot was made of this log. Its pieces are stored beside the records, and `digest` is theirs."""

    index: int
    term: int
    pieces: int
    digest: bytes
    members: tuple[NodeId, ...]


class Base(msgspec.Struct, frozen=True, array_like=True, tag="base", kw_only=True):
    """The whole log, term and vote at once: everything before this record is superseded."""

    format: int
    # Invariant: the digest of the record before, though that is gone.
    previous: bytes
    term: int
    vote: str | None
    commit: int
    snapshot: Kept | None
    entries: tuple[LogEntry, ...]


class Added(msgspec.Struct, frozen=True, array_like=True, tag="add"):
    """An entry was appended. `commit` is the commit index that was known by then."""

    index: int
    term: int
    data: bytes
    commit: int


class Cut(msgspec.Struct, frozen=True, array_like=True, tag="cut"):
    """The entries from `index` on were deleted as conflicting."""

    index: int


class Voted(msgspec.Struct, frozen=True, array_like=True, tag="vote"):
    """The term became `term`, and `vote` (or no node) got this node's vote in it."""

    term: int
    vote: str | None


Record = Base | Added | Cut | Voted | Kept

_encoder = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[Record]] = msgspec.msgpack.Decoder(Record)


class Row(NamedTuple):
    """A record as it is stored."""

    number: int
    body: bytes
    digest: bytes


def identity(cluster: str, node: NodeId) -> bytes:
    """Return the bytes that every chain of this node of this cluster begins with, and that its head carries."""
    return blake2b(f"{cluster}/{node}".encode(), digest_size=DIGEST_BYTES, person=b"raftoral-nb").digest()


def pieces_digest(pieces: Iterable[bytes]) -> bytes:
    """Return the digest of a snapshot's pieces: of each, in order."""
    whole = blake2b(digest_size=DIGEST_BYTES)
    for piece in pieces:
        whole.update(blake2b(piece, digest_size=DIGEST_BYTES).digest())
    return whole.digest()


def kept(snapshot: Snapshot) -> Kept:
    """Return the record of a snapshot."""
    return Kept(snapshot.index, snapshot.term, len(snapshot.pieces), pieces_digest(snapshot.pieces), snapshot.members)


class Chain:
    """The end of a chain: the number of its last row and the digest of everything up to it."""

    def __init__(self, number: int, digest: bytes, own: bytes) -> None:
        self.number = number
        self.digest = digest
        self._own = own

    @property
    def head(self) -> Head:
        """The head that says that all of it is written."""
        return Head(self.number, self.digest)

    def append(self, record: Record) -> Row:
        """Return the next row."""
        body = _encoder.encode(record)
        self.number += 1
        self.digest = self._digest(self.number, self.digest, body)
        return Row(self.number, body, self.digest)

    def follow(self, row: Row) -> Record:
        """Read on to a stored row and return its record.

        Raises `ChainBrokenError` if it is not the one that was written.
        """
        if row.number != self.number + 1:
            raise ChainBrokenError(f"record {self.number + 1} is missing")
        if self._digest(row.number, self.digest, row.body) != row.digest:
            raise ChainBrokenError(f"record {row.number} does not match its checksum")
        self.number, self.digest = row.number, row.digest
        return decoded(row)

    def _digest(self, number: int, before: bytes, body: bytes) -> bytes:
        # The identity is a part of every digest: rows of another node or cluster never fit.
        digest = blake2b(before, digest_size=DIGEST_BYTES, key=self._own)
        digest.update(number.to_bytes(8, "big"))
        digest.update(body)
        return digest.digest()


def decoded(row: Row) -> Record:
    """Return the record in a row, unchecked but for its form. Raises `ChainBrokenError`."""
    try:
        return _decoder.decode(row.body)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ChainBrokenError(f"record {row.number} cannot be read: {error}") from error


class Head(NamedTuple):
    """The head of a chain: up to here everything is written and may have been acknowledged."""

    number: int
    digest: bytes

    def slot(self, own: bytes) -> bytes:
        """Return the head as it is written into a slot of its file."""
        body = _HEAD.pack(_MAGIC, FORMAT, self.number, self.digest, own)
        return body + blake2b(body, digest_size=DIGEST_BYTES).digest()


def slot_offset(write: int) -> int:
    """Return the offset at which the head is written the `write`-th time (bytes into its file)."""
    return write % 2 * _SLOT_BYTES


def read_head(data: bytes, own: bytes) -> Head:
    """Return the newest head in a head file. Raises `ChainBrokenError`, or `NewerRecordsError`."""
    return max(_heads(data, own).values())


def _heads(data: bytes, own: bytes) -> dict[int, Head]:
    """Return the heads that can be read, at least one, by where their slots begin."""
    found: dict[int, Head] = {}
    size = _HEAD.size
    for offset in (0, _SLOT_BYTES):
        body = data[offset : offset + size]
        if blake2b(body, digest_size=DIGEST_BYTES).digest() != data[offset + size : offset + size + DIGEST_BYTES]:
            continue
        magic, version, number, digest, belongs = _HEAD.unpack(body)
        if magic != _MAGIC:
            continue
        if version > FORMAT:
            raise NewerRecordsError(f"it has format {version}, this version reads format {FORMAT}")
        if belongs != own:
            raise ChainBrokenError("it belongs to another node or another cluster")
        found[offset] = Head(number, digest)
    if not found:
        raise ChainBrokenError("neither of its two slots can be read")
    return found


def mended_head(data: bytes, own: bytes, last: Head) -> tuple[bytes, bytes]:
    """Return what to write to a head file, one version after the other, until both slots have the `last` record read.

    Raises as `read_head`.

    Each is to be on the disk before anything else is written. A crash may have torn one slot, and the next may tear the
    other: so first the one that does not have the newest head. And a crash may have kept the head from what was stored
    before it: a base that were written next, and kept from its head as well, would have dropped all that the head
    speaks of.
    """
    found = _heads(data, own)
    newest = max(found, key=found.__getitem__)
    good, slot = data[newest : newest + _SLOT_BYTES], last.slot(own).ljust(_SLOT_BYTES, b"\0")
    return (slot + good if newest else good + slot), slot + slot


class ChainContents:
    """A log as its records say it is."""

    def __init__(self) -> None:
        self.term = 0
        self.vote: str | None = None
        self.commit = 1
        self.entries: list[LogEntry] = []
        self.kept: Kept | None = None

    def base(self, previous: bytes) -> Base:
        """Return the record that stands for all of it."""
        return Base(
            format=FORMAT,
            previous=previous,
            term=self.term,
            vote=self.vote,
            commit=self.commit,
            snapshot=self.kept,
            entries=tuple(self.entries),
        )

    def apply(self, record: Record) -> None:
        """Do what a record says. Raises `ChainBrokenError` for one that cannot have been written here."""
        match record:
            case Base():
                self.term, self.vote, self.commit = record.term, record.vote, record.commit
                self.kept, self.entries = record.snapshot, list(record.entries)
            case Added(index=index, term=term, data=data, commit=commit):
                if self.entries and index != self.entries[-1][1] + 1:
                    raise ChainBrokenError(f"entry {index} follows entry {self.entries[-1][1]}")
                self.entries.append((data, index, term))
                self.commit = max(self.commit, commit)
            case Cut(index=index):
                if not self.entries or not self.commit < index <= self.entries[-1][1]:
                    raise ChainBrokenError(f"entry {index} is committed or not there, and was deleted")
                del self.entries[index - self.entries[0][1] :]
            case Voted(term=term, vote=vote):
                if term < self.term:
                    raise ChainBrokenError(f"term {self.term} became {term}")
                self.term, self.vote = term, vote
            case Kept(index=index):
                if self.kept is not None and index < self.kept.index:
                    raise ChainBrokenError(f"a snapshot of entry {index} took the place of a later one")
                self.kept = record
                self.commit = max(self.commit, index)


class Recovered(NamedTuple):
    """The log that a chain of records amounts to."""

    contents: ChainContents
    chain: Chain
    dropped: int
    """Rows behind the head that were torn, and of which nothing was acknowledged."""


def follow_chain(rows: Iterable[Row], head: Head, own: bytes, *, may_be_torn: bool) -> Recovered:
    """Read stored rows, in order, and check every one.

    Up to the head each must be there and as it was written. Behind it, only if `may_be_torn` (a store that does not write
    all or nothing), the chain ends before the first that is not. Raises `ChainBrokenError`, or `NewerRecordsError`.
    """
    contents = ChainContents()
    chain: Chain | None = None
    seen_head = False
    dropped = 0
    for row in rows:
        try:
            if chain is None:
                first = decoded(row)
                if not isinstance(first, Base):
                    raise ChainBrokenError("it does not begin with the state of the log")
                chain = Chain(row.number - 1, first.previous, own)
                # A crash between dropping what a base stands for and writing the head leaves the head right before it.
                seen_head = chain.head == head
            record = chain.follow(row)
            if isinstance(record, Base) and record.format > FORMAT:
                raise NewerRecordsError(f"it has format {record.format}, this version reads format {FORMAT}")
            contents.apply(record)
        except ChainBrokenError:
            if not may_be_torn or not seen_head:
                raise
            dropped += 1
            break
        if row.number == head.number:
            if row.digest != head.digest:
                raise ChainBrokenError(f"record {row.number} is not the one that was written last")
            seen_head = True
        elif row.number > head.number and not seen_head:
            raise ChainBrokenError(f"it begins at record {row.number}, behind the one that was written last")
    if chain is None:
        raise ChainBrokenError("it holds no records")
    if not seen_head:
        raise ChainBrokenError(
            f"it ends with record {chain.number}, and {head.number - chain.number} more were written: acknowledged ones are lost"
        )
    return Recovered(contents, chain, dropped)
