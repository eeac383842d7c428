"""Clients: those who talk with a node and are none, as a notebook with nodes in other processes, a command in a shell, a node that joins.

A client proves the cluster's key as a node does, and then asks; requests and answers are not known here. A node is one
end (`AcceptClient` makes a `ClientHandler` for each connection), and `connect` the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable, Sequence
from typing import Final, Protocol, cast

from ..core.records import NodeId
from ..errors import ClusterError, NotEncryptedError, ProtocolError
from .forked import keep_to_this_process
from .frames import CLIENT, FrameSession, PeerIdentity
from .tls import Tls, encrypted, may_talk, watch_silence

CONNECT_TIMEOUT: Final = 5.0
"""Seconds in which a node must have accepted a client."""


class ReplyChannel(Protocol):
    """A node's end of a connection with a client."""

    def answer(self, payload: bytes) -> None:
        """Write one frame. Raises ProtocolError for one that is too large; never waits."""
        ...

    def abort(self) -> None:
        """End the connection."""
        ...


class ClientHandler(Protocol):
    """The handler of a client's frames.

    Called on the loop; `ProtocolError` ends the connection, nothing else may be raised.
    """

    def received(self, payloads: Sequence[bytes]) -> None:
        """Receive frames, in order."""
        ...

    def lost(self) -> None:
        """Note that the connection is gone."""
        ...


AcceptClient = Callable[[ReplyChannel], ClientHandler]
"""The function called for each client that has proven the key."""


class ClientConnection(asyncio.Protocol):
    """A client's end of a connection. `received(payload)` is called for each frame, `lost(error)` once at its end."""

    def __init__(
        self,
        key: bytes,
        expected: NodeId | None,
        received: Callable[[bytes], None],
        lost: Callable[[BaseException | None], None],
        tls: Tls | None = None,
    ) -> None:
        identity = PeerIdentity(CLIENT, secrets.randbits(63))
        self.accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._session = FrameSession(
            key if tls is None else tls.session_key(key), identity, dialer=True, expected=expected
        )
        self._tls = tls
        self._received = received
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._error: BaseException | None = None
        self._closed = False

    @property
    def node(self) -> NodeId:
        """The node at the other end, which has proven that it has the key."""
        assert self._session.peer is not None
        return self._session.peer.node

    def send(self, payload: bytes) -> None:
        """Write one frame.

        Raises ProtocolError for one that is too large. Nothing happens once the connection is lost.
        """
        if self._transport is not None and not self._closed:
            self._transport.write(self._session.seal(payload))

    def close(self) -> None:
        """End the connection; `lost` is called in the next turn of the loop."""
        self._closed = True
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake on a new TCP connection."""
        self._transport = cast(asyncio.Transport, transport)
        keep_to_this_process(transport)
        with contextlib.suppress(OSError):
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            watch_silence(transport)
        if not may_talk(transport, self._tls):
            self._error = NotEncryptedError(
                "that node is on another machine, and the connection is not encrypted by the cluster's certificate"
            )
            self.close()
            return
        self._transport.write(self._session.opening())

    def data_received(self, data: bytes) -> None:
        """Continue with the handshake, or with frames. Anything wrong ends the connection."""
        if self._closed or self._transport is None:
            return
        try:
            payloads = self._session.feed(data)
        except ProtocolError as error:
            self._error = error
            self.close()
            return
        if outgoing := self._session.take_outgoing():
            self._transport.write(outgoing)
        if self._session.established and not self.accepted.done():
            self.accepted.set_result(None)
        for payload in payloads:
            self._received(payload)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the socket is closed, for whatever reason."""
        self._closed = True
        if not self.accepted.done():
            self.accepted.set_exception(self._error or exc or ConnectionResetError("the node ended the connection"))
            self.accepted.exception()  # what waited for it may have gone
        self._lost(self._error or exc)


async def connect(
    key: bytes,
    address: tuple[str, int],
    expected: NodeId | None,
    received: Callable[[bytes], None],
    lost: Callable[[BaseException | None], None],
    timeout: float = CONNECT_TIMEOUT,
    tls: Tls | None = None,
) -> ClientConnection:
    """Connect to a node as its client. Raises `ClusterError`, saying why, if it refuses within `timeout` seconds.

    With `tls` the connection is encrypted, which it must be (`NotEncryptedError`) to another machine. The node
    disconnects a client that has another key, and that looks the same as a node that ends.
    """
    made: list[ClientConnection] = []

    def make() -> ClientConnection:
        made.append(ClientConnection(key, expected, received, lost, tls))
        return made[0]

    host, port = address
    try:
        async with asyncio.timeout(timeout):
            await asyncio.get_running_loop().create_connection(make, host, port, **encrypted(tls, host))
            await made[0].accepted
            return made[0]
    except BaseException as error:
        for one in made:
            one.close()
        if isinstance(error, TimeoutError):
            raise ClusterError(f"no node at {host}:{port} accepted the connection within {timeout:g} s") from error
        if isinstance(error, ProtocolError):
            raise ClusterError(
                f"the process that listens at {host}:{port} is not a node of this cluster: {error}"
            ) from error
        if isinstance(error, ConnectionRefusedError):
            raise ClusterError(f"nothing listens at {host}:{port}: the node has ended, or is not there yet") from error
        if isinstance(error, OSError):
            raise ClusterError(
                f"the node at {host}:{port} cannot be reached, or refuses the connection (another key?): {error}"
            ) from error
        raise
