"""Waiting that a cancellation does not break off, and what several branches ended with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio

from ...core.step_ids import path_of, position_of
from ..codec.values import describe, shorten_text

if TYPE_CHECKING:
    from ..execution.execution import Execution

T = TypeVar("T")

CAUSE_CHARS: Final = 300
"""Length of what a group of failures says of the first of them, in characters."""


async def to_its_end(execution: Execution, name: str, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `make()` in a task of its own to its end, whatever cancellations come meanwhile, and return its result or raise its error.

    The last cancellation that came is raised afterwards, in place of a result.
    """
    position = position_of(execution.next_id(name, name))
    task = execution.loop.create_branch(make(), path=path_of(position, 0), name=name)
    cancelled = await through_cancellations(task)
    result: T = task.result()
    if cancelled is not None:
        raise cancelled
    return result


async def through_cancellations(future: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Wait until the future is done; cancellations do not reach it. Return the last that came."""
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not future.done():
            try:
                await asyncio.wait((future,))
            except asyncio.CancelledError as error:
                cancelled = error
    return cancelled


def raise_together(message: str, found: Sequence[BaseException]) -> None:
    """Raise what parallel branches ended with, as one group; if all of them were only cancelled, the first cancellation.

    The first failure, in the order given, is named, and is the group's cause: often it is all that one wants to know.
    Does nothing if `found` is empty.
    """
    if not found:
        return
    failed = [error for error in found if not isinstance(error, asyncio.CancelledError)]
    if not failed:
        raise found[0]
    first = failed[0]
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    raise BaseExceptionGroup(f"{message}, first {shorten_text(describe(first), CAUSE_CHARS)}", failed) from first
