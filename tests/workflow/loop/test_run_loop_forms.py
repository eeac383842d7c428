"""Every form of asyncio and anyio that a workflow may use: what it sees, in which order, when records and timers come."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import anyio
import pytest

from .driver import Driver, World, play


def test_sleepers_wake_in_the_order_of_their_times() -> None:
    async def program(world: World) -> None:
        async def one(seconds: float) -> None:
            await asyncio.sleep(seconds)
            world.saw((seconds, world.loop.time()))

        await asyncio.gather(one(2), one(1), one(1.5))

    assert play(program, 1.0, 1.5, 2.0) == [(1, 1001.0), (1.5, 1001.5), (2, 1002.0)]


def test_gather_returns_in_the_order_of_its_arguments_and_runs_in_that_of_the_records() -> None:
    async def program(world: World) -> None:
        async def one(name: str) -> str:
            world.saw(await world.record(name))
            return name

        world.saw(await asyncio.gather(one("a"), one("b"), one("c")))

    assert play(program, "c", "a", "b") == ["c", "a", "b", ["a", "b", "c"]]


def test_gather_raises_what_failed_first_and_the_others_go_on() -> None:
    async def program(world: World) -> None:
        async def one(name: str) -> None:
            world.saw(await world.record(name))
            raise ValueError(name)

        try:
            await asyncio.gather(one("a"), one("b"))
        except ValueError as error:
            world.saw(str(error))
        await world.record("end")

    assert play(program, "b", "a", "end") == ["b", "b", "a"]


def test_a_timeout_ends_what_takes_too_long_and_only_that() -> None:
    async def program(world: World) -> None:
        try:
            async with asyncio.timeout(5):
                world.saw(await world.record("a"))
                await world.record("b")
        except TimeoutError:
            world.saw("too late")
        async with asyncio.timeout_at(world.loop.time() + 5) as scope:
            world.saw(await world.record("c"))
        world.saw(scope.expired())

    driver = Driver(program)
    assert driver.play("a", 5.0, "c") == ["a", "too late", "c", False]
    assert driver.due is None


def test_wait_for_makes_no_task_and_raises_a_timeout_error() -> None:
    async def program(world: World) -> None:
        world.saw(await asyncio.wait_for(world.record("a"), 5))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(world.record("b"), 5)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.create_task(world.record("c")), 0)
        world.saw(await asyncio.wait_for(world.record("d"), None))
        world.saw(len(world.loop.tasks()))
        world.saw(asyncio.create_task(asyncio.sleep(0)).path)  # type: ignore[attr-defined]

    assert play(program, "a", 5.0, "d") == ["a", "d", 1, "t2."]


def test_wait_for_passes_on_a_cancellation_that_comes_in_the_turn_of_the_result() -> None:
    async def program(world: World) -> None:
        async def one() -> None:
            try:
                await asyncio.wait_for(world.record("a"), 5)
            except asyncio.CancelledError:
                world.saw("cancelled")
                raise

        task = asyncio.create_task(one())
        await asyncio.sleep(0)
        world.open["a"][0].set_result("a")
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    assert play(program) == ["cancelled"]


def test_a_task_group_cancels_the_others_when_one_fails() -> None:
    async def program(world: World) -> None:
        async def one(name: str) -> None:
            try:
                await world.record(name)
            except asyncio.CancelledError:
                world.saw(f"{name} cancelled")
                raise
            raise ValueError(name)

        try:
            async with asyncio.TaskGroup() as group:
                for name in "abcdef":
                    group.create_task(one(name))
        except* ValueError as errors:
            world.saw([str(error) for error in errors.exceptions])

    assert play(program, "c") == [*(f"{name} cancelled" for name in "abdef"), ["c"]]


def test_wait_has_sets_in_the_order_in_which_their_tasks_were_made_on_every_node() -> None:
    async def program(world: World) -> None:
        tasks = [asyncio.create_task(world.record(name), name=name) for name in "abcdefgh"]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        world.saw([task.get_name() for task in done])
        world.saw([task.get_name() for task in pending])
        for task in pending:
            task.cancel()
        world.saw(len(await asyncio.gather(*tasks, return_exceptions=True)))

    first = play(program, "d")
    assert first == play(program, "d")
    assert (first[0], sorted(first[1]), first[2]) == (["d"], list("abcefgh"), 8)


def test_as_completed_yields_in_the_order_of_the_records_and_makes_tasks_in_the_order_given() -> None:
    async def program(world: World) -> None:
        async def one(name: str) -> str:
            world.saw(world.loop.current.path if world.loop.current else None)
            return await world.record(name)

        for coming in asyncio.as_completed([one(name) for name in "abcd"]):
            world.saw(await coming)

    assert play(program, *"cadb") == ["t1.", "t2.", "t3.", "t4.", *"cadb"]


def test_a_queue_hands_over_first_in_first_out() -> None:
    async def program(world: World) -> None:
        queue: asyncio.Queue[str] = asyncio.Queue(maxsize=1)

        async def put(name: str) -> None:
            await queue.put(await world.record(name))

        async def get(number: int) -> None:
            world.saw((number, await queue.get()))
            queue.task_done()

        async with asyncio.TaskGroup() as group:
            for name in "abc":
                group.create_task(put(name))
            for number in range(3):
                group.create_task(get(number))
        await queue.join()

    assert play(program, *"bca") == [(0, "b"), (1, "c"), (2, "a")]


def test_locks_and_semaphores_let_in_first_come_first_served() -> None:
    async def program(world: World) -> None:
        lock, semaphore = asyncio.Lock(), asyncio.Semaphore(2)

        async def one(name: str) -> None:
            async with semaphore:
                world.saw(f"{name} in")
                async with lock:
                    world.saw(await world.record(name))

        async with asyncio.TaskGroup() as group:
            for name in "abc":
                group.create_task(one(name))

    assert play(program, *"abc") == ["a in", "b in", "a", "c in", "b", "c"]


def test_events_conditions_and_barriers_wake_whom_they_should() -> None:
    async def program(world: World) -> None:
        event, condition, barrier = asyncio.Event(), asyncio.Condition(), asyncio.Barrier(3)
        shared = 0

        async def one(name: str) -> None:
            nonlocal shared
            await event.wait()
            world.saw(f"{name} event")
            async with condition:
                await condition.wait_for(lambda: shared > 0)
                world.saw(f"{name} condition")
            await barrier.wait()
            world.saw(f"{name} barrier")

        async with asyncio.TaskGroup() as group:
            for name in "xyz":
                group.create_task(one(name))
            await world.record("a")
            event.set()
            await world.record("b")
            async with condition:
                shared = 1
                condition.notify_all()

    seen = play(program, "a", "b")
    assert seen[:6] == [f"{name} {what}" for what in ("event", "condition") for name in "xyz"]
    assert sorted(seen[6:]) == [f"{name} barrier" for name in "xyz"]


def test_shield_keeps_what_is_inside_and_cancels_who_waits() -> None:
    async def program(world: World) -> None:
        async def inside() -> None:
            world.saw(await world.record("a"))

        task = asyncio.create_task(inside())
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            world.saw("cancelled")
            await task

    assert play(program, "!", "a") == ["cancelled", "a"]


def test_async_generators_and_context_managers_and_exit_stacks() -> None:
    async def program(world: World) -> None:
        async def numbers() -> AsyncGenerator[str, None]:
            try:
                for name in "ab":
                    yield await world.record(name)
            finally:
                world.saw("generator closed")

        @contextlib.asynccontextmanager
        async def room(name: str) -> AsyncIterator[None]:
            world.saw(await world.record(name))
            try:
                yield
            finally:
                await asyncio.sleep(1)
                world.saw(f"{name} left")

        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(room("x"))
            await stack.enter_async_context(room("y"))
            async with contextlib.aclosing(numbers()) as source:
                async for name in source:
                    world.saw(name)
                    break

    assert play(program, "x", "y", "a", 1.0, 2.0) == ["x", "y", "a", "generator closed", "y left", "x left"]


def test_context_variables_are_those_of_each_task() -> None:
    place: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="nowhere")

    async def program(world: World) -> None:
        async def one(name: str) -> None:
            place.set(name)
            await world.record(name)
            world.saw((name, place.get()))

        place.set("main")
        await asyncio.gather(one("a"), one("b"))
        world.saw(place.get())

    assert play(program, "b", "a") == [("b", "b"), ("a", "a"), "main"]
    assert place.get() == "nowhere"


def test_anyio_sleeps_and_times_out() -> None:
    async def program(world: World) -> None:
        await anyio.sleep(1)
        with anyio.move_on_after(2) as scope:
            await world.record("a")
        world.saw((scope.cancelled_caught, anyio.current_time() - 1000))
        with pytest.raises(TimeoutError), anyio.fail_after(2):
            await anyio.sleep_forever()
        with anyio.fail_after(2):
            world.saw(await world.record("b"))

    assert play(program, 1.0, 3.0, 5.0, "b") == [(True, 3.0), "b"]


def test_anyio_task_groups_streams_events_locks_and_limiters() -> None:
    async def program(world: World) -> None:
        send, receive = anyio.create_memory_object_stream[str](0)
        event, lock, limiter = anyio.Event(), anyio.Lock(), anyio.CapacityLimiter(1)

        async def producer(name: str) -> None:
            await event.wait()
            async with limiter:
                await send.send(await world.record(name))

        async def consumer() -> None:
            for _ in range(2):
                name = await receive.receive()
                async with lock:
                    world.saw(name)

        with send, receive:
            async with anyio.create_task_group() as group:
                group.start_soon(producer, "a")
                group.start_soon(producer, "b")
                group.start_soon(consumer)
                await world.record("go")
                event.set()
        world.saw("done")

    assert play(program, "go", "a", "b") == ["a", "b", "done"]


def test_anyio_scopes_inside_a_cancelled_one_are_cancelled_in_the_order_in_which_they_were_entered() -> None:
    async def program(world: World) -> None:
        async def one(number: int) -> None:
            with anyio.CancelScope():
                try:
                    await world.record(str(number))
                finally:
                    world.saw(number)

        async with anyio.create_task_group() as group:
            for number in range(30):
                group.start_soon(one, number)
            await world.record("stop")
            group.cancel_scope.cancel()

    assert play(program, "stop") == list(range(30))


def test_an_anyio_scope_around_a_group_that_cleans_up_with_a_record_rests_and_ends_when_it_comes() -> None:
    async def program(world: World) -> None:
        async def one() -> None:
            try:
                await world.record("never")
            finally:
                with anyio.CancelScope(shield=True):
                    world.saw(await world.record("undo"))

        with anyio.move_on_after(1) as scope:
            async with asyncio.TaskGroup() as group:
                group.create_task(one())
        world.saw(scope.cancelled_caught)

    driver = Driver(program)
    driver.take(1.0)
    assert list(driver.world.open) == ["undo"]
    assert driver.play("undo") == ["undo", True]


def test_code_that_spins_until_a_scope_cancels_it_is_cancelled_also_beside_a_scope_that_never_rests() -> None:
    async def program(world: World) -> None:
        cleaning = asyncio.Event()

        async def one() -> None:
            try:
                await world.record("never")
            finally:
                cleaning.set()
                await world.record("undo")

        async def other() -> None:
            await cleaning.wait()
            for _ in range(50):
                with anyio.CancelScope() as inner:
                    inner.cancel()
                    await anyio.lowlevel.checkpoint_if_cancelled()
            world.saw("through")

        task = asyncio.create_task(other())
        with anyio.CancelScope() as scope:
            async with asyncio.TaskGroup() as group:
                group.create_task(one())
                await world.record("stop")
                scope.cancel()
        await task

    driver = Driver(program)
    driver.take("stop")
    assert driver.world.journal == ["through"]
    assert driver.play("undo") == ["through"]


def test_an_eager_task_factory_is_taken_and_no_other() -> None:
    eager: Any = getattr(asyncio, "eager_task_factory", None)

    async def program(world: World) -> None:
        async def one(name: str) -> None:
            world.saw(f"{name} begins in {world.loop.current.path if world.loop.current else None}")
            await world.record(name)

        with pytest.raises(ValueError, match="eager_task_factory"):
            world.loop.set_task_factory(lambda loop, coro: None)
        world.loop.set_task_factory(eager)
        assert world.loop.get_task_factory() is eager
        task = asyncio.create_task(one("a"))
        world.saw("made")
        await task

    expected = ["a begins in t1.", "made"]
    assert play(program, "a") == (expected if eager is not None else expected[::-1])
