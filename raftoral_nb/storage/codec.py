"""Codecs: what is done to everything that a data directory holds of users' data, before it is written and after it is read.

A codec goes around whole records of the log, pieces of snapshots and large values: so around inputs, results, messages, saved states, the code of
workflows and what their cells captured. Not around what tells nothing of them: the manifest (names and numbers of nodes), the head, and digests.
"""

from __future__ import annotations

import os
import string
import zlib
from collections.abc import Sequence
from inspect import getattr_static
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
            raise BadArgumentError(
                f"the key is {KEY_BYTES} bytes, such as Encryption.new_key() returns, not {_kind(given)}{_key_hint(given)}"
            )
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


def _kind(given: object) -> str:
    """Return what was given, in words. Never the value itself: it may be a key, or hold one."""
    if isinstance(given, bytes | bytearray):
        return (
            f"{len(given)} {type(given).__name__}" if isinstance(given, bytes) else f"a bytearray of {len(given)} bytes"
        )
    if isinstance(given, str):
        return f"text of {len(given)} characters"
    if isinstance(given, type):
        return f"the class {given.__name__}"
    return "None" if given is None else f"an object of the class {type(given).__name__}"


def _key_hint(given: object) -> str:
    """Return how to make a key of what was given as one, if that is known."""
    if isinstance(given, str) and len(given) == 2 * KEY_BYTES and not set(given) - set(string.hexdigits):
        return "; it looks like hexadecimal digits: use bytes.fromhex(...)"
    if isinstance(given, bytearray) and len(given) == KEY_BYTES:
        return "; use bytes(...)"
    return ""


def _codec_hint(given: object) -> str:
    """Return what was probably meant by something that was given as a codec."""
    if isinstance(given, bytes) and len(given) == KEY_BYTES:
        return ": did you mean Encryption(key)?"
    if isinstance(given, type):
        return f": give {given.__name__}({'key' if issubclass(given, Encryption) else '...'})"
    return "; a codec has encode(bytes) and decode(bytes), such as Encryption(key); several are given as a list"


def checked(given: object) -> Codec | None:
    """Return the codec that was meant: one, several in a row, or None.

    Raises `BadArgumentError` for anything else. The message never shows what was given, which may be a key.
    """
    if given is None:
        return None
    codecs: list[Any] = list(given) if isinstance(given, list | tuple) else [given]
    if not codecs:
        raise BadArgumentError("codec= got an empty list: give at least one codec, or leave codec= out")
    for one in codecs:
        both = callable(getattr(one, "encode", None)) and callable(getattr(one, "decode", None))
        if not both or (isinstance(one, type) and not _is_static(one)):
            raise BadArgumentError(f"codec= got {_kind(one)}{_codec_hint(one)}")
    found: Codec = codecs[0] if len(codecs) == 1 else _Chain(codecs)
    try:
        same = found.decode(found.encode(_PROBE)) == _PROBE
    except Exception as error:
        raise BadArgumentError(
            f"the codec ({_kinds(codecs)}) failed on a test value: {type(error).__name__}"
        ) from error
    if not same:
        raise BadArgumentError(f"the codec ({_kinds(codecs)}) does not decode what it encodes")
    return found


def _is_static(given: type) -> bool:
    """Return whether a class is a codec itself, by static methods: most are given by mistake for one of their objects."""
    return all(isinstance(getattr_static(given, name), staticmethod | classmethod) for name in ("encode", "decode"))


def _kinds(codecs: Sequence[object]) -> str:
    return ", ".join(type(one).__name__ for one in codecs)


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
