"""The engine's threads: blocking calls, interrupts, ends in time, and code that never returns."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from raftoral_nb.errors import BlockingCallError, ClusterError
from raftoral_nb.threads.loop_thread import LoopThread, do_all, mark_own_thread, on_own_thread, where_is

ROOT = Path(__file__).parents[2]
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


def test_all_stages_are_done_in_order_whatever_some_of_them_raise() -> None:
    done: list[int] = []

    def stage(number: int, error: BaseException | None = None) -> None:
        done.append(number)
        if error is not None:
            raise error

    with pytest.raises(KeyboardInterrupt):
        do_all(
            lambda: stage(1),
            lambda: stage(2, ValueError("of its own")),
            lambda: stage(3, KeyboardInterrupt()),
            lambda: stage(4),
        )
    assert done == [1, 2, 3, 4]
    with pytest.raises(ValueError, match="of its own"):
        do_all(lambda: stage(5, ValueError("of its own")), lambda: stage(6))
    assert done[4:] == [5, 6]


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
    states = [thread.alive, thread.stop(LONG), thread.stop(LONG), thread.alive]
    assert states == [True, True, True, False]
    thread.post(print, "after the stop")
    with pytest.raises(ClusterError, match="not running"):
        thread.call(print)
    with pytest.raises(ClusterError, match="started before"):
        thread.start()


def test_a_stopped_thread_keeps_nothing_of_what_is_posted() -> None:
    class Big:
        def take(self) -> None:
            """Be posted."""

    thread = LoopThread("test-kept")
    thread.start()
    assert thread.stop(LONG)
    alive = []
    for _ in range(3):
        big = Big()
        alive.append(weakref.ref(big))
        thread.post(big.take)
        del big
    gc.collect()
    assert [one() for one in alive] == [None] * 3


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
    assert where.startswith("test_loop_thread.py:")
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
        source = "def user():\n\n    entered.set()\n    open.wait()\n"
        namespace: dict[str, Any] = {"entered": gate.entered, "open": gate.open}
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
        from raftoral_nb.threads.loop_thread import LoopThread
        thread = LoopThread("parents")
        thread.start()
        thread.call(lambda: None)
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
        from raftoral_nb.threads.loop_thread import LoopThread, StepThreads
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
        threading.Thread(target=idle.run, args=(step,), daemon=True).start()
        assert entered.wait(20)
        print("leaving")
    """
    assert in_new_interpreter(code) == "leaving"


def test_a_task_that_was_made_just_before_the_stop_begins_and_then_is_cancelled() -> None:
    """Else what it wraps is never awaited, and Python warns of that somewhere in the notebook."""
    thread = LoopThread("just-before")
    thread.start()
    go = threading.Event()
    seen: list[str] = []

    async def inner() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def outer(coro: Coroutine[Any, Any, None]) -> None:
        await coro

    tasks: list[asyncio.Task[None]] = []

    def make() -> None:
        tasks.append(asyncio.get_running_loop().create_task(outer(inner())))

    # Both in one turn of the loop: the order to stop is followed in the next, right after the task was made there.
    thread.post(go.wait)
    thread.post(lambda: asyncio.get_running_loop().call_soon(make))
    halt = thread._halt
    assert halt is not None
    thread.post(lambda: halt.set_result(None))
    go.set()
    assert thread.stop(10.0)
    assert seen == ["cancelled"]


class Outcomes:
    """What was told of a coroutine that nobody waits for."""

    def __init__(self) -> None:
        self.found: list[tuple[object, BaseException | None]] = []
        self._told = threading.Event()

    def __call__(self, result: object, error: BaseException | None) -> None:
        self.found.append((result, error))
        self._told.set()

    def wait(self) -> tuple[object, BaseException | None]:
        assert self._told.wait(LONG)
        return self.found[0]


async def squared(number: int) -> int:
    return number * number


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


def test_a_coroutine_that_is_begun_tells_its_result_or_what_it_raised(loop_thread: LoopThread) -> None:
    async def fails() -> None:
        raise ValueError("no")

    good, bad = Outcomes(), Outcomes()
    loop_thread.begin(squared, 3, done=good)
    loop_thread.begin(fails, done=bad)
    assert good.wait() == (9, None)
    result, error = bad.wait()
    assert result is None
    assert isinstance(error, ValueError)


def test_a_coroutine_that_is_begun_is_told_once_when_the_thread_stops_and_refused_afterwards() -> None:
    thread = LoopThread("test-loop")
    thread.start()
    outcomes = Outcomes()
    thread.begin(for_ever, done=outcomes)
    assert thread.stop(LONG)
    _, error = outcomes.wait()
    assert isinstance(error, ClusterError)
    assert len(outcomes.found) == 1
    with pytest.raises(ClusterError, match="not running"):
        thread.begin(for_ever, done=outcomes)
    assert len(outcomes.found) == 1
