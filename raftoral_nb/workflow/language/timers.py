"""Time: the present, sleeps and deadlines, all of the run's own time, which follows from its records.

What is due is due at a time of day (UTC), and belongs to the run: what is left of it survives the failure of a leader and a restart. Only
the acting node has an alarm for it. A run that sleeps costs no thread, and nothing of the node's own loop, however long it sleeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from ...core.step_ids import check_key
from ...errors import BadArgumentError, DeadlineExceededError
from ...threads.seconds import Seconds
from ...threads.seconds import seconds as seconds_of
from .identity import ContextIdentity

_LATEST = datetime.max.replace(tzinfo=UTC)


def _time(seconds: float) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return _LATEST  # nobody will be there to see the difference


def now(ctx: ContextIdentity) -> datetime:
    """See `WorkflowContext.now`."""
    ctx._execution.here("now")
    ctx._execution.asked_for_time = True
    return _time(ctx._execution.loop.time())


async def sleep(ctx: ContextIdentity, seconds: Seconds, key: str) -> None:
    """See `WorkflowContext.sleep`."""
    await _sleep_until(ctx, ctx._execution.loop.time() + seconds_of(seconds, "ctx.sleep"), key)


async def sleep_until(ctx: ContextIdentity, when: datetime, key: str) -> None:
    """See `WorkflowContext.sleep_until`."""
    given: object = when
    if not isinstance(given, datetime) or given.tzinfo is None or given.utcoffset() is None:
        raise BadArgumentError(
            f"ctx.sleep_until takes a datetime with a time zone, such as `await ctx.now() + timedelta(hours=1)` or "
            f"datetime(2030, 1, 1, tzinfo=UTC); not {given!r}"
        )
    await _sleep_until(ctx, when.timestamp(), key)


async def _sleep_until(ctx: ContextIdentity, due: float, key: str) -> None:
    check_key(key)
    execution = ctx._execution
    branch = execution.here(f"sleep {key!r}")
    future = execution.loop.create_future()
    timer = execution.loop.call_at(due, _wake, future)
    branch.sleeps_until = due
    try:
        await future
    finally:
        branch.sleeps_until = None
        timer.cancel()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@asynccontextmanager
async def deadline(ctx: ContextIdentity, seconds: Seconds) -> AsyncIterator[datetime]:
    """See `WorkflowContext.deadline`."""
    given = seconds_of(seconds, "ctx.deadline")
    execution = ctx._execution
    execution.here("deadline")
    due = _time(execution.loop.time() + given)
    timeout = asyncio.timeout(given)
    try:
        async with timeout:
            yield due
    except TimeoutError as error:
        if not timeout.expired() or not isinstance(error.__cause__, asyncio.CancelledError):
            raise
        raise _exceeded(given, due) from None
    except BaseExceptionGroup as group:
        if not timeout.expired():
            raise
        left = group.split(asyncio.CancelledError)[1]
        if left is None:
            raise _exceeded(given, due) from None
        raise BaseExceptionGroup("a deadline passed, and branches failed", [_exceeded(given, due), left]) from None


def _exceeded(seconds: float, due: datetime) -> DeadlineExceededError:
    return DeadlineExceededError(f"what ctx.deadline({seconds:g}) encloses was not done by {due.isoformat()}")
