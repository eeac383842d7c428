"""Ending what is left of a dropped execution, so that nothing of it is left to the garbage collector.

By an exception of ours, not by `close()`: that does not reach an async generator over which the code is iterating (up to Python
3.12), and tells of a coroutine that awaits something in a `finally` block as an error that nobody can catch.
"""

from __future__ import annotations

from typing import Any, Final

from ...errors import ExecutionDropped

MAX_ENDINGS: Final = 100
"""Times that code of a dropped run is told to end, if it awaits something instead."""

_stubborn: Final[list[Any]] = []
"""Code that would not end, held for ever, as the collector would run it once more."""


def end_coroutine(coro: Any) -> None:
    """End a coroutine at the `await` at which it stands; another one in its `finally` blocks ends in the same way."""
    for _ in range(MAX_ENDINGS):
        try:
            coro.throw(ExecutionDropped())
        except BaseException:
            return  # what code of a dropped run raises means nothing any more
    _stubborn.append(coro)


def end_generator(generator: Any) -> None:
    """End an async generator at the `yield` or `await` at which it stands.

    By `asend().throw()`, as `athrow()` refuses if something seems to be still iterating over it.
    """
    step: Any = None
    for _ in range(MAX_ENDINGS):
        if generator.ag_frame is None:
            return
        if step is None:
            step = generator.asend(None)
        try:
            step.throw(ExecutionDropped())
        except BaseException:  # it ended, or came to a `yield`
            step = None
    if generator.ag_frame is not None:
        _stubborn.append(generator)


def leave_it(_generator: object) -> None:
    """Do nothing about an async generator that the collector found: its loop has ended it, or tried to."""
