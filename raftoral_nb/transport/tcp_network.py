"""The network between nodes over TCP: one authenticated connection per pair of nodes.

The node with the higher number dials the lower one, when it learns that the other is attached and after a connection was
lost; a node of this process that is not there is not dialed. Nodes of other processes are made known by `introduce`,
and are dialed until `forget`, whether they are there or not. Every byte goes through a `frames.FrameSession`. All of it
runs on one asyncio loop, on callbacks; the only tasks are those that asyncio wants for accepting and dialing, and
`close` leaves none behind.

A connection whose dialer says that it is no node (`frames.CLIENT`) is a client's: it is passed to
`accept_client`. Clients stay, and others are accepted, when the node leaves this process (its disk failed, say), so that
they can ask why, and for its start; until `close`, or until the node is attached again, which takes over its listener and
its clients.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import Any, Final

from ..core.cluster_events import UnauthenticatedConnectionsRefused
from ..core.records import NodeId
from ..errors import ClusterError, NodeStateError, PortInUseError, ProtocolError
from .clients import AcceptClient
from .connection import Connection, Dialer
from .connection_attempts import ConnectionAttempts
from .forked import keep_to_this_process
from .frames import CLIENT, FrameSession, PeerIdentity, check_key
from .link_faults import LinkFaults
from .messages import Message, encode_message
from .network import Endpoint, Inbox, Receiver
from .tls import Tls, check_listening
from .traffic import Traffic, note

logger = logging.getLogger(__name__)

HOST: Final = "127.0.0.1"
"""The host on which nodes listen unless told otherwise."""

MAX_UNAUTHENTICATED: Final = 16
"""Accepted connections of a node that are not authenticated yet; past it the oldest is closed."""

MAX_CLIENTS: Final = 64
"""Proven connections of a node with those that are no nodes; more are refused."""

ACCEPT_PAUSE: Final = 1.0
"""Seconds without accepting after the system refused to (no file descriptors left, say)."""

WARNING_INTERVAL: Final = 10.0
"""Seconds between two warnings about refused or broken connections; the ones between are counted."""


Address = tuple[str, int]
"""A host (an address, or a name) and a port."""


class TcpNetwork(LinkFaults):
    """A network of links over TCP between nodes of this process and others.

    Must be made and used on one running asyncio loop.
    """

    def __init__(
        self,
        key: bytes,
        ports: Mapping[NodeId, int] | None = None,
        *,
        host: str = HOST,
        elsewhere: Mapping[NodeId, Address] | None = None,
        accept_client: AcceptClient | None = None,
        tell: Callable[[UnauthenticatedConnectionsRefused], None] | None = None,
        tls: Tls | None = None,
    ) -> None:
        """Make a network.

        `key` is the cluster's secret (`frames.new_key`); `ports` are fixed ports by node, all others are free ones.

        `host` is the address on which nodes listen; `elsewhere` says where nodes of other processes do; `accept_client`
        serves connections of clients, which are refused without one; `tell` is told, not often, of those who tried to
        get in. With `tls` every connection is encrypted; without it nothing is said to another machine, and
        `NotEncryptedError` is raised if `host` can be reached from one.
        """
        super().__init__(asyncio.get_running_loop())
        self.key = check_key(key)
        check_listening(host, tls)
        self.tls = tls
        self.session_key = self.key if tls is None else tls.session_key(self.key)
        """The key that both ends of a connection prove to have."""
        self.host = host
        self.accept_client = accept_client
        self.attempts = ConnectionAttempts(self.loop, tell)
        self.traffic = Traffic()
        self._ports = dict(ports or {})
        # Invariant: none of these nodes is in `_endpoints`.
        self._elsewhere: dict[NodeId, Address] = dict(elsewhere or {})
        self._endpoints: dict[NodeId, TcpEndpoint] = {}
        # Invariant: of nodes that are not in `_endpoints`, and whose clients are served all the same.
        self._left: dict[NodeId, TcpEndpoint] = {}
        self._incarnations: dict[NodeId, int] = {}
        self._addresses: dict[NodeId, Address] = {}
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._idle: asyncio.Future[None] | None = None
        self._last_warning = -WARNING_INTERVAL
        self._warnings_withheld = 0

    async def attach(self, node: NodeId, receiver: Receiver) -> Endpoint:
        """Add a node and listen for it; links to the others come up afterwards.

        Raises NodeStateError while the node is attached, ClusterError after `close`, PortInUseError for a fixed port
        that is taken.
        """
        if self._closed:
            raise ClusterError("the network is closed")
        if node in self._endpoints:
            raise NodeStateError(f"node {node} is on the network already; close its endpoint first")
        before = self._left.pop(node, None)
        # It starts again in its process: others, and its clients, look for it where it was.
        listener, clients = (
            (listen(self.host, self._ports.get(node, 0), node), set[Connection]())
            if before is None
            else before.hand_over()
        )
        self._incarnations[node] = self._incarnations.get(node, 0) + 1
        endpoint = TcpEndpoint(self, PeerIdentity(node, self._incarnations[node]), listener, receiver, clients)
        others = list(self._endpoints.values())
        self._endpoints[node] = endpoint
        self._addresses[node] = endpoint.address
        endpoint.start()
        for other in others:
            higher, lower = (endpoint, other) if node > other.node else (other, endpoint)
            higher.peer_attached(lower.node, lower.address)
        self._elsewhere.pop(node, None)
        for other_node, address in self._elsewhere.items():
            if other_node < node:
                endpoint.peer_attached(other_node, address)
        return endpoint

    @property
    def addresses(self) -> Mapping[NodeId, Address]:
        """The host and port on which each node of this process listened last.

        A stopped node's port may be in use by now.
        """
        return dict(self._addresses)

    @property
    def refused_frames(self) -> int:
        """Connections refused so far for bytes that were not authentic, too long, or malformed."""
        return self.attempts.refused_frames

    @property
    def dropped_unauthenticated(self) -> int:
        """Connections closed so far because they never proved the cluster's key."""
        return self.attempts.dropped_unauthenticated

    # --- nodes of other processes

    @property
    def elsewhere(self) -> Mapping[NodeId, Address]:
        """The addresses of nodes in other processes, as far as this network was told."""
        return MappingProxyType(self._elsewhere)

    def introduce(self, node: NodeId, address: Address) -> None:
        """Introduce a node of another process, which listens there from now on.

        Nodes with higher numbers dial it at once.

        Nothing happens if it is a node of this process. A standing connection to it stays, and is replaced by the new
        one.
        """
        if node in self._endpoints or self._closed:
            return
        known = self._elsewhere.get(node)
        self._elsewhere[node] = address
        for endpoint in self._endpoints.values():
            if endpoint.node > node:
                if known == address:
                    endpoint.redial(node)
                else:
                    endpoint.peer_attached(node, address)

    def forget(self, node: NodeId) -> None:
        """Forget a node of another process that left for good: it is not dialed any more, and its connections end."""
        if self._elsewhere.pop(node, None) is not None:
            for endpoint in self._endpoints.values():
                endpoint.peer_detached(node)
                endpoint.reset(node)

    async def close(self) -> None:
        """Close every endpoint and wait until all sockets are closed and all tasks are done. Idempotent."""
        self._closed = True
        self._elsewhere.clear()
        self.forget_faults()
        for endpoint in list(self._endpoints.values()):
            endpoint.close()
        for left in self._left.values():
            left.shut()
        self._left.clear()
        while self._tasks or self._connections:
            if self._idle is None:
                self._idle = self.loop.create_future()
            await asyncio.shield(self._idle)  # others may wait for it too
        self.attempts.close()

    # --- link_faults.LinkFaults

    def link_severed(self, a: NodeId, b: NodeId) -> None:
        """Give up the connection at both ends; the dialer waits until the link is mended."""
        for node, peer in ((a, b), (b, a)):
            if (endpoint := self._endpoints.get(node)) is not None:
                endpoint.reset(peer)

    def link_mended(self, a: NodeId, b: NodeId) -> None:
        """Let the dialer wait no longer."""
        if (endpoint := self._endpoints.get(max(a, b))) is not None:
            endpoint.redial(min(a, b))

    # --- for the classes below

    def detach(self, endpoint: TcpEndpoint) -> None:
        """Detach an endpoint that closes: only clients dial it from now on, where they are served."""
        node = endpoint.node
        self._endpoints.pop(node, None)
        self.traffic.forget(node)
        for other in self._endpoints.values():
            other.peer_detached(node)
        if self.accept_client is None or self._closed:
            endpoint.shut()
        else:
            self._left[node] = endpoint

    def opened(self, connection: Connection) -> None:
        """Note that a connection exists from here until `lost`."""
        self._connections.add(connection)

    def lost(self, connection: Connection) -> None:
        """Note that the connection's socket is closed."""
        self._connections.discard(connection)
        self._check_idle()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine as a task that `close` waits for."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def refused(self, node: NodeId, connection: Connection, error: ProtocolError) -> None:
        """Count bytes that were refused."""
        who = "an unauthenticated peer" if connection.peer is None else f"node {connection.peer}"
        self.attempts.refused(node, f"from {who}: {error}")
        self.warn(f"node {node} refused a connection from {who}: {error}")

    def dropped(self, node: NodeId, reason: str) -> None:
        """Count an unauthenticated peer that was refused, or left, without having proven anything."""
        self.attempts.dropped(node, f"from an unauthenticated peer: {reason}")
        self.warn(f"node {node} dropped an unauthenticated connection: {reason}")

    def warn(self, text: str) -> None:
        """Log a warning, unless there was one just now: an attacker on the network cannot fill the log."""
        now = self.loop.time()
        if now - self._last_warning < WARNING_INTERVAL:
            self._warnings_withheld += 1
            return
        more = f" ({self._warnings_withheld} more like this since)" if self._warnings_withheld else ""
        self._last_warning, self._warnings_withheld = now, 0
        logger.warning("%s%s", text, more)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.loop.call_exception_handler({"message": "a task of the network failed", "exception": error})
        self._check_idle()

    def _check_idle(self) -> None:
        if self._idle is not None and not self._tasks and not self._connections:
            self._idle.set_result(None)
            self._idle = None


class TcpEndpoint:
    """One incarnation of a node on a `TcpNetwork`; see `network.Endpoint`."""

    def __init__(
        self,
        network: TcpNetwork,
        identity: PeerIdentity,
        listener: socket.socket,
        receiver: Receiver,
        clients: set[Connection],
    ) -> None:
        self.network = network
        self.identity = identity
        self.node = identity.node
        self.address: Address = listener.getsockname()[:2]
        self.closed = False
        """True if the node has left."""
        self.is_shut = False
        """True if no connection is accepted any more, nor a client's."""
        self._listener = listener
        self._inbox = Inbox(network.loop, receiver, self.reset)
        self._links: dict[NodeId, Connection] = {}
        self._dialers: dict[NodeId, Dialer] = {}
        self._unauthenticated: dict[Connection, None] = {}  # in order of arrival
        self._clients = clients
        # The last message and its bytes: a leader sends the same one to each of its followers. A heartbeat later it is another.
        self._encoded: tuple[Message | None, bytes] = (None, b"")
        self._accept_timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to accept."""
        self.network.loop.add_reader(self._listener, self._accept)

    # --- network.Endpoint

    def send(self, peer: NodeId, message: Message) -> None:
        """Send the message, or drop it when the link is missing, cut or too slow."""
        connection = self._links.get(peer)
        network = self.network
        if connection is None:
            return
        note(connection.counts, message)
        if network.cuts and (self.node, peer) in network.cuts:
            return
        try:
            if message is not self._encoded[0]:
                self._encoded = (message, encode_message(message))
            connection.send(self._encoded[1], network.draw_delay(self.node, peer) if network.delays else 0.0)
        except ProtocolError as error:
            # The sender's limits were wrong. Raising would break its consensus over one message that cannot be sent.
            self.network.warn(f"node {self.node} cannot send a message to node {peer}: {error}")

    @property
    def connected_peers(self) -> frozenset[NodeId]:
        """Peers to which a link is up."""
        return frozenset(self._links)

    def reset(self, peer: NodeId) -> None:
        """Break the link to `peer`; it is dialed again after `FIRST_REDIAL` seconds."""
        connection = self._links.pop(peer, None)
        if connection is not None:
            connection.abort()

    def pause(self) -> None:
        """Hold back everything from the receiver."""
        if not self.closed:
            self._inbox.pause()

    def resume(self) -> None:
        """Deliver what was held back, in order."""
        if not self.closed:
            self._inbox.resume()

    def close(self) -> None:
        """Leave the network as a killed process would: nothing is flushed. Sockets close in the next turn of the loop.

        Clients stay, if they are served at all.
        """
        if self.closed:
            return
        self.closed = True
        self._inbox.close()
        for dialer in self._dialers.values():
            dialer.close()
        self._dialers.clear()
        for connection in (*self._links.values(), *self._unauthenticated):
            connection.abort()
        self._links.clear()
        self._unauthenticated.clear()
        self.network.detach(self)

    def shut(self) -> None:
        """Serve clients no longer either, after `close`."""
        for client in self._clients:
            client.abort()
        listener, _ = self.hand_over()
        listener.close()

    def hand_over(self) -> tuple[socket.socket, set[Connection]]:
        """Detach the listener and the clients, after `close`, for another endpoint.

        This one accepts no connection any more.
        """
        self.is_shut = True
        self.network.loop.remove_reader(self._listener)
        if self._accept_timer is not None:
            self._accept_timer.cancel()
        for connection in self._unauthenticated:
            connection.abort()
        self._unauthenticated.clear()
        return self._listener, self._clients

    # --- the directory

    def peer_attached(self, peer: NodeId, address: Address) -> None:
        """Dial a lower node that was attached."""
        self.peer_detached(peer)
        self._dialers[peer] = Dialer(self, peer, address)

    def peer_detached(self, peer: NodeId) -> None:
        """Stop dialing a node that left. Its connection, if there is one, ends by itself."""
        dialer = self._dialers.pop(peer, None)
        if dialer is not None:
            dialer.close()

    def redial(self, peer: NodeId) -> None:
        """Dial a lower node whose link was mended, if it is not connected."""
        dialer = self._dialers.get(peer)
        if dialer is not None:
            dialer.mended()

    # --- connections

    def _accept(self) -> None:
        """Accept the connections that wait, as the listener is readable, but not for ever."""
        for _ in range(MAX_UNAUTHENTICATED):
            try:
                accepted, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # No descriptors or memory. The listener would stay readable and spin: look away for a while.
                self.network.warn(f"node {self.node} cannot accept connections now: {error}")
                self.network.loop.remove_reader(self._listener)
                self._accept_timer = self.network.loop.call_later(ACCEPT_PAUSE, self.start)
                return
            accepted.setblocking(False)
            if len(self._unauthenticated) >= MAX_UNAUTHENTICATED:
                # A true peer is through in a millisecond, so the oldest is the one that does not belong here.
                self.drop(
                    next(iter(self._unauthenticated)),
                    "it had not proven the key when too many other connections waited",
                )
            connection = Connection(self, FrameSession(self.network.session_key, self.identity, dialer=False))
            self._unauthenticated[connection] = None
            self.network.spawn(connection.adopt(accepted))

    def admits(self, peer: NodeId) -> bool:
        """Return whether a peer that claims to be this node, or a client, is answered.

        Once the own node has left, no other node is.
        """
        return not self.closed or peer == CLIENT

    def established(self, connection: Connection) -> None:
        """Note that the connection's peer is proven. Raises ProtocolError if it may not be connected this way."""
        peer = connection.session.peer
        assert peer is not None
        if peer.node == CLIENT:
            self._receive(connection)
            return
        if not connection.dialed and peer.node < self.node:
            raise ProtocolError(f"node {peer.node} dialed node {self.node}, which is the one to dial")
        self._unauthenticated.pop(connection, None)
        if self.network.is_severed(self.node, peer.node):  # since it was begun
            connection.abort()
            return
        old = self._links.get(peer.node)
        if old is not None:
            if old.session.peer is not None and old.session.peer.incarnation > peer.incarnation:
                connection.abort()
                return
            # The peer was restarted, or gave the old connection up before we noticed.
            del self._links[peer.node]
            old.abort()
        self._inbox.disconnected(peer.node)
        if self.closed:  # by the receiver, just now
            connection.abort()
            return
        self._links[peer.node] = connection
        connection.peer = peer.node
        connection.counts = self.network.traffic.lane(self.node, peer.node)
        dialer = self._dialers.get(peer.node)
        if dialer is not None and connection.dialed:
            dialer.succeeded()
        self._inbox.connected(peer.node)

    def _receive(self, connection: Connection) -> None:
        """Serve a peer that is proven to be a client. Raises ProtocolError if it is not served."""
        accept_client = self.network.accept_client
        if accept_client is None or len(self._clients) >= MAX_CLIENTS:
            raise ProtocolError(
                "no clients are served here"
                if accept_client is None
                else f"{MAX_CLIENTS} clients are connected already"
            )
        self._unauthenticated.pop(connection, None)
        self._clients.add(connection)
        connection.client_handler = accept_client(connection)

    def received(self, connection: Connection, messages: list[Message], size: int) -> None:
        """Receive the messages of one read, `size` bytes encoded."""
        peer = connection.peer
        cuts = self.network.cuts
        if peer is not None and self._links.get(peer) is connection and not (cuts and (peer, self.node) in cuts):
            self._inbox.received(peer, messages, size)

    def drop(self, connection: Connection, reason: str) -> None:
        """Refuse an unauthenticated peer."""
        self._unauthenticated.pop(connection, None)
        self.network.dropped(self.node, reason)
        connection.abort()

    def not_encrypted(self, connection: Connection, error: OSError) -> None:
        """Note that an accepted connection never came to be: it was given up, or is not encrypted as ours are."""
        known = self._unauthenticated.pop(connection, connection) is None
        if known and self.network.tls is not None and not self.closed:
            self.network.dropped(self.node, f"it was not encrypted by the cluster's certificate ({error})")

    def lost(self, connection: Connection) -> None:
        """Note that the connection is gone, for whatever reason."""
        if connection in self._unauthenticated:
            del self._unauthenticated[connection]
            if connection.session.torn:
                self.network.dropped(self.node, "it was broken off before it had proven the key")
        self._clients.discard(connection)
        peer = connection.peer
        if peer is None or self.closed:
            return
        if self._links.get(peer) is connection:
            del self._links[peer]
        if peer not in self._links:
            self._inbox.disconnected(peer)


def listen(host: str, port: int, node: NodeId) -> socket.socket:
    """Return a socket that listens on an address of this machine, for a node.

    Raises `PortInUseError` if the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A restarted node gets its port back although old connections linger (TIME_WAIT). Two listeners cannot share it.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind((host, port))
        listener.listen(64)
        keep_to_this_process(listener)
    except BaseException as error:
        listener.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE and port:
            raise PortInUseError(
                f"port {port}, wanted for node {node}, is taken on {host}: stop the program that listens there (perhaps "
                "another cluster), or choose another port, or give no ports and let the system pick free ones"
            ) from error
        raise
    return listener
