"""The time of day does not go back under those who wait, and is believed when it goes ahead."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raftoral_nb.node.time_of_day import TOLERATED_STEP, TimeOfDay


class Clocks:
    """Both clocks of a computer, moved by hand."""

    def __init__(self) -> None:
        self.system, self.monotonic = 1_000_000.0, 50.0
        self.time = TimeOfDay(lambda: self.system, lambda: self.monotonic)

    def pass_by(self, seconds: float) -> None:
        self.system += seconds
        self.monotonic += seconds


def test_a_clock_that_is_set_back_by_an_hour_goes_on_from_where_it_was() -> None:
    clocks = Clocks()
    clocks.pass_by(10)
    clocks.system -= 3600
    assert clocks.time() == 1_000_010
    clocks.pass_by(5)
    assert clocks.time() == 1_000_015


def test_once_the_system_has_come_as_far_it_is_followed_again() -> None:
    clocks = Clocks()
    clocks.system -= 100
    assert clocks.time() == 1_000_000
    clocks.system += 100.5
    assert clocks.time() == 1_000_000.5
    clocks.pass_by(1)
    assert clocks.time() == 1_000_001.5


def test_a_clock_that_is_set_ahead_or_a_computer_that_slept_is_believed_at_once_and_from_then_on() -> None:
    clocks = Clocks()
    clocks.system += 8 * 3600  # the monotonic clock stood still
    assert clocks.time() == 1_000_000 + 8 * 3600
    clocks.system -= 3600
    clocks.pass_by(2)
    assert clocks.time() == 1_000_002 + 8 * 3600


def test_small_corrections_and_slow_drift_are_followed() -> None:
    clocks = Clocks()
    clocks.pass_by(10)
    clocks.system -= TOLERATED_STEP / 2
    assert clocks.time() == clocks.system
    clocks.monotonic += 86_400
    clocks.system += 86_400 - 5  # a monotonic clock that is 58 millionths too fast, and was not looked at for a day
    assert clocks.time() == clocks.system


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(-5000, 5000)), max_size=20))
def test_whatever_is_done_to_the_clock_waiting_takes_at_most_that_much_longer(
    moves: list[tuple[float, float]],
) -> None:
    clocks = Clocks()
    start = clocks.time()
    passed = 0.0
    for seconds, set_by in moves:
        clocks.pass_by(seconds)
        clocks.system += set_by
        passed += seconds
        assert clocks.time() - start >= passed - len(moves) * TOLERATED_STEP - 1e-4 * passed - 1e-3
