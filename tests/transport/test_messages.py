"""Messages: each comes back as it was, and what is none is refused."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftoral_nb import limits
from raftoral_nb.core.commands import EndRun, Entry, Proposal, RegisterWorkflow, SetCheckpoint, StartRun, Takeover
from raftoral_nb.core.entry_codec import decode_entry, encode_entry
from raftoral_nb.core.records import Definition, Failure, ProposalId, Step
from raftoral_nb.errors import ProtocolError
from raftoral_nb.transport.messages import (
    AppendEntries,
    Forward,
    Message,
    NextIndex,
    Refuse,
    RequestVote,
    ResponseVote,
    TimeoutNow,
    decode_message,
    encode_message,
)

naturals = st.integers(0, 2**63 - 1)
texts = st.text(max_size=20)
blobs = st.binary(max_size=200)
proposal_ids = st.builds(ProposalId, texts, naturals)
failures = st.builds(Failure, texts, texts, texts, st.none() | blobs)
steps = st.builds(
    Step,
    texts,
    st.sampled_from(["compute", "var", "set", "update"]),
    st.none() | blobs,
    st.none() | failures,
    naturals,
    naturals,
)
definitions = st.builds(Definition, texts, naturals, texts, texts, blobs, st.dictionaries(texts, texts, max_size=3))
commands = st.one_of(
    st.builds(Takeover, naturals, naturals),
    st.builds(RegisterWorkflow, definitions),
    st.builds(StartRun, texts, texts, naturals, blobs),
    st.builds(SetCheckpoint, texts, steps),
    st.builds(EndRun, texts, naturals, naturals, st.none() | blobs, st.none() | failures),
)
proposals = st.builds(Proposal, st.none() | proposal_ids, commands)
log_entries = st.tuples(blobs, naturals, naturals)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(RequestVote, naturals, naturals, naturals),
    st.builds(ResponseVote, naturals),
    st.builds(TimeoutNow, naturals),
    st.builds(AppendEntries, naturals, naturals, naturals, st.lists(log_entries, max_size=5).map(tuple), naturals),
    st.builds(NextIndex, naturals, naturals, st.booleans(), st.booleans()),
    st.builds(Forward, st.lists(proposals, max_size=3).map(tuple)),
    st.builds(Refuse, st.lists(proposal_ids, max_size=3).map(tuple), st.none() | naturals, naturals),
)


@given(messages)
def test_a_message_comes_back_as_it_was(message: Message) -> None:
    assert decode_message(encode_message(message)) == message


@given(st.lists(proposals, max_size=4))
def test_an_entry_comes_back_as_it_was(some: list[Proposal]) -> None:
    entry = Entry(tuple(some))
    assert decode_entry(encode_entry(entry)) == entry


@settings(max_examples=500)
@given(st.binary(max_size=300))
def test_random_bytes_raise_a_protocol_error_or_are_a_message(data: bytes) -> None:
    for decode in (decode_message, decode_entry):
        with contextlib.suppress(ProtocolError):
            decode(data)


@given(messages, st.data())
def test_a_damaged_message_raises_a_protocol_error_or_is_a_message(message: Message, data: st.DataObject) -> None:
    encoded = bytearray(encode_message(message))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    del encoded[data.draw(st.integers(0, len(encoded))) :]
    with contextlib.suppress(ProtocolError):
        decode_message(bytes(encoded))


@pytest.mark.parametrize(
    "value",
    [
        [1, -1, 0, 0],
        [1, "1", 0, 0],
        [1, 1.0, 0, 0],
        [1, 1, 0],
        [1, 1, 0, 0, 0],
        [99, 1],
        ["RequestVote", 1, 0, 0],
        [5, 1, 1, 1, 0],
        [4, 1, 0, 0, [["text", 1, 1]], 0],
        [4, 1, 0, 0, [[b"", 1]], 0],
        {"term": 1},
        None,
        [],
    ],
)
def test_a_message_with_a_wrong_type_or_field_is_refused(value: object) -> None:
    with pytest.raises(ProtocolError):
        decode_message(msgspec.msgpack.encode(value))


def test_lists_without_end_and_deep_nesting_are_refused_without_using_memory() -> None:
    for data in (
        b"\x92\x06\xdd\xff\xff\xff\xff",
        b"\x92\x06\x91" + b"\x93\xc0" + b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",
    ):
        with pytest.raises(ProtocolError):
            decode_message(data)
        with pytest.raises(ProtocolError):
            decode_entry(data)


def test_too_many_entries_are_neither_encoded_nor_decoded() -> None:
    message = AppendEntries(1, 0, 0, ((b"", 1, 1),) * (limits.MAX_MESSAGE_ENTRIES + 1), 0)
    with pytest.raises(ProtocolError, match="1025 entries"):
        encode_message(message)
    with pytest.raises(ProtocolError):
        decode_message(msgspec.msgpack.encode(message))


def test_a_message_that_cannot_be_encoded_raises_a_protocol_error() -> None:
    with pytest.raises(ProtocolError, match="cannot be encoded"):
        encode_message(ResponseVote(2**70))
