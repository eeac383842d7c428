"""One TCP connection between two nodes, and what keeps dialing one. Used by `tcp_network` only."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Coroutine
from typing import Any, Final, Protocol, cast

from ..core.records import NodeId
from ..errors import ProtocolError
from ..limits import MAX_FRAME_BYTES
from .clients import ClientHandler
from .forked import keep_to_this_process
from .frames import FrameSession, PeerIdentity
from .link_faults import DelayLine
from .messages import Message, decode_message
from .network import FIRST_REDIAL
from .tls import Tls, encrypted, may_talk, watch_silence

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT: Final = 5.0
"""Seconds in which a node that is dialed must answer. The system alone asks a host that is off for minutes, ever more seldom, and would notice
late that it is back."""

HANDSHAKE_TIMEOUT: Final = 2.0
"""Seconds in which a new connection must be authenticated."""

FRAME_TIMEOUT: Final = 60.0
"""Seconds in which a frame that was begun must be whole: a length that was changed on the way is noticed by nothing else."""

MAX_REDIAL: Final = 1.0
"""Seconds; the wait between attempts to dial doubles from FIRST_REDIAL up to this."""

READ_BYTES: Final = 32 * 1024
"""Bytes that are asked for in one read. What asyncio asks for (256 KiB) is more than the allocator keeps: it had the system map and unmap
memory for every read, however little came."""

READ_MORE_BYTES: Final = 256 * 1024
"""The same behind a read that was filled: a large frame is on its way."""

MAX_WRITE_BACKLOG: Final = 4 * MAX_FRAME_BYTES
"""Bytes waiting for a peer that does not read; past it the link is reset."""


class NetworkEnv(Protocol):
    """The network as a connection sees it. The cluster's links are asked for by two node numbers."""

    tls: Tls | None
    session_key: bytes

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop on which all of it runs."""
        ...

    def is_cut(self, a: NodeId, b: NodeId, /) -> bool:
        """Return whether messages from `a` to `b` are dropped."""
        ...

    def is_severed(self, a: NodeId, b: NodeId, /) -> bool:
        """Return whether a connection between the two is given up until the link is mended."""
        ...

    def round_trip(self, a: NodeId, b: NodeId, /) -> float:
        """Return how many seconds faults add to a message and its answer."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine as a task that the network waits for when it closes."""
        ...

    def opened(self, connection: Connection) -> None:
        """Note that a connection exists."""
        ...

    def lost(self, connection: Connection) -> None:
        """Note that a connection's socket is closed."""
        ...

    def refused(self, node: NodeId, connection: Connection, error: ProtocolError) -> None:
        """Note that a node refused bytes."""
        ...

    def warn(self, text: str) -> None:
        """Log a warning, unless there was one just now."""
        ...


class EndpointEnv(Protocol):
    """The endpoint of a node as its connection sees it."""

    node: NodeId
    identity: PeerIdentity

    @property
    def network(self) -> NetworkEnv:
        """The network that the node is on."""
        ...

    @property
    def is_shut(self) -> bool:
        """True if no connection is accepted any more."""
        ...

    def admits(self, peer: NodeId) -> bool:
        """Return whether a peer that claims to be this node is answered."""
        ...

    def established(self, connection: Connection) -> None:
        """Note that the other end has proven the key."""
        ...

    def received(self, connection: Connection, messages: list[Message], size: int) -> None:
        """Receive messages, of `size` bytes together."""
        ...

    def lost(self, connection: Connection) -> None:
        """Note that a connection is gone."""
        ...

    def reset(self, peer: NodeId) -> None:
        """Break the link to a node."""
        ...

    def drop(self, connection: Connection, reason: str) -> None:
        """Close the connection of an unauthenticated peer."""
        ...

    def not_encrypted(self, connection: Connection, error: OSError) -> None:
        """Note that an accepted connection could not be taken over."""
        ...


class Dialer:
    """The dialer that keeps one node connected to one lower node for as long as that one is attached."""

    def __init__(self, endpoint: EndpointEnv, peer: NodeId, address: tuple[str, int]) -> None:
        self._endpoint = endpoint
        self._peer = peer
        self._address = address
        self._wait = FIRST_REDIAL
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._closed = False
        self._begin(0.0)

    def succeeded(self) -> None:
        """Note that the handshake is done."""
        self._wait = FIRST_REDIAL

    def lost(self, connection: Connection) -> None:
        """Try again later: the connection was lost, or never came to be."""
        if connection is not self._connection:
            return
        self._connection = None
        self._redial()

    def close(self) -> None:
        """Stop dialing. An established connection stays as it is."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()
        if self._connection is not None and not self._connection.session.established:
            self._connection.abort()
        self._connection = None

    def mended(self) -> None:
        """Dial now that the link is not severed any more, unless that is under way or there is a connection."""
        if self._task is None and self._connection is None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._wait = FIRST_REDIAL
            self._begin(0.0)

    def _redial(self) -> None:
        if not self._closed:
            self._begin(self._wait)
            self._wait = min(2 * self._wait, MAX_REDIAL)

    def _begin(self, wait: float) -> None:
        network = self._endpoint.network
        if (wait := wait + network.round_trip(self._endpoint.node, self._peer)) > 0:
            self._timer = network.loop.call_later(wait, self._dial)
        else:
            self._dial()

    def _dial(self) -> None:
        self._timer = None
        if self._endpoint.network.is_severed(self._endpoint.node, self._peer):
            return  # until `mended`
        self._task = self._endpoint.network.spawn(self._connect())

    async def _connect(self) -> None:
        endpoint = self._endpoint
        network, host = endpoint.network, self._address[0]
        session = FrameSession(network.session_key, endpoint.identity, dialer=True, expected=self._peer)
        connection = Connection(endpoint, session, self)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await network.loop.create_connection(lambda: connection, *self._address, **encrypted(network.tls, host))
        except OSError as error:  # a TimeoutError is one
            logger.debug("node %d cannot reach node %d: %s", endpoint.node, self._peer, error)
            if self._connection is None:  # else it is dialed again when that is lost
                self._redial()
        finally:
            self._task = None

    def opened(self, connection: Connection) -> None:
        """Note that there is a TCP connection; the handshake begins."""
        if self._closed:
            connection.abort()
        else:
            self._connection = connection


class Connection(asyncio.Protocol):
    """One TCP connection: moves bytes between its transport and its session, and messages on to the endpoint."""

    def __init__(self, endpoint: EndpointEnv, session: FrameSession, dialer: Dialer | None = None) -> None:
        self.session = session
        self.peer: NodeId | None = None
        """The node at the other end, once it is proven and linked."""
        self.client_handler: ClientHandler | None = None
        """The handler of a client's frames, once the peer is proven to be a client."""
        self.counts: dict[str, int] = {}
        """Of the messages that are sent to it (see `traffic`), once it is linked."""
        self.dialed = dialer is not None
        self._endpoint = endpoint
        self._dialer = dialer
        self._transport: asyncio.Transport | None = None
        # Invariant: what the transport reads at most.
        self._read_bytes = 0
        self._accepted: socket.socket | None = None
        """The socket, until it has become the transport."""
        self._timer: asyncio.TimerHandle | None = None
        self._aborted = False
        self._on_its_way: DelayLine[bytes] = DelayLine(endpoint.network.loop, self._write_delayed)

    async def adopt(self, accepted: socket.socket) -> None:
        """Take over an accepted socket."""
        network = self._endpoint.network
        self._accepted = accepted
        try:
            await network.loop.connect_accepted_socket(lambda: self, accepted, **encrypted(network.tls, None))
        except OSError as error:
            # The peer is gone already, or the system refused the socket, or it was no TLS; nothing else knows of it.
            accepted.close()
            self._endpoint.not_encrypted(self, error)
        finally:
            self._accepted = None

    def answer(self, payload: bytes) -> None:
        """Write one frame to a client; end the connection if it does not read.

        Raises ProtocolError if it is too large.
        """
        transport = self._transport
        if transport is None or self._aborted:
            return
        if transport.get_write_buffer_size() > MAX_WRITE_BACKLOG:
            self._endpoint.network.warn(f"a client of node {self._endpoint.node} does not read; it is disconnected")
            self.abort()
            return
        transport.write(self.session.seal(payload))

    def send(self, payload: bytes, delay: float = 0.0) -> None:
        """Write one frame, `delay` seconds later.

        Reset the link if the peer does not read, or too much is on its way.
        """
        if (delay <= 0 and not self._on_its_way.queue) or self._aborted:
            self._write(payload)
        elif not self._on_its_way.put(payload, delay, len(payload)):
            node, peer = self._endpoint.node, self.peer
            self._endpoint.network.warn(
                f"too many bytes are in flight on the slow link from node {node} to node {peer}; it is reset"
            )
            self._endpoint.reset(cast(NodeId, peer))

    def _write_delayed(self, payloads: list[bytes]) -> None:
        endpoint = self._endpoint
        if self.peer is None or endpoint.network.is_cut(endpoint.node, self.peer):
            return
        for payload in payloads:
            try:
                self._write(payload)
            except ProtocolError as error:
                endpoint.network.warn(f"node {endpoint.node} cannot send a message to node {self.peer}: {error}")

    def _write(self, payload: bytes) -> None:
        transport = self._transport
        if transport is None or self._aborted:
            return
        if transport.get_write_buffer_size() > MAX_WRITE_BACKLOG:
            node, peer = self._endpoint.node, self.peer
            self._endpoint.network.warn(f"node {peer} does not read what node {node} sends; their link is reset")
            self._endpoint.reset(cast(NodeId, peer))
            return
        transport.write(self.session.seal(payload))

    def abort(self) -> None:
        """Break the connection at once; `connection_lost` follows in the next turn of the loop."""
        self._aborted = True
        self._on_its_way.clear()
        if self._transport is not None:
            self._transport.abort()
        elif self._accepted is not None:
            with contextlib.suppress(OSError):
                self._accepted.shutdown(socket.SHUT_RDWR)  # ends the TLS handshake

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake, and its clock, on a new TCP connection."""
        self._transport = cast(asyncio.Transport, transport)
        self._read_at_most(READ_BYTES)
        keep_to_this_process(transport)
        network = self._endpoint.network
        network.opened(self)
        if self._aborted or self._endpoint.is_shut:
            self.abort()
            return
        with contextlib.suppress(OSError):
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            watch_silence(transport)
        if not may_talk(transport, network.tls):
            error = ProtocolError(
                "it is not encrypted by the cluster's certificate, and comes from, or goes to, another machine"
            )
            network.refused(self._endpoint.node, self, error)
            self.abort()
            return
        self._give_time()
        if self._dialer is not None:
            self._dialer.opened(self)
        if opening := self.session.opening():
            self._transport.write(opening)

    def data_received(self, data: bytes) -> None:
        """Continue with the handshake, or with messages, as bytes came. Anything wrong closes the connection."""
        transport = self._transport
        if self._aborted or transport is None:
            return
        if len(data) >= self._read_bytes:
            self._read_at_most(READ_MORE_BYTES)
        elif self._read_bytes > READ_BYTES:
            self._read_at_most(READ_BYTES)
        session = self.session
        before = session.established
        try:
            payloads = session.feed(data)
            if not before:
                if session.peer is not None and not self._endpoint.admits(session.peer.node):
                    self.abort()  # who dials hears nothing, and waits longer each time
                    return
                if outgoing := session.take_outgoing():
                    transport.write(outgoing)
                if session.established:
                    self._cancel_timer()
                    self._endpoint.established(self)
            if self._timer is None and session.halfway is not None:
                self._await_frame(session.halfway)
            if self.client_handler is not None:
                self.client_handler.received(payloads)
                return
            messages = [decode_message(payload) for payload in payloads]
        except ProtocolError as error:
            self._endpoint.network.refused(self._endpoint.node, self, error)
            self.abort()
            return
        if messages:
            self._endpoint.received(self, messages, sum(map(len, payloads)))

    def eof_received(self) -> bool:
        """Break the connection, as the peer will send no more."""
        # Not `close`, which would wait for what is unsent to be read by a peer that may never read it.
        self.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Note that the socket is closed, for whatever reason."""
        self._aborted = True
        self._on_its_way.clear()
        self._cancel_timer()
        self._endpoint.lost(self)
        if self.client_handler is not None:
            self.client_handler.lost()
        if self._dialer is not None:
            self._dialer.lost(self)
        self._endpoint.network.lost(self)

    def _read_at_most(self, size: int) -> None:
        self._read_bytes = size
        transport: Any = self._transport
        if hasattr(transport, "max_size"):  # as asyncio's own have it; any other reads as it likes
            transport.max_size = size

    def _give_time(self) -> None:
        loop = self._endpoint.network.loop
        self._timer = loop.call_later(HANDSHAKE_TIMEOUT, self._too_slow, loop.time() + HANDSHAKE_TIMEOUT)

    def _too_slow(self, due: float) -> None:
        network = self._endpoint.network
        if network.loop.time() - due > HANDSHAKE_TIMEOUT / 4:
            self._give_time()  # this process itself stood still: what the peer has sent may lie here unread
            return
        self._timer = None
        if self.dialed:
            network.warn(f"node {self._endpoint.node}: the dialed peer did not prove the key in time")
            self.abort()
        else:
            self._endpoint.drop(self, f"it did not prove the key within {HANDSHAKE_TIMEOUT:g} s")

    def _await_frame(self, frame: int) -> None:
        loop = self._endpoint.network.loop
        due = loop.time() + FRAME_TIMEOUT
        self._timer = loop.call_later(FRAME_TIMEOUT, self._frame_too_slow, frame, due)

    def _frame_too_slow(self, frame: int, due: float) -> None:
        network = self._endpoint.network
        self._timer = None
        halfway = self.session.halfway
        if halfway is None:
            return
        if halfway != frame or network.loop.time() - due > FRAME_TIMEOUT / 4:
            self._await_frame(halfway)  # it is another one, or this process itself stood still
            return
        error = ProtocolError(f"frame {frame} is still incomplete after {FRAME_TIMEOUT:g} s")
        network.refused(self._endpoint.node, self, error)
        self.abort()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
