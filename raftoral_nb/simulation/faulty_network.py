"""The simulated network: the engine's memory network, with delays drawn from the seed and links that can be slowed down."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from ..core.records import NodeId
from ..transport.memory_network import MemoryEndpoint, MemoryNetwork
from ..transport.messages import Message
from ..transport.network import Receiver
from .dice import SeededDice
from .tap import Note, Tap

Sent = Callable[[NodeId, NodeId, Message], None]
"""The observer of every message that a node sends, with its sender and its receiver, before anything becomes of it."""


class SimulatedNetwork(MemoryNetwork):
    """Messages take `quickest` to `slowest` seconds, each another time; order is kept per direction of a link.

    Cuts are those of the engine's networks: messages in one direction vanish while the link stays up. A reset loses what
    is on its way in both directions. A slow link adds seconds to one direction. `sent` is told of every message; `note`, if
    given, of those that arrive.
    """

    cut_noticed = math.inf

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        dice: SeededDice,
        *,
        quickest: float = 0.001,
        slowest: float = 0.01,
        sent: Sent,
        note: Note | None = None,
    ) -> None:
        super().__init__(loop, self._draw)
        self._sent = sent
        self._note = note
        self._random = dice.random
        self._quickest = quickest
        self._spread = slowest - quickest
        self._slow: dict[tuple[NodeId, NodeId], float] = {}
        self._cut_counts: dict[tuple[NodeId, NodeId], int] = {}

    def join(self, node: NodeId, receiver: Receiver) -> MemoryEndpoint:
        """Join as in the engine's network."""
        endpoint = super().join(node, receiver if self._note is None else Tap(node, receiver, self._note))
        send, sent = endpoint.send, self._sent

        def watched(peer: NodeId, message: Message) -> None:
            sent(node, peer, message)
            send(peer, message)

        endpoint.send = watched  # type: ignore[method-assign]
        return endpoint

    def _draw(self, source: NodeId, target: NodeId) -> float:
        seconds = self._quickest + self._spread * self._random()
        return seconds + self._slow.get((source, target), 0.0) if self._slow else seconds

    def slow_down(self, source: NodeId, target: NodeId, seconds: float) -> None:
        """Slow the link down: from now on messages from `source` to `target` take so much longer."""
        self._slow[source, target] = seconds

    def speed_up(self, source: NodeId, target: NodeId) -> None:
        """End `slow_down`."""
        self._slow.pop((source, target), None)

    def cut_lane(self, source: NodeId, target: NodeId) -> None:
        """Cut one direction. Cuts that overlap in time are counted: each needs its own `mend_lane`."""
        count = self._cut_counts.get((source, target), 0)
        self._cut_counts[source, target] = count + 1
        self.cut(source, target, both=False)

    def mend_lane(self, source: NodeId, target: NodeId) -> None:
        """End one `cut_lane`."""
        count = self._cut_counts.get((source, target), 0)
        self._cut_counts[source, target] = max(0, count - 1)
        if count <= 1:
            self.mend(source, target, both=False)

    def reset(self, a: NodeId, b: NodeId) -> None:
        """Break the link between two nodes; what is on its way is lost. It comes up again by itself."""
        endpoint = self._endpoints.get(a)
        if endpoint is not None:
            endpoint.reset(b)

    def heal_all(self) -> None:
        """End every cut and every slowness."""
        super().heal_all()
        self._cut_counts.clear()
        self._slow.clear()
