"""anyio in a workflow: its forms are as durable as asyncio's, and the same on every node whatever dies when."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel

from raftoral_nb import WorkflowContext
from tests.operations.durable import check, count, echo, journal, words


def test_sleep() -> None:
    async def sleeps(ctx: WorkflowContext, _: None) -> list[int]:
        seen = journal(ctx)

        async def one(seconds: int) -> None:
            await anyio.sleep(seconds)
            seen.append(seconds)

        async with anyio.create_task_group() as group:
            group.start_soon(one, 2)
            group.start_soon(one, 1)
            await anyio.lowlevel.checkpoint()
        return list(seen)

    assert check(sleeps)[0] == [1, 2]


def test_move_on_after() -> None:
    async def moves_on(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        with anyio.move_on_after(2) as scope:
            seen.append(await ctx.compute("in time", echo, 1))
            try:
                await ctx.receive("never")
            finally:
                with anyio.CancelScope(shield=True):
                    seen.append(await ctx.compute("clean up", echo, "cleaned up"))
        seen.append(scope.cancelled_caught)
        return seen

    assert check(moves_on)[0] == [1, "cleaned up", True]


def test_fail_after() -> None:
    async def fails(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        with anyio.fail_after(3600):
            seen.append(await ctx.receive("word"))
        try:
            with anyio.fail_after(1):
                async with anyio.create_task_group() as group:
                    group.start_soon(anyio.sleep, 3600)
                    await ctx.compute("in time", echo, 1)
        except TimeoutError:
            seen.append("too late")
        return seen

    assert check(fails, words)[0] == [0, "too late"]


def test_task_groups() -> None:
    async def groups(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        shared: dict[str, Any] = {}

        async def starts(*, task_status: anyio.abc.TaskStatus[str]) -> None:
            task_status.started(await ctx.compute("start", echo, "started"))
            await anyio.sleep(3600)

        async with anyio.create_task_group() as group:
            seen.append(await group.start(starts))
            async with anyio.create_task_group() as inner:
                for name in "ab":
                    inner.start_soon(count, ctx, shared, name)
            await anyio.sleep(1)
            group.cancel_scope.cancel()
        seen.append(shared["order"])
        return seen[0]

    assert check(groups)[0] == "started"


def test_memory_streams() -> None:
    async def streams(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        send, receive = anyio.create_memory_object_stream[str](1)

        async def produce(name: str, stream: Any) -> None:
            async with stream:
                for number in range(2):
                    await stream.send(await ctx.compute(name, echo, f"{name}{number}"))

        async with anyio.create_task_group() as group, send, receive:
            for name in "ab":
                group.start_soon(produce, name, send.clone())
            send.close()
            async for item in receive:
                await anyio.sleep(0.5)
                seen.append(item)
        return sorted(seen)

    assert check(streams)[0] == ["a0", "a1", "b0", "b1"]


def test_event() -> None:
    async def events(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        event = anyio.Event()

        async def waits(name: str) -> None:
            await event.wait()
            seen.append(await ctx.compute(name, echo, name))

        async with anyio.create_task_group() as group:
            group.start_soon(waits, "a")
            group.start_soon(waits, "b")
            await ctx.receive("word")
            event.set()
        return sorted(seen)

    assert check(events, words)[0] == ["a", "b"]


def test_lock() -> None:
    async def locks(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        shared: dict[str, Any] = {}
        lock = anyio.Lock()

        async def one(name: str) -> None:
            async with lock:
                await count(ctx, shared, name)
                await anyio.sleep(0.5)

        async with anyio.create_task_group() as group:
            for name in "abc":
                group.start_soon(one, name)
        seen.append(shared["order"])
        return shared["count"]

    assert check(locks)[0] == 3


def test_capacity_limiter() -> None:
    async def limited(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        limiter = anyio.CapacityLimiter(2)

        async def one(name: str) -> None:
            async with limiter:
                seen.append((await ctx.compute(name, echo, name), limiter.borrowed_tokens))
                await anyio.sleep(0.5)

        async with anyio.create_task_group() as group:
            for name in "abc":
                group.start_soon(one, name)
        return max(tokens for _, tokens in seen)

    assert check(limited)[0] == 2
