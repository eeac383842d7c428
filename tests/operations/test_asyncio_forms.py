"""Plain asyncio is the language: each of its forms in a workflow, durable, and the same on every node whatever dies when."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from raftoral_nb import WorkflowContext
from tests.operations.durable import check, count, echo, journal, words


def test_sleep() -> None:
    async def sleeps(ctx: WorkflowContext, _: None) -> list[int]:
        seen = journal(ctx)

        async def one(seconds: int) -> None:
            await asyncio.sleep(seconds)
            seen.append(seconds)

        await asyncio.gather(one(2), one(1))
        return list(seen)

    assert check(sleeps)[0] == [1, 2]


def test_timeout() -> None:
    async def limits(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        try:
            async with asyncio.timeout(2) as limit:
                seen.append(await ctx.compute("in time", echo, 1))
                await ctx.receive("never")
        except TimeoutError:
            seen.append(limit.expired())
        async with asyncio.timeout(3600):
            seen.append(await ctx.compute("after", echo, 2))
        return seen

    assert check(limits)[0] == [1, True, 2]


def test_timeout_at() -> None:
    async def limits(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        loop = asyncio.get_running_loop()
        due = loop.time() + 2
        try:
            async with asyncio.timeout_at(due) as limit:
                await ctx.compute("in time", echo, 1)
                limit.reschedule(due + 1)
                await asyncio.sleep(3600)
        except TimeoutError:
            seen.append(loop.time() >= due + 1)
        return seen

    assert check(limits)[0] == [True]


def test_wait_for() -> None:
    async def waits(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        seen.append(await asyncio.wait_for(ctx.compute("quick", echo, 1), 3600))
        try:
            await asyncio.wait_for(ctx.receive("never"), 2)
        except TimeoutError:
            seen.append("too late")
        seen.append(await asyncio.wait_for(ctx.receive("word"), 2))
        return seen

    assert check(waits, words)[0] == [1, "too late", 0]


def test_gather() -> None:
    async def gathers(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        shared: dict[str, Any] = {}
        got = await asyncio.gather(
            count(ctx, shared, "a"),
            count(ctx, shared, "b"),
            ctx.receive("word"),
            asyncio.sleep(1),
            return_exceptions=True,
        )
        seen += [shared["order"], shared["count"]]
        return got

    assert check(gathers, words)[0] == [None, None, 0, None]


def test_task_group() -> None:
    async def groups(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        shared: dict[str, Any] = {}

        async def fails() -> None:
            await asyncio.sleep(1)
            raise ValueError("as planned")

        async def hangs() -> None:
            try:
                await ctx.receive("never")
            finally:
                seen.append(await ctx.compute("clean up", echo, "cleaned up"))

        try:
            async with asyncio.TaskGroup() as group:
                for name in "ab":
                    group.create_task(count(ctx, shared, name))
                group.create_task(hangs())
                group.create_task(fails())
        except* ValueError as error:
            seen.append([str(one) for one in error.exceptions])
        seen.append(shared["order"])
        return seen[:2]

    assert check(groups)[0] == ["cleaned up", ["as planned"]]


def test_wait() -> None:
    async def waits(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        tasks = {asyncio.create_task(ctx.compute(name, echo, name), name=name) for name in "abc"}
        tasks.add(asyncio.create_task(asyncio.sleep(2, "slept"), name="sleep"))
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        seen.append([task.get_name() for task in done])
        while pending:
            done, pending = await asyncio.wait(pending, timeout=1)
            seen.append([task.get_name() for task in done])
        return sorted(task.result() for task in tasks)

    assert check(waits)[0] == ["a", "b", "c", "slept"]


def test_as_completed() -> None:
    async def completes(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        work = [ctx.compute(name, echo, name) for name in "abc"]
        for one in asyncio.as_completed([*work, asyncio.sleep(1, "slept"), ctx.receive("word")]):
            seen.append(await one)
        return sorted(map(str, seen))

    assert check(completes, words)[0] == ["0", "a", "b", "c", "slept"]


def test_queue() -> None:
    async def queues(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        queue: asyncio.Queue[Any] = asyncio.Queue(maxsize=1)

        async def produce(name: str) -> None:
            for number in range(2):
                await queue.put(await ctx.compute(name, echo, f"{name}{number}"))

        async def consume() -> None:
            while True:
                seen.append(await queue.get())
                await asyncio.sleep(0.5)
                queue.task_done()

        consumers = [asyncio.create_task(consume()) for _ in range(2)]
        await asyncio.gather(produce("a"), produce("b"))
        await queue.join()
        for one in consumers:
            one.cancel()
        return sorted(seen)

    assert check(queues)[0] == ["a0", "a1", "b0", "b1"]


def test_lock() -> None:
    async def locks(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        shared: dict[str, Any] = {}
        lock = asyncio.Lock()

        async def one(name: str) -> None:
            async with lock:
                await count(ctx, shared, name)
                await asyncio.sleep(0.5)

        await asyncio.gather(*(one(name) for name in "abc"))
        seen.append(shared["order"])
        return shared["count"]

    result, seen, _ = check(locks)
    assert result == 3
    assert seen == [[("a", 1), ("b", 2), ("c", 3)]]


def test_event() -> None:
    async def events(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        event = asyncio.Event()

        async def waits(name: str) -> None:
            await event.wait()
            seen.append(await ctx.compute(name, echo, name))

        async def sets() -> None:
            await ctx.receive("word")
            event.set()

        await asyncio.gather(waits("a"), waits("b"), sets())
        return sorted(seen)

    assert check(events, words)[0] == ["a", "b"]


def test_condition() -> None:
    async def conditions(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        shared: dict[str, Any] = {}
        condition = asyncio.Condition()

        async def waits(at_least: int) -> None:
            async with condition:
                await condition.wait_for(lambda: shared.get("count", 0) >= at_least)
                seen.append((at_least, shared["count"]))

        async def counts() -> None:
            for name in "ab":
                await count(ctx, shared, name)
                async with condition:
                    condition.notify_all()
                await asyncio.sleep(1)

        await asyncio.gather(waits(2), waits(1), counts())
        return seen

    assert check(conditions)[0] == [(1, 1), (2, 2)]


def test_semaphore() -> None:
    async def limited(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        semaphore = asyncio.BoundedSemaphore(2)
        inside = 0

        async def one(name: str) -> int:
            nonlocal inside
            async with semaphore:
                inside += 1
                most = inside
                seen.append((await ctx.compute(name, echo, name), inside))
                await asyncio.sleep(0.5)
                inside -= 1
            return most

        return max(await asyncio.gather(*(one(name) for name in "abc")))

    assert check(limited)[0] == 2


def test_barrier() -> None:
    async def meets(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        barrier = asyncio.Barrier(3)

        async def one(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            await ctx.compute(name, echo, name)
            seen.append(name)
            await barrier.wait()
            seen.append("together")

        await asyncio.gather(one("a", 0), one("b", 1), one("c", 0))
        return seen[3:]

    assert check(meets)[0] == ["together"] * 3


def test_shield() -> None:
    async def shields(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)

        async def important() -> str:
            await asyncio.sleep(2)
            return str(await ctx.compute("important", echo, "done"))

        task = asyncio.create_task(important())
        try:
            await asyncio.wait_for(asyncio.shield(task), 1)
        except TimeoutError:
            seen.append("too late")
        seen.append(await task)
        return seen

    assert check(shields)[0] == ["too late", "done"]


def test_create_task_in_tasks_and_in_callbacks() -> None:
    async def makes(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        made: list[asyncio.Task[None]] = []

        async def one(name: str) -> None:
            seen.append(await ctx.compute(name, echo, name))

        async def nested() -> None:
            made.append(asyncio.create_task(one("nested")))
            await made[-1]

        made.append(asyncio.create_task(nested()))
        asyncio.get_running_loop().call_later(1, lambda: made.append(asyncio.create_task(one("callback"))))
        await asyncio.sleep(2)
        await asyncio.gather(*made)
        return seen

    result, _, records = check(makes)
    assert result == ["nested", "callback"]
    assert [one for one in records if "step" in one] == ["step 't1.t1.0/nested'", "step 'c1.0/callback'"]


def test_async_generators_and_context_managers() -> None:
    async def uses(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)

        async def numbers() -> AsyncGenerator[int, None]:
            try:
                for number in range(10):
                    yield await ctx.compute("number", echo, number)
                    await asyncio.sleep(0.5)
            finally:
                seen.append(await ctx.compute("closed", echo, "closed"))

        @contextlib.asynccontextmanager
        async def opened(name: str) -> AsyncIterator[str]:
            yield await ctx.compute(f"open {name}", echo, name)
            seen.append(await ctx.compute(f"close {name}", echo, f"close {name}"))

        async with opened("door") as door, contextlib.aclosing(numbers()) as found:
            seen.append(door)
            async for number in found:
                seen.append(number)
                if number:
                    break
        return seen

    assert check(uses)[0] == ["door", 0, 1, "closed", "close door"]


def test_async_exit_stack() -> None:
    async def stacks(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)

        async def undo(name: str) -> None:
            seen.append(await ctx.compute(f"undo {name}", echo, f"undo {name}"))

        try:
            async with asyncio.timeout(1), contextlib.AsyncExitStack() as stack:
                for name in "ab":
                    stack.push_async_callback(undo, name)
                await ctx.receive("never")
        except TimeoutError:
            seen.append("too late")
        return seen

    assert check(stacks)[0] == ["undo b", "undo a", "too late"]


def test_contextvars() -> None:
    async def varies(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")

        async def one(name: str) -> None:
            who.set(name)
            await ctx.compute("step", echo, name)
            await asyncio.sleep(1)
            seen.append((name, who.get()))

        await asyncio.gather(one("a"), one("b"))
        return [sorted(seen), who.get()]

    assert check(varies)[0] == [[("a", "a"), ("b", "b")], "nobody"]
