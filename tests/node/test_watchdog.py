"""The watchdog: what it reports, when, and that a watched coroutine cannot tell."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
import warnings
from collections.abc import Callable, Coroutine, Generator
from types import coroutine
from typing import Any

import pytest

from raftoral_nb.node.watchdog import Blocked, Watchdog

LONG = 20.0


class Bench:
    """A watchdog with a clock and a timer that the test moves by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.most_timers = 0
        self.said: list[tuple[str, str]] = []
        self.dog = Watchdog(
            self._arm, lambda: self.now, self._report, lambda run_id: self.said.append(("clear", run_id))
        )

    def _arm(self, seconds: float, callback: Callable[[], None]) -> None:
        self.timers.append((self.now + seconds, callback))
        self.most_timers = max(self.most_timers, len(self.timers))

    def _report(self, run_id: str, where: str) -> None:
        self.said.append((run_id, where))

    def spend(self, seconds: float) -> None:
        """Let time pass; timers that are due fire (on another thread, as they do in life)."""
        end = self.now + seconds
        while self.timers and self.timers[0][0] <= end:
            self.now, callback = self.timers.pop(0)
            thread = threading.Thread(target=callback)
            thread.start()
            thread.join(LONG)
        self.now = end

    def drive(self, coro: Coroutine[Any, Any, Any], run_id: str = "run-1") -> Generator[Any, Any, Any]:
        return self.dog.watched(coro, run_id).__await__()


@pytest.fixture
def bench() -> Bench:
    return Bench()


@coroutine
def pause(value: object = None) -> Generator[object, Any, Any]:
    return (yield value)


def test_a_workflow_that_awaits_in_time_is_not_reported(bench: Bench) -> None:
    async def good() -> str:
        for _ in range(3):
            bench.spend(0.9)
            await pause()
        return "done"

    steps = bench.drive(good())
    for _ in range(3):
        next(steps)
        bench.spend(5.0)
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value == "done"
    assert bench.said == []
    assert bench.most_timers == 1


def test_a_blocking_workflow_is_reported_once_with_its_line_and_cleared_when_it_goes_on(bench: Bench) -> None:
    seen: list[Blocked | None] = []

    async def blocking() -> None:
        bench.spend(30.0)
        seen.append(bench.dog.blocked)
        await pause()
        seen.append(bench.dog.blocked)

    steps = bench.drive(blocking())
    next(steps)
    (reported, where), clear = bench.said
    assert reported == "run-1"
    assert where.startswith("test_watchdog.py:")
    assert clear == ("clear", "run-1")
    assert seen == [Blocked("run-1", where)]
    with pytest.raises(StopIteration):
        next(steps)
    assert seen[1] is None
    assert len(bench.said) == 2


def test_the_place_is_in_user_code_and_not_in_what_it_calls_of_the_standard_library(bench: Bench) -> None:
    entered, leave = threading.Event(), threading.Event()

    async def blocking() -> None:
        entered.set()
        leave.wait(LONG)

    def run() -> None:
        with pytest.raises(StopIteration):
            next(bench.drive(blocking()))

    thread = threading.Thread(target=run)
    thread.start()
    assert entered.wait(LONG)
    bench.spend(1.5)
    blocked = bench.dog.blocked
    leave.set()
    thread.join(LONG)
    first = blocking.__code__.co_firstlineno
    assert blocked is not None
    assert blocked.where in {f"test_watchdog.py:{first + line} in blocking" for line in (1, 2)}
    assert bench.said == [("run-1", blocked.where), ("clear", "run-1")]
    assert bench.dog.blocked is None


def test_each_blocked_resumption_is_reported(bench: Bench) -> None:
    async def blocking() -> None:
        for _ in range(3):
            bench.spend(2.0)
            await pause()

    steps = bench.drive(blocking())
    for _ in range(3):
        next(steps)
    assert [run_id for run_id, _ in bench.said] == ["run-1", "clear"] * 3
    assert bench.most_timers == 1
    steps.close()


def test_a_timer_that_finds_a_younger_resumption_waits_for_the_rest_of_its_time(bench: Bench) -> None:
    seen: list[bool] = []

    async def workflow() -> None:
        bench.spend(0.5)
        await pause()
        bench.spend(0.75)  # the first timer is due in here
        seen.append(bench.dog.blocked is not None)
        bench.spend(0.5)  # now over a second in all
        seen.append(bench.dog.blocked is not None)

    steps = bench.drive(workflow())
    next(steps)
    with pytest.raises(StopIteration):
        next(steps)
    assert seen == [False, True]
    assert bench.most_timers == 1


def test_an_idle_node_has_no_timer(bench: Bench) -> None:
    async def workflow() -> None:
        await pause()

    steps = bench.drive(workflow())
    next(steps)
    assert len(bench.timers) == 1
    bench.spend(1.0)
    assert bench.timers == []
    bench.spend(100.0)
    with pytest.raises(StopIteration):
        next(steps)
    assert len(bench.timers) == 1  # the second resumption needed one again
    bench.spend(1.0)
    assert bench.timers == []
    assert bench.said == []


def test_two_workflows_of_a_node_share_one_timer(bench: Bench) -> None:
    async def workflow(seconds: float) -> None:
        await pause()
        bench.spend(seconds)

    first, second = bench.drive(workflow(0.1), "first"), bench.drive(workflow(2.0), "second")
    next(first)
    next(second)
    assert len(bench.timers) == 1
    for steps in (first, second):
        with pytest.raises(StopIteration):
            next(steps)
    assert [run_id for run_id, _ in bench.said] == ["second", "clear"]
    assert bench.said[1] == ("clear", "second")


def test_a_callback_that_fails_harms_neither_the_workflow_nor_the_timer(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("no one listens")

    dog = Watchdog(bench._arm, lambda: bench.now, fail, fail)

    async def blocking() -> str:
        bench.spend(2.0)
        return "done"

    with pytest.raises(StopIteration) as end:
        next(dog.watched(blocking(), "run-1").__await__())
    assert end.value.value == "done"
    assert caplog.text.count("no one listens") >= 2


def test_the_report_comes_before_the_clearing_also_when_the_resumption_ends_meanwhile() -> None:
    said: list[str] = []
    reporting, leave = threading.Event(), threading.Event()
    timers: list[Callable[[], None]] = []

    def report(run_id: str, where: str) -> None:
        reporting.set()
        leave.set()  # the workflow ends while this report is under way
        said.append("report")

    dog = Watchdog(
        lambda seconds, callback: timers.append(callback), time.monotonic, report, lambda run_id: said.append("clear"),
        limit=0.0,
    )  # fmt: skip

    async def workflow() -> None:
        threading.Thread(target=timers.pop()).start()
        assert leave.wait(LONG)

    async def main() -> None:
        await dog.watched(workflow(), "run-1")

    asyncio.run(main())
    assert said == ["report", "clear"]
    assert dog.blocked is None


def test_with_a_real_clock_and_a_real_loop_a_sleeping_workflow_is_named() -> None:
    loop = asyncio.new_event_loop()
    consensus = threading.Thread(target=loop.run_forever)
    consensus.start()
    reports: list[tuple[str, str]] = []
    reported, cleared = threading.Event(), threading.Event()

    def report(run_id: str, where: str) -> None:
        reports.append((run_id, where))
        reported.set()

    dog = Watchdog(
        lambda seconds, callback: loop.call_soon_threadsafe(loop.call_later, seconds, callback),
        time.monotonic,
        report,
        lambda run_id: cleared.set(),
        limit=0.02,
    )

    async def workflow() -> str:
        await asyncio.sleep(0)
        assert reported.wait(LONG)
        return "done"

    async def main() -> str:
        return await dog.watched(workflow(), "run-1")

    try:
        assert asyncio.run(main()) == "done"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        consensus.join(LONG)
        loop.close()
    assert cleared.is_set()
    assert len(reports) == 1
    assert reports[0][0] == "run-1"
    assert reports[0][1] == f"test_watchdog.py:{workflow.__code__.co_firstlineno + 2} in workflow"


# --- a watched coroutine cannot tell


@pytest.fixture(params=["watched", "plain"])
def driver(request: pytest.FixtureRequest, bench: Bench) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """The same expectations of a watched coroutine and of one awaited by an async function: they must not differ."""
    if request.param == "watched":
        return bench.drive

    async def plainly(coro: Coroutine[Any, Any, Any]) -> Any:
        return await coro

    return plainly


Driver = Callable[[Coroutine[Any, Any, Any]], Any]


def test_values_go_in_and_out(driver: Driver) -> None:
    async def talk() -> list[Any]:
        return [await pause("a"), await pause("b")]

    steps = driver(talk())
    assert steps.send(None) == "a"
    assert steps.send(1) == "b"
    with pytest.raises(StopIteration) as end:
        steps.send(2)
    assert end.value.value == [1, 2]


def test_a_thrown_exception_may_be_handled_inside(driver: Driver) -> None:
    async def recover() -> Any:
        try:
            await pause("first")
        except LookupError as error:
            return await pause(error)
        return None

    steps = driver(recover())
    steps.send(None)
    error = LookupError("thrown")
    assert steps.throw(error) is error
    with pytest.raises(StopIteration) as end:
        steps.send("back")
    assert end.value.value == "back"


def test_a_thrown_exception_that_is_not_handled_comes_out_itself(driver: Driver) -> None:
    cleaned = []

    async def clean() -> None:
        try:
            await pause()
        finally:
            cleaned.append(True)

    steps = driver(clean())
    steps.send(None)
    error = asyncio.CancelledError("cancelled")
    with pytest.raises(asyncio.CancelledError) as caught:
        steps.throw(error)
    assert caught.value is error
    assert caught.value.__context__ is None
    assert cleaned == [True]


def test_an_exception_of_the_coroutine_comes_out_itself_with_its_traceback(driver: Driver) -> None:
    async def fail() -> None:
        await pause()
        raise LookupError("inside")

    steps = driver(fail())
    steps.send(None)
    with pytest.raises(LookupError, match="inside") as caught:
        steps.send(None)
    assert caught.traceback[-1].name == "fail"
    assert caught.value.__context__ is None


def test_stop_iteration_raised_inside_is_a_runtime_error(driver: Driver) -> None:
    async def odd() -> None:
        raise StopIteration(3)

    with pytest.raises(RuntimeError, match="StopIteration"):
        driver(odd()).send(None)


def test_closing_runs_the_coroutines_cleanup(driver: Driver) -> None:
    seen: list[str] = []

    async def clean() -> None:
        try:
            await pause()
        except GeneratorExit:
            seen.append("exit")
            raise
        finally:
            seen.append("finally")

    steps = driver(clean())
    steps.send(None)
    steps.close()
    assert seen == ["exit", "finally"]


def test_a_coroutine_that_ignores_closing_is_an_error(driver: Driver) -> None:
    async def ignore() -> None:
        try:
            await pause()
        except GeneratorExit:
            await pause()

    steps = driver(ignore())
    steps.send(None)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        steps.close()


def test_a_thrown_generator_exit_closes_the_coroutine_and_goes_on(driver: Driver) -> None:
    async def swallow() -> str:
        try:
            await pause()
        except GeneratorExit:
            return "swallowed"
        return "resumed"

    steps = driver(swallow())
    steps.send(None)
    error = GeneratorExit()
    with pytest.raises(GeneratorExit) as caught:
        steps.throw(error)
    assert caught.value is error


def test_a_failed_coroutine_leaves_no_cycle(bench: Bench) -> None:
    class LocalError(Exception):
        pass

    async def fail() -> None:
        await pause()
        raise LocalError

    gc.collect()
    gc.disable()
    try:
        steps = bench.drive(fail())
        steps.send(None)
        with contextlib.suppress(LocalError):
            steps.throw(LocalError())
        del steps
        assert not [thing for thing in gc.get_objects() if isinstance(thing, LocalError)]
    finally:
        gc.enable()


def test_asyncio_can_cancel_a_watched_coroutine_and_a_timeout_scope_works_inside(bench: Bench) -> None:
    async def workflow() -> str:
        try:
            async with asyncio.timeout(0.0):
                await asyncio.Event().wait()
        except TimeoutError:
            return "timed out"
        return "?"

    async def main() -> None:
        assert await bench.dog.watched(workflow(), "run-1") == "timed out"

        async def forever() -> None:
            await bench.dog.watched(asyncio.Event().wait(), "run-2")

        task = asyncio.ensure_future(forever())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_one_that_is_never_awaited_can_be_closed(bench: Bench) -> None:
    async def workflow() -> None:
        raise AssertionError("must not run")

    bench.dog.watched(workflow(), "run-1").close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bench.dog.watched(workflow(), "run-2")
        gc.collect()
    assert ["never awaited" in str(warning.message) for warning in caught] == [True]
