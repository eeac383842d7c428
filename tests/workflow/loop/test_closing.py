"""Dropping an execution: what is left of its code ends here and now, in order, and the collector has nothing to do."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from raftoral_nb.errors import ExecutionDropped
from raftoral_nb.workflow.loop.closing import MAX_ENDINGS

from .driver import Driver, World


def dropped(program: Any, *records: str | float) -> list[Any]:
    """The journal of a program that is dropped after these records, and of the collector after that."""
    driver = Driver(program)
    for record in records:
        driver.take(record)
    world = driver.world
    world.saw("dropped")
    driver.loop.close_run()
    driver.loop.close_run()
    assert driver.loop.dead
    assert driver.loop.is_closed()
    assert driver.loop.next_due is None
    assert not driver.loop.has_set(1.0)
    with driver.loop.entered():
        driver.loop.run_until_rest()
    before = list(world.journal)
    del driver
    gc.collect()
    assert world.journal == before, "the collector ran code of the workflow"
    return before[before.index("dropped") + 1 :]


def test_tasks_are_closed_in_their_order_on_this_thread_each_as_the_current_one() -> None:
    async def program(world: World) -> None:
        async def one(name: str) -> None:
            try:
                await world.record(name)
            finally:
                task = asyncio.current_task()
                assert task is not None
                world.saw((name, task.get_name(), threading.current_thread() is threading.main_thread()))

        async with asyncio.TaskGroup() as group:
            for name in "abcd":
                group.create_task(one(name), name=name)

    assert dropped(program, "b") == [(name, name, True) for name in "acd"]


def test_finally_blocks_can_begin_nothing() -> None:
    async def program(world: World) -> None:
        loop = world.loop

        def attempt(what: str, begin: Any) -> None:
            try:
                begin()
            except ExecutionDropped:
                world.saw(f"no {what}")

        try:
            await world.record("a")
        finally:
            attempt("task", lambda: asyncio.create_task(world.record("b")))
            attempt("branch", lambda: loop.create_branch(world.record("b"), path="x", name="x"))
            attempt("callback", lambda: loop.call_soon(print))
            attempt("timer", lambda: loop.call_later(1, print))
            with contextlib.suppress(Exception):
                loop.call_soon(print)
            world.saw("is not reached: it is no Exception")

    assert dropped(program) == ["no task", "no branch", "no callback", "no timer"]


def test_an_await_in_a_finally_block_ends_it_and_what_is_around_it_goes_on() -> None:
    async def program(world: World) -> None:
        try:
            try:
                await world.record("a")
            finally:
                world.saw("inner")
                await world.record("undo")
                world.saw("is not reached")
        finally:
            world.saw("outer")
            await asyncio.sleep(0)
            world.saw("is not reached")

    assert dropped(program) == ["inner", "outer"]


def test_code_that_will_not_end_is_given_up() -> None:
    async def program(world: World) -> None:
        ends = 0
        while ends < 1000:
            try:
                await world.record("a")
            except BaseException:
                ends += 1
                world.saw(ends)

    assert dropped(program) == list(range(1, MAX_ENDINGS + 1))


def test_errors_of_dropped_code_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    async def program(world: World) -> None:
        async def one(name: str) -> None:
            try:
                await world.record(name)
            finally:
                world.saw(name)
                raise KeyError(name)

        async with asyncio.TaskGroup() as group:
            group.create_task(one("a"))
            group.create_task(one("b"))

    with caplog.at_level(logging.DEBUG):
        assert dropped(program) == ["a", "b"]
    assert caplog.records == []


def test_generators_are_closed_wherever_they_stand() -> None:
    async def program(world: World) -> None:
        async def numbers(name: str) -> AsyncIterator[int]:
            try:
                yield 1
                await world.record(name)
            finally:
                world.saw(name)
                await asyncio.sleep(1)
                world.saw("is not reached")

        async def iterate() -> None:
            async for _ in numbers("in a record"):
                pass

        left = numbers("left at a yield")
        await anext(left)
        task = asyncio.create_task(iterate())
        await world.record("a")
        await asyncio.gather(task)
        world.saw(left)  # so that it is held

    assert sorted(dropped(program)) == ["in a record", "left at a yield"]


def test_a_task_that_was_never_begun_is_dropped_in_silence(recwarn: pytest.WarningsRecorder) -> None:
    async def program(world: World) -> None:
        await world.record("a")

    driver = Driver(program)
    with driver.loop.entered():
        driver.loop.create_task(world_never(driver.world))
        driver.loop.close_run()
    assert driver.world.journal == []
    del driver
    gc.collect()
    assert not recwarn.list


async def world_never(world: World) -> None:
    world.saw("never")


def test_scopes_locks_and_groups_are_left_without_noise() -> None:
    async def program(world: World) -> None:
        lock = asyncio.Lock()

        async def one(name: str) -> None:
            try:
                async with lock, asyncio.timeout(5):
                    await world.record(name)
            finally:
                world.saw(name)

        with anyio.move_on_after(3):
            async with anyio.create_task_group() as group:
                group.start_soon(one, "a")
                group.start_soon(one, "b")
                await anyio.sleep_forever()

    assert dropped(program) == ["a", "b"]


def test_a_run_in_a_cycle_of_references_leaves_the_collector_nothing_to_run() -> None:
    async def program(world: World) -> None:
        cycle: list[Any] = []

        async def numbers() -> AsyncIterator[int]:
            try:
                yield 1
            finally:
                world.saw("closed")

        source = numbers()
        cycle.extend((cycle, source))
        await anext(source)
        del source
        await world.record("a")

    assert dropped(program) == ["closed"]
