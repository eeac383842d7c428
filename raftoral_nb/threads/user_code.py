"""Places in user code where threads are now, as text."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

PACKAGE: Final = Path(__file__).resolve().parent.parent
"""The folder of the engine: no code in it is the user's."""

_ENGINE: Final = f"{PACKAGE}{os.sep}"
_SITE: Final = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))
_STDLIB: Final = tuple({f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib")})
_MACHINERY: Final = tuple(f"{site}{name}{os.sep}" for site in _SITE for name in ("anyio", "pysyncobj", "uvloop"))
_KERNEL_CELL: Final = re.compile(r"[/\\](ipykernel|xpython)_\d+[/\\][^/\\]+\.py$")
_TERMINAL_CELL: Final = re.compile(r"^<ipython-input-(\d+)-")


@lru_cache(maxsize=1024)
def _rank(filename: str) -> int:
    """Rank code: 0 if it is the user's; 1: a library of theirs; 2: standard library, event loop, engine."""
    if filename.startswith((_ENGINE, "<frozen ")) or any(part in filename for part in _MACHINERY):
        return 2
    if any(part in filename for part in _SITE):
        return 1
    return 2 if filename.startswith(_STDLIB) else 0


def is_users(filename: str) -> bool:
    """Return whether a code object's file is the user's own.

    It is not if it is of a library, the standard library, an event loop or the engine.
    """
    return _rank(filename) == 0


def cell_name(filename: str) -> str | None:
    """Return `cell` or `cell [3]` for the file name of a notebook cell, None for any other."""
    if _KERNEL_CELL.search(filename):
        return "cell"
    if match := _TERMINAL_CELL.match(filename):
        return f"cell [{match[1]}]"
    return None


def short_file_name(filename: str) -> str:
    """Return a code object's file as people know it.

    `cell` or `cell [3]` for notebook cells, otherwise the file's name.
    """
    if (cell := cell_name(filename)) is not None:
        return cell
    return filename if filename.startswith("<") else re.split(r"[/\\]", filename)[-1]


def where_is(thread_ident: int | None, *, prefer: str | None = None, below: CodeType | None = None) -> str | None:
    """Return where user code on a thread is now, as "file:line in function"; None if the thread runs none, or ended.

    That is the innermost frame of the user's code; if there is none, of a library. Frames of the engine, the event loop and
    the standard library do not count. `prefer` is a file whose frames count as user code wherever it lies; frames outside
    of the innermost frame of `below` are not looked at. Any thread may ask; the answer may be outdated when it is read.
    """
    frame: FrameType | None = sys._current_frames().get(thread_ident) if thread_ident is not None else None
    library: str | None = None
    while frame is not None and frame.f_code is not below:
        code = frame.f_code
        rank = 0 if code.co_filename == prefer else _rank(code.co_filename)
        if rank < 2:
            place = f"{short_file_name(code.co_filename)}:{frame.f_lineno} in {code.co_name}"
            if rank == 0:
                return place
            library = library or place
        frame = frame.f_back
    return library


MAX_DEPTH: Final = 200
"""The most coroutines waiting for each other that are followed."""

# What is awaited is a coroutine, a generator or an asynchronous generator.
_FRAMES: Final = ("cr_frame", "gi_frame", "ag_frame")
_AWAITED: Final = ("cr_await", "gi_yieldfrom", "ag_await")


def awaiting_frames(waits: object) -> Iterator[FrameType]:
    """Yield the frames of a coroutine and of those that it awaits, outermost first; at most `MAX_DEPTH`.

    From any thread; what runs at this moment may be a line further on already.
    """
    for _ in range(MAX_DEPTH):
        frame = next((one for name in _FRAMES if (one := getattr(waits, name, None)) is not None), None)
        if frame is None:
            return
        yield frame
        waits = next((one for name in _AWAITED if (one := getattr(waits, name, None)) is not None), None)


def where_waits(waits: object) -> str | None:
    """Return where the user's code in a coroutine, or in what that awaits, is now, as `where_is` does; None if there is none."""
    found: str | None = None
    best = 2
    for frame in awaiting_frames(waits):
        code = frame.f_code
        rank = _rank(code.co_filename)
        if rank <= best and rank < 2:
            best = rank
            found = f"{short_file_name(code.co_filename)}:{frame.f_lineno} in {code.co_name}"
    return found
