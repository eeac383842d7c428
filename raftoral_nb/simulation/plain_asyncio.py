"""Parts of simulated workflows in plain asyncio and anyio, whose branches share lists, dictionaries, counters, locks and queues.

Nothing here is written with replicas in mind. Each part notes what it sees in the order in which it sees it, and every branch takes
several steps, so that a node which let them advance in another order would note something else.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio

from .diaries import Scene

if TYPE_CHECKING:
    from ..workflow.language.context import WorkflowContext

_WHO: Final[contextvars.ContextVar[str]] = contextvars.ContextVar("simulated who", default="nobody")


class Planned(Exception):  # noqa: N818 - what a part raises on purpose
    """A part failed, as planned."""


async def _locks(scene: Scene) -> None:
    lock, few, meeting = asyncio.Lock(), asyncio.Semaphore(2), asyncio.Barrier(3)
    state = {"count": 0}
    order: list[int] = []

    async def worker(number: int) -> None:
        async with few:
            fetched = await scene.slow(f"fetch {number}")
            async with lock:
                before = state["count"]
                await scene.quick(f"store {number}")
                state["count"] = before + 1
                order.append(number)
                scene.note("stored", number, fetched, before)
        scene.note("met", number, await meeting.wait(), len(order))

    await asyncio.gather(*(worker(number) for number in range(3)))
    scene.note(state["count"], *order)


async def _queues(scene: Scene) -> None:
    queue: asyncio.Queue[int | None] = asyncio.Queue(maxsize=2)
    urgent: asyncio.PriorityQueue[tuple[int, int]] = asyncio.PriorityQueue()

    async def produce(number: int) -> None:
        for part in range(2):
            await queue.put(await scene.slow(f"make {number}.{part}"))
            scene.note("made", number, part, queue.qsize())

    async def consume(number: int) -> None:
        while (item := await queue.get()) is not None:
            urgent.put_nowait((-item, number))
            scene.note("got", number, item)
            await scene.quick(f"use {number}")
            queue.task_done()
        queue.task_done()

    consumers = [asyncio.create_task(consume(number)) for number in range(2)]
    await asyncio.gather(produce(1), produce(2))
    await queue.join()
    for _ in consumers:
        await queue.put(None)
    await asyncio.gather(*consumers)
    scene.note(*(urgent.get_nowait() for _ in range(urgent.qsize())))


async def _conditions(scene: Scene) -> None:
    condition, opened = asyncio.Condition(), asyncio.Event()
    shelf: list[int] = []

    async def wait_for(count: int) -> None:
        await opened.wait()
        async with condition:
            await condition.wait_for(lambda: len(shelf) >= count)
            scene.note("enough", count, *shelf)

    async def fill(number: int) -> None:
        found = await scene.slow(f"fill {number}")
        async with condition:
            shelf.append(found)
            condition.notify_all()
        opened.set()

    await asyncio.gather(*(wait_for(count) for count in (3, 1, 2)), *(fill(number) for number in range(3)))


async def _timeouts(scene: Scene) -> None:
    loop = asyncio.get_running_loop()
    late: list[str] = []

    async def under(name: str, patience: float) -> None:
        try:
            if name == "timeout":
                async with asyncio.timeout(patience):
                    await scene.slow(name)
            elif name == "timeout_at":
                async with asyncio.timeout_at(loop.time() + patience) as limit:
                    await scene.slow(name)
                    limit.reschedule(loop.time() + patience)
                    await scene.slow(f"{name} again")
            elif name == "wait_for":
                await asyncio.wait_for(scene.slow(name), patience)
            else:
                with anyio.fail_after(patience):
                    await scene.slow(name)
            scene.note("in time", name, len(late))
        except TimeoutError:
            late.append(name)
            scene.note("too late", *late)
            await asyncio.sleep(patience / 4)
            await scene.quick(f"after {name}")

    names = ["timeout", "timeout_at", "wait_for", "fail_after"]
    scene.ctx.rng.shuffle(names)
    await asyncio.gather(*(under(name, 0.05 + 0.3 * scene.ctx.random()) for name in names))


async def _waits(scene: Scene) -> None:
    begun = asyncio.Event()
    order: list[int] = []

    async def together(number: int) -> int:
        await begun.wait()
        order.append(number)
        return number

    async def apart(number: int) -> int:
        try:
            return await scene.slow(f"apart {number}")
        finally:
            order.append(-number)

    alike = {asyncio.create_task(together(number)) for number in range(1, 7)}
    others = {asyncio.create_task(apart(number)) for number in range(7, 10)}
    await scene.slow("before they begin")
    begun.set()
    # The order of a set of tasks is part of what a workflow may see.
    done, _ = await asyncio.wait(alike)
    scene.note("together", *(task.result() for task in done))
    done, left = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
    scene.note("first", *(task.result() for task in done), *order)
    done, left = await asyncio.wait(left, timeout=0.1) if left else (done, left)
    for task in left:
        task.cancel()
    scene.note("ended", *map(repr, await asyncio.gather(*left, return_exceptions=True)), *order)
    for next_one in asyncio.as_completed([apart(number) for number in range(10, 13)]):
        scene.note("completed", await next_one, *order)


async def _groups(scene: Scene) -> None:
    order: list[int] = []

    async def member(number: int) -> None:
        try:
            await scene.slow(f"first {number}")
            if number == 1 and scene.ctx.random() < 0.6:
                raise Planned(scene.name)
            await scene.slow(f"second {number}")
        finally:
            order.append(number)
            await scene.quick(f"leave {number}")
            scene.note("left", *order)

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(member(number))
            scene.note("inside", await scene.slow("inside"))
    except* Planned as failed:
        scene.note("failed", len(failed.exceptions), *order)


async def _shields(scene: Scene) -> None:
    kept: list[int] = []

    async def keep() -> None:
        kept.append(await scene.slow("keep"))
        kept.append(await scene.slow("and keep"))

    keeping = asyncio.create_task(keep())
    try:
        async with asyncio.timeout(0.02 + 0.1 * scene.ctx.random()):
            await asyncio.shield(keeping)
        scene.note("kept", *kept)
    except TimeoutError:
        scene.note("not yet", *kept)
        await keeping
        scene.note("now", *kept)
    with anyio.move_on_after(0.05) as scope:
        with anyio.CancelScope(shield=True):
            scene.note("shielded", await scene.slow("shielded"))
        await asyncio.sleep(0.01)
    scene.note("moved on", scope.cancelled_caught)


async def _generators(scene: Scene) -> None:
    async def numbers(name: str) -> AsyncGenerator[int, None]:
        try:
            for number in range(3):
                yield await scene.slow(f"{name} {number}")
        finally:
            scene.note("no more", name)

    async def forgotten(name: str) -> None:
        numbers_of_it = numbers(name)
        circle: list[object] = [numbers_of_it]
        circle.append(circle)  # only the collector could find it
        async for number in numbers_of_it:
            scene.note("one of", name, number)
            break

    async def lonely(number: int) -> None:
        never = asyncio.Event()
        try:
            await never.wait()
        finally:
            scene.note("lonely no more", number)

    for number in range(3):
        asyncio.create_task(lonely(number))  # noqa: RUF006 - its loop holds it
    await asyncio.gather(forgotten("one"), forgotten("two"))
    async with contextlib.aclosing(numbers("all")) as found:
        async for number in found:
            scene.note("found", number)
            if scene.ctx.random() < 0.3:
                break


async def _stacks(scene: Scene) -> None:
    opened: list[str] = []

    @asynccontextmanager
    async def resource(name: str) -> AsyncIterator[str]:
        opened.append(f"{name} {await scene.quick(f'open {name}')}")
        try:
            yield name
        finally:
            await scene.slow(f"close {name}")
            scene.note("closed", name, *opened)

    async def holder(number: int) -> None:
        _WHO.set(f"holder {number}")
        async with AsyncExitStack() as stack:
            for name in ("a", "b"):
                await stack.enter_async_context(resource(f"{number}{name}"))
            stack.push_async_callback(scene.slow, f"last {number}")
            scene.note(_WHO.get(), await scene.slow(f"hold {number}"), *opened)

    await asyncio.gather(holder(1), holder(2))
    scene.note(_WHO.get())


async def _streams(scene: Scene) -> None:
    send, receive = anyio.create_memory_object_stream[int](1)
    ready, lock, limiter = anyio.Event(), anyio.Lock(), anyio.CapacityLimiter(2)
    order: list[int] = []

    async def produce(number: int) -> None:
        async with limiter:
            await anyio.sleep(0.01 * number)
            value = await scene.slow(f"send {number}")
            order.append(number)
            with anyio.move_on_after(0.3) as patience:  # consumers leave, too
                await send.send(value)
            scene.note("sent", number, patience.cancelled_caught)
        ready.set()

    async def consume(number: int) -> None:
        await ready.wait()
        with anyio.move_on_after(0.4) as scope:
            async for value in receive:
                async with lock:
                    await scene.quick(f"take {number}")
                    scene.note("taken", number, value, *order)
        scene.note("had enough", number, scope.cancelled_caught)

    async with send, receive, anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(produce, number)
        for number in range(2):
            group.start_soon(consume, number)


async def _branches(scene: Scene) -> None:
    """The forms of `ctx`, beside plain ones, with the same state."""
    woke: list[float] = []
    counter = await scene.ctx.var("shared", 0)

    async def wake(ctx: WorkflowContext, seconds: float) -> int:
        await ctx.sleep(seconds)
        woke.append(seconds)
        return await counter.update(partial(_plus, len(woke)))

    async def soon(ctx: WorkflowContext) -> int:
        return await wake(ctx, 0.1)

    async def at_work(_: WorkflowContext) -> int:
        return await scene.slow("race")

    async def plain(number: int) -> None:
        scene.note("plain", number, await scene.slow(f"plain {number}"), counter.value)

    tasks = [asyncio.create_task(plain(number)) for number in range(2)]
    seconds = [0.2 * scene.ctx.random() for _ in range(3)]
    scene.note(*await scene.ctx.map(wake, seconds, limit=2))
    scene.note(await scene.ctx.race(soon, at_work), *woke, counter.value)
    await asyncio.gather(*tasks)


def _plus(more: int, number: int) -> int:
    return number + more


Part = Callable[[Scene], Coroutine[None, None, None]]

PARTS: Final[tuple[Part, ...]] = (
    _locks,
    _queues,
    _conditions,
    _timeouts,
    _waits,
    _groups,
    _shields,
    _generators,
    _stacks,
    _streams,
    _branches,
)
PARTS_PER_RUN: Final = 2


async def plain_asyncio(scene: Scene) -> None:
    """Do some of the parts, at the same time: they share the diary, and the node."""
    parts = scene.ctx.rng.sample(PARTS, PARTS_PER_RUN)
    name = scene.name
    async with asyncio.TaskGroup() as group:
        for part in parts:
            group.create_task(part(Scene(scene.ctx, scene.diary, f"{name}{part.__name__}")))
