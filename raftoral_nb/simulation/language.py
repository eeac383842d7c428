"""The workflows of the simulation that use more than plain steps: time, races, task groups, sagas, retries.

Every part notes what it has seen: nodes that were interrupted at different places, or took different ways, have different diaries,
which the checker finds. Which parts a run does follows from its own random numbers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from ..errors import DeadlineExceededError, OutcomeUnknown, StepTimeoutError
from ..workflow.language.context import WorkflowContext
from ..workflow.shipping.step_function import Retry, step
from .diaries import Scene
from .effects import LABEL, ONCE, effect, long_effect, slow_effect

PARTS_PER_RUN: Final = 2

_AGAIN: Final = Retry(attempts=3, first_wait=0.02, max_wait=0.2)


class _Planned(Exception):  # noqa: N818 - what a part raises on purpose
    pass


async def _times(scene: Scene) -> None:
    ctx = scene.ctx
    scene.note((await ctx.now()).isoformat())
    await ctx.sleep(ctx.random())
    try:
        async with ctx.deadline(0.4 * ctx.random()):
            try:
                scene.note(await scene.slow("hurries"))
                scene.note(*await ctx.gather(_stays(scene, 1), _stays(scene, 2)))
            finally:
                scene.note(await scene.quick("cleans up"))
    except DeadlineExceededError:
        scene.note("too late")
    await ctx.sleep_until(await ctx.now())


def _stays(scene: Scene, number: int) -> Callable[[WorkflowContext], Awaitable[Any]]:
    """A branch of two steps, which tells how far it came, in a list that it shares with its siblings."""

    async def branch(ctx: WorkflowContext) -> Any:
        come = 0
        try:
            first = await scene.slow(f"{number} first")
            come = 1
            second = await scene.slow(f"{number} second")
            come = 2
            return [first, second, ctx.random()]
        finally:
            scene.note(await ctx.compute("leaves", str, number), come)

    return branch


async def _races(scene: Scene) -> None:
    async def patience(ctx: WorkflowContext) -> str:
        await ctx.sleep(0.3)
        return "nobody was quick"

    async def nested(ctx: WorkflowContext) -> Any:
        return await ctx.race(_stays(scene, 3), _stays(scene, 4))

    scene.note(await scene.ctx.race(_stays(scene, 1), _stays(scene, 2), nested, patience))


async def _groups(scene: Scene) -> None:
    async def fails(ctx: WorkflowContext) -> None:
        await scene.slow("before failing")
        if ctx.random() < 0.6:
            raise _Planned(scene.name)

    try:
        async with scene.ctx.task_group() as group:
            group.start(_stays(scene, 1))
            group.start(fails)
            group.start(_stays(scene, 2))
            scene.note("inside", await scene.slow("inside"))
    except BaseExceptionGroup as error:
        if error.split(_Planned)[1] is not None:
            raise
        scene.note("failed")
    scene.note(await scene.quick("after"))


async def _maps(scene: Scene) -> None:
    async def one(ctx: WorkflowContext, number: int) -> None:
        scene.note(number, await scene.slow(f"maps {number}"), str(ctx.uuid4()))

    await scene.ctx.map(one, range(4), limit=2)


async def _sagas(scene: Scene) -> None:
    ctx = scene.ctx

    async def books() -> None:
        async with ctx.saga() as saga:
            for number in range(3):
                scene.note(await scene.quick(f"books {number}"))
                undo = step(slow_effect, retry=_AGAIN)
                saga.on_failure("undoes", undo, f"{scene.name} undoes {number}")
            if ctx.random() < 0.5:
                raise _Planned(scene.name)
            await ctx.sleep(1.0)

    try:
        async with ctx.deadline(0.5):
            await books()
    except (_Planned, DeadlineExceededError) as error:
        scene.note(type(error).__name__)


async def _options(scene: Scene) -> None:
    ctx = scene.ctx
    for number, key in enumerate(("slow", "quick")):
        function = step(slow_effect if key == "slow" else effect, timeout=0.1, retry=_AGAIN)
        try:
            scene.note(await ctx.compute(key, function, f"{scene.name} options {number}"))
        except StepTimeoutError as error:
            scene.note(type(error).__name__)
    try:
        scene.note(await ctx.compute("long", step(long_effect, timeout=0.1, retry=_AGAIN), f"{scene.name} long"))
    except StepTimeoutError as error:
        scene.note(type(error).__name__)
    for number in range(2):

        async def once(what: str) -> Any:
            value = effect(what)
            await slow_effect(f"{what} goes on")
            return value

        try:
            scene.note(
                await ctx.compute("once", step(once, at_most_once=True, where=LABEL), f"{scene.name} {number}{ONCE}")
            )
        except OutcomeUnknown as error:
            scene.note(error.idempotency_key)


_PARTS: Final = (_times, _races, _groups, _maps, _sagas, _options)


async def language(scene: Scene) -> None:
    """Do some of the parts, and note what they see."""
    for part in scene.ctx.rng.sample(_PARTS, PARTS_PER_RUN):
        await part(Scene(scene.ctx, scene.diary, f"{scene.name}{part.__name__}"))
