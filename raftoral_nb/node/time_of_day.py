"""The time of day that a process's nodes go by: the system's clock, but not set back under those who wait.

Whatever lasts for a while is recorded with the time of day at which it is over, because only that means something to another
node and after a restart. A clock that is set back by an hour would make every sleep an hour longer; so a node that never
stopped continues from the time it has shown. A clock that is set ahead is believed at once: a computer that slept has
to wake who waits for a date, and its monotonic clock may have stood still meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

TOLERATED_STEP: Final = 1.0
"""Seconds that the clock may be set back at a time, and be followed: so much later ends what waits."""
TOLERATED_DRIFT: Final = 1e-4
"""The amount by which a monotonic clock may be faster than one that is kept right by others, without that being a step
back.
"""
LOOK_AGAIN: Final = 10.0
"""Seconds after which code that waits for a time of day looks at the clock again.

No timer notices that it was set ahead.
"""


def _system() -> float:
    return time.time()  # looked up at each call


def _monotonic() -> float:
    return time.monotonic()


class TimeOfDay:
    """A clock of the time of day: call it for Unix seconds. From any thread.

    It follows the system's clock, ahead by any step and back by small ones. Set back by more than `TOLERATED_STEP`, it
    continues from where it was, as fast as the monotonic clock, until the system's clock has come as far. It begins
    with what that shows.
    """

    def __init__(self, system: Callable[[], float] = _system, monotonic: Callable[[], float] = _monotonic) -> None:
        self._system = system
        self._monotonic = monotonic
        # What was shown, and what the monotonic clock showed then. One object, replaced as a whole: any thread may ask.
        self._last = (system(), monotonic())

    def __call__(self) -> float:
        """Return the time of day."""
        shown, at = self._system(), self._monotonic()
        before, since = self._last
        passed = at - since
        expected = before + passed
        if shown < expected - TOLERATED_STEP - TOLERATED_DRIFT * passed:
            return expected
        self._last = (shown, at)
        return shown
