"""Entries of the log as bytes: how a leader packs proposals into them, and how every node reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Final

import msgspec

from ..errors import ProtocolError
from ..limits import MAX_ENTRY_BYTES
from .commands import Command, Entry, Proposal, WithBlobs
from .records import NodeId

Natural = Annotated[int, msgspec.Meta(ge=0)]
"""A term, index or node number: negative ones are refused when decoding."""


LogEntry = tuple[bytes, Natural, Natural]
"""One entry of the Raft log: data, index, term."""


MAX_MESSAGE_PROPOSALS: Final = 65_536
"""Proposals in one `Forward` (ids in one `Refuse`); far more than a node has outstanding."""


PROPOSAL_OVERHEAD: Final = 512
"""Counted for a proposal's id and framing; more than they take (bytes)."""


def _plain_bytes(value: object) -> bytes:
    """Return a value that carries more than its bytes as no more than those."""
    if isinstance(value, bytes):
        return bytes(value)
    raise TypeError(f"a {type(value).__name__} is not part of a command")


_encoder = msgspec.msgpack.Encoder(enc_hook=_plain_bytes)


_entry_decoder: msgspec.msgpack.Decoder[Entry] = msgspec.msgpack.Decoder(Entry, strict=True)


# A decoder may raise more than its own errors: bad UTF-8 is a ValueError, deep nesting a RecursionError.
_DECODE_ERRORS: Final = (ValueError, TypeError, OverflowError, RecursionError, MemoryError)


_ENCODE_ERRORS: Final = (ValueError, TypeError, OverflowError)


def size_of(command: Command | WithBlobs) -> int:
    """Return the size in bytes of a command as part of an entry or a `Forward`, its id included.

    Raises ProtocolError for one that cannot be encoded.
    """
    try:
        return len(_encoder.encode(command)) + PROPOSAL_OVERHEAD
    except _ENCODE_ERRORS as error:
        raise ProtocolError(f"a {type(command).__name__} cannot be encoded: {error}") from error


def batches(proposals: Iterable[Proposal]) -> Iterator[tuple[Proposal, ...]]:
    """Return the proposals in order, in groups that each fit one entry or one `Forward` (`MAX_ENTRY_BYTES`)."""
    batch: list[Proposal] = []
    total = 0
    for proposal in proposals:
        size = size_of(proposal.carried)
        if batch and total + size > MAX_ENTRY_BYTES:
            yield tuple(batch)
            batch, total = [], 0
        batch.append(proposal)
        total += size
    if batch:
        yield tuple(batch)


NAMES_MEMBERS: Final = b"\xc1"
"""The byte before entries that name members, so that they are told from all others without decoding. Never in msgpack.
"""


def encode_entry(entry: Entry) -> bytes:
    """Encode the payload of one Raft log entry (msgpack bytes)."""
    data = _encoder.encode(entry)
    return data if entry.members is None else NAMES_MEMBERS + data


def decode_entry(data: bytes) -> Entry:
    """Decode what `encode_entry` made. Raises ProtocolError, and nothing else, on anything malformed."""
    try:
        return _entry_decoder.decode(data[1:] if data[:1] == NAMES_MEMBERS else data)
    except _DECODE_ERRORS as error:
        raise ProtocolError(f"not a log entry of this protocol: {error}") from error


def named_members(data: bytes) -> tuple[NodeId, ...] | None:
    """Return the members that an encoded entry names, None if it names none. Looks at one byte of most entries."""
    if data[:1] != NAMES_MEMBERS:
        return None
    try:
        return decode_entry(data).members
    except ProtocolError:
        return None
