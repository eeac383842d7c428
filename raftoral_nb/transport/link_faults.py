"""Faults on the links between nodes, the same on every network: cut, one way or both, and slow.

A link that is cut both ways is a cable that was pulled: from that moment nothing arrives, and neither end is told. Only
after `CUT_NOTICED` seconds without an acknowledgement do both ends give their connection up, as TCP does, and none
comes to be until the link is mended; then it is built at once. It is harsher than TCP in one thing: what was sent while
a cut was not noticed stays lost, where TCP would send it again.

A cut in one direction loses messages and keeps the connection: a machine that answers, behind a filter that drops
what one side says. It is the fault that a leader which is heard but does not hear is made with.

A fault belongs to the two nodes and not to a connection: it stays while one of them is dead, and holds when it is back.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from ..core.cluster_events import LinkDelay
from ..core.records import NodeId
from ..limits import MAX_FRAME_BYTES, MAX_PAUSED_MESSAGES

CUT_NOTICED: Final = 1.0
"""Seconds after which both ends give up a connection whose link is cut both ways. More than any usual election takes."""

MAX_DELAYED_MESSAGES: Final = MAX_PAUSED_MESSAGES
"""Messages on their way over one direction of a slow link; past it the link is reset, as if its buffers were full."""

MAX_DELAYED_BYTES: Final = 4 * MAX_FRAME_BYTES
"""Encoded size of the messages on their way over one direction of a slow link, in bytes (networks that encode only)."""

Lane = tuple[NodeId, NodeId]
"""One direction of a link: from the first node to the second."""

T = TypeVar("T")


class LinkFaults:
    """The cut and the slow links of a network. Base class of the networks, which say what a severed link means to them."""

    cut_noticed: float = CUT_NOTICED
    """Seconds from a cut in both directions to the end of the connection; infinite: it is never noticed."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        # For the networks, which look at these for each message.
        self.cuts: set[Lane] = set()
        self.delays: dict[Lane, LinkDelay] = {}
        # Invariant: the links that are cut both ways, lower node first; None once both ends have noticed.
        self._severed: dict[Lane, asyncio.TimerHandle | None] = {}
        self._jitter_dice = random.Random()

    def cut(self, a: NodeId, b: NodeId, both: bool = True) -> None:
        """Drop messages from `a` to `b` (and back, if `both`) from now on.

        See the module for what that does to the link.
        """
        self.cuts.add((a, b))
        if both:
            self.cuts.add((b, a))
        pair = (min(a, b), max(a, b))
        if self.is_severed(a, b) and pair not in self._severed:
            noticed = self.cut_noticed
            self._severed[pair] = None if noticed == float("inf") else self.loop.call_later(noticed, self._notice, pair)

    def mend(self, a: NodeId, b: NodeId, both: bool = True) -> None:
        """End a `cut` from `a` to `b` (and back, if `both`). Messages that were dropped stay lost."""
        self.cuts.discard((a, b))
        if both:
            self.cuts.discard((b, a))
        self._unsever(a, b)

    def slow(self, a: NodeId, b: NodeId, delay: LinkDelay | None, both: bool = True) -> None:
        """Delay messages from `a` to `b` (and back, if `both`) from now on; None ends the delay.

        Their order is kept. What is on its way already is not overtaken, and takes the time that it was given.
        """
        for lane in ((a, b), (b, a))[: 1 + both]:
            if delay is None:
                self.delays.pop(lane, None)
            else:
                self.delays[lane] = delay

    def heal_all(self) -> None:
        """End every cut and every delay."""
        self.delays.clear()
        self.cuts.clear()
        for pair in tuple(self._severed):
            self._unsever(*pair)

    def is_cut(self, source: NodeId, target: NodeId) -> bool:
        """Return whether messages from `source` to `target` are dropped now."""
        return (source, target) in self.cuts

    def is_severed(self, a: NodeId, b: NodeId) -> bool:
        """Return whether the link is cut both ways: no connection can come to be."""
        return (a, b) in self.cuts and (b, a) in self.cuts

    def delay(self, source: NodeId, target: NodeId) -> LinkDelay | None:
        """Return the delay added to messages from `source` to `target`; None if there is none."""
        return self.delays.get((source, target))

    def draw_delay(self, source: NodeId, target: NodeId) -> float:
        """Draw the seconds by which to delay the next message from `source` to `target`; 0.0 if there is no delay."""
        delay = self.delays.get((source, target)) if self.delays else None
        if delay is None:
            return 0.0
        return max(0.0, delay.seconds + delay.jitter * (2 * self._jitter_dice.random() - 1))

    def round_trip(self, a: NodeId, b: NodeId) -> float:
        """Return the seconds by which it takes longer to build a connection: a new one has to go there and back."""
        return self.draw_delay(a, b) + self.draw_delay(b, a)

    # --- for the networks

    def link_severed(self, a: NodeId, b: NodeId) -> None:
        """End the connection, if there is one: both ends have noticed that the link is cut both ways."""

    def link_mended(self, a: NodeId, b: NodeId) -> None:
        """Build the connection if there is none, as the link is not cut both ways any more."""

    def forget_faults(self) -> None:
        """Leave nothing scheduled, as the network closes."""
        for timer in self._severed.values():
            if timer is not None:
                timer.cancel()
        self._severed.clear()

    # --- inside

    def _notice(self, pair: Lane) -> None:
        self._severed[pair] = None
        self.link_severed(*pair)

    def _unsever(self, a: NodeId, b: NodeId) -> None:
        pair = (min(a, b), max(a, b))
        if pair in self._severed and not self.is_severed(a, b):
            timer = self._severed.pop(pair)
            if timer is not None:
                timer.cancel()
            self.link_mended(*pair)


class DelayLine(Generic[T]):
    """Items on their way: each is delivered when it is due, and never before the one ahead of it. What is due is a batch."""

    def __init__(self, loop: asyncio.AbstractEventLoop, deliver: Callable[[list[T]], Any]) -> None:
        self._loop = loop
        self._deliver = deliver
        self.queue: deque[tuple[float, T, int]] = deque()
        """What is on its way: when it is due, and its size."""
        self._bytes = 0
        self._last_due = 0.0
        self._timer: asyncio.Handle | None = None

    def __len__(self) -> int:
        return len(self.queue)

    def put(self, item: T, delay: float = 0.0, size: int = 0) -> bool:
        """Deliver an item in `delay` seconds, or when the one before it is; 0 or less: with that one, or in the next turn.

        `size` is what it takes (bytes). Return False, and take nothing, if more is on its way than the limits allow.
        """
        if len(self.queue) >= MAX_DELAYED_MESSAGES or self._bytes + size > MAX_DELAYED_BYTES:
            return False
        if delay > 0:
            self._last_due = max(self._last_due, self._loop.time() + delay)
        self.queue.append((self._last_due, item, size))
        self._bytes += size
        if self._timer is None:
            self._arm()
        return True

    def clear(self) -> None:
        """Drop what is on its way; nothing stays scheduled."""
        self.queue.clear()
        self._bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        due = self.queue[0][0]
        wait = due - self._loop.time() if due else 0.0
        self._timer = self._loop.call_later(wait, self._due) if wait > 0 else self._loop.call_soon(self._due)

    def _due(self) -> None:
        self._timer = None
        queue = self.queue
        # The first is due, whatever the clock says: a loop may fire a timer within its clock's resolution.
        batch = [self._take()]
        now = self._loop.time() if queue and queue[-1][0] else 0.0
        while queue and queue[0][0] <= now:
            batch.append(self._take())
        if queue:
            self._arm()
        self._deliver(batch)

    def _take(self) -> T:
        _, item, size = self.queue.popleft()
        self._bytes -= size
        return item
