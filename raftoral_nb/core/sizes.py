"""Numbers of bytes as people write and read them: the one parser, and the one function that puts them into words."""

from __future__ import annotations

import re
from typing import Any, Final

_SIZE: Final = re.compile(r"(?P<number>\d+(?:\.\d+)?) ?(?P<unit>[kMGT]?i?B)?", re.IGNORECASE | re.ASCII)
_UNITS: Final = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3))
_BYTES: Final[dict[str, int]] = {
    "b": 1,
    **{unit.lower(): size for unit, size in _UNITS},
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_MOST_DIGITS: Final = 30


def bytes_of(given: Any) -> int:
    """Return the bytes of `"20kB"`, `"1.5 GB"`, `"2GiB"`, or of a whole number of them, in text or not.

    Units are powers of 1000, those with an `i` of 1024. Raises ValueError for anything else.
    """
    if isinstance(given, int) and not isinstance(given, bool):
        return given
    found = _SIZE.fullmatch(given.strip()) if isinstance(given, str) and len(given) <= _MOST_DIGITS else None
    factor = None if found is None else _BYTES.get((found["unit"] or "B").lower())
    if found is None or factor is None:
        raise ValueError(f'expected a size such as 20kB, 8MB, "1.5 GB" or 2GiB, not {given!r}')
    whole, _, fraction = found["number"].partition(".")
    return int(whole + fraction) * factor // int(10 ** len(fraction))


def size_words(size: int, *, coarse: bool = False) -> str:
    """Return a number of bytes in words: `999 bytes`, `1.6 MB`, `52 MB`.

    `coarse` is for what differs by a few bytes from one Python to the next: whole kB or more, rounded up.
    """
    if coarse:
        for unit, factor in reversed(_UNITS):
            count = max(1, -(-size // factor))
            if count < 1000 or factor == _UNITS[0][1]:
                return f"{count} {unit}"
    for (unit, factor), below in zip(_UNITS, (*_UNITS[1:], ("bytes", 1)), strict=True):
        if round(size / below[1]) >= 1000:  # 999,960 bytes are 1.0 MB, and not 1000 kB
            value = size / factor
            return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"
    return "1 byte" if size == 1 else f"{size} bytes"
