"""References to blobs: what stands in a record in place of a value that is too large for the log.

A value is recorded as bytes. Small ones are the value's own encoding, a pickle; in place of a large one stands a reference to
a blob, in which the encoding is kept beside the log. Nothing else needs to know the difference: a record is bytes in both cases.
"""

from __future__ import annotations

from typing import Final

import msgspec

MARK: Final = b"\x00"
"""The first byte of a reference. A pickle begins with 0x80, so none is taken for a reference."""

MAX_REFERENCE_BYTES: Final = 1024
"""Size of a reference, in bytes; what is larger is none."""


class BlobRef(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The reference to a blob: its digest, by which it is found and checked, and its size in bytes."""

    digest: str
    """XXH3-128 of the blob's bytes: 32 hexadecimal digits."""
    size: int
    """Of the blob, in bytes."""
    shown: str = ""
    """The value on one line, for views, which do not load it."""


_decoder: Final = msgspec.msgpack.Decoder(BlobRef)
_encoder: Final = msgspec.msgpack.Encoder()


def encode_reference(ref: BlobRef) -> bytes:
    """Return the bytes that stand in a record for the blob."""
    return MARK + _encoder.encode(ref)


def reference(value: bytes | None) -> BlobRef | None:
    """Return the reference that a record's value is; None if it is a value itself, or nothing.

    Never raises: what begins as a reference and is none is a value, which will not decode.
    """
    if not value or value[:1] != MARK or len(value) > MAX_REFERENCE_BYTES:
        return None
    try:
        return _decoder.decode(memoryview(value)[1:])
    except msgspec.DecodeError:
        return None


def kept_bytes(value: bytes | None) -> int:
    """Return the bytes that keeping a record's value takes, those of its blob included."""
    if value is None:
        return 0
    ref = reference(value)
    return len(value) if ref is None else len(value) + ref.size
