"""The player of a plan's faults: it causes them, ends them, and heals everything in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from ..core.records import NodeId
from .faults import KINDS, LEADER, PlannedFault
from .joining import Joining
from .simulated_nodes import SimulatedNodes

End = Callable[[], None]
Note = Callable[[NodeId, str, str], None]

BURST_SECONDS: Final = 0.015
"""The time between two commands of a burst (seconds): far enough apart for each to become an entry of its own."""


class Faulty:
    """The faults of one simulation. One that makes no sense when its time comes (the node is dead already) is left out.

    `note` adds to the history: on which node (0: none), what, and details. `send` has a client send a command to a node.
    """

    def __init__(self, nodes: SimulatedNodes, joining: Joining, note: Note, send: Callable[[NodeId], None]) -> None:
        self.counts = dict.fromkeys((kind for kind in KINDS if kind != "burst"), 0)
        self._nodes = nodes
        self._network = nodes.network
        self._joining = joining
        self._note = note
        self._send = send
        self._ends: dict[int, tuple[asyncio.TimerHandle, End]] = {}
        self._number = 0
        self._restart_after: dict[NodeId, float] = {}
        self._begin = {
            "cut": self._cut,
            "asymmetric cut": self._asymmetric_cut,
            "isolation": self._isolation,
            "partition": self._partition,
            "reset": self._reset,
            "slow link": self._slow_link,
            "kill": self._kill,
            "disk crash": self._disk_crash,
            "pause": self._pause,
            "hold": self._hold,
            "stall": self._stall,
            "clock": self._clock,
            "join": self._members,
            "leave": self._members,
            "replacement": self._members,
            "burst": self._burst,
        }
        self._healed = False

    def schedule(self, faults: Sequence[PlannedFault]) -> None:
        """Set the time of each."""
        loop = self._nodes.loop
        begin = loop.time()
        for fault in faults:
            loop.call_at(begin + fault.at, self._befall, fault)

    def heal(self, lost: Sequence[NodeId]) -> None:
        """End every fault now; there are no more. Who is `lost` (see `Plan.lost`) stays down."""
        self._healed = True
        self._restart_after.clear()
        nodes = self._nodes
        self._note(0, "healed", "")
        down = [number for number in nodes.numbers if number not in nodes.living]
        # Whoever is down first: it may have died at a moment that is hard to hit.
        nodes.lost = frozenset([*down, *(number for number in lost if number not in down)][: len(lost)])
        for number in sorted(nodes.lost):
            nodes.end(number, "lost for good")
        for store in nodes.stores.values():
            store.crash_after(0)
        for timer, end in list(self._ends.values()):
            timer.cancel()
            end()
        self._ends.clear()
        self._network.heal_all()
        for number in nodes.numbers:
            if number in nodes.lost:
                continue
            nodes.start(number)
            nodes.living[number].clock.set_rate(1.0)

    def power_cut(self, number: NodeId) -> None:
        """Note that a node crashed inside a disk operation."""
        self._nodes.end(number, "crashed in a disk operation")
        seconds = self._restart_after.pop(number, 0.0)
        self.counts["disk crash"] += 1
        self._later(seconds, lambda: self._nodes.start(number))

    def _befall(self, fault: PlannedFault) -> None:
        if self._healed:
            return
        nodes = tuple(self._meant(node) for node in fault.nodes)
        if any(node not in self._nodes.numbers for node in nodes):
            return
        end = self._begin[fault.kind](fault, nodes)
        if end is None:
            return
        if fault.kind not in ("disk crash", "burst"):
            self.counts[fault.kind] += 1
            if fault.kind != "kill":
                text = f"{', '.join(map(str, nodes))} for {fault.seconds:g} s"
                self._note(0, fault.kind, text + (f" ({fault.amount:g})" if fault.amount else ""))
        self._later(fault.seconds, end)

    def _meant(self, node: NodeId) -> NodeId:
        numbers = self._nodes.numbers
        if node == LEADER:
            return self._nodes.acting or numbers[0]
        # In the beginning these are 1, 2, 3 ...; whoever replaced another is last.
        return numbers[(node - 1) % len(numbers)] if self._nodes.moved else node

    def _later(self, seconds: float, end: End) -> None:
        self._number += 1
        number = self._number

        def finish() -> None:
            self._ends.pop(number, None)
            end()

        loop = self._nodes.loop
        self._ends[number] = (loop.call_later(seconds, finish), end)

    # --- each returns how it ends, or None if it cannot begin

    def _cut_lanes(self, lanes: Sequence[tuple[NodeId, NodeId]]) -> End | None:
        if not lanes:
            return None
        for source, target in lanes:
            self._network.cut_lane(source, target)

        def end() -> None:
            for source, target in lanes:
                self._network.mend_lane(source, target)

        return end

    def _cut(self, fault: PlannedFault, nodes: tuple[NodeId, ...]) -> End | None:  # noqa: ARG002
        a, b = nodes
        return self._cut_lanes([(a, b), (b, a)]) if a != b else None

    def _asymmetric_cut(self, fault: PlannedFault, nodes: tuple[NodeId, ...]) -> End | None:  # noqa: ARG002
        a, b = nodes
        return self._cut_lanes([(a, b)]) if a != b else None

    def _isolation(self, fault: PlannedFault, nodes: tuple[NodeId, ...]) -> End | None:
        return self._partition(fault, nodes)

    def _partition(self, fault: PlannedFault, nodes: tuple[NodeId, ...]) -> End | None:  # noqa: ARG002
        others = [number for number in self._nodes.numbers if number not in nodes]
        return self._cut_lanes([lane for a in nodes for b in others for lane in ((a, b), (b, a))])

    def _reset(self, fault: PlannedFault, nodes: tuple[NodeId, ...]) -> End | None:  # noqa: ARG002
        a, b = nodes
        if a == b or not {a, b} <= self._nodes.living.keys():
            return None
        self._network.reset(a, b)
        return _nothing

    def _slow_link(self, fault: PlannedFault, nodes: tuple[NodeId, ...]) -> End | None:
        a, b = nodes
        if a == b:
            return None
        self._network.slow_down(a, b, fault.amount)
        return lambda: self._network.speed_up(a, b)

    def _kill(self, fault: PlannedFault, nodes: tuple[NodeId, ...]) -> End | None:  # noqa: ARG002
        (number,) = nodes
        if number not in self._nodes.living:
            return None
        self._nodes.end(number, "killed")
        return lambda: self._nodes.start(number)

    def _disk_crash(self, fault: PlannedFault, nodes: tuple[NodeId, ...]) -> End | None:
        (number,) = nodes
        if number in self._nodes.living:
            self._restart_after[number] = fault.seconds
            self._nodes.stores[number].crash_after(int(fault.amount))
        return None

    def _pause(self, fault: PlannedFault, nodes: tuple[NodeId, ...]) -> End | None:  # noqa: ARG002
        node = self._nodes.living.get(nodes[0])
        if node is None or node.member.paused:
            return None
        node.incarnation.pause()

        def end() -> None:
            if not node.gone and node.member.paused:
                self._note(node.number, "resumed", "")
                node.incarnation.resume()

        return end

    def _hold(self, fault: PlannedFault, nodes: tuple[NodeId, ...]) -> End | None:  # noqa: ARG002
        node = self._nodes.living.get(nodes[0])
        if node is None or node.incarnation.held:
            return None
        node.incarnation.hold()
        return lambda: None if node.gone else node.incarnation.release()

    def _stall(self, fault: PlannedFault, nodes: tuple[NodeId, ...]) -> End | None:
        node = self._nodes.living.get(nodes[0])
        if node is None:
            return None
        node.thread.stall(fault.seconds)
        return _nothing

    def _clock(self, fault: PlannedFault, nodes: tuple[NodeId, ...]) -> End | None:
        node = self._nodes.living.get(nodes[0])
        if node is None:
            return None
        before = node.clock.rate
        node.clock.set_rate(fault.amount)
        return lambda: None if node.gone else node.clock.set_rate(before)

    def _members(self, fault: PlannedFault, nodes: tuple[NodeId, ...]) -> End | None:
        return _nothing if self._joining.begin(fault.kind, nodes[0]) else None

    def _burst(self, fault: PlannedFault, nodes: tuple[NodeId, ...]) -> End | None:
        for number in range(int(fault.amount)):
            self._nodes.loop.call_later(BURST_SECONDS * number, self._send, nodes[0])
        return None


def _nothing() -> None:
    """Do nothing: the fault ended when it began."""
