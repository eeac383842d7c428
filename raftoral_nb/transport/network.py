"""The network as a replica sees it, and what the in-memory and the TCP network share: the inbox (and `link_faults`).

Everything here lives on one asyncio loop and is called there only. Between two nodes there is at most one link at a time;
it keeps the order of messages, delivers none twice, and loses messages only when it breaks, is cut, or is too slow.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from ..core.cluster_events import LinkDelay
from ..core.records import NodeId
from ..limits import MAX_FRAME_BYTES, MAX_PAUSED_MESSAGES
from .messages import Message
from .traffic import Traffic

MAX_PAUSED_BYTES: Final = 4 * MAX_FRAME_BYTES
"""Encoded size of the messages buffered from one peer for a paused node, in bytes (networks that encode only)."""

FIRST_REDIAL: Final = 0.05
"""Seconds after which a lost link is built again."""


class Receiver(Protocol):
    """The receiver of an endpoint's messages.

    An exception of a receiver is reported to the loop; the network continues.
    """

    def connected(self, peer: NodeId) -> None:
        """Note that a link to `peer` is up: what is sent from here on goes over it."""
        ...

    def disconnected(self, peer: NodeId) -> None:
        """Note that the link to `peer` is gone; what was sent lately may be lost."""
        ...

    def received(self, peer: NodeId, messages: Sequence[Message]) -> None:
        """Receive messages of `peer` that arrived together, in order."""
        ...


class Endpoint(Protocol):
    """One incarnation of a node on a network."""

    def send(self, peer: NodeId, message: Message) -> None:
        """Send the message, or drop it when the link is missing, cut or too slow.

        Order is kept per link. Never raises.
        """
        ...

    @property
    def connected_peers(self) -> frozenset[NodeId]:
        """Peers to which a link is up now. A paused receiver may not have been told of the latest ones yet."""
        ...

    def reset(self, peer: NodeId) -> None:
        """Break the link to `peer`, if there is one; both ends are told, later, and it is built again."""
        ...

    def pause(self) -> None:
        """Hold back everything from the receiver, in order; too much from one peer resets its link. Idempotent."""
        ...

    def resume(self) -> None:
        """Deliver what was held back, in order, before it returns (unless the receiver pauses again). Idempotent."""
        ...

    def close(self) -> None:
        """Leave the network: links break, peers are told, the receiver hears nothing any more. Idempotent."""
        ...


class Links(Protocol):
    """The links between nodes, and faults on them."""

    @property
    def refused_frames(self) -> int:
        """Connections refused so far for bytes that were not authentic, too long, or malformed."""
        ...

    @property
    def dropped_unauthenticated(self) -> int:
        """Connections closed so far because they never proved the cluster's key."""
        ...

    def cut(self, a: NodeId, b: NodeId, both: bool = True) -> None:
        """Drop messages from `a` to `b` (and back, if `both`) from now on. See `link_faults` for the rest of it."""
        ...

    def mend(self, a: NodeId, b: NodeId, both: bool = True) -> None:
        """End a `cut` from `a` to `b` (and back, if `both`). Messages that were dropped stay lost."""
        ...

    def slow(self, a: NodeId, b: NodeId, delay: LinkDelay | None, both: bool = True) -> None:
        """Delay messages from `a` to `b` (and back, if `both`) from now on, in order; None ends it."""
        ...

    def heal_all(self) -> None:
        """End every cut and every delay."""
        ...

    def is_cut(self, source: NodeId, target: NodeId) -> bool:
        """Return whether messages from `source` to `target` are dropped now."""
        ...

    def delay(self, source: NodeId, target: NodeId) -> LinkDelay | None:
        """Return the delay added to messages from `source` to `target`; None if there is none."""
        ...


class Network(Links, Protocol):
    """A network: links between nodes, and the nodes at their ends."""

    @property
    def traffic(self) -> Traffic:
        """The counts of what was sent so far."""
        ...

    async def attach(self, node: NodeId, receiver: Receiver) -> Endpoint:
        """Add a node; links to the others come up afterwards. Raises NodeStateError while the node is attached."""
        ...

    async def close(self) -> None:
        """Close every endpoint and return when nothing is left open or scheduled. Idempotent."""
        ...


class _Notice:
    """An item of an inbox: messages of a peer, or (`messages` is None) that its link came up or went down."""

    __slots__ = ("messages", "peer", "size", "up")

    def __init__(self, peer: NodeId, messages: list[Message] | None, *, up: bool, size: int = 0) -> None:
        self.peer = peer
        self.messages = messages
        self.up = up
        self.size = size

    @property
    def count(self) -> int:
        return 1 if self.messages is None else len(self.messages)


class Inbox:
    """The receiving half of an endpoint: delivers to the receiver in order, or holds back while paused.

    Whatever happens inside a receiver's call (it may pause, reset or close its endpoint) comes after what was there
    before. What is held back from one peer is bounded; past it everything held back from it is dropped and `overflow(peer)` is
    called, which must break the link: to both ends that is a connection lost with what was on its way.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, receiver: Receiver, overflow: Callable[[NodeId], None]) -> None:
        self._loop = loop
        self._receiver = receiver
        self._overflow = overflow
        self._items: deque[_Notice] = deque()
        self._held: dict[NodeId, tuple[int, int]] = {}
        self._told: set[NodeId] = set()
        self._latest: set[NodeId] = set()
        self._paused = False
        self._busy = False
        self._closed = False

    @property
    def paused(self) -> bool:
        """True if deliveries are held back."""
        return self._paused

    def connected(self, peer: NodeId) -> None:
        """Note that a link to `peer` came up."""
        if peer not in self._latest and not self._closed:
            self._latest.add(peer)
            self._put(_Notice(peer, None, up=True))

    def disconnected(self, peer: NodeId) -> None:
        """Note that the link to `peer` went down. Nothing happens if that was said before."""
        if peer in self._latest and not self._closed:
            self._latest.discard(peer)
            self._put(_Notice(peer, None, up=False))

    def received(self, peer: NodeId, messages: list[Message], size: int = 0) -> None:
        """Receive messages of `peer` that came together.

        `size` is what they take encoded (bytes), 0 if they are not encoded.
        """
        if peer in self._latest and not self._closed:
            if self._paused or self._busy:
                self._put(_Notice(peer, messages, up=True, size=size))
                return
            # Nearly always: nothing is before them, so they need not become an item first.
            self._busy = True
            try:
                self._receiver.received(peer, messages)
            except Exception as error:
                self._failed(peer, error)
            finally:
                self._busy = False
            if self._items:
                self._deliver()

    def pause(self) -> None:
        """Hold back everything from now on."""
        self._paused = True

    def resume(self) -> None:
        """Deliver what was held back, then deliver directly again."""
        self._paused = False
        self._deliver()

    def close(self) -> None:
        """Drop everything; nothing is delivered any more."""
        self._closed = True
        self._items.clear()
        self._held.clear()

    def _put(self, item: _Notice) -> None:
        if not self._paused:
            self._items.append(item)
            self._deliver()
            return
        peer = item.peer
        count, total = self._held.get(peer, (0, 0))
        count += item.count
        total += item.size
        if count > MAX_PAUSED_MESSAGES or total > MAX_PAUSED_BYTES:
            self._drop(peer)
            return
        self._held[peer] = (count, total)
        last = self._items[-1] if self._items else None
        if last is not None and last.peer == peer and last.messages is not None and item.messages is not None:
            last.messages.extend(item.messages)
            last.size += item.size
        else:
            self._items.append(item)

    def _drop(self, peer: NodeId) -> None:
        """Forget what is held back from a peer, and have its link broken; the receiver will hear that it broke."""
        self._items = deque(item for item in self._items if item.peer != peer)
        self._held.pop(peer, None)
        self._latest.discard(peer)
        if peer in self._told:
            self._items.append(_Notice(peer, None, up=False))
        self._overflow(peer)

    def _deliver(self) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            while self._items and not self._paused:
                item = self._items.popleft()
                if item.peer in self._held:
                    count, total = self._held[item.peer]
                    self._held[item.peer] = (count - item.count, total - item.size)
                self._hand_over(item)
        finally:
            self._busy = False

    def _hand_over(self, item: _Notice) -> None:
        peer = item.peer
        try:
            if item.messages is not None:
                self._receiver.received(peer, item.messages)
            elif item.up:
                self._told.add(peer)
                self._receiver.connected(peer)
            else:
                self._told.discard(peer)
                self._receiver.disconnected(peer)
        except Exception as error:
            self._failed(peer, error)

    def _failed(self, peer: NodeId, error: Exception) -> None:
        self._loop.call_exception_handler(
            {"message": f"a receiver failed on what node {peer} sent", "exception": error}
        )
