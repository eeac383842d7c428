"""The workflows of the simulation that use more than plain steps: time, races, task groups, sagas, retries.

Every part returns what it has seen: nodes that were interrupted at different places, or took different ways, end with
different results, which the final checks find. Which parts a run does follows from its own random numbers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from ..errors import DeadlineExceededError, OutcomeUnknown, StepTimeoutError
from ..workflow.language.context import WorkflowContext
from ..workflow.shipping.step_function import Retry, step

Effect = Callable[[str], Any]
SlowEffect = Callable[[str], Awaitable[Any]]
Seen = list[Any]

PARTS_PER_RUN: Final = 2
ONCE: Final = " at most once"
"""The suffix of the name of an effect that may occur once in a simulation."""

_AGAIN: Final = Retry(attempts=3, first_wait=0.02, max_wait=0.2)


class _Planned(Exception):  # noqa: N818 - what a part raises on purpose
    pass


async def _times(ctx: WorkflowContext, name: str, effect: Effect, slow: SlowEffect) -> Seen:
    seen: Seen = [await ctx.now()]
    await ctx.sleep(ctx.random())
    try:
        async with ctx.deadline(0.4 * ctx.random()):
            try:
                seen.append(await ctx.compute("hurries", slow, f"{name} hurries"))
                seen.append(await ctx.gather(_stays(seen, name, slow, 1), _stays(seen, name, slow, 2)))
            finally:
                seen.append(await ctx.compute("cleans up", effect, f"{name} cleans up"))
    except DeadlineExceededError:
        seen.append("too late")
    await ctx.sleep_until(await ctx.now())
    return seen


def _stays(seen: Seen, name: str, slow: SlowEffect, number: int) -> Callable[[WorkflowContext], Awaitable[Any]]:
    """A branch of two steps, which tells how far it came."""

    async def branch(ctx: WorkflowContext) -> Any:
        come = 0
        try:
            first = await ctx.compute("first", slow, f"{name} {number} first")
            come = 1
            second = await ctx.compute("second", slow, f"{name} {number} second")
            come = 2
            return [first, second, ctx.random()]
        finally:
            seen.append((await ctx.compute("leaves", str, number), come))
            seen.sort(key=repr)  # branches end in another order on each node

    return branch


async def _races(ctx: WorkflowContext, name: str, effect: Effect, slow: SlowEffect) -> Seen:
    del effect
    seen: Seen = []

    async def patience(ctx: WorkflowContext) -> str:
        await ctx.sleep(0.3)
        return "nobody was quick"

    async def nested(ctx: WorkflowContext) -> Any:
        return await ctx.race(_stays(seen, name, slow, 3), _stays(seen, name, slow, 4))

    won = await ctx.race(_stays(seen, name, slow, 1), _stays(seen, name, slow, 2), nested, patience)
    return [won, *seen]


async def _groups(ctx: WorkflowContext, name: str, effect: Effect, slow: SlowEffect) -> Seen:
    seen: Seen = []

    async def fails(ctx: WorkflowContext) -> None:
        await ctx.compute("before failing", slow, f"{name} before failing")
        if ctx.random() < 0.6:
            raise _Planned(name)

    try:
        async with ctx.task_group() as group:
            group.start(_stays(seen, name, slow, 1))
            group.start(fails)
            group.start(_stays(seen, name, slow, 2))
            inside = await ctx.compute("inside", slow, f"{name} inside")
    except BaseExceptionGroup as error:
        if error.split(_Planned)[1] is not None:
            raise
        inside = "failed"
    return [inside, *seen, await ctx.compute("after", effect, f"{name} after")]


async def _maps(ctx: WorkflowContext, name: str, effect: Effect, slow: SlowEffect) -> Seen:
    async def one(ctx: WorkflowContext, number: int) -> Any:
        return [await ctx.compute("maps", slow, f"{name} maps {number}"), str(ctx.uuid4())]

    del effect
    return [await ctx.map(one, range(4), limit=2)]


async def _sagas(ctx: WorkflowContext, name: str, effect: Effect, slow: SlowEffect) -> Seen:
    seen: Seen = []

    async def books(ctx: WorkflowContext) -> None:
        async with ctx.saga() as saga:
            for number in range(3):
                seen.append(await ctx.compute("books", effect, f"{name} books {number}"))
                saga.on_failure("undoes", step(slow, retry=_AGAIN), f"{name} undoes {number}")
            if ctx.random() < 0.5:
                raise _Planned(name)
            await ctx.sleep(1.0)

    try:
        async with ctx.deadline(0.5):
            await books(ctx)
    except (_Planned, DeadlineExceededError) as error:
        seen.append(type(error).__name__)
    return seen


async def _options(ctx: WorkflowContext, name: str, effect: Effect, slow: SlowEffect) -> Seen:
    seen: Seen = []
    for number, key in enumerate(("slow", "quick")):
        function = step(slow if key == "slow" else effect, timeout=0.1, retry=_AGAIN)
        try:
            seen.append(await ctx.compute(key, function, f"{name} options {number}"))
        except StepTimeoutError as error:
            seen.append(type(error).__name__)
    for number in range(2):

        async def once(what: str) -> Any:
            value = effect(what)
            await slow(f"{what} goes on")
            return value

        try:
            seen.append(await ctx.compute("once", step(once, at_most_once=True), f"{name} {number}{ONCE}"))
        except OutcomeUnknown as error:
            seen.append(error.idempotency_key)
    return seen


_PARTS: Final = (_times, _races, _groups, _maps, _sagas, _options)


async def language(ctx: WorkflowContext, effect: Effect, slow: SlowEffect) -> Seen:
    """Do some of the parts, and return what they saw."""
    return [
        await part(ctx, f"{ctx.run_id}{part.__name__}", effect, slow) for part in ctx.rng.sample(_PARTS, PARTS_PER_RUN)
    ]
