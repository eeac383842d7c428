"""Tasks of their own for the functions of asynchronous steps: cancelled once, and abandoned if they do not end.

What cancels an asynchronous step reaches its function as one cancellation. A function that swallows it (or something below it does)
is not cancelled again and again, which would only keep the processor busy: after a grace period it is abandoned, as a synchronous
function is, and named by whoever stops the node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import anyio

from ..errors import ClusterError
from ..limits import MAX_CANCEL_SECONDS
from .user_code import where_waits

T = TypeVar("T")

NOWHERE: Final = "an unknown place"


class StepTask(asyncio.Task[None]):
    """The task of one step's function. Nobody cancels it but the one who waits for it, and that one only once."""

    name: str
    abandoned: bool
    """True if it was cancelled, and nobody waits for it any more."""
    outcome: _Outcome
    place: str | None
    """Where it was when it was abandoned."""

    def where(self) -> str:
        """Return where it is now, or was when its code was last seen: "file:line in function"."""
        return where_waits(self.get_coro()) or self.place or NOWHERE

    def leave(self) -> None:
        """Abandon it: it goes on as long as its loop does, and what comes of it is dropped."""
        self.abandoned = True
        self.place = where_waits(self.get_coro()) or self.place


class _Outcome:
    """What a function returned or raised. Beside its task, as the loop itself would end with some of what may be raised."""

    __slots__ = ("error", "value")

    def __init__(self) -> None:
        self.value: Any = None
        self.error: BaseException | None = None


async def _body(fn: Callable[[], Awaitable[Any]], outcome: _Outcome) -> None:
    try:
        outcome.value = await fn()
    except (asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException as error:
        outcome.error = error


class StepTasks:
    """The functions of asynchronous steps that run on one loop. Used on that loop's thread; `stuck` from any thread."""

    def __init__(self) -> None:
        # Invariant: tasks that have not ended. A dict for its order.
        self._running: dict[StepTask, None] = {}
        self.closed = False
        """True if no more are to begin."""

    async def run_async(
        self, fn: Callable[[], Awaitable[T]], /, *, name: str, abandoned: Callable[[], object] | None = None
    ) -> T:
        """Run `await fn()` in a task of its own on the running loop, and return its result or raise what it raised.

        If the awaiting task is cancelled, by whatever and however often, the function's task is cancelled once. It has
        `MAX_CANCEL_SECONDS` to clean up, or to return or raise something after all, which counts; then it is abandoned, and the
        cancellation goes on, after `abandoned()`. Raises `ClusterError` after `close`.
        """
        if self.closed:
            raise ClusterError(f"the step {name!r} cannot run: its node has stopped")
        outcome = _Outcome()
        task = StepTask(_body(fn, outcome), loop=asyncio.get_running_loop(), name=name)
        task.name, task.abandoned, task.outcome, task.place = name, False, outcome, None
        self._running[task] = None
        task.add_done_callback(self._ended)
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            task.cancel()
            await _grace(task)
            if not task.done():
                task.leave()
                if abandoned is not None:
                    abandoned()
                raise
            if task.cancelled():
                raise
        except BaseException:  # the loop is being closed
            task.leave()
            raise
        task.result()  # raises if it was cancelled by itself
        if outcome.error is not None:
            try:
                raise outcome.error
            finally:
                outcome.error = None  # or the exception would hold itself through this frame
        result: T = outcome.value
        return result

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)  # type: ignore[call-overload]

    def stuck_tasks(self) -> tuple[str, ...]:
        """Return the functions that have not ended, abandoned ones included.

        Each as "name (a task[, abandoned]) at file:line in function".
        """
        left = [task for task in tuple(self._running) if not task.done()]
        return tuple(
            f"{task.name} (a task{', abandoned' if task.abandoned else ''}) at {task.where()}" for task in left
        )


async def _grace(task: StepTask) -> None:
    """Wait until the task has ended, for at most the grace period, whatever else is cancelled meanwhile."""
    clock = asyncio.get_running_loop().time
    until = clock() + MAX_CANCEL_SECONDS
    # Shielded, as anyio would say in each turn of the loop again that a scope was cancelled.
    with anyio.CancelScope(shield=True):
        while not task.done() and (left := until - clock()) > 0:
            try:
                await asyncio.wait((task,), timeout=left)
            except asyncio.CancelledError:
                # Somebody's own, as when a node stops. The one before it goes on when this has ended.
                continue
