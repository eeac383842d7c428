"""Workflows for clusters of processes. Importable, so that nodes find them without a copy."""

from __future__ import annotations

import os
import threading
from typing import Any

from raftoral_nb import current_step, step


def pid() -> int:
    print("a step runs in", os.getpid())
    return os.getpid()


def read_by_consensus() -> int:
    return int(threading.current_thread().name.endswith("-consensus"))


class Telltale:
    """Becomes 1 if it is unpickled on a consensus thread, else 0."""

    def __reduce__(self) -> Any:
        return read_by_consensus, ()


def same(value: int) -> int:
    return value


async def one_step(ctx: Any, value: int) -> int:
    return int(await ctx.compute("same", same, value))


async def two_steps(ctx: Any, name: str) -> list[int]:
    """Where its two steps ran; a signal comes between them."""
    first = await ctx.compute("first", pid)
    ctx.on_query("first", lambda add=0: first + add)
    await ctx.var("stage", f"{name} waits")
    await ctx.receive("go", timeout=3600)
    return [first, await ctx.compute("second", pid)]


async def account(ctx: Any, limit: int) -> int:
    """Its limit can be set, to what is over 0, until it is closed."""
    limits = await ctx.var("limit", limit)

    def positive(value: int) -> None:
        if value <= 0:
            raise ValueError("a limit is over 0")

    ctx.on_update("set limit", limits.set, validator=positive)
    await ctx.receive("close", timeout=3600)
    return int(limits.value)


async def waits(ctx: Any, _input: Any) -> str:
    try:
        update = await ctx.receive_update("change", timeout=3600)
        await update.answer(update.value * 2)
        await ctx.receive("never")
    finally:
        await ctx.compute("cleaned up", pid)
    return "never"


async def odd(ctx: Any, node_pid: int) -> int:
    """Differs from its record in the process that is named."""
    if os.getpid() == node_pid:
        await ctx.compute("other", pid)
    await ctx.compute("step", pid)
    await ctx.receive("go", timeout=3600)
    return 1


async def many_steps(ctx: Any, count: int) -> int:
    for number in range(count):
        await ctx.compute(f"step {number}", lambda number=number: bytes(200) + bytes([number]))
    return count


def fits_until_killed(_data: int) -> list[int]:
    """Saves ten epochs, each of them before the next; the first attempt then waits for its process to be killed."""
    running = current_step()
    begin = running.last or 0
    for epoch in range(begin, 20):
        if epoch == 10 and begin == 0:
            running.progress(0.5, "waits")
            threading.Event().wait(600)
        running.checkpoint(epoch + 1, every=0).wait()
    return [begin, os.getpid()]


async def long_step(ctx: Any, data: int) -> list[int]:
    found: list[int] = await ctx.compute("fit", step(fits_until_killed, cache="inputs"), data)
    return found


async def on_gpu(ctx: Any, _: object) -> int:
    """A workflow of one step that is bound to a label: which process ran it."""
    return int(await ctx.compute("fit", step(os.getpid, where="gpu")))


async def odd_later(ctx: Any, odd_pid: int) -> int:
    """Differs from its record in the process that is named; a signal comes before its last step."""
    await ctx.compute("odd" if os.getpid() == odd_pid else "step", pid)
    await ctx.receive("go", timeout=3600)
    return int(await ctx.compute("last", pid))
