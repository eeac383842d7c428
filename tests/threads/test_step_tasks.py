"""Functions of asynchronous steps: cancelled once, and abandoned if they do not end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio
import pytest

from raftoral_nb.errors import ClusterError
from raftoral_nb.limits import MAX_CANCEL_SECONDS
from raftoral_nb.threads.loop_thread import InlineSteps, LoopThread
from raftoral_nb.threads.step_tasks import StepTasks
from raftoral_nb.virtual_time.clock import VirtualClockLoop

LONG = 20.0
"""Seconds no test needs: a wait that takes them is a failure."""


def on_virtual_clock(body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    loop = VirtualClockLoop()
    try:
        loop.run_until_complete(body())
        for task in asyncio.all_tasks(loop):  # what was abandoned
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coroutine = task.get_coro()
            assert coroutine is not None
            coroutine.close()
    finally:
        loop.close()


class Stubborn:
    """A function that goes on whatever it is told, and counts how often it was."""

    def __init__(self, refusals: int | None = None) -> None:
        self.told = 0
        self.refusals = refusals

    async def __call__(self) -> str:
        while True:
            try:
                await asyncio.sleep(0.5)
            except asyncio.CancelledError:
                self.told += 1
                if self.refusals is not None and self.told > self.refusals:
                    raise


def test_what_a_function_returns_or_raises_is_the_outcome_whatever_it_is() -> None:
    async def body() -> None:
        steps = InlineSteps()

        async def raising(error: BaseException) -> None:
            raise error

        async def returning() -> str:
            await asyncio.sleep(1)
            return "tea"

        assert await steps.run_async(returning, name="s") == "tea"
        for error in (ValueError("no"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError("own")):
            with pytest.raises(type(error)) as caught:
                await steps.run_async(lambda error=error: raising(error), name="s")  # type: ignore[misc]
            assert isinstance(caught.value, asyncio.CancelledError) or caught.value is error
        assert steps.stuck() == ()

    on_virtual_clock(body)


@pytest.mark.parametrize("scope", [True, False])
def test_one_that_swallows_its_cancellation_is_told_once_and_abandoned_after_the_grace_period(scope: bool) -> None:
    async def body() -> None:
        steps, stubborn = InlineSteps(), Stubborn()
        clock = asyncio.get_running_loop().time
        begun = clock()
        if scope:
            with anyio.move_on_after(2):
                await steps.run_async(stubborn, name="s")
        else:
            task = asyncio.ensure_future(steps.run_async(stubborn, name="s"))
            await asyncio.sleep(2)
            for _ in range(3):
                task.cancel()
                await asyncio.sleep(0.1)
            await asyncio.wait((task,))
            assert task.cancelled()
        assert clock() == begun + 2 + MAX_CANCEL_SECONDS
        (named,) = steps.stuck()
        assert named.startswith("s (a task, abandoned) at test_step_tasks.py:")
        assert named.endswith(" in __call__")
        await asyncio.sleep(60)
        assert stubborn.told == 1
        assert len(steps.stuck()) == 1

    on_virtual_clock(body)


def test_one_that_cleans_up_in_time_is_waited_for_and_what_it_returns_after_all_counts() -> None:
    async def body() -> None:
        steps, seen = InlineSteps(), list[str]()

        async def tidy() -> None:
            try:
                await asyncio.sleep(100)
            finally:
                await asyncio.sleep(0.5 * MAX_CANCEL_SECONDS)
                seen.append("tidied up")

        async def late() -> str:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                return "after all"
            return "never"

        with anyio.move_on_after(1) as scope:
            await steps.run_async(tidy, name="s")
        assert scope.cancelled_caught
        assert seen == ["tidied up"]
        with anyio.move_on_after(1) as scope:
            assert await steps.run_async(late, name="s") == "after all"
        assert not scope.cancelled_caught
        assert steps.stuck() == ()

    on_virtual_clock(body)


def test_a_function_keeps_its_own_timeouts_and_scopes() -> None:
    async def body() -> None:
        async def own() -> str:
            with anyio.move_on_after(1):
                await anyio.sleep_forever()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await asyncio.sleep(100)
            return "went on"

        with anyio.fail_after(10):
            assert await InlineSteps().run_async(own, name="s") == "went on"

    on_virtual_clock(body)


def test_nothing_begins_once_it_is_closed() -> None:
    async def body() -> None:
        steps = InlineSteps()
        steps.close()
        with pytest.raises(ClusterError, match="its node has stopped"):
            await steps.run_async(Stubborn(), name="s")

    on_virtual_clock(body)


# --- on a real thread


def begun(thread: LoopThread, steps: StepTasks, fn: Callable[[], Awaitable[Any]]) -> asyncio.Task[Any]:
    """Begin `fn` as the function of a step, and return the task that waits for it."""
    started = threading.Event()

    async def told() -> Any:
        started.set()
        return await fn()

    tasks: list[asyncio.Task[Any]] = []
    thread.call(lambda: tasks.append(asyncio.ensure_future(steps.run_async(told, name="s"))))
    assert started.wait(LONG)
    return tasks[0]


def test_stop_cancels_a_stubborn_one_once_waits_for_the_grace_period_and_leaves_it_named() -> None:
    thread, steps, stubborn = LoopThread("stops"), StepTasks(), Stubborn()
    thread.start()
    begun(thread, steps, stubborn)
    before = time.monotonic()
    assert thread.stop(LONG)
    assert time.monotonic() - before < 0.5 * LONG
    assert stubborn.told == 1
    (named,) = steps.stuck_tasks()
    assert named.startswith("s (a task, abandoned) at test_step_tasks.py:")


def test_stop_does_not_wait_for_one_that_was_abandoned_before(monkeypatch: pytest.MonkeyPatch) -> None:
    thread, steps, stubborn = LoopThread("stops"), StepTasks(), Stubborn()
    thread.start()
    monkeypatch.setattr("raftoral_nb.threads.step_tasks.MAX_CANCEL_SECONDS", 0.05)
    waits = begun(thread, steps, stubborn)
    ended = threading.Event()
    thread.call(waits.add_done_callback, lambda _: ended.set())
    thread.call(waits.cancel)
    assert ended.wait(LONG)
    monkeypatch.setattr("raftoral_nb.threads.loop_thread.MAX_CANCEL_SECONDS", LONG)
    before = time.monotonic()
    assert thread.stop(10 * LONG)
    assert time.monotonic() - before < 0.5 * LONG
    assert stubborn.told == 1
    assert len(steps.stuck_tasks()) == 1


def test_stop_lets_one_that_heeds_it_clean_up() -> None:
    thread, steps, seen = LoopThread("stops"), StepTasks(), list[str]()
    thread.start()

    async def tidy() -> None:
        try:
            await asyncio.sleep(LONG)
        finally:
            await asyncio.sleep(0)
            seen.append("tidied up")

    begun(thread, steps, tidy)
    assert thread.stop(LONG)
    assert seen == ["tidied up"]
    assert steps.stuck_tasks() == ()
