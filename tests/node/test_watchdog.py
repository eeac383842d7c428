"""The watchdog: what it reports, and when."""

from __future__ import annotations

import asyncio
import threading
import time
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
        return driven(self.dog, coro, run_id)


def driven(dog: Watchdog, coro: Coroutine[Any, Any, Any], run_id: str) -> Generator[Any, Any, Any]:
    """Drive a coroutine, and have each of its resumptions watched."""
    code = getattr(coro, "cr_code", None)
    value: Any = None
    while True:
        around = dog.begin(run_id, None if code is None else code.co_filename)
        try:
            try:
                awaited = coro.send(value)
            except StopIteration as stop:
                return stop.value
        finally:
            dog.end(run_id, around)
        value = yield awaited


class Driven:
    """The same, to be awaited."""

    def __init__(self, dog: Watchdog, coro: Coroutine[Any, Any, Any]) -> None:
        self._driven = driven(dog, coro, "run-1")

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._driven


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
        next(driven(dog, blocking(), "run-1"))
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
        await Driven(dog, workflow())

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
        return str(await Driven(dog, workflow()))

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
