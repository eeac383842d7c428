"""Time: the present, sleeps and deadlines. Whatever depends on a clock is recorded, so that every node sees the same.

A due time is recorded as a time of day (UTC) and belongs to the run: what is left of it survives the failure of a
leader and a restart. Only the acting node has a timer for it; the others wait for the record. A run that sleeps costs
no thread and no task beyond its own, however long it sleeps.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import cast

from ...core.records import Operation, StepId
from ...errors import BadArgumentError, DeadlineExceededError
from ...threads.seconds import Seconds
from ...threads.seconds import seconds as seconds_of
from ..execution.branch_state import Scope
from ..execution.products import Product
from ..execution.scopes import inherited, without
from .identity import ContextIdentity

_LATEST = datetime.max.replace(tzinfo=UTC)


def _time(seconds: float) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return _LATEST  # nobody will be there to see the difference


async def now(ctx: ContextIdentity) -> datetime:
    """See `WorkflowContext.now`."""
    execution = ctx._execution

    async def produce(step_id: StepId) -> Product:
        return execution.product(step_id, _time(execution.around.alarms.clock()))

    return cast("datetime", execution.decode(await execution.step(ctx._state, "now", "now", produce)))


async def sleep(ctx: ContextIdentity, seconds: Seconds, key: str) -> None:
    """See `WorkflowContext.sleep`."""
    given = seconds_of(seconds, "ctx.sleep")
    alarms = ctx._execution.around.alarms
    due = await _recorded_due(ctx, key, "sleep", lambda: _time(alarms.clock() + given))
    await _wake(ctx, due)


async def sleep_until(ctx: ContextIdentity, when: datetime, key: str) -> None:
    """See `WorkflowContext.sleep_until`."""
    given: object = when
    if not isinstance(given, datetime) or given.tzinfo is None or given.utcoffset() is None:
        raise BadArgumentError(
            f"ctx.sleep_until takes a datetime with a time zone, such as `await ctx.now() + timedelta(hours=1)` or "
            f"datetime(2030, 1, 1, tzinfo=UTC); not {given!r}"
        )
    await _wake(ctx, await _recorded_due(ctx, key, "sleep", lambda: when.astimezone(UTC)))


async def _recorded_due(ctx: ContextIdentity, key: str, operation: Operation, due: Callable[[], datetime]) -> datetime:
    execution = ctx._execution

    async def produce(step_id: StepId) -> Product:
        return execution.product(step_id, due())

    return cast("datetime", execution.decode(await execution.step(ctx._state, key, operation, produce)))


async def _wake(ctx: ContextIdentity, due: datetime) -> None:
    """Record that the time has come as a step of its own.

    A branch that is interrupted must be so at the same place everywhere.
    """
    execution, state = ctx._execution, ctx._state

    async def produce(step_id: StepId) -> Product:
        await execution.around.alarms.sleep_until(due.timestamp())
        return execution.product(step_id, None)

    await execution.at(state, state.branch.child(0).next_id("wake"), "wake", produce)


@asynccontextmanager
async def deadline(ctx: ContextIdentity, seconds: Seconds) -> AsyncIterator[datetime]:
    """See `WorkflowContext.deadline`."""
    given = seconds_of(seconds, "ctx.deadline")
    execution, state = ctx._execution, ctx._state
    alarms = execution.around.alarms
    due = await _recorded_due(ctx, "deadline", "deadline", lambda: _time(alarms.clock() + given))
    expiry = state.branch.child(0).next_id("expiry")
    position = expiry.partition("/")[0]
    scope = Scope(position, f"its deadline of {given:g} s passed", inherited(state))
    if not state.shielded:
        state.scopes.append(scope)
    execution.expire(expiry, due.timestamp())
    try:
        yield due
    except BaseException as error:
        if not execution.is_outcome(error):
            raise
        interrupted, left = without(error, scope)
        if not interrupted:
            raise
        exceeded = DeadlineExceededError(f"what ctx.deadline({given:g}) encloses was not done by {due.isoformat()}")
        if left is not None:
            raise BaseExceptionGroup("a deadline passed, and branches failed", [exceeded, left]) from None
        raise exceeded from None
    finally:
        execution.forget_expiry(expiry)
        if scope in state.scopes:
            state.scopes.remove(scope)
