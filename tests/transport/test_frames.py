"""The authenticated frames that carry messages: what arrives is what was sent, by whom it was sent, once and in order."""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftoral_nb import limits
from raftoral_nb.core.entry_codec import decode_entry
from raftoral_nb.errors import ProtocolError
from raftoral_nb.transport import frames as wire
from raftoral_nb.transport.frames import FrameSession, PeerIdentity
from raftoral_nb.transport.messages import (
    AppendEntries,
    decode_message,
    encode_message,
)

KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))


def shake(dialer: FrameSession, acceptor: FrameSession) -> None:
    """Carry the handshake between two sessions, one byte at a time."""
    to_acceptor, to_dialer = dialer.opening(), acceptor.opening()
    while to_acceptor or to_dialer:
        for byte in to_acceptor:
            assert acceptor.feed(bytes([byte])) == []
        to_dialer += acceptor.take_outgoing()
        for byte in to_dialer:
            assert dialer.feed(bytes([byte])) == []
        to_acceptor, to_dialer = dialer.take_outgoing(), b""


def pair() -> tuple[FrameSession, FrameSession]:
    """Two ends of an established connection: node 2 dialed node 1."""
    dialer = FrameSession(KEY, PeerIdentity(2, 7), dialer=True, expected=1)
    acceptor = FrameSession(KEY, PeerIdentity(1, 3), dialer=False)
    shake(dialer, acceptor)
    return dialer, acceptor


def test_after_the_handshake_both_ends_know_who_the_other_is() -> None:
    dialer, acceptor = pair()
    assert dialer.established
    assert acceptor.established
    assert dialer.peer == PeerIdentity(1, 3)
    assert acceptor.peer == PeerIdentity(2, 7)


@given(
    st.lists(st.binary(min_size=1, max_size=400), max_size=8), st.lists(st.integers(1, 300), min_size=1, max_size=20)
)
def test_payloads_arrive_in_order_however_the_bytes_are_cut(payloads: list[bytes], sizes: list[int]) -> None:
    for sender, receiver in (pair(), pair()[::-1]):
        stream = b"".join(sender.seal(payload) for payload in payloads)
        arrived: list[bytes] = []
        position = turn = 0
        while position < len(stream):
            size = sizes[turn % len(sizes)]
            arrived += receiver.feed(stream[position : position + size])
            position += size
            turn += 1
        assert arrived == payloads


def test_a_frame_of_the_greatest_size_passes_in_pieces() -> None:
    sender, receiver = pair()
    payload = os.urandom(wire.MAX_PAYLOAD_BYTES)
    frame = sender.seal(payload)
    assert len(frame) == limits.MAX_FRAME_BYTES
    arrived: list[bytes] = []
    for start in range(0, len(frame), 256 * 1024):
        arrived += receiver.feed(frame[start : start + 256 * 1024])
    assert arrived == [payload]
    assert receiver.feed(sender.seal(b"next")) == [b"next"]


def refused(receiver: FrameSession, data: bytes) -> bool:
    """Whether the data is refused, and everything after it too."""
    with pytest.raises(ProtocolError):
        receiver.feed(data)
    with pytest.raises(ProtocolError):
        receiver.feed(b"")
    return True


def test_every_single_bit_flip_of_a_frame_is_refused() -> None:
    payload = encode_message(AppendEntries(3, 10, 3, ((b"data", 11, 3),), 10))
    size = len(payload) + 20
    for bit in range(8 * size):
        sender, receiver = pair()
        frame = bytearray(sender.seal(payload))
        frame[bit // 8] ^= 1 << bit % 8
        try:
            assert receiver.feed(bytes(frame)) == []
        except ProtocolError:
            continue
        # A flipped bit made the length greater: it is found out as soon as that many bytes are there.
        assert bit < 32
        assert refused(receiver, bytes(int.from_bytes(frame[:4], "big")))


def test_a_replayed_frame_is_refused() -> None:
    sender, receiver = pair()
    frame = sender.seal(b"pay 5")
    assert receiver.feed(frame) == [b"pay 5"]
    assert refused(receiver, frame)


def test_a_frame_of_another_connection_with_the_same_key_is_refused() -> None:
    sender, _ = pair()
    _, receiver = pair()
    assert refused(receiver, sender.seal(b"pay 5"))


def test_a_frame_sent_back_to_its_sender_is_refused() -> None:
    sender, _ = pair()
    assert refused(sender, sender.seal(b"pay 5"))


def test_frames_in_another_order_are_refused() -> None:
    sender, receiver = pair()
    first, second = sender.seal(b"one"), sender.seal(b"two")
    assert refused(receiver, second + first)


def test_a_missing_frame_is_noticed() -> None:
    sender, receiver = pair()
    first, _, third = (sender.seal(b"payload") for _ in range(3))
    assert receiver.feed(first) == [b"payload"]
    assert refused(receiver, third)


def test_a_shortened_frame_is_refused_when_the_next_one_comes() -> None:
    for cut in range(1, 40):
        sender, receiver = pair()
        frame = sender.seal(b"x" * 20)
        assert receiver.feed(frame[:-cut]) == []
        assert refused(receiver, sender.seal(b"y" * 100))


@pytest.mark.parametrize("size", [0, wire.MAX_PAYLOAD_BYTES + 1, 2**32 - 1])
def test_a_frame_of_impossible_size_is_refused_by_its_length_alone(size: int) -> None:
    _, receiver = pair()
    assert refused(receiver, size.to_bytes(4, "big"))
    sender, receiver = pair()
    assert receiver.feed(sender.seal(b"first") + b"\0" if size == 0 else sender.seal(b"first") + b"\xff") == [b"first"]
    assert refused(receiver, size.to_bytes(4, "big")[1:])


def test_payloads_of_impossible_size_are_not_sealed() -> None:
    sender, _ = pair()
    for payload in (b"", bytes(wire.MAX_PAYLOAD_BYTES + 1)):
        with pytest.raises(ProtocolError, match="are allowed"):
            sender.seal(payload)


def test_nothing_is_sealed_before_the_handshake_is_done() -> None:
    with pytest.raises(ProtocolError, match="handshake"):
        FrameSession(KEY, PeerIdentity(2, 1), dialer=True).seal(b"early")


# --- unauthenticated peers


def test_the_accepting_end_says_nothing_before_it_is_spoken_to() -> None:
    assert FrameSession(KEY, PeerIdentity(1, 1), dialer=False).opening() == b""


@given(st.binary(min_size=1, max_size=1000))
def test_garbage_instead_of_a_hello_is_refused_and_not_kept(garbage: bytes) -> None:
    for dialer in (False, True):
        session = FrameSession(KEY, PeerIdentity(1, 1), dialer=dialer)
        try:
            assert session.feed(garbage) == []
        except ProtocolError:
            assert len(session._buffer) == 0
        assert len(session._buffer) <= wire.HELLO_BYTES
        assert not session.established


def test_a_byte_that_cannot_begin_a_hello_is_refused_at_once() -> None:
    for first in range(256):
        if first != wire.MAGIC[0]:
            assert refused(FrameSession(KEY, PeerIdentity(1, 1), dialer=False), bytes([first]))


def test_a_pickle_that_would_run_code_runs_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(trace),))

    pickled = pickle.dumps(Bomb())
    assert refused(FrameSession(KEY, PeerIdentity(1, 1), dialer=False), pickled)
    for decode in (decode_message, decode_entry):
        with pytest.raises(ProtocolError):
            decode(pickled)
    sender, receiver = pair()
    (payload,) = receiver.feed(sender.seal(pickled))  # not even from one who has the key
    with pytest.raises(ProtocolError):
        decode_message(payload)
    assert not trace.exists()
    pickle.loads(pickled)
    assert trace.exists()  # the pickle does what it is meant to


def test_an_end_with_another_key_is_refused_by_both() -> None:
    dialer = FrameSession(OTHER_KEY, PeerIdentity(2, 1), dialer=True)
    acceptor = FrameSession(KEY, PeerIdentity(1, 1), dialer=False)
    assert refused(acceptor, dialer.opening())
    acceptor = FrameSession(KEY, PeerIdentity(1, 1), dialer=False)
    acceptor.feed(FrameSession(KEY, PeerIdentity(3, 1), dialer=True).opening())
    assert refused(dialer, acceptor.take_outgoing())


def forged(node: int = 2, *, nonce: bytes = b"n" * 16, version: int = wire.PROTOCOL_VERSION) -> bytes:
    """A hello of the right cluster by someone who does not know the key (cluster ids are no secret)."""
    return wire._HELLO.pack(wire.MAGIC, version, node, wire.cluster_id(KEY), 1, nonce)


def test_knowing_the_cluster_but_not_the_key_is_refused_at_the_proof() -> None:
    acceptor = FrameSession(KEY, PeerIdentity(1, 1), dialer=False)
    acceptor.feed(forged())
    assert len(acceptor.take_outgoing()) == wire.HELLO_BYTES  # no proof for an unauthenticated peer
    assert refused(acceptor, bytes(16))
    dialer = FrameSession(KEY, PeerIdentity(3, 1), dialer=True, expected=2)
    dialer.feed(forged())
    proof = dialer.take_outgoing()
    assert refused(dialer, proof)  # one's own proof, sent back
    assert not dialer.established


def shake_with_a_flip(dialer: FrameSession, acceptor: FrameSession, step: int, bit: int) -> None:
    """The four steps of a handshake, with one bit of one of them changed on the way."""
    data = dialer.opening()
    for turn in range(4):
        if turn == step:
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            data = bytes(changed)
        end = acceptor if turn % 2 == 0 else dialer
        end.feed(data)
        data = end.take_outgoing()


def test_every_single_bit_flip_of_the_handshake_is_refused_by_one_end() -> None:
    for step, size in enumerate((wire.HELLO_BYTES, wire.HELLO_BYTES, 16, 16)):
        for bit in range(8 * size):
            dialer = FrameSession(KEY, PeerIdentity(2, 7), dialer=True, expected=1)
            acceptor = FrameSession(KEY, PeerIdentity(1, 3), dialer=False)
            with pytest.raises(ProtocolError):
                shake_with_a_flip(dialer, acceptor, step, bit)
            assert not dialer.established


def test_a_recorded_connection_cannot_be_played_again() -> None:
    dialer = FrameSession(KEY, PeerIdentity(2, 7), dialer=True, expected=1)
    acceptor = FrameSession(KEY, PeerIdentity(1, 3), dialer=False)
    hello = dialer.opening()
    acceptor.feed(hello)
    dialer.feed(acceptor.take_outgoing())
    proof = dialer.take_outgoing()
    acceptor.feed(proof)
    again = FrameSession(KEY, PeerIdentity(1, 3), dialer=False)
    again.feed(hello)
    assert refused(again, proof)


@pytest.mark.parametrize(
    "hello",
    [forged(version=2), forged(node=1), forged(node=0), forged(node=3), b"X" + forged()[1:]],
    ids=["another version", "our own number", "no node", "not the one dialed", "another protocol"],
)
def test_a_hello_that_does_not_fit_is_refused(hello: bytes) -> None:
    assert refused(FrameSession(KEY, PeerIdentity(1, 1), dialer=True, expected=2), hello)


def test_bytes_before_their_time_are_refused() -> None:
    dialer = FrameSession(KEY, PeerIdentity(2, 7), dialer=True)
    acceptor = FrameSession(KEY, PeerIdentity(1, 3), dialer=False)
    assert refused(acceptor, dialer.opening() + b"\0")
    acceptor = FrameSession(KEY, PeerIdentity(1, 3), dialer=False)
    acceptor.feed(dialer.opening())
    dialer.feed(acceptor.take_outgoing())
    assert refused(acceptor, dialer.take_outgoing() + b"\0")


def test_frames_right_behind_the_last_proof_are_read() -> None:
    dialer = FrameSession(KEY, PeerIdentity(2, 7), dialer=True)
    acceptor = FrameSession(KEY, PeerIdentity(1, 3), dialer=False)
    acceptor.feed(dialer.opening())
    dialer.feed(acceptor.take_outgoing())
    acceptor.feed(dialer.take_outgoing())
    assert dialer.feed(acceptor.take_outgoing() + acceptor.seal(b"one") + acceptor.seal(b"two")) == [b"one", b"two"]


def test_a_key_of_another_length_is_not_taken() -> None:
    assert len(wire.check_key(wire.new_key())) == wire.KEY_BYTES
    for key in (b"", b"short", bytes(33)):
        with pytest.raises(ValueError, match="32 bytes"):
            FrameSession(key, PeerIdentity(1, 1), dialer=False)


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=4), st.data())
def test_a_session_knows_in_which_frame_or_part_of_the_handshake_it_stands(
    payloads: list[bytes], data: st.DataObject
) -> None:
    sender, receiver = pair()
    frames = [sender.seal(payload) for payload in payloads]
    end = data.draw(st.integers(0, sum(map(len, frames))))
    receiver.feed(b"".join(frames)[:end])
    whole = 0
    while whole < len(frames) and end >= len(frames[whole]):
        end -= len(frames[whole])
        whole += 1
    assert receiver.halfway == (whole if end else None)
    assert not receiver.torn

    dialer, acceptor = (FrameSession(KEY, PeerIdentity(node, 1), dialer=node == 2) for node in (2, 1))
    part = data.draw(st.integers(0, wire.HELLO_BYTES))
    acceptor.feed(dialer.opening()[:part])
    assert acceptor.torn == (0 < part < wire.HELLO_BYTES)
    assert acceptor.halfway is None


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1))
def test_a_stream_with_one_random_change_delivers_only_a_true_beginning(seed: int) -> None:
    dice = random.Random(seed)
    sender, receiver = pair()
    payloads = [dice.randbytes(dice.randint(1, 200)) for _ in range(5)]
    frames = [sender.seal(payload) for payload in payloads]
    match dice.randrange(4):
        case 0:
            frames.insert(dice.randrange(6), dice.choice(frames))
        case 1:
            del frames[dice.randrange(4)]
        case 2:
            position = dice.randrange(4)
            frames[position], frames[position + 1] = frames[position + 1], frames[position]
        case _:
            frames.insert(dice.randrange(5), dice.randbytes(dice.randint(1, 50)))
    arrived: list[bytes] = []
    try:
        for frame in frames:
            arrived += receiver.feed(frame)
    except ProtocolError:
        pass
    assert arrived == payloads[: len(arrived)]
