"""The futures of a workflow, which only the workflow and the records of its run may set."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Final

from ...errors import WrongTaskError
from .entering import EnterableLoop

_get_ident: Final = threading.get_ident


def set_outside() -> WrongTaskError:
    """Return the error about something that is set outside of the workflow's turn, on one node alone."""
    return WrongTaskError(
        "what a workflow waits for (a future, an event, a queue, a task) was set or cancelled by a step, or on another thread: "
        "it would be so on this node alone. Return the value from the step, or send the run a signal"
    )


class RunFuture(asyncio.Future[Any]):
    """A future of a workflow. Its hash is an ordinal.

    Set or cancelled outside of its loop it raises `WrongTaskError`, in a query `QueryFailedError`, and stays as it is.
    """

    __slots__ = ("_n",)

    _n: int
    _loop: EnterableLoop

    def __hash__(self) -> int:
        return self._n

    def set_result(self, result: Any) -> None:
        """Set the result, as `asyncio.Future` does."""
        if _get_ident() != self._loop.thread:
            raise self._refusal()
        super().set_result(result)

    def set_exception(self, exception: type[BaseException] | BaseException) -> None:
        """Set the exception, as `asyncio.Future` does."""
        if _get_ident() != self._loop.thread:
            raise self._refusal()
        super().set_exception(exception)

    def cancel(self, msg: Any = None) -> bool:
        """Cancel it, as `asyncio.Future` does."""
        if _get_ident() != self._loop.thread:
            raise self._refusal()
        return super().cancel(msg)

    def _refusal(self) -> BaseException:
        refusal = getattr(self._loop, "_refusal", None)
        return set_outside() if refusal is None else refusal()
