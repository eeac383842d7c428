"""Finds out if anybody takes what a magic returns. IPython shows the value of a cell's last line, and drops those of all others."""

from __future__ import annotations

import dis
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import FrameType

_MAGIC: Final = "run_line_magic"
"""The method of the shell that a line `%magic ...` becomes a call of."""


def value_is_dropped() -> bool:
    """True if the magic that is running stands as a line of its own that IPython does not show: not the last one, or indented.

    False where its value is assigned, is part of an expression, or is shown as the cell's value.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != _MAGIC:
        frame = frame.f_back
    caller = None if frame is None else frame.f_back
    return caller is not None and _drops(caller)


def _drops(frame: FrameType) -> bool:
    """True if the next thing that this frame does with the value of the call that it waits for is to drop it."""
    # The call may be longer than one code unit, so what follows is the first instruction behind the place, not at the next one.
    following = (one for one in dis.get_instructions(frame.f_code) if one.offset > frame.f_lasti)
    return next((one.opname for one in following), "") == "POP_TOP"
