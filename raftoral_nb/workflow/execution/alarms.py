"""Timers of a node: one loop timer is armed for the earliest of them, however many there are."""

from __future__ import annotations

import heapq
import itertools
import math
import weakref
from collections.abc import Callable
from typing import Final

import anyio
import anyio.lowlevel

SHORTEST_ARMED: Final = 0.001
"""The least time that a loop timer is armed for (seconds); clocks that disagree by less would have it armed again and again."""


LEAST_SWEPT: Final = 64
"""The least number of alarms among which those that were cancelled are looked for."""


class Alarm:
    """Something to be called at a time; `cancel` takes it back."""

    __slots__ = ("_callback", "when")

    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when = when
        self._callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Do not call; without effect once it was called."""
        self._callback = None

    @property
    def live(self) -> bool:
        """True if it is still to be called."""
        return self._callback is not None

    def ring(self) -> None:
        """Call what is to be called, once."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Alarms:
    """The timers of one node on one clock. Everything must be called on the node's own loop.

    `arm(seconds, callback)` sets a loop timer, on whichever loop; `post(fn)` calls on the node's own. A timer never rings
    before `clock` shows its time. How much later it rings is not promised: a busy loop or a sleeping computer delays it.

    A loop timer counts seconds, and does not notice that `clock` was set ahead. Where that can be, `look_again` is after how
    many seconds the clock is looked at again, for as long as something waits.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        arm: Callable[[float, Callable[[], None]], object],
        post: Callable[[Callable[[], object]], object],
        look_again: float = math.inf,
    ) -> None:
        self.clock = clock
        self._look_again = look_again
        self._arm_timer = arm
        self._post = post
        self._heap: list[tuple[float, int, Alarm]] = []
        self._numbers = itertools.count()
        self._swept_at = LEAST_SWEPT
        # Invariant: the earliest time for which a loop timer is armed that has not fired; None if none is. (That it fires to
        # look again does not count: it is armed for the same time then.)
        self._armed: float | None = None

    def call_at(self, when: float, callback: Callable[[], object]) -> Alarm:
        """Call `callback()` on the node's loop as soon as the clock shows `when`."""
        alarm = Alarm(when, callback)
        if len(self._heap) >= self._swept_at:
            # As often as their number doubled, so that it costs little.
            self._heap = [one for one in self._heap if one[2].live]
            heapq.heapify(self._heap)
            self._swept_at = 2 * len(self._heap) + LEAST_SWEPT
        heapq.heappush(self._heap, (when, next(self._numbers), alarm))
        self._arm()
        return alarm

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Alarm:
        """Call `callback()` on the node's loop after `seconds`."""
        return self.call_at(self.clock() + seconds, callback)

    async def sleep_until(self, when: float) -> None:
        """Wait until the clock shows `when`. No task or thread is kept busy meanwhile."""
        if when <= self.clock():
            await anyio.lowlevel.checkpoint()
            return
        event = anyio.Event()
        alarm = self.call_at(when, event.set)
        try:
            await event.wait()
        finally:
            alarm.cancel()

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds of the clock."""
        await self.sleep_until(self.clock() + seconds)

    def _arm(self) -> None:
        while self._heap and not self._heap[0][2].live:
            heapq.heappop(self._heap)
        if not self._heap:
            return
        earliest = self._heap[0][0]
        if self._armed is not None and self._armed <= earliest:
            return
        self._armed = earliest
        # Weakly: a loop timer of thirty days must not keep a node that was killed meanwhile.
        weak = weakref.ref(self)

        def due() -> None:
            alarms = weak()
            if alarms is not None:
                alarms._post(alarms._fire)

        self._arm_timer(min(self._look_again, max(SHORTEST_ARMED, earliest - self.clock())), due)

    def _fire(self) -> None:
        self._armed = None
        now = self.clock()
        due: list[Alarm] = []
        while self._heap and (self._heap[0][0] <= now or not self._heap[0][2].live):
            due.append(heapq.heappop(self._heap)[2])
        for alarm in due:
            alarm.ring()
        self._arm()
