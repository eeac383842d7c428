"""Random workflows for executions: programs of operations and of asyncio's forms, nested, whose branches share what they have.

A program is drawn by `choose(n)`, which gives a number from 0 to below n: Hypothesis gives them, or a seeded generator. It is plain
data, so that a failing one can be read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final

import anyio

from raftoral_nb.simulation.diaries import Diary
from raftoral_nb.workflow.language.context import WorkflowContext

Choose = Callable[[int], int]
Block = tuple["Statement", ...]
Statement = tuple[Any, ...]

DEEPEST: Final = 3
SIGNALS: Final = ("word", "other")

LEAVES: Final = (
    "step",
    "count",
    "sleep",
    "receive",
    "receive_any",
    "receive_in_time",
    "yield_",
    "draw",
    "put",
    "get",
    "open_",
    "wait_open",
    "variable",
    "update",
)
FORMS: Final = (
    "gather",
    "group",
    "first",
    "all_of",
    "completed",
    "timeout",
    "wait_for",
    "shield",
    "lonely",
    "move_on",
    "any_group",
    "generator",
    "forgotten",
    "locked",
    "limited",
    "notify",
    "stack",
    "cleanup",
    "branches",
    "race",
    "deadline",
    "ctx_group",
    "saga",
    "cancelled",
)


def drawn(choose: Choose, depth: int = 0) -> Block:
    """Draw the statements of a block."""
    return tuple(_statement(choose, depth) for _ in range(1 + choose(3)))


def _statement(choose: Choose, depth: int) -> Statement:
    if depth >= DEEPEST or choose(3) == 0:
        return (LEAVES[choose(len(LEAVES))], choose(4))
    form = FORMS[choose(len(FORMS))]
    return (form, 1 + choose(3), tuple(drawn(choose, depth + 1) for _ in range(1 + choose(2))))


class ProgramRun:
    """One execution of a program. All of its branches share this object, and keep one diary."""

    def __init__(self, ctx: WorkflowContext, program: Block) -> None:
        self.ctx = ctx
        self.program = program
        self.diary = Diary(ctx)
        self.note = self.diary.note
        self.blocks = 0
        self.number = 0
        self.queue: asyncio.Queue[int] = asyncio.Queue(2)
        self.lock = asyncio.Lock()
        self.few = asyncio.Semaphore(2)
        self.condition = asyncio.Condition()
        self.opened = asyncio.Event()

    async def run(self) -> list[Any]:
        """Run all of it; return the diary."""
        await self.block(self.program)
        return self.diary.seen

    async def block(self, block: Block) -> int:
        """Run statements, one after the other."""
        for name, *arguments in block:
            try:
                await getattr(self, name)(*arguments)
            except (TimeoutError, ValueError, BaseExceptionGroup) as error:
                self.note("failed", name, type(error).__name__)
        self.blocks += 1
        return self.blocks

    def each(self, count: int, blocks: tuple[Block, ...]) -> list[Coroutine[Any, Any, int]]:
        """Return coroutines that run blocks, in turn."""
        return [self.block(blocks[number % len(blocks)]) for number in range(count)]

    # --- leaves

    async def step(self, number: int) -> None:
        self.note("asks", number)
        self.note("got", number, await self.ctx.compute(f"s{number}", int))
        if number == 3 and self.blocks % 2:
            raise ValueError(self.blocks)

    async def count(self, number: int) -> None:
        self.number += number

    async def sleep(self, number: int) -> None:
        await asyncio.sleep(number / 2)
        self.note("woke", number, self.number)

    async def receive(self, number: int) -> None:
        self.note("heard", self.diary.got(await self.ctx.receive(SIGNALS[number % 2])))

    async def receive_any(self, number: int) -> None:
        _, word = await self.ctx.receive(*SIGNALS)
        self.note("heard any", self.diary.got(word))

    async def receive_in_time(self, number: int) -> None:
        word = await self.ctx.receive(SIGNALS[number % 2], timeout=number + 0.5, default=None)
        self.note("heard in time", None if word is None else self.diary.got(word))

    async def yield_(self, number: int) -> None:
        for _ in range(number):
            await asyncio.sleep(0)
        self.note("yielded", number, self.number)

    async def draw(self, number: int) -> None:
        self.note("drew", number, round(self.ctx.random(), 6))

    async def put(self, number: int) -> None:
        await self.queue.put(number)
        self.note("put", number, self.queue.qsize())

    async def get(self, number: int) -> None:
        async with asyncio.timeout(number + 0.25):
            self.note("taken", await self.queue.get())

    async def open_(self, number: int) -> None:
        self.note("opens", number)
        self.opened.set()

    async def wait_open(self, number: int) -> None:
        await self.opened.wait()
        self.note("open", number)
        self.opened.clear()

    async def variable(self, number: int) -> None:
        variable = await self.ctx.var(f"v{number}", number)
        self.note(await variable.set(self.number))

    async def update(self, number: int) -> None:
        variable = await self.ctx.var("u", number)
        self.note(await variable.update(partial(max, self.number)))

    # --- forms

    async def gather(self, count: int, blocks: tuple[Block, ...]) -> None:
        self.note("gathered", *await asyncio.gather(*self.each(count, blocks)))

    async def group(self, count: int, blocks: tuple[Block, ...]) -> None:
        async with asyncio.TaskGroup() as group:
            for one in self.each(count, blocks):
                group.create_task(one)
        self.note("grouped", self.blocks)

    def tasks(self, count: int, blocks: tuple[Block, ...]) -> set[asyncio.Task[int]]:
        """Begin blocks in tasks."""
        return {asyncio.ensure_future(one) for one in self.each(count + 1, blocks)}

    async def first(self, count: int, blocks: tuple[Block, ...]) -> None:
        tasks = self.tasks(count, blocks)
        try:
            done, left = await asyncio.wait(tasks, timeout=3, return_when=asyncio.FIRST_COMPLETED)
            self.note("first", *(task.result() for task in done))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        self.note("others", len(left))

    async def all_of(self, count: int, blocks: tuple[Block, ...]) -> None:
        tasks: set[asyncio.Future[Any]] = {*self.tasks(count, blocks), asyncio.gather(*self.each(2, blocks))}
        done, left = await asyncio.wait(tasks, timeout=5)
        self.note("all of", *(task.result() for task in done if not task.cancelled()), len(left))
        for task in left:
            task.cancel()

    async def completed(self, count: int, blocks: tuple[Block, ...]) -> None:
        for one in asyncio.as_completed(self.each(count, blocks), timeout=7):
            self.note("completed", await one)

    async def timeout(self, count: int, blocks: tuple[Block, ...]) -> None:
        try:
            async with asyncio.timeout(count / 2):
                await self.block(blocks[0])
        finally:
            self.note("time", self.number)

    async def wait_for(self, count: int, blocks: tuple[Block, ...]) -> None:
        self.note("in time", await asyncio.wait_for(self.block(blocks[0]), count))

    async def shield(self, count: int, blocks: tuple[Block, ...]) -> None:
        task = asyncio.create_task(self.block(blocks[0]))
        try:
            async with asyncio.timeout(count / 4):
                await asyncio.shield(task)
        except TimeoutError:
            self.note("shielded", task.done())

    async def lonely(self, count: int, blocks: tuple[Block, ...]) -> None:
        async def alone() -> None:
            try:
                await self.block(blocks[0])
                await asyncio.Event().wait()
            finally:
                self.note("alone no more", count)

        asyncio.create_task(alone())  # noqa: RUF006 - its loop holds it

    async def move_on(self, count: int, blocks: tuple[Block, ...]) -> None:
        with anyio.move_on_after(count / 2) as scope:
            await self.block(blocks[0])
            with anyio.CancelScope(shield=count == 1):
                await self.block(blocks[-1])
        self.note("moved on", scope.cancelled_caught)

    async def any_group(self, count: int, blocks: tuple[Block, ...]) -> None:
        async with anyio.create_task_group() as group:
            for number in range(count):
                group.start_soon(self.block, blocks[number % len(blocks)])
            if count == 3:
                await asyncio.sleep(1)
                group.cancel_scope.cancel()
        self.note("any group", self.blocks)

    async def _turns(self, count: int, blocks: tuple[Block, ...]) -> AsyncGenerator[int, None]:
        try:
            for number in range(count + 1):
                yield await self.block(blocks[number % len(blocks)])
        finally:
            self.note("no more turns", count)

    async def generator(self, count: int, blocks: tuple[Block, ...]) -> None:
        async with contextlib.aclosing(self._turns(count, blocks)) as turns:
            async for turn in turns:
                self.note("turn", turn)
                if count == 2:
                    break

    async def forgotten(self, count: int, blocks: tuple[Block, ...]) -> None:
        turns = self._turns(count, blocks)
        circle: list[object] = [turns]
        circle.append(circle)
        async for turn in turns:
            self.note("one turn", turn)
            break

    async def locked(self, count: int, blocks: tuple[Block, ...]) -> None:
        async with self.lock:
            self.note("locked", count)
            if not any(self._locks(block) for block in blocks):
                await self.block(blocks[0])

    def _locks(self, block: Block) -> bool:
        return any(
            statement[0] == "locked" or any(map(self._locks, statement[2])) for statement in block if len(statement) > 2
        )

    async def limited(self, count: int, blocks: tuple[Block, ...]) -> None:
        async with asyncio.timeout(4), self.few:
            self.note("one of few", count)
            await self.block(blocks[0])

    async def notify(self, count: int, blocks: tuple[Block, ...]) -> None:
        before = self.number
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(count), self.condition:
                await self.condition.wait_for(lambda: self.number != before)
                self.note("notified", self.number)
        await self.block(blocks[0])
        self.number += 1
        async with self.condition:
            self.condition.notify_all()

    async def stack(self, count: int, blocks: tuple[Block, ...]) -> None:
        async with AsyncExitStack() as stack:
            for block in blocks:
                stack.push_async_callback(self.block, block)
            self.note("stacked", count)
            await self.step(0)

    async def cleanup(self, count: int, blocks: tuple[Block, ...]) -> None:
        try:
            await self.block(blocks[0])
        except asyncio.CancelledError:
            self.note("cancelled", count)
            await self.block(blocks[-1])
            raise
        finally:
            self.note("cleaned up", await self.ctx.compute("clean up", int))

    async def branches(self, count: int, blocks: tuple[Block, ...]) -> None:
        async def branch(ctx: WorkflowContext, number: int) -> int:
            self.note("branch", number, round(ctx.random(), 6))
            return await self.block(blocks[number % len(blocks)])

        self.note("branches", *await self.ctx.map(branch, range(count + 1), limit=2))

    async def race(self, count: int, blocks: tuple[Block, ...]) -> None:
        async def runner(number: int, ctx: WorkflowContext) -> int:
            return await self.block(blocks[number % len(blocks)])

        self.note("won", await self.ctx.race(*(partial(runner, number) for number in range(count + 1))))

    async def deadline(self, count: int, blocks: tuple[Block, ...]) -> None:
        async with self.ctx.deadline(count / 2):
            await self.block(blocks[0])
        self.note("by then", count)

    async def ctx_group(self, count: int, blocks: tuple[Block, ...]) -> None:
        async def member(ctx: WorkflowContext, number: int) -> int:
            return await self.block(blocks[number % len(blocks)])

        async with self.ctx.task_group() as group:
            started = [group.start(member, number) for number in range(count)]
        self.note("members", *(one.result for one in started))

    async def saga(self, count: int, blocks: tuple[Block, ...]) -> None:
        async with asyncio.timeout(count), self.ctx.saga() as saga:
            saga.on_failure("undo", int)
            await self.block(blocks[0])
            saga.on_failure("undo more", int)
            await self.block(blocks[-1])

    async def cancelled(self, count: int, blocks: tuple[Block, ...]) -> None:
        task = asyncio.create_task(self.block(blocks[0]))
        await self.block(blocks[-1])
        task.cancel()
        await asyncio.wait([task])
        self.note("was cancelled", count, task.cancelled())
