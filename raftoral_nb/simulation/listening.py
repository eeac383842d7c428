"""The ways in which simulated workflows wait for messages: raced, timed out, cancelled in the turn in which one arrives."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import anyio

from .diaries import Scene

if TYPE_CHECKING:
    from ..core.records import Message
    from ..workflow.execution.mailbox import Unfinished

WORD: Final = "word"
OTHER: Final = "other"
ASK: Final = "ask"
PATIENCE: Final = 1.0
"""The longest time that a listener waits for what it may be told (seconds)."""


async def _hear(scene: Scene, *names: str) -> str:
    """Receive a signal; what it says is a text of its own."""
    found: Any = await scene.ctx.receive(*(names or (WORD,)))
    return scene.diary.got(found if len(names) < 2 else found[1])


async def _patiently(scene: Scene) -> None:
    for name in (WORD, OTHER):
        found: Any = await scene.ctx.receive(name, timeout=PATIENCE * scene.ctx.random(), default=None)
        if found is not None:
            scene.diary.got(found)
        scene.note("patiently", found)


async def _timed_out(scene: Scene) -> None:
    patience = 0.6 * PATIENCE * scene.ctx.random()
    for number in range(3):
        try:
            if number == 0:
                scene.note(await asyncio.wait_for(_hear(scene), patience))
            elif number == 1:
                async with asyncio.timeout(patience):
                    scene.note(await _hear(scene, OTHER, WORD))
            else:
                with anyio.fail_after(patience):
                    scene.note(await _hear(scene, WORD, OTHER), await scene.slow("after hearing"))
        except TimeoutError:
            scene.note("silence", number)


async def _raced(scene: Scene) -> None:
    async def patience(ctx: object) -> str:  # noqa: ARG001
        await scene.ctx.sleep(0.5 * PATIENCE)
        return "nobody spoke"

    for _ in range(2):
        scene.note(
            await scene.ctx.race(
                lambda ctx: _hear(scene, WORD),
                lambda ctx: _hear(scene, OTHER),
                lambda ctx: _hear(scene, WORD),
                patience,
            )
        )


async def _first_of(scene: Scene) -> None:
    listeners = {asyncio.create_task(_hear(scene, name), name=name) for name in (WORD, OTHER, WORD, OTHER)}
    done, left = await asyncio.wait(listeners, timeout=0.5 * PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    for task in left:
        task.cancel()
    ended = await asyncio.gather(*left, return_exceptions=True)
    scene.note(*(task.result() for task in done), *(one for one in ended if isinstance(one, str)))


async def _pumped(scene: Scene) -> None:
    """What is received goes through a queue to workers, which take steps."""
    queue: asyncio.Queue[str] = asyncio.Queue()

    async def pump() -> None:
        while True:
            queue.put_nowait(await _hear(scene, WORD, OTHER))

    async def work(number: int) -> None:
        while True:
            word = await queue.get()
            scene.note(number, word, await scene.slow(f"work {number}"))

    with anyio.move_on_after(PATIENCE):
        async with asyncio.TaskGroup() as group:
            group.create_task(pump())
            for number in range(2):
                group.create_task(work(number))


async def _interrupted(scene: Scene) -> None:
    """Listeners that are cancelled in the very turn in which a message arrives, before they run: it is for the next.

    No plain code is quick enough for that, as the first listener runs first; so this looks under the hood.
    """
    mailbox, dice = scene.ctx._execution.mailbox, random.Random(scene.ctx.random())
    arrive = mailbox.arrive
    listeners = [asyncio.create_task(_hear(scene, WORD, OTHER)) for _ in range(5)]

    def arriving(message: Message) -> None:
        arrive(message)
        woken = next((task for task in listeners if not task.done()), None)
        if woken is not None and dice.random() < 0.6:
            woken.cancel()

    mailbox.arrive = arriving  # type: ignore[method-assign]
    try:
        await asyncio.wait(listeners, timeout=PATIENCE)
    finally:
        mailbox.arrive = arrive  # type: ignore[method-assign]
        for task in listeners:
            task.cancel()
    ended = await asyncio.gather(*listeners, return_exceptions=True)
    scene.note(*(one if isinstance(one, str) else "interrupted" for one in ended))


async def _answered(scene: Scene) -> None:
    """Answer what is asked, at the same time as all else."""
    while True:
        update = await scene.ctx.receive_update(ASK, timeout=PATIENCE)
        scene.diary.got(update.value)
        await update.answer([update.value, len(scene.diary.seen)])
        scene.note("answered", update.value)


def _handled(scene: Scene) -> None:
    """Have what is asked answered by a handler, of which several may run."""

    async def handler(said: str) -> object:
        scene.diary.got(said)
        found = await scene.slow(f"answer {said}")
        scene.note("handled", said)
        return [found, len(scene.diary.seen)]

    unfinished: Unfinished = scene.ctx.rng.choice(("wait", "cancel"))
    scene.ctx.on_update(ASK, handler, unfinished=unfinished)


Way = Callable[[Scene], Awaitable[None]]

WAYS: Final[tuple[Way, ...]] = (_patiently, _timed_out, _raced, _first_of, _pumped, _interrupted)


async def listen(scene: Scene) -> None:
    """Listen in some of the ways, two at the same time, which take each other's words; and answer."""
    first, second = scene.ctx.rng.sample(WAYS, 2)
    if scene.ctx.random() < 0.5:
        _handled(scene)
    answering = asyncio.create_task(_answered(scene))
    try:
        await asyncio.gather(
            *(way(Scene(scene.ctx, scene.diary, f"{scene.name}{way.__name__}")) for way in (first, second))
        )
    finally:
        answering.cancel()
        (ended,) = await asyncio.gather(answering, return_exceptions=True)
        scene.note("answered no more", type(ended).__name__)
