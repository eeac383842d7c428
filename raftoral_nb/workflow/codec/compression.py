"""Compression of large pickles with Zstandard (RFC 8878), where a sample says that it helps.

Text, JSON and tables of Python's objects become a fraction; what is random already costs the look at a sample. Arrays have their buffers beside
the pickle, and are never compressed: they are mapped into memory as they are.
"""

from __future__ import annotations

import functools
import importlib
import sys
from typing import Any, Final

LEVEL: Final = 1
"""Of Zstandard: as fast as a disk, and nearly as small as the slower ones (measured with JSON and pickled dicts)."""

SAMPLE_BYTES: Final = 16 * 1024
"""Size of one sample, in bytes; there are four, from the first to the last bytes."""

WORTH: Final = 0.8
"""The part of its size that a pickle must shrink to, or below, to be compressed."""

_SAMPLES: Final = 4


@functools.cache
def _zstd() -> Any:
    """Return the module; None if this Python has none, as in WebAssembly."""
    try:
        return importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    except ImportError:
        return None


def compressed(data: bytes) -> bytes | None:
    """Return the bytes compressed; None if that would not make them much smaller, or cannot be done here."""
    zstd = _zstd()
    if zstd is None:
        return None
    view, last = memoryview(data), max(0, len(data) - SAMPLE_BYTES)
    sample = b"".join(view[last * part // (_SAMPLES - 1) :][:SAMPLE_BYTES] for part in range(_SAMPLES))
    if len(zstd.compress(sample, LEVEL)) > WORTH * len(sample):
        return None
    found: bytes = zstd.compress(data, LEVEL)
    return found if len(found) <= WORTH * len(data) else None


def decompressed(data: memoryview) -> bytes:
    """Return what `compressed` was given. Raises ImportError where there is no Zstandard, and whatever that raises for other bytes."""
    zstd = _zstd()
    if zstd is None:
        raise ImportError("it is compressed with Zstandard, which is not installed here: pip install backports.zstd")
    found: bytes = zstd.decompress(data)
    return found
