"""Authenticated frames, which carry the messages between nodes. No sockets in here.

A connection begins with two hellos of fixed size and two proofs of fixed size; only then are there frames. A frame is a
4-byte length, the payload, and a 16-byte keyed BLAKE2b code over the frame's number and the payload, under a key that
belongs to this connection and direction. So a frame that was changed, repeated, moved, dropped or taken from another
connection is refused, and nothing is decoded before it proved to come from a holder of the cluster's key. Frames are
authenticated, not encrypted.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from typing import Any, Final

import msgspec

from ..core.records import NodeId
from ..errors import ProtocolError
from ..limits import MAX_FRAME_BYTES

# --- Messages ------------------------------------------------------------------------------------------------------


# --- Keys and identities -------------------------------------------------------------------------------------------

PROTOCOL_VERSION: Final = 1
MAGIC: Final = b"raftnb\r\n"
"""First bytes of every hello. The line end makes it visible when something on the way translates text."""

KEY_BYTES: Final = 32
MAC_BYTES: Final = 16
NONCE_BYTES: Final = 16
MAX_PAYLOAD_BYTES: Final = MAX_FRAME_BYTES - 4 - MAC_BYTES

_HELLO: Final = struct.Struct(">8sHH16sQ16s")
HELLO_BYTES: Final = _HELLO.size
HANDSHAKE_BYTES: Final = HELLO_BYTES + MAC_BYTES
"""All that one end ever sends, or takes, before it is authenticated (bytes)."""

_pack_counter = struct.Struct(">Q").pack
_new_hash = hashlib.blake2b


def new_key() -> bytes:
    """Return a fresh random cluster key (`KEY_BYTES` bytes)."""
    return secrets.token_bytes(KEY_BYTES)


def check_key(key: bytes) -> bytes:
    """Return the key if it can serve as one. Raises ValueError if its length is not `KEY_BYTES`."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"a cluster key has {KEY_BYTES} bytes, this one has {len(key)}")
    return bytes(key)


def cluster_id(key: bytes) -> bytes:
    """Return the public name of the cluster that has this key (16 bytes). It does not tell the key."""
    return _new_hash(b"", digest_size=16, key=key, person=b"raftnb cluster").digest()


CLIENT: Final = 0xFFFF
"""The number that a client gives in place of a node's when it dials a node."""


class PeerIdentity(msgspec.Struct, frozen=True):
    """The peer at one end of a connection.

    `incarnation` counts a node's starts; a later one replaces an earlier one.
    """

    node: NodeId
    incarnation: int


# --- Session -------------------------------------------------------------------------------------------------------


class FrameSession:
    """One end of one connection, without the connection: bytes in, payloads out, and the other way round.

    The dialing end sends `opening()` first. Whatever arrives goes to `feed`, and after each `feed` what
    `take_outgoing` returns is to be sent. Once `established` is true, `peer` is proven and `seal` may be used.
    Order of the handshake: hello of the dialer, hello of the acceptor, proof of the dialer, proof of the acceptor. So
    the acceptor does not compute with its key for an unauthenticated peer, and no end sends frames to an unproven one.
    """

    __slots__ = (
        "_buffer",
        "_dialer",
        "_expected",
        "_failed",
        "_hello",
        "_key",
        "_outgoing",
        "_peer_hello",
        "_receive_hash",
        "_received",
        "_send_hash",
        "_sent",
        "_transcript",
        "established",
        "local",
        "peer",
    )

    def __init__(
        self,
        key: bytes,
        local: PeerIdentity,
        *,
        dialer: bool,
        expected: NodeId | None = None,
        nonce: bytes | None = None,
    ) -> None:
        """Begin a session.

        `expected` is the node that must be at the other end, None for any. `nonce` is given by tests only.
        """
        self._key = check_key(key)
        self.local = local
        self.peer: PeerIdentity | None = None
        self.established = False
        self._dialer = dialer
        self._expected = expected
        self._hello = _HELLO.pack(
            MAGIC,
            PROTOCOL_VERSION,
            local.node,
            cluster_id(self._key),
            local.incarnation,
            secrets.token_bytes(NONCE_BYTES) if nonce is None else nonce,
        )
        self._peer_hello = b""
        self._transcript = b""
        self._outgoing = b""
        self._buffer = bytearray()
        self._failed = False
        self._sent = 0
        self._received = 0
        self._send_hash: Any = None
        self._receive_hash: Any = None

    @property
    def torn(self) -> bool:
        """True if the peer has sent a part of a hello or of a proof, and not the rest."""
        return not self.established and bool(self._buffer)

    @property
    def halfway(self) -> int | None:
        """The number of the frame of which a part has arrived, and not the rest; None if there is none."""
        return self._received if self.established and self._buffer else None

    def opening(self) -> bytes:
        """Return what to send before anything arrived (bytes).

        Empty at the accepting end, which waits for the dialer.
        """
        return self._hello if self._dialer else b""

    def take_outgoing(self) -> bytes:
        """Take the handshake bytes that are to be sent now; empty when there are none."""
        outgoing, self._outgoing = self._outgoing, b""
        return outgoing

    def seal(self, payload: bytes) -> bytes:
        """Make the next frame (bytes), which must be sent in this order.

        Raises ProtocolError before the handshake is done, and for a payload that is empty or over MAX_PAYLOAD_BYTES.
        """
        if self._send_hash is None:
            raise ProtocolError("no frame can be sent before the handshake is done")
        size = len(payload)
        if not 0 < size <= MAX_PAYLOAD_BYTES:
            raise ProtocolError(f"a payload of {size} bytes; 1 to {MAX_PAYLOAD_BYTES} are allowed")
        mac = self._send_hash.copy()
        mac.update(_pack_counter(self._sent))
        mac.update(payload)
        self._sent += 1
        return b"".join((size.to_bytes(4, "big"), payload, mac.digest()))

    def feed(self, data: bytes) -> list[bytes]:
        """Take what arrived, in any pieces; return the payloads that are complete and authentic, in order.

        Raises ProtocolError on the first wrong byte; from then on every call does, and the connection is to
        be closed. Before the handshake is done at most HANDSHAKE_BYTES are ever kept.
        """
        if self._failed:
            raise ProtocolError("this connection was refused before")
        try:
            while not self.established:
                if not data:
                    return []
                data = self._shake_hands(data)
            return self._open_frames(data) if data else []
        except ProtocolError:
            self._failed = True
            self._buffer.clear()
            self._outgoing = b""
            raise

    # Handshake

    def _shake_hands(self, data: bytes) -> bytes:
        """Take what the handshake needs next out of `data` and return the rest of it."""
        wants_hello = not self._peer_hello
        missing = (HELLO_BYTES if wants_hello else MAC_BYTES) - len(self._buffer)
        self._buffer += data[:missing]
        rest = data[missing:]
        if wants_hello and not MAGIC.startswith(self._buffer[: len(MAGIC)]):
            raise ProtocolError("the connection does not begin with a hello of this protocol")
        if len(data) < missing:
            return b""
        block = bytes(self._buffer)
        self._buffer.clear()
        if wants_hello:
            self._take_hello(block)
        else:
            self._take_proof(block)
        # The other end has to hear from us before it may continue, except for the dialer, which hears the last proof.
        if rest and not (self.established and self._dialer):
            raise ProtocolError("more bytes than this step of the handshake has")
        return rest

    def _take_hello(self, hello: bytes) -> None:
        _, version, node, cluster, incarnation, nonce = _HELLO.unpack(hello)
        if version != PROTOCOL_VERSION:
            raise ProtocolError(f"the peer speaks protocol version {version}, this node {PROTOCOL_VERSION}")
        if cluster != self._hello[12:28]:
            raise ProtocolError("the peer belongs to another cluster, or has another key")
        if node == self.local.node or nonce == self._hello[-NONCE_BYTES:]:
            raise ProtocolError(f"the peer says that it is this node ({node})")
        if node < 1 or (self._expected is not None and node != self._expected):
            raise ProtocolError(f"the peer says that it is node {node}, expected {self._expected}")
        self._peer_hello = hello
        self.peer = PeerIdentity(node, incarnation)
        self._transcript = self._hello + hello if self._dialer else hello + self._hello
        self._outgoing = self._proof(dialer=True) if self._dialer else self._hello

    def _take_proof(self, proof: bytes) -> None:
        if not hmac.compare_digest(proof, self._proof(dialer=not self._dialer)):
            raise ProtocolError("the peer does not know the cluster's key")
        if not self._dialer:
            self._outgoing = self._proof(dialer=False)
        self._send_hash = self._frame_hash(dialer=self._dialer)
        self._receive_hash = self._frame_hash(dialer=not self._dialer)
        self.established = True

    def _proof(self, *, dialer: bool) -> bytes:
        # The two proofs differ by `person`: sending an end's own proof back to it proves nothing.
        person = b"raftnb dialer" if dialer else b"raftnb acceptor"
        return _new_hash(self._transcript, digest_size=MAC_BYTES, key=self._key, person=person).digest()

    def _frame_hash(self, *, dialer: bool) -> Any:
        """Return the keyed hash from which the codes of one direction start: `dialer` names who sends in it."""
        person = b"raftnb key dial" if dialer else b"raftnb key acc"
        key = _new_hash(self._transcript, digest_size=32, key=self._key, person=person).digest()
        return _new_hash(digest_size=MAC_BYTES, key=key, person=b"raftnb frame")

    # Frames

    def _open_frames(self, data: bytes) -> list[bytes]:
        buffer = self._buffer
        if buffer:
            buffer += data
            if len(buffer) >= 4 and len(buffer) < 4 + _frame_size(buffer, 0) + MAC_BYTES:
                return []
            with memoryview(buffer) as view:
                payloads, used = self._open(view)
            del buffer[:used]
            return payloads
        # The common case: whole frames in one piece. They are read where they are, nothing goes through the buffer.
        payloads, used = self._open(data)
        if used < len(data):
            buffer += data[used:]
        return payloads

    def _open(self, source: bytes | memoryview) -> tuple[list[bytes], int]:
        """Open the complete frames at the front of `source`; return their payloads and how many bytes they took."""
        payloads: list[bytes] = []
        position, end = 0, len(source)
        while end - position >= 4:
            begin = position + 4
            stop = begin + _frame_size(source, position)
            if stop + MAC_BYTES > end:
                break
            payload = bytes(source[begin:stop])
            mac = self._receive_hash.copy()
            mac.update(_pack_counter(self._received))
            mac.update(payload)
            position = stop + MAC_BYTES
            if not hmac.compare_digest(mac.digest(), source[stop:position]):
                raise ProtocolError(f"frame {self._received} is not authentic, or not the next one of this connection")
            self._received += 1
            payloads.append(payload)
        return payloads, position


def _frame_size(source: bytes | bytearray | memoryview, position: int) -> int:
    """Return the payload size that the frame at `position` claims. Raises ProtocolError if no frame has that size."""
    size = int.from_bytes(source[position : position + 4], "big")
    if not 0 < size <= MAX_PAYLOAD_BYTES:
        raise ProtocolError(f"a frame claims {size} bytes; 1 to {MAX_PAYLOAD_BYTES} are allowed")
    return size
