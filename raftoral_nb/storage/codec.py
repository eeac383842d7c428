"""Codecs: what is done to everything that a data directory holds of users' data, before it is written and after it is read.

A codec goes around whole records of the log, pieces of snapshots and large values: so around inputs, results, messages, saved states, the code of
workflows and what their cells captured. Not around what tells nothing of them: the manifest (names and numbers of nodes), the head, and digests.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from typing import Any, Final, Protocol

from ..errors import BadArgumentError, CodecError

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_PROBE: Final = b"raftoral-nb"


class Codec(Protocol):
    """Two functions, each the other's inverse. Called from several threads, also at the same time."""

    def encode(self, data: bytes, /) -> bytes:
        """Return the bytes that are written."""
        ...

    def decode(self, data: bytes, /) -> bytes:
        """Return what `encode` was given. Raises anything if it was not made by it, or with another key."""
        ...


class Encryption:
    """Encrypts, and notices changes: AES-256-GCM (NIST SP 800-38D), with a random nonce for each record. Needs `cryptography`.

    `key` is 32 bytes, such as `Encryption.new_key()` returns: keep it where the directory is not. Without it nothing can be read, by
    anybody. It hides what is recorded, not how much and when; file names of large values are digests of what they hold.
    Raises `BadArgumentError` for another key.
    """

    def __init__(self, key: bytes) -> None:
        given: object = key
        if not isinstance(given, bytes) or len(given) != KEY_BYTES:
            raise BadArgumentError(f"the key is {KEY_BYTES} bytes, such as Encryption.new_key() returns")
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as error:
            raise BadArgumentError('Encryption needs a package: pip install "raftoral-nb[hosts]"') from error
        self._key = key
        self._cipher: Any = AESGCM(key)

    @staticmethod
    def new_key() -> bytes:
        """Return a new random key."""
        return os.urandom(KEY_BYTES)

    def encode(self, data: bytes, /) -> bytes:
        """See `Codec`."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed: bytes = self._cipher.encrypt(nonce, data, None)
        return nonce + sealed

    def decode(self, data: bytes, /) -> bytes:
        """See `Codec`."""
        opened: bytes = self._cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], None)
        return opened

    def __repr__(self) -> str:
        return "Encryption(...)"

    def __reduce__(self) -> tuple[type[Encryption], tuple[bytes]]:
        return Encryption, (self._key,)


class Compression:
    """Compresses with zlib what becomes smaller by that; `level` is from 1 (fast) to 9 (small). Raises `BadArgumentError` for another."""

    def __init__(self, level: int = 1) -> None:
        if type(level) is not int or not 1 <= level <= 9:
            raise BadArgumentError(f"the level is a whole number from 1 to 9, not {level!r}")
        self._level = level

    def encode(self, data: bytes, /) -> bytes:
        """See `Codec`."""
        smaller = zlib.compress(data, self._level)
        return b"z" + smaller if len(smaller) < len(data) else b"-" + data

    def decode(self, data: bytes, /) -> bytes:
        """See `Codec`."""
        return zlib.decompress(data[1:]) if data[:1] == b"z" else data[1:]

    def __repr__(self) -> str:
        return f"Compression({self._level})"


class _Chain:
    """Several codecs: the first is the first when something is written, and the last when it is read."""

    def __init__(self, codecs: Sequence[Codec]) -> None:
        self._codecs = tuple(codecs)

    def encode(self, data: bytes, /) -> bytes:
        for codec in self._codecs:
            data = codec.encode(data)
        return data

    def decode(self, data: bytes, /) -> bytes:
        for codec in reversed(self._codecs):
            data = codec.decode(data)
        return data


def checked(given: object) -> Codec | None:
    """Return the codec that was meant: one, several in a row, or None. Raises `BadArgumentError` for what is none."""
    if given is None:
        return None
    codecs: list[Any] = list(given) if isinstance(given, list | tuple) else [given]
    for one in codecs:
        if not (callable(getattr(one, "encode", None)) and callable(getattr(one, "decode", None))):
            raise BadArgumentError(
                f"codec has encode(bytes) and decode(bytes), such as Encryption(key), or is a list of such; got {one!r}"
            )
    if not codecs:
        return None
    found: Codec = codecs[0] if len(codecs) == 1 else _Chain(codecs)
    try:
        same = found.decode(found.encode(_PROBE)) == _PROBE
    except Exception as error:
        raise BadArgumentError(f"codec {given!r} failed on bytes of a test: {type(error).__name__}: {error}") from error
    if not same:
        raise BadArgumentError(f"codec {given!r} does not decode what it encodes")
    return found


def mark(codec: Codec | None) -> str:
    """Return what the manifest of a directory holds, by which its codec is known; "" without one."""
    return "" if codec is None else codec.encode(_PROBE).hex()


def refuse_other(known: str, codec: Codec | None, where: str) -> None:
    """Raise `CodecError` if a directory whose manifest has the mark `known` was not written with `codec`."""
    if not known and codec is None:
        return
    if not known:
        raise CodecError(f"{where} was written without a codec: leave codec= out, or give a new directory")
    if codec is None:
        raise CodecError(f"{where} was written with a codec: give the same as codec=...")
    try:
        same = codec.decode(bytes.fromhex(known)) == _PROBE
    except Exception:  # whatever a codec raises
        same = False
    if not same:
        raise CodecError(f"{where} was written with another codec than the one given, or with another key")
