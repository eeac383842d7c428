"""Entering a loop where another one runs: it is put aside, and put back as it was."""

from __future__ import annotations

import asyncio
import asyncio.tasks
import sys
from typing import Any

import pytest

from raftoral_nb.workflow.loop import entering
from raftoral_nb.workflow.loop.run_loop import RunLoop

from .driver import Driver, World


async def stops(world: World) -> str:
    """Ends by a `StopIteration` inside of C code: what is not set aside for it turns that into a RuntimeError."""
    await world.record("a")
    return "end"


def test_an_outer_loop_and_its_running_task_are_put_back() -> None:
    async def outer() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        hooks = sys.get_asyncgen_hooks()
        driver = Driver(stops)
        with driver.loop.entered():
            assert asyncio.get_running_loop() is driver.loop
            assert asyncio.current_task() is None
        assert asyncio.get_running_loop() is loop
        assert asyncio.current_task() is task
        assert sys.get_asyncgen_hooks() == hooks
        await asyncio.sleep(0)
        driver.take("a")
        assert driver.main.result() == "end"
        assert asyncio.current_task() is task

    asyncio.run(outer())
    assert asyncio._get_running_loop() is None


def test_an_outer_loop_is_put_back_within_a_callback_of_it() -> None:
    async def outer() -> None:
        done = asyncio.get_running_loop().create_future()

        def callback() -> None:
            driver = Driver(stops)
            driver.take("a")
            done.set_result((driver.main.result(), asyncio.get_running_loop()))

        asyncio.get_running_loop().call_soon(callback)
        assert await done == ("end", asyncio.get_running_loop())

    asyncio.run(outer())


def test_an_outer_loop_is_put_back_after_an_exception() -> None:
    async def outer() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        with pytest.raises(ValueError, match="of the driver"), RunLoop("seed", 1.0).entered():
            raise ValueError("of the driver")
        assert asyncio.get_running_loop() is loop
        assert asyncio.current_task() is task

    asyncio.run(outer())


def test_generators_of_the_outer_loop_are_its_own() -> None:
    async def numbers() -> Any:
        yield 1
        yield 2

    async def program(world: World) -> None:
        async for _ in numbers():
            break
        await world.record("a")

    async def outer() -> None:
        mine = numbers()
        await anext(mine)
        driver = Driver(program)
        assert len(driver.loop._generators) == 1
        driver.loop.close_run()
        assert await anext(mine) == 2
        await mine.aclose()

    asyncio.run(outer())


def test_from_3_14_on_the_current_task_is_set_aside_while_the_outer_loop_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As 3.14 does it: the function wants the loop to be the running one, and returns the task that was current."""
    current: list[Any] = ["the outer task"]
    calls: list[Any] = []

    def swap(loop: Any, task: Any) -> Any:
        if asyncio._get_running_loop() is not loop:
            raise RuntimeError("loop is not the running loop")
        calls.append((loop, task))
        before, current[0] = current[0], task
        return before

    monkeypatch.setattr(entering, "SWAP_CURRENT_TASK", swap)
    loop, outer = RunLoop("seed", 1.0), RunLoop("outer", 1.0)
    with loop.entered():
        pass
    assert calls == []  # where no loop runs there is no task
    with asyncio.Runner() as runner:
        outer_loop = runner.get_loop()
        asyncio._set_running_loop(outer_loop)
        try:
            with loop.entered():
                assert current == [None]
            assert current == ["the outer task"]
            assert calls == [(outer_loop, None), (outer_loop, "the outer task")]
        finally:
            asyncio._set_running_loop(None)
    assert not outer.is_entered


def test_before_3_14_the_function_is_left_alone() -> None:
    assert (entering.SWAP_CURRENT_TASK is not None) == (sys.version_info >= (3, 14))
