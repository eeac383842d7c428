"""The messages of nodes to each other, and their bytes."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ..core.commands import Proposal
from ..core.entry_codec import _DECODE_ERRORS, _ENCODE_ERRORS, MAX_MESSAGE_PROPOSALS, LogEntry, Natural, _encoder
from ..core.records import ProposalId
from ..errors import ProtocolError
from ..limits import MAX_MESSAGE_ENTRIES


class RequestVote(msgspec.Struct, frozen=True, tag=1, array_like=True, forbid_unknown_fields=True):
    """A candidate asks for a vote in `term`."""

    term: Natural
    last_log_index: Natural
    last_log_term: Natural


class ResponseVote(msgspec.Struct, frozen=True, tag=2, array_like=True, forbid_unknown_fields=True):
    """A vote granted in `term`. There is no message for a vote refused."""

    term: Natural


class TimeoutNow(msgspec.Struct, frozen=True, tag=3, array_like=True, forbid_unknown_fields=True):
    """The leader of `term` asks the receiver to campaign at once (leadership transfer)."""

    term: Natural


class AppendEntries(msgspec.Struct, frozen=True, tag=4, array_like=True, forbid_unknown_fields=True):
    """The leader of `term` sends the entries that follow `prev_index`, or none of them as a heartbeat."""

    term: Natural
    prev_index: Natural
    prev_term: Natural
    entries: Annotated[tuple[LogEntry, ...], msgspec.Meta(max_length=MAX_MESSAGE_ENTRIES)]
    commit_index: Natural


class NextIndex(msgspec.Struct, frozen=True, tag=5, array_like=True, forbid_unknown_fields=True):
    """The answer to an `AppendEntries`; `term` is the term of the message that it answers."""

    term: Natural
    next_index: Natural
    success: bool
    reset: bool


class Forward(msgspec.Struct, frozen=True, tag=6, array_like=True, forbid_unknown_fields=True):
    """Proposals on their way to the node that the sender takes for the leader."""

    proposals: Annotated[tuple[Proposal, ...], msgspec.Meta(max_length=MAX_MESSAGE_PROPOSALS)]


class Refuse(msgspec.Struct, frozen=True, tag=7, array_like=True, forbid_unknown_fields=True):
    """The answer to a `Forward` by a node that does not lead: nothing was done with these; `leader` is its best guess."""

    ids: Annotated[tuple[ProposalId, ...], msgspec.Meta(max_length=MAX_MESSAGE_PROPOSALS)]
    leader: Natural | None
    term: Natural


class PreVote(msgspec.Struct, frozen=True, tag=8, array_like=True, forbid_unknown_fields=True):
    """A node asks whether it would get a vote in `term`, before it campaigns. Changes nothing at the receiver."""

    term: Natural
    last_log_index: Natural
    last_log_term: Natural


class PreVoteGranted(msgspec.Struct, frozen=True, tag=9, array_like=True, forbid_unknown_fields=True):
    """The answer to a `PreVote` for `term`: yes. There is no message for no."""

    term: Natural


class Outdated(msgspec.Struct, frozen=True, tag=10, array_like=True, forbid_unknown_fields=True):
    """The answer to a leader, or to a `PreVote`, of an earlier term: the sender is at `term` already."""

    term: Natural


class SnapshotPiece(msgspec.Struct, frozen=True, tag=11, array_like=True, forbid_unknown_fields=True):
    """Piece `number` (from 0) of the leader's snapshot of the log up to `index`, whose entry there has `last_term`."""

    term: Natural
    index: Natural
    last_term: Natural
    number: Natural
    final: bool
    data: bytes


class SnapshotProgress(msgspec.Struct, frozen=True, tag=12, array_like=True, forbid_unknown_fields=True):
    """The answer to a `SnapshotPiece`: the receiver waits for piece `expected`. The final one is answered by a `NextIndex`."""

    term: Natural
    index: Natural
    expected: Natural


Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
"""The digest of a blob."""


class BlobOffer(msgspec.Struct, frozen=True, tag=13, array_like=True, forbid_unknown_fields=True):
    """The sender has a blob of so many bytes, and wants to know that the receiver stores it too."""

    digest: Digest
    size: Natural


class BlobHeld(msgspec.Struct, frozen=True, tag=14, array_like=True, forbid_unknown_fields=True):
    """The answer to a `BlobOffer`: the sender has stored the blob."""

    digest: Digest


class BlobWant(msgspec.Struct, frozen=True, tag=15, array_like=True, forbid_unknown_fields=True):
    """The sender wants a piece of a blob: the bytes from `offset` on, as many as a piece has."""

    digest: Digest
    offset: Natural


class BlobPiece(msgspec.Struct, frozen=True, tag=16, array_like=True, forbid_unknown_fields=True):
    """A piece of a blob, from `offset` on; the answer to a `BlobWant`. Without data if the sender does not have the blob."""

    digest: Digest
    offset: Natural
    data: bytes


Message = (
    RequestVote
    | ResponseVote
    | TimeoutNow
    | AppendEntries
    | NextIndex
    | Forward
    | Refuse
    | PreVote
    | PreVoteGranted
    | Outdated
    | SnapshotPiece
    | SnapshotProgress
    | BlobOffer
    | BlobHeld
    | BlobWant
    | BlobPiece
)


_message_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message, strict=True)


def encode_message(message: Message) -> bytes:
    """Encode a message (msgpack bytes). Raises ProtocolError for one that cannot be encoded or has too many entries."""
    if type(message) is AppendEntries and len(message.entries) > MAX_MESSAGE_ENTRIES:
        raise ProtocolError(f"{len(message.entries)} entries in one message; the most is {MAX_MESSAGE_ENTRIES}")
    try:
        return _encoder.encode(message)
    except _ENCODE_ERRORS as error:
        raise ProtocolError(f"a {type(message).__name__} cannot be encoded: {error}") from error


def decode_message(data: bytes) -> Message:
    """Decode what `encode_message` made. Raises ProtocolError, and nothing else, on anything malformed."""
    try:
        return _message_decoder.decode(data)
    except _DECODE_ERRORS as error:
        raise ProtocolError(f"not a message of this protocol: {error}") from error
