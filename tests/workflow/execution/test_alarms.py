"""Timers of a node: they ring in order, never early, and one loop timer serves all of them."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from raftoral_nb.workflow.execution.alarms import Alarms


class Loop:
    """A clock that is moved by hand, and the loop timers that were armed."""

    def __init__(self) -> None:
        self.now = 100.0
        self.armed: list[tuple[float, Callable[[], None]]] = []
        self.alarms = Alarms(lambda: self.now, self.arm, lambda fn: fn())

    def arm(self, seconds: float, callback: Callable[[], None]) -> None:
        self.armed.append((self.now + seconds, callback))

    def until(self, when: float) -> None:
        """Let the time pass, and the loop timers fire."""
        while due := [one for one in self.armed if one[0] <= when]:
            first = min(due, key=lambda one: one[0])
            self.armed.remove(first)
            self.now = max(self.now, first[0])
            first[1]()
        self.now = max(self.now, when)


@given(st.lists(st.tuples(st.floats(-5, 50), st.booleans()), max_size=30), st.floats(0, 60))
def test_alarms_ring_in_order_never_early_once_and_not_when_they_were_cancelled(
    wanted: list[tuple[float, bool]], until: float
) -> None:
    loop = Loop()
    rung: list[tuple[float, float]] = []
    alarms = [
        loop.alarms.call_later(seconds, lambda seconds=seconds: rung.append((100 + seconds, loop.now)))  # type: ignore[misc]
        for seconds, _ in wanted
    ]
    for alarm, (_, cancelled) in zip(alarms, wanted, strict=True):
        if cancelled:
            alarm.cancel()
    loop.until(100 + until)
    assert all(now >= when for when, now in rung)
    assert [when for when, _ in rung] == sorted(when for when, _ in rung)
    must = sorted(100 + seconds for seconds, cancelled in wanted if not cancelled and max(seconds, 0) <= until - 0.01)
    may = sorted(100 + seconds for seconds, cancelled in wanted if not cancelled and seconds <= until)
    assert must == [when for when, _ in rung][: len(must)]
    assert len(must) <= len(rung) <= len(may)


def test_many_alarms_need_one_loop_timer_as_long_as_none_is_earlier_than_the_first() -> None:
    loop = Loop()
    for seconds in range(1000, 2000):
        loop.alarms.call_later(seconds, lambda: None)
    assert len(loop.armed) == 1
    loop.alarms.call_later(5, lambda: None)
    assert len(loop.armed) == 2


def test_a_loop_timer_does_not_keep_a_node_that_is_gone() -> None:
    loop = Loop()
    loop.alarms.call_later(30 * 86_400, lambda: None)
    gone = weakref.ref(loop.alarms)
    del loop.alarms
    gc.collect()
    assert gone() is None
    loop.until(40 * 86_400)


def test_alarms_that_were_cancelled_are_not_kept_until_their_time_behind_one_that_waits() -> None:
    loop = Loop()
    rung: list[str] = []
    loop.alarms.call_later(1, lambda: rung.append("first"))
    live = [loop.alarms.call_later(3600 + number, lambda: rung.append("late")) for number in range(10)]
    for _ in range(1000):
        loop.alarms.call_later(3600, lambda: None).cancel()
    loop.alarms.call_later(2, lambda: rung.append("second"))
    assert len(loop.alarms._heap) < 250
    assert all(alarm.live for alarm in live)
    loop.until(5000)
    assert rung == ["first", "second"] + ["late"] * 10
