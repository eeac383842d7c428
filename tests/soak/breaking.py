"""What befalls a cluster in a soak: nodes and links that break and come back, as dice will have it."""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from raftoral_nb.core.records import NodeId

if TYPE_CHECKING:
    from tests.soak.soaking import Soak


class Faults:
    """Breaks a cluster and mends it, as dice will have it. All of it on the thread of the test."""

    def __init__(self, soak: Soak, dice: random.Random) -> None:
        self.counts: Counter[str] = Counter()
        self._soak = soak
        self._cluster = soak.cluster
        self._host = soak.host
        self._dice = dice
        self._numbers = tuple(soak.cluster.nodes)
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        # Invariant: fewer than half of the nodes are away (dead, paused or isolated), but while all are.
        self._away: set[NodeId] = set()
        self._held: set[NodeId] = set()
        self._cuts: Counter[tuple[NodeId, NodeId]] = Counter()
        self._kinds: dict[str, tuple[int, Callable[[], bool]]] = {
            "kill": (5, self._kill),
            "pause": (4, self._pause),
            "isolation": (3, self._isolate),
            "cut": (3, self._cut),
            "asymmetric cut": (3, self._cut_one_way),
            "broken link": (4, self._break_link),
            "all links broken": (1, self._break_all_links),
            "hold": (2, self._hold),
            "stall": (1, self._stall),
            "all killed": (1, self._kill_all),
        }

    def cause(self, seconds: float) -> None:
        """Faults for so many seconds, then heal everything."""
        begun = time.monotonic()
        pace = threading.Event()
        at = 0.5
        while at < seconds - 1.0:
            heapq.heappush(self._agenda, (at, next(self._order), self._one))
            at += self._dice.uniform(0.2, 0.9)
        while self._agenda and self._agenda[0][0] < seconds:
            due, _, do = heapq.heappop(self._agenda)
            pace.wait(max(0.0, begun + due - time.monotonic()))
            self._now = due
            do()
        self._dice = random.Random()  # whatever is left only ends
        for _, _, end in sorted(self._agenda, key=lambda item: item[:2]):
            end()
        pace.wait(max(0.0, begun + seconds - time.monotonic()))
        self._host.thread.call(self._network.heal_all)

    @property
    def _network(self) -> Any:
        return self._host.network

    def _one(self) -> None:
        weights = [weight for weight, _ in self._kinds.values()]
        (kind,) = self._dice.choices(list(self._kinds), weights)
        if self._kinds[kind][1]():
            self.counts[kind] += 1
            for _ in range(self._dice.randrange(8)):  # and some commands at just that moment
                self._host.thread.post(self._soak.clients.send, self._dice.choice(self._numbers))

    def _later(self, end: Callable[[], object]) -> bool:
        seconds = self._dice.choice([self._dice.uniform(0.05, 0.4), self._dice.uniform(0.4, 3.0)])
        heapq.heappush(self._agenda, (self._now + seconds, next(self._order), lambda: (end(), None)[1]))
        return True

    def _victim(self) -> NodeId | None:
        """A node that may go away; half of the time the leader."""
        drawn, leading = self._dice.choice(self._numbers), self._dice.random() < 0.5
        leader = self._cluster.leader
        number = leader if leading and leader is not None else drawn
        # Of three nodes, a dead one and a cut between the two others leave no majority that could lead.
        room = 2 * (len(self._away) + 1) < len(self._numbers) and not (len(self._numbers) == 3 and self._cuts)
        return number if room and number not in self._away else None

    def _go(self, number: NodeId, begin: Callable[[], object], end: Callable[[], object]) -> bool:
        self._away.add(number)
        begin()

        def back() -> None:
            self._away.discard(number)
            end()

        return self._later(back)

    # --- each says whether it took place

    def _kill(self) -> bool:
        number = self._victim()
        if number is None:
            return False
        self._held.discard(number)
        return self._go(number, lambda: self._cluster.kill(number), lambda: self._cluster.restart(number))

    def _pause(self) -> bool:
        number = self._victim()
        if number is None:
            return False
        return self._go(number, lambda: self._cluster.pause(number), lambda: self._cluster.resume(number))

    def _isolate(self) -> bool:
        number = self._victim()
        if number is None:
            return False
        lanes = [lane for other in self._numbers if other != number for lane in ((number, other), (other, number))]
        return self._go(number, lambda: self._cut_lanes(lanes), lambda: self._mend_lanes(lanes))

    def _cut(self) -> bool:
        a, b = self._dice.sample(self._numbers, 2)
        return self._cut_for_a_while([(a, b), (b, a)])

    def _cut_one_way(self) -> bool:
        a, b = self._dice.sample(self._numbers, 2)
        return self._cut_for_a_while([(a, b)])

    def _cut_for_a_while(self, lanes: list[tuple[NodeId, NodeId]]) -> bool:
        if len(self._numbers) == 3 and (self._away or self._cuts):
            return False  # together they could keep all three apart
        self._cut_lanes(lanes)
        return self._later(lambda: self._mend_lanes(lanes))

    def _cut_lanes(self, lanes: list[tuple[NodeId, NodeId]]) -> None:
        self._cuts.update(lanes)
        for a, b in lanes:
            self._host.thread.call(self._network.cut, a, b, False)

    def _mend_lanes(self, lanes: list[tuple[NodeId, NodeId]]) -> None:
        self._cuts.subtract(lanes)
        for a, b in lanes:
            if self._cuts[a, b] <= 0:
                del self._cuts[a, b]
                self._host.thread.call(self._network.mend, a, b, False)

    def _break_link(self) -> bool:
        a, b = self._dice.sample(self._numbers, 2)
        return self._host.thread.call(self._break_links, a, [b])

    def _break_all_links(self) -> bool:
        number = self._dice.choice(self._numbers)
        return self._host.thread.call(self._break_links, number, [other for other in self._numbers if other != number])

    def _break_links(self, a: NodeId, others: list[NodeId]) -> bool:
        incarnation = self._host.incarnation(a)
        if incarnation is None or incarnation.member._endpoint is None:
            return False
        linked = incarnation.member._endpoint.connected_peers
        for b in others:
            incarnation.member._endpoint.reset(b)
        return any(b in linked for b in others)

    def _hold(self) -> bool:
        number = self._dice.choice(self._numbers)
        if number in self._away or number in self._held:
            return False
        self._held.add(number)
        self._cluster.hold(number)

        def release() -> None:
            if number in self._held and self._cluster.nodes[number].held:
                self._cluster.release(number)
            self._held.discard(number)

        return self._later(release)

    def _stall(self) -> bool:
        # All nodes stop, as when another thread keeps the interpreter to itself.
        self._host.thread.post(time.sleep, self._dice.uniform(0.1, 0.6))
        return True

    def _kill_all(self) -> bool:
        if self._away:
            return False
        with self._soak.majority_lost():
            self._held.clear()
            for number in self._numbers:
                self._cluster.kill(number)
            for number in self._dice.sample(self._numbers, len(self._numbers)):
                self._cluster.restart(number)
        return True
