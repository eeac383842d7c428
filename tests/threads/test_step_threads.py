"""Synchronous steps on threads: results, limits, and functions that are abandoned."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest

from raftoral_nb.errors import ClusterError
from raftoral_nb.threads.loop_thread import InlineSteps, Steps, StepThreads

LONG = 20.0
"""Seconds no test needs: a wait that takes them is a failure."""

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before and thread.is_alive()]
    for thread in left:
        thread.join(LONG)  # user code that a test has just released may still be returning
    assert not [thread.name for thread in left if thread.is_alive()]


class Gate:
    """User code that blocks until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()

    def block(self) -> str:
        self.entered.set()
        assert self.open.wait(LONG)
        return "done"


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


def with_pool(body: Callable[[StepThreads], Awaitable[None]], **options: Any) -> None:
    """Run a test's body with a pool, on an asyncio loop, and close the pool."""

    async def main() -> None:
        pool = StepThreads("test-step", **options)
        try:
            with anyio.fail_after(LONG):
                await body(pool)
        finally:
            pool.close()

    anyio.run(main)


def with_both(body: Callable[[Steps], Awaitable[None]]) -> None:
    with_pool(body)

    async def inline() -> None:
        await body(InlineSteps())

    anyio.run(inline)


async def until(event: threading.Event) -> None:
    """Wait on the loop for an event that a thread sets."""
    assert await asyncio.to_thread(event.wait, LONG)


def test_a_step_returns_its_result_and_sees_the_callers_context() -> None:
    async def body(steps: Steps) -> None:
        variable.set("the caller's")
        assert await steps.run(divmod, 7, 3, name="divide") == (2, 1)
        assert await steps.run(functools.partial(int, "ff", base=16), name="parse") == 255
        assert await steps.run(variable.get, name="read") == "the caller's"
        await steps.run(variable.set, "the step's", name="write")
        assert variable.get() == "the caller's"

    with_both(body)


def test_a_step_runs_on_a_daemon_thread_that_the_next_one_uses_again() -> None:
    async def body(pool: StepThreads) -> None:
        first = await pool.run(threading.current_thread, name="first")
        second = await pool.run(threading.current_thread, name="second")
        assert first is second is not threading.current_thread()
        assert first.daemon
        assert first.name == "test-step-1"

    with_pool(body)


@pytest.mark.parametrize("error", [LookupError("gone"), ValueError(), StopAsyncIteration()])
def test_a_step_raises_what_its_function_raised(error: Exception) -> None:
    def fail() -> None:
        raise error

    async def body(steps: Steps) -> None:
        with pytest.raises(type(error)) as caught:
            await steps.run(fail, name="fail")
        assert caught.value is error

    with_both(body)


@pytest.mark.parametrize(
    "error", [StopIteration(3), SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()]
)
def test_an_exception_that_would_confuse_the_loop_arrives_as_a_runtime_error(error: BaseException) -> None:
    def fail() -> None:
        raise error

    async def body(steps: Steps) -> None:
        with pytest.raises(RuntimeError, match=f"the step 'odd' raised {type(error).__name__}") as caught:
            await steps.run(fail, name="odd")
        assert caught.value.__cause__ is error

    with_both(body)


def test_at_most_the_limit_run_at_once_and_the_others_wait_in_line() -> None:
    gates = [Gate() for _ in range(5)]
    order: list[int] = []

    async def body(pool: StepThreads) -> None:
        async def step(number: int) -> None:
            def work() -> None:
                order.append(number)
                gates[number].block()

            await pool.run(work, name=str(number))

        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(step, number)
                await anyio.lowlevel.checkpoint()
            await until(gates[0].entered)
            await until(gates[1].entered)
            assert len(pool.stuck()) == 2
            for number in (1, 0, 2, 3, 4):
                gates[number].open.set()
                if number != 4 and number != 3:
                    await until(gates[{1: 2, 0: 3, 2: 4}[number]].entered)
        assert sorted(order[:2]) == [0, 1]
        assert order[2:] == [2, 3, 4]
        assert pool.stuck() == ()

    with_pool(body, limit=2)


def test_a_cancelled_step_is_abandoned_named_and_its_late_result_dropped(gate: Gate) -> None:
    async def body(pool: StepThreads) -> None:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(functools.partial(pool.run, gate.block, name="run-1/0/charge"))
                await until(gate.entered)
                scope.cancel()
        (stuck,) = pool.stuck()
        assert stuck.startswith("run-1/0/charge (test-step-1, abandoned) at test_step_threads.py:")
        assert stuck.endswith("in block")
        assert await pool.run(threading.get_ident, name="other") != threading.get_ident()
        pool.close()
        assert len(pool.stuck()) == 1
        gate.open.set()

    with_pool(body)


def test_an_abandoned_step_holds_its_place_until_it_returns(gate: Gate) -> None:
    async def body(pool: StepThreads) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(functools.partial(pool.run, gate.block, name="abandoned"))
            await until(gate.entered)
            group.cancel_scope.cancel()
        results: list[str] = []

        async def later() -> None:
            results.append(await pool.run(lambda: "ran", name="later"))

        async with anyio.create_task_group() as group:
            group.start_soon(later)
            await anyio.wait_all_tasks_blocked()
            assert results == []
            gate.open.set()
        assert results == ["ran"]

    with_pool(body, limit=1)


def test_who_is_cancelled_while_in_line_takes_no_place(gate: Gate) -> None:
    async def body(pool: StepThreads) -> None:
        async with anyio.create_task_group() as outer:
            outer.start_soon(functools.partial(pool.run, gate.block, name="first"))
            await until(gate.entered)
            async with anyio.create_task_group() as inner:
                inner.start_soon(functools.partial(pool.run, pytest.fail, "must not run", name="second"))
                await anyio.wait_all_tasks_blocked()
                inner.cancel_scope.cancel()
            gate.open.set()
        assert await pool.run(lambda: "third", name="third") == "third"

    with_pool(body, limit=1)


def test_none_waits_behind_one_that_takes_long() -> None:
    barrier = threading.Barrier(32)

    async def body(pool: StepThreads) -> None:
        async with anyio.create_task_group() as group:
            for number in range(32):
                group.start_soon(functools.partial(pool.run, barrier.wait, LONG, name=str(number)))
        assert barrier.broken is False

    with_pool(body, limit=32)


def test_while_a_thread_is_on_its_way_no_other_is_brought(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[threading.Thread] = []
    start = threading.Thread.start

    def hold(thread: threading.Thread) -> None:
        held.append(thread)

    async def body(pool: StepThreads) -> None:
        results: list[int] = []

        async def one(number: int) -> None:
            results.append(await pool.run(lambda: number, name=str(number)))

        async with anyio.create_task_group() as group:
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", hold)
                for number in range(100):
                    group.start_soon(one, number)
                await anyio.wait_all_tasks_blocked()
            (first,) = held
            start(first)
        assert sorted(results) == list(range(100))

    with_pool(body)


def test_a_thread_that_cannot_be_had_leaves_who_waits_to_the_others(
    monkeypatch: pytest.MonkeyPatch, gate: Gate
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def body(pool: StepThreads) -> None:
        results: list[int] = []

        async def one(number: int) -> None:
            results.append(await pool.run(lambda: number, name=str(number)))

        with monkeypatch.context() as patch:
            async with anyio.create_task_group() as group:
                group.start_soon(functools.partial(pool.run, gate.block, name="first"))
                await until(gate.entered)
                patch.setattr(pool, "_limit", 1)
                for number in range(3):
                    group.start_soon(one, number)
                await anyio.wait_all_tasks_blocked()
                patch.setattr(pool, "_limit", 32)
                patch.setattr(threading.Thread, "start", refuse)
                gate.open.set()  # from here on its thread would have another one come
        assert results == [0, 1, 2]

    with_pool(body)


def test_an_idle_thread_keeps_no_result_alive() -> None:
    class Big:
        pass

    async def body(pool: StepThreads) -> None:
        big = await pool.run(Big, name="make")
        alive = weakref.ref(big)
        del big
        await pool.run(lambda: None, name="next")
        gc.collect()
        assert alive() is None

    with_pool(body)


def test_close_ends_idle_threads_and_refuses_what_comes_and_what_waits(gate: Gate) -> None:
    before = set(threading.enumerate())

    async def body(pool: StepThreads) -> None:
        refused: list[str] = []

        async def waits() -> None:
            try:
                await pool.run(lambda: None, name="waits")
            except ClusterError as error:
                refused.append(str(error))

        await pool.run(lambda: None, name="once")
        async with anyio.create_task_group() as group:
            group.start_soon(functools.partial(pool.run, gate.block, name="busy"))
            await until(gate.entered)
            group.start_soon(waits)
            await anyio.wait_all_tasks_blocked()
            pool.close()
            with pytest.raises(ClusterError, match="'late' cannot run"):
                await pool.run(lambda: None, name="late")
            gate.open.set()
        assert refused == ["the step 'waits' cannot run: its node has stopped"]

    with_pool(body, limit=1)
    assert [thread.name for thread in set(threading.enumerate()) - before if "test-step" in thread.name] in (
        [],
        ["test-step-1"],  # its function has returned, and it is about to end
    )


def test_after_close_no_idle_thread_is_left() -> None:
    before = set(threading.enumerate())
    barrier = threading.Barrier(6)

    async def body(pool: StepThreads) -> None:
        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(functools.partial(pool.run, barrier.wait, LONG, name=str(number)))
        pool.close()
        assert set(threading.enumerate()) <= before

    with_pool(body, idle=2)


def test_a_step_finishing_after_its_loop_closed_harms_nobody(gate: Gate) -> None:
    pool = StepThreads("test-step")

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(functools.partial(pool.run, gate.block, name="late"))
            await until(gate.entered)
            group.cancel_scope.cancel()

    anyio.run(main)
    pool.close()
    gate.open.set()


def test_no_thread_to_be_had_is_an_error_that_gives_the_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def body(pool: StepThreads) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="can't start"):
                await pool.run(lambda: None, name="first")
        assert await pool.run(lambda: 1, name="second") == 1

    with_pool(body, limit=1)
