"""A network without sockets: messages pass as objects over the loop, for tests and for the simulation.

It only uses the loop's `call_soon`, `call_later` and `time`, so it runs on a virtual clock as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..core.records import NodeId
from ..errors import ClusterError, NodeStateError
from .link_faults import DelayLine, LinkFaults
from .messages import Message
from .network import FIRST_REDIAL, Endpoint, Inbox, Receiver
from .traffic import Traffic, note

Latency = Callable[[NodeId, NodeId], float]
"""Seconds that a message from the first node to the second takes; asked once per message. 0 or less: at once."""


class MemoryNetwork(LinkFaults):
    """A network of links in memory.

    Two attached nodes are connected at once; without `latency` a message takes one loop turn.
    """

    refused_frames = 0
    dropped_unauthenticated = 0
    """Always 0: there are no frames here."""

    def __init__(self, loop: asyncio.AbstractEventLoop, latency: Latency | None = None) -> None:
        """Make a network. All calls must be made on `loop`. Latency may vary: order is kept all the same."""
        super().__init__(loop)
        self.latency = latency
        self.traffic = Traffic()
        self._endpoints: dict[NodeId, MemoryEndpoint] = {}
        self._closed = False

    async def attach(self, node: NodeId, receiver: Receiver) -> Endpoint:
        """Attach a node as `join` does."""
        return self.join(node, receiver)

    def join(self, node: NodeId, receiver: Receiver) -> MemoryEndpoint:
        """Add a node; links to the others come up in the next turn of the loop.

        Raises NodeStateError while the node is attached, ClusterError after `close`.
        """
        if self._closed:
            raise ClusterError("the network is closed")
        if node in self._endpoints:
            raise NodeStateError(f"node {node} is on the network already; close its endpoint first")
        endpoint = MemoryEndpoint(self, node, receiver)
        others = list(self._endpoints.values())
        self._endpoints[node] = endpoint
        for other in others:
            _Link(self, other, endpoint).open_soon(self.round_trip(other.node, node))
        return endpoint

    async def close(self) -> None:
        """Close every endpoint; nothing stays scheduled. Idempotent."""
        self._closed = True
        for endpoint in list(self._endpoints.values()):
            endpoint.close()
        self.forget_faults()

    def link_severed(self, a: NodeId, b: NodeId) -> None:
        """See `LinkFaults`."""
        if (link := self._link(a, b)) is not None:
            link.sever()

    def link_mended(self, a: NodeId, b: NodeId) -> None:
        """See `LinkFaults`."""
        if (link := self._link(a, b)) is not None:
            link.mend()

    def _link(self, a: NodeId, b: NodeId) -> _Link | None:
        endpoint = self._endpoints.get(a)
        return None if endpoint is None else endpoint.links.get(b)

    def detach(self, node: NodeId) -> None:
        """Detach an endpoint that closes."""
        self._endpoints.pop(node, None)
        self.traffic.forget(node)


class MemoryEndpoint:
    """One incarnation of a node on a `MemoryNetwork`; see `network.Endpoint`."""

    def __init__(self, network: MemoryNetwork, node: NodeId, receiver: Receiver) -> None:
        self.node = node
        self._network = network
        # `links` and `inbox` are for the network's own classes.
        self.links: dict[NodeId, _Link] = {}
        self.inbox = Inbox(network.loop, receiver, self.reset)
        self._closed = False

    def send(self, peer: NodeId, message: Message) -> None:
        """Send the message, or drop it when there is no link or it is cut."""
        link = self.links.get(peer)
        if link is not None and link.up and not self._closed:
            link.send(self.node, message)

    @property
    def connected_peers(self) -> frozenset[NodeId]:
        """Peers to which a link is up."""
        return frozenset(peer for peer, link in self.links.items() if link.up)

    def reset(self, peer: NodeId) -> None:
        """Break the link to `peer`; what is on its way is lost. It comes up again after `FIRST_REDIAL` seconds."""
        link = self.links.get(peer)
        if link is not None and link.up and not self._closed:
            link.reset()

    def pause(self) -> None:
        """Hold back everything from the receiver."""
        if not self._closed:
            self.inbox.pause()

    def resume(self) -> None:
        """Deliver what was held back, in order."""
        if not self._closed:
            self.inbox.resume()

    def close(self) -> None:
        """Leave the network; what is on its way from and to this node is lost."""
        if self._closed:
            return
        self._closed = True
        self.inbox.close()
        self._network.detach(self.node)
        for link in list(self.links.values()):
            link.close()
        self.links.clear()


class _Link:
    """The link between two endpoints for as long as both are attached; it may break and come up again."""

    def __init__(self, network: MemoryNetwork, a: MemoryEndpoint, b: MemoryEndpoint) -> None:
        self.up = False
        self._network = network
        self._ends = (a, b)
        self._lanes = {a.node: _Lane(self, network, a, b), b.node: _Lane(self, network, b, a)}
        self._opening: asyncio.Handle | None = None
        a.links[b.node] = self
        b.links[a.node] = self

    def open_soon(self, delay: float = 0.0) -> None:
        loop = self._network.loop
        self._opening = loop.call_later(delay, self._open) if delay > 0 else loop.call_soon(self._open)

    def _open(self) -> None:
        self._opening = None
        if self._network.is_severed(*(end.node for end in self._ends)):
            return  # until it is mended
        self.up = True
        for end, other in (self._ends, self._ends[::-1]):
            if self.up:  # the first one to hear of it may have closed or reset already
                end.inbox.connected(other.node)

    def send(self, source: NodeId, message: Message) -> None:
        self._lanes[source].send(message)

    def reset(self) -> None:
        self._break()
        self.open_soon(FIRST_REDIAL + self._round_trip())

    def sever(self) -> None:
        if self.up:
            self._break()

    def mend(self) -> None:
        if not self.up and self._opening is None:
            self.open_soon(self._round_trip())

    def _round_trip(self) -> float:
        return self._network.round_trip(*(end.node for end in self._ends))

    def close(self) -> None:
        """Close the link, as one end left."""
        self._break()
        for end, other in (self._ends, self._ends[::-1]):
            if end.links.get(other.node) is self:
                del end.links[other.node]

    def _break(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        self.up = False
        for lane in self._lanes.values():
            lane.clear()
        for end, other in (self._ends, self._ends[::-1]):
            # Later, as with sockets: nothing is called back from inside its own call. Before any new link's notice.
            self._network.loop.call_soon(end.inbox.disconnected, other.node)


class _Lane:
    """One direction of a link: messages in order, each with the time when it is due."""

    def __init__(self, link: _Link, network: MemoryNetwork, source: MemoryEndpoint, target: MemoryEndpoint) -> None:
        self._link = link
        self._network = network
        self._source = source.node
        self._target = target
        self._counts = network.traffic.lane(source.node, target.node)
        self._line: DelayLine[Message] = DelayLine(network.loop, self._deliver)

    def send(self, message: Message) -> None:
        network, source, target = self._network, self._source, self._target.node
        note(self._counts, message)
        if (source, target) in network.cuts:
            return
        delay = network.draw_delay(source, target) if network.delays else 0.0
        if network.latency is not None:
            delay += network.latency(source, target)
        if not self._line.put(message, delay):
            self._link.reset()

    def clear(self) -> None:
        self._line.clear()

    def _deliver(self, batch: list[Message]) -> None:
        if (self._source, self._target.node) not in self._network.cuts:
            self._target.inbox.received(self._source, batch)
