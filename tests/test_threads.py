"""The engine's threads: blocking calls, interrupts, ends in time, and code that never returns."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from raftoral_nb import step_threads
from raftoral_nb.errors import BlockingCallError, ClusterError
from raftoral_nb.threads import InlineSteps, LoopThread, Steps, StepThreads, mark_own_thread, on_own_thread, where_is

ROOT = Path(__file__).parents[1]
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


@pytest.fixture
def loop_thread() -> Iterator[LoopThread]:
    thread = LoopThread("test-loop")
    thread.start()
    yield thread
    assert thread.stop(LONG)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


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


# --- LoopThread


def test_a_call_runs_on_the_loops_thread_and_returns_its_result(loop_thread: LoopThread) -> None:
    assert loop_thread.call(threading.get_ident) == loop_thread.thread_ident != threading.get_ident()
    assert loop_thread.call(divmod, 7, 3) == (2, 1)


def test_a_call_raises_what_the_function_raised(loop_thread: LoopThread) -> None:
    with pytest.raises(ZeroDivisionError):
        loop_thread.call(divmod, 1, 0)

    async def fail() -> None:
        raise LookupError("not here")

    with pytest.raises(LookupError, match="not here"):
        loop_thread.run(fail)


def test_a_coroutine_may_use_anyio_task_groups(loop_thread: LoopThread) -> None:
    async def body(count: int) -> list[int]:
        found: list[int] = []

        async def child(number: int) -> None:
            await anyio.lowlevel.checkpoint()
            found.append(number)

        async with anyio.create_task_group() as group:
            for number in range(count):
                group.start_soon(child, number)
        return sorted(found)

    assert loop_thread.run(body, 3) == [0, 1, 2]


def test_posts_run_in_order_whoever_posts(loop_thread: LoopThread) -> None:
    seen: list[int] = []

    def first() -> None:
        seen.append(1)
        loop_thread.post(seen.append, 3)  # from the loop's own thread
        seen.append(2)

    loop_thread.post(first)
    loop_thread.call(lambda: None)
    loop_thread.call(lambda: None)
    assert seen == [1, 2, 3]


def test_nothing_of_the_callers_context_reaches_the_loop(loop_thread: LoopThread) -> None:
    async def read() -> str:
        return variable.get()

    token = variable.set("mine")
    try:
        assert loop_thread.call(variable.get) == "unset"
        assert loop_thread.run(read) == "unset"
    finally:
        variable.reset(token)


def test_blocking_calls_are_refused_on_the_clusters_own_threads_only(loop_thread: LoopThread) -> None:
    assert not on_own_thread()
    assert loop_thread.call(on_own_thread)
    with pytest.raises(BlockingCallError, match="test-loop"):
        loop_thread.call(lambda: loop_thread.call(lambda: None))
    with pytest.raises(BlockingCallError, match="test-loop"):
        loop_thread.call(lambda: loop_thread.stop(0.0))

    async def from_another_loop() -> int | None:
        return loop_thread.call(threading.get_ident)

    assert asyncio.run(from_another_loop()) == loop_thread.thread_ident


def test_a_thread_is_the_clusters_own_until_it_ends() -> None:
    answers = []

    def body() -> None:
        answers.append(on_own_thread())
        mark_own_thread()
        answers.append(on_own_thread())

    for _ in range(5):  # idents are used again
        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
    assert answers == [False, True] * 5


def test_after_a_timeout_the_call_is_dropped_and_the_thread_goes_on(loop_thread: LoopThread, gate: Gate) -> None:
    ran: list[str] = []
    loop_thread.post(gate.block)
    assert gate.entered.wait(LONG)
    with pytest.raises(TimeoutError, match="append"):
        loop_thread.call(ran.append, "never", timeout=0.0)
    gate.open.set()
    assert loop_thread.call(lambda: "still here") == "still here"
    assert ran == []


def test_a_coroutine_is_cancelled_on_a_timeout(loop_thread: LoopThread) -> None:
    ended = threading.Event()

    async def forever() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    with pytest.raises(TimeoutError, match="forever"):
        loop_thread.run(forever, timeout=0.05)
    assert ended.wait(LONG)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals to a thread")
def test_an_interrupted_call_leaves_nothing_broken(loop_thread: LoopThread) -> None:
    main = threading.get_ident()
    for _ in range(100):
        with pytest.raises(KeyboardInterrupt):
            loop_thread.call(interrupt_and_stay, main)
        assert loop_thread.call(lambda: 42) == 42


def interrupt_and_stay(main: int) -> None:
    signal.pthread_kill(main, signal.SIGINT)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals to a thread")
def test_an_interrupted_run_cancels_its_task(loop_thread: LoopThread) -> None:
    main = threading.get_ident()
    ended = threading.Event()

    async def forever() -> None:
        try:
            signal.pthread_kill(main, signal.SIGINT)
            await anyio.sleep_forever()
        finally:
            ended.set()

    with pytest.raises(KeyboardInterrupt):
        loop_thread.run(forever)
    assert ended.wait(LONG)
    assert loop_thread.call(lambda: 42) == 42


def test_a_stopped_thread_refuses_calls_and_ignores_posts() -> None:
    thread = LoopThread("short")
    thread.post(print, "before the start")
    with pytest.raises(ClusterError, match="not running"):
        thread.call(print)
    thread.start()
    with pytest.raises(ClusterError, match="started before"):
        thread.start()
    assert thread.alive
    assert thread.stop(LONG)
    assert thread.stop(LONG)
    assert not thread.alive
    thread.post(print, "after the stop")
    with pytest.raises(ClusterError, match="not running"):
        thread.call(print)
    with pytest.raises(ClusterError, match="started before"):
        thread.start()


def test_stopping_a_thread_that_never_started_is_fine() -> None:
    assert LoopThread("unused").stop(0.0)


def test_stop_cancels_the_remaining_tasks_and_lets_them_clean_up() -> None:
    thread = LoopThread("with-tasks")
    thread.start()
    seen: list[str] = []
    started = threading.Event()

    async def task() -> None:
        try:
            started.set()
            await anyio.sleep_forever()
        finally:
            await asyncio.sleep(0)
            seen.append("cleaned up")

    thread.post(lambda: asyncio.ensure_future(task()))
    assert started.wait(LONG)
    assert thread.stop(LONG)
    assert seen == ["cleaned up"]
    assert thread.where() is None


def test_a_call_that_waits_while_the_thread_stops_says_so() -> None:
    thread = LoopThread("stops")
    thread.start()
    errors: list[BaseException] = []
    started = threading.Event()

    async def forever() -> None:
        started.set()
        await anyio.sleep_forever()

    def caller() -> None:
        try:
            thread.run(forever)
        except BaseException as error:
            errors.append(error)

    waiting = threading.Thread(target=caller)
    waiting.start()
    assert started.wait(LONG)
    assert thread.stop(LONG)
    waiting.join(LONG)
    assert [type(error) for error in errors] == [ClusterError]


def test_a_task_that_refuses_to_be_cancelled_is_dropped_at_the_deadline() -> None:
    thread = LoopThread("stubborn")
    thread.start()
    started = threading.Event()
    refusals: list[int] = []

    async def stubborn() -> None:
        started.set()
        while True:
            try:
                await anyio.sleep_forever()
            except asyncio.CancelledError:
                refusals.append(1)

    thread.post(lambda: asyncio.ensure_future(stubborn()))
    assert started.wait(LONG)
    assert thread.stop(0.5)
    assert len(refusals) > 1


def test_a_task_that_raises_system_exit_does_not_end_the_thread(loop_thread: LoopThread) -> None:
    async def leave() -> None:
        raise SystemExit(3)

    tasks: list[asyncio.Task[None]] = []
    loop_thread.call(lambda: tasks.append(asyncio.ensure_future(leave())))
    assert loop_thread.call(lambda: 42) == 42
    assert isinstance(loop_thread.call(tasks[0].exception), SystemExit)
    with pytest.raises(SystemExit):
        loop_thread.run(leave)
    assert loop_thread.call(lambda: 42) == 42


def test_a_thread_stuck_in_user_code_is_named_and_ends_by_itself_later(gate: Gate) -> None:
    thread = LoopThread("stuck")
    thread.start()
    assert thread.call(lambda: None) is None
    thread.post(gate.block)
    assert gate.entered.wait(LONG)
    assert not thread.stop(0.05)
    where = thread.where()
    assert where is not None
    assert where.startswith("test_threads.py:")
    assert where.endswith("in block")
    with pytest.raises(ClusterError):
        thread.call(lambda: None)
    gate.open.set()
    assert thread.stop(LONG)


def test_a_call_waiting_behind_stuck_code_is_released_by_stop(gate: Gate) -> None:
    thread = LoopThread("stuck")
    thread.start()
    errors: list[BaseException] = []

    def caller() -> None:
        try:
            thread.call(gate.block)
        except BaseException as error:
            errors.append(error)

    waiting = threading.Thread(target=caller)
    waiting.start()
    assert gate.entered.wait(LONG)
    assert not thread.stop(0.05)
    waiting.join(LONG)
    assert [type(error) for error in errors] == [ClusterError]
    gate.open.set()
    assert thread.stop(LONG)


def test_an_idle_thread_runs_no_user_code(loop_thread: LoopThread) -> None:
    loop_thread.call(lambda: None)
    assert loop_thread.where() is None


def test_a_notebook_cell_is_called_cell(loop_thread: LoopThread, gate: Gate) -> None:
    for file, name in (("/tmp/ipykernel_12/345.py", "cell"), ("<ipython-input-7-abcdef>", "cell [7]")):
        gate.entered.clear()
        gate.open.clear()
        namespace: dict[str, Any] = {"block": gate.block}
        source = "def user():\n\n    entered.set()\n    open.wait()\n"
        namespace = {"entered": gate.entered, "open": gate.open}
        exec(compile(source, file, "exec"), namespace)
        loop_thread.post(namespace["user"])
        assert gate.entered.wait(LONG)
        assert loop_thread.where() in {f"{name}:3 in user", f"{name}:4 in user"}
        gate.open.set()


def test_a_thread_that_does_not_exist_is_nowhere() -> None:
    assert where_is(None) is None
    assert where_is(0) is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_finds_its_parents_thread_gone(loop_thread: LoopThread) -> None:
    code = """
        import os, sys, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads
        from raftoral_nb.errors import ClusterError
        from raftoral_nb.threads import LoopThread
        thread = LoopThread("parents")
        thread.start()
        thread.call(print, "parent", flush=True) if False else thread.call(lambda: None)
        child = os.fork()
        if child == 0:
            thread.post(print, "not done")
            try:
                thread.call(print)
            except ClusterError:
                os._exit(7 if thread.stop(1.0) else 8)
            os._exit(9)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert thread.call(lambda: 42) == 42
        assert thread.stop(5.0)
        print("good")
    """
    assert in_new_interpreter(code) == "good"


def in_new_interpreter(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=3 * LONG,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def test_the_interpreter_exits_although_a_loop_runs_and_a_step_and_a_loop_are_stuck() -> None:
    code = """
        import threading
        from raftoral_nb.threads import LoopThread, StepThreads
        entered, stuck = threading.Event(), threading.Event()
        idle, blocked, steps = LoopThread("idle"), LoopThread("blocked"), StepThreads()

        def block():
            entered.set()
            stuck.wait()

        async def step():
            await steps.run(block, name="stuck")

        idle.start()
        blocked.start()
        blocked.post(stuck.wait)
        try:
            idle.run(step, timeout=0.2)
        except TimeoutError:
            assert entered.is_set()
            print("leaving")
    """
    assert in_new_interpreter(code) == "leaving"


# --- StepThreads


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
        assert stuck.startswith("run-1/0/charge (test-step-1, abandoned) at test_threads.py:")
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


def test_a_place_handed_to_a_cancelled_task_goes_to_the_next(gate: Gate) -> None:
    async def body(pool: StepThreads) -> None:
        results: list[str] = []

        async def third() -> None:
            results.append(await pool.run(lambda: "third", name="third"))

        async with anyio.create_task_group() as outer:
            outer.start_soon(functools.partial(pool.run, gate.block, name="first"))
            await until(gate.entered)
            async with anyio.create_task_group() as inner:
                inner.start_soon(functools.partial(pool.run, pytest.fail, "must not run", name="second"))
                await anyio.wait_all_tasks_blocked()
                outer.start_soon(third)
                await anyio.wait_all_tasks_blocked()
                gate.open.set()
                while pool._waiting and pool._waiting[0].name == "second":
                    pass  # without a turn for the loop: the place is handed over before the cancellation
                inner.cancel_scope.cancel()
        assert results == ["third"]

    with_pool(body, limit=1)


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
            patch.setattr(step_threads.threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="can't start"):
                await pool.run(lambda: None, name="first")
        assert await pool.run(lambda: 1, name="second") == 1

    with_pool(body, limit=1)
