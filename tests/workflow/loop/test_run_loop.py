"""The loop itself: ordinals, paths, timers, rest, entering, and what its driver may rely on."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from typing import Any

import pytest

from raftoral_nb.errors import InternalError, NotInWorkflowError, QueryFailedError, RestlessError
from raftoral_nb.limits import MAX_TURN_CALLBACKS
from raftoral_nb.workflow.loop.run_future import RunFuture
from raftoral_nb.workflow.loop.run_loop import RunLoop, RunTask

from .driver import START, Driver, World, play


def due_of(loop: RunLoop) -> float | None:
    """A function, as the type checker takes a property for something that stays."""
    return loop.next_due


def path() -> str:
    task = asyncio.current_task()
    assert isinstance(task, RunTask)
    return task.path


def test_a_task_has_the_path_of_its_parent_and_its_number_there() -> None:
    async def program(world: World) -> None:
        async def leaf() -> None:
            world.saw(path())
            task = world.loop.current
            assert task is asyncio.current_task()
            assert task is not None
            assert (task.children, task.state) == (0, None)

        async def inner() -> None:
            world.saw(path())
            await asyncio.gather(leaf(), leaf())

        await asyncio.gather(inner(), leaf())
        await world.loop.create_branch(leaf(), path="mine.", name="a branch")
        await asyncio.create_task(leaf())
        made: list[asyncio.Task[None]] = []
        world.loop.call_soon(lambda: made.append(world.loop.create_task(leaf())))
        world.loop.call_soon(lambda: made.append(world.loop.create_task(leaf(), name="named")))
        await asyncio.sleep(0)
        await asyncio.gather(*made)
        world.saw([task.get_name() for task in made])

    assert play(program) == ["t1.", "t2.", "t1.t1.", "t1.t2.", "mine.", "t3.", "c1.", "c2.", ["c1", "named"]]


def test_hashes_are_ordinals_of_the_run_and_depend_on_its_seed_alone() -> None:
    async def program(world: World) -> list[int]:
        futures: list[asyncio.Future[Any]] = [world.loop.create_future() for _ in range(3)]
        tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in range(2)]
        gathered = asyncio.gather(*tasks)
        assert isinstance(futures[0], RunFuture)
        result = [hash(one) for one in (*futures, *tasks, gathered)]
        await gathered
        return result

    first, second, other = (Driver(program, seed).main.result() for seed in ("one", "one", "other"))
    assert first == second == list(range(first[0], first[0] + 6))
    assert not set(first) & set(other)


def test_a_timer_of_no_time_is_a_callback_and_one_of_infinity_is_nothing() -> None:
    async def program(world: World) -> None:
        loop = world.loop
        loop.call_later(0, world.saw, "now")
        loop.call_later(-1, world.saw, "before")
        loop.call_at(START, world.saw, "at")
        cancelled = loop.call_later(0, world.saw, "cancelled")
        cancelled.cancel()
        loop.call_later(float("inf"), world.saw, "never").cancel()
        with pytest.raises(ValueError, match="not a number"):
            loop.call_later(float("nan"), world.saw, "when?")
        await asyncio.sleep(0)
        world.saw(loop.next_due)

    assert play(program) == ["now", "before", "at", None]


def test_due_timers_fire_one_at_a_time_by_due_time_and_ordinal() -> None:
    async def program(world: World) -> None:
        loop = world.loop
        third = loop.call_later(2, world.saw, "cancelled by the first")

        def first() -> None:
            world.saw("first")
            third.cancel()
            loop.call_at(START + 1.5, world.saw, "is due already, so in this turn")

        loop.call_later(2, world.saw, "fourth")
        loop.call_later(1, first)
        loop.call_later(1, world.saw, "second")
        await asyncio.sleep(2)
        world.saw("woke")

    driver = Driver(program)
    turns = 0
    with driver.loop.entered():
        for _ in driver.loop.fire(START + 3):
            driver.loop.run_until_rest()
            driver.world.saw("-")
            turns += 1
    expected = ["first", "is due already, so in this turn", "-", "second", "-", "fourth", "-", "woke", "-"]
    assert driver.world.journal == expected
    assert driver.loop.time() == START + 3
    assert driver.main.done()


def test_the_time_never_goes_back() -> None:
    loop = RunLoop("seed", START)
    loop.set_time(START + 5)
    loop.set_time(START + 3)
    assert list(loop.fire(START + 4)) == []
    assert loop.time() == START + 5


def test_a_timer_is_known_until_its_time_has_fired_also_when_it_was_cancelled() -> None:
    loop = RunLoop("seed", START)
    live, gone = loop.call_later(5, print), loop.call_later(3, print)
    assert due_of(loop) == START + 3
    gone.cancel()
    assert due_of(loop) == live.when() == START + 5
    loop.set_time(START + 4)  # another record came first
    assert loop.has_set(START + 3)
    assert loop.has_set(START + 5)
    assert not loop.has_set(START + 4)
    assert list(loop.fire(START + 4)) == []
    assert not loop.has_set(START + 3)
    again = loop.call_later(1, print)
    again.cancel()
    live.cancel()
    live.cancel()
    assert due_of(loop) is None
    assert loop.has_set(START + 5)
    loop.call_later(1, print)
    assert due_of(loop) == START + 5
    assert len(list(loop.fire(START + 9))) == 1
    assert not loop.has_set(START + 5)


def test_many_timers_of_one_time_that_are_set_and_cancelled_keep_one_time() -> None:
    loop = RunLoop("seed", START)
    for _ in range(1000):
        loop.call_later(5, print).cancel()
    assert loop.next_due is None
    assert len(loop._dues) + len(loop._cancelled_heap) + len(loop._timers) <= 2


def test_a_workflow_that_does_not_come_to_rest_is_told_where() -> None:
    async def spin(world: World) -> None:
        while True:
            world.saw(1)
            await asyncio.sleep(0)

    async def program(world: World) -> None:
        await world.record("go")
        await asyncio.create_task(spin(world))

    driver = Driver(program)
    with pytest.raises(RestlessError, match=r"does not come to rest.*test_run_loop.*in .*spin") as caught:
        driver.take("go")
    assert caught.value.callbacks == MAX_TURN_CALLBACKS
    # On every node at the same callback.
    assert len(driver.world.journal) == MAX_TURN_CALLBACKS - 1
    driver.loop.close_run()


def test_the_budget_is_that_of_one_turn() -> None:
    async def program(world: World) -> None:
        for name in "ab":
            await world.record(name)
            for _ in range(MAX_TURN_CALLBACKS * 2 // 3):
                await asyncio.sleep(0)
        world.saw("rests")

    assert play(program, "a", "b") == ["rests"]


def test_system_exit_of_a_task_is_its_outcome_and_the_loop_goes_on() -> None:
    async def program(world: World) -> None:
        async def leave(kind: type[BaseException]) -> None:
            await world.record("go")
            raise kind

        for kind in (SystemExit, KeyboardInterrupt):
            task = asyncio.create_task(leave(kind))
            await asyncio.wait([task])
            world.saw(type(task.exception()))

    assert play(program, "go", "go") == [SystemExit, KeyboardInterrupt]


def test_a_task_that_failed_unawaited_is_logged_with_its_run(caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        raise ValueError("in the background")

    loop = RunLoop("seed", START, "order-1")
    with caplog.at_level(logging.ERROR, "asyncio"), loop.entered():
        loop.create_branch(fails(), path="", name="main")
        loop.run_until_rest()
        gc.collect()
    assert "run 'order-1': a task failed, and nothing has awaited it" in caplog.text
    assert "in the background" in caplog.text


def test_an_exception_of_a_callback_is_logged_and_the_loop_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("of a callback")

    async def program(world: World) -> None:
        asked: list[Any] = []
        world.loop.set_exception_handler(lambda loop, context: asked.append(context))
        world.loop.call_soon(fail)
        await asyncio.sleep(0)
        world.saw(asked)

    with caplog.at_level(logging.ERROR, "asyncio"):
        assert play(program) == [[]]
    assert "a callback of a workflow failed" in caplog.text
    assert "of a callback" in caplog.text


def test_unfinished_tasks_are_held_and_listed_in_their_order() -> None:
    async def program(world: World) -> None:
        for name in "abc":
            asyncio.create_task(world.record(name), name=name)  # noqa: RUF006 - that is the point
        await world.record("end")
        await asyncio.wait([task for task in asyncio.all_tasks() if task is not asyncio.current_task()])

    driver = Driver(program)
    assert [task.get_name() for task in driver.loop.tasks()] == ["main", "a", "b", "c"]
    driver.take("b")
    assert [task.get_name() for task in driver.loop.tasks()] == ["main", "a", "c"]
    driver.play("end", "a", "c")
    assert driver.loop._tasks == {}


def test_finished_async_generators_are_let_go() -> None:
    async def program(world: World) -> None:
        async def one() -> Any:
            yield 1

        for _ in range(500):
            async for _ in one():
                pass
        world.saw(len(world.loop._generators))

    [held] = play(program)
    assert held <= 16


def test_the_end_of_a_run_closes_generators_as_asyncio_does() -> None:
    async def program(world: World) -> None:
        async def one(name: str) -> Any:
            try:
                yield name
            finally:
                world.saw(await world.record(name))

        for name in "ab":
            async for _ in one(name):
                break
        await world.loop.shutdown_asyncgens()
        world.saw("end")

    assert play(program, "b", "a") == ["b", "a", "end"]


def test_call_soon_threadsafe_is_for_the_workflow_alone() -> None:
    async def program(world: World) -> None:
        world.loop.call_soon_threadsafe(world.saw, "from within")
        await world.record("end")

    driver = Driver(program)
    raised: list[Exception] = []

    def outside() -> None:
        try:
            driver.loop.call_soon_threadsafe(print)
        except NotInWorkflowError as error:
            raised.append(error)

    thread = threading.Thread(target=outside)
    thread.start()
    thread.join()
    assert 'ctx.compute("name", fn)' in str(raised[0])
    outside()
    assert len(raised) == 2
    assert driver.play("end") == ["from within"]


def test_a_query_can_begin_and_wake_nothing() -> None:
    async def program(world: World) -> None:
        event = asyncio.Event()
        world.saw(event)
        await event.wait()
        world.saw("woke")

    driver = Driver(program)
    loop, event = driver.loop, driver.world.journal.pop()
    attempts: list[Any] = [
        event.set,
        loop.create_future,
        lambda: loop.create_task(driver.world.record("a")),
        lambda: loop.call_soon(print),
        lambda: loop.call_later(5, print),
    ]
    before = loop._ordinal
    with loop.reading():
        for attempt in attempts:
            with pytest.raises(QueryFailedError, match="may look"):
                attempt()
    assert (loop._ordinal, loop.next_due) == (before, None)
    loop.close_run()
    assert driver.world.journal == []


def test_a_task_made_by_asyncio_task_itself_is_no_branch_but_runs() -> None:
    async def program(world: World) -> None:
        async def one() -> None:
            world.saw(world.loop.current)
            child = asyncio.create_task(asyncio.sleep(0))
            assert isinstance(child, RunTask)
            world.saw(child.path)
            await child

        await asyncio.Task(one())

    assert play(program) == [None, "c1."]


def test_what_is_no_coroutine_makes_no_task() -> None:
    async def program(world: World) -> None:
        with pytest.raises(TypeError):
            world.loop.create_task(3)  # type: ignore[arg-type]
        world.saw(len(world.loop.tasks()))

    assert play(program) == [1]


def test_debug_mode_is_off_and_stays_off() -> None:
    loop = RunLoop("seed", START)
    loop.set_debug(True)
    assert not loop.get_debug()
    assert not loop.is_running()
    with loop.entered():
        assert loop.is_running()
    assert not loop.is_closed()


def test_a_loop_is_not_entered_twice() -> None:
    loop = RunLoop("seed", START)
    with loop.entered(), pytest.raises(InternalError), loop.entered():
        pass
    assert asyncio._get_running_loop() is None
