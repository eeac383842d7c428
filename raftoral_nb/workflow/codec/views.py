"""Values that are small, and pickle large: views into the memory of something else, which goes along as a whole."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Final

_ARROW: Final = ("Table", "RecordBatch", "ChunkedArray", "Array")
_SLACK: Final = 4096
"""Bytes that may be held beside what is shown without that being worth a word."""


def hint(parts: Iterable[Any]) -> str:
    """Return what to do about the first of these that is a small slice of something large; "" if there is none.

    Slices of Arrow tables and arrays pickle with the whole buffers that they are cut out of (those of numpy and pandas do not).
    """
    arrow = sys.modules.get("pyarrow")  # not imported for this
    kinds = tuple(kind for name in _ARROW if isinstance(kind := getattr(arrow, name, None), type))
    if not kinds:
        return ""
    for one in parts:
        if isinstance(one, kinds):
            own, whole = _sizes(one)
            if whole > 2 * own + _SLACK:
                return (
                    f"It has a slice of a larger pyarrow.{type(one).__name__}: its own data are {own:,} bytes, and it pickles with "
                    f"the whole buffers that it is cut out of, {whole:,} bytes. A copy of the rows alone is "
                    "`part.take(list(range(len(part))))` (combine_chunks does not always make one)."
                )
    return ""


def _sizes(one: Any) -> tuple[int, int]:
    try:
        return int(one.nbytes), int(one.get_total_buffer_size())
    except Exception:  # an array of a kind whose size is not known is none that we can speak of
        return 0, 0
