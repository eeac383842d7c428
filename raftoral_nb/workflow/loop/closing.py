"""Closing what is left of a dropped execution, so that nothing of it is left to the garbage collector."""

from __future__ import annotations

import contextlib
from typing import Any, Final

MAX_CLOSINGS: Final = 100
"""Times that code of a dropped run is told to end, if it awaits something instead."""


def close_coroutine(coro: Any) -> None:
    """Close a coroutine, also one that awaits something in its `finally` blocks."""
    for _ in range(MAX_CLOSINGS):
        try:
            coro.close()
        except BaseException:
            # What code of a dropped run raises means nothing any more.
            if coro.cr_frame is not None:
                continue  # it awaited something: told again, it goes on behind that
        return


def close_generator(generator: Any) -> None:
    """Close an async generator, wherever it stands.

    By `asend().throw()`, as `aclose()` refuses while a closed coroutine seems to be still iterating over it: up to Python 3.12,
    closing the coroutine does not reach the generator.
    """
    for _ in range(MAX_CLOSINGS):
        if generator.ag_frame is None:
            return
        with contextlib.suppress(BaseException):
            generator.asend(None).throw(GeneratorExit)


def leave_it(_generator: object) -> None:
    """Do nothing about an async generator that the collector found: its loop has closed it, or tried to."""
