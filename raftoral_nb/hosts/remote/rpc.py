"""A client's line to one node: requests and their answers, matched. Belongs to one asyncio loop."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from ...core.records import NodeId
from ...errors import ClusterError, NodeStateError, ProtocolError
from ...transport.clients import CONNECT_TIMEOUT, ClientConnection, connect
from ...transport.tls import Tls
from .messages import Address, Answer, Asked, Drop, Request, decode_answer, decode_body, encode, rebuilt


class Reply:
    """An answer: what it says, and how far the node's event log and Raft log were then."""

    __slots__ = ("applied", "body", "told")

    def __init__(self, body: Any, answer: Answer) -> None:
        self.body = body
        self.told = answer.told
        self.applied = answer.applied


class Calls:
    """Made by `open`; ends by `close`, or when the node does: then every question that waits raises `NodeStateError`."""

    def __init__(self, node: NodeId | None, ended: Callable[[Calls], None]) -> None:
        self._node = node
        self._ended = ended
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[Asked, asyncio.Future[Reply]]] = {}
        self._connection: ClientConnection | None = None
        self.closed = False
        self.problem: ProtocolError | None = None
        """The error of what the node sent, if it made no sense and ended the connection."""
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the connection is gone."""

    @classmethod
    async def open(
        cls,
        key: bytes,
        address: Address,
        node: NodeId | None,
        ended: Callable[[Calls], None],
        *,
        tls: Tls | None = None,
        timeout: float = CONNECT_TIMEOUT,
    ) -> Calls:
        """Connect to a node. Raises `ClusterError`, saying why, if that cannot be done within `timeout` seconds."""
        calls = cls(node, ended)
        calls._connection = await connect(key, address, node, calls._received, calls._lost, timeout, tls)
        return calls

    @property
    def node(self) -> NodeId:
        """The node at the other end."""
        assert self._connection is not None
        return self._connection.node

    def ask(self, asked: Asked) -> asyncio.Future[Reply]:
        """Ask; the future has the answer, or raises what the node raised. Cancelling it tells the node."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        if self.closed or self._connection is None:
            future.set_exception(self._gone())
            return future
        number = next(self._numbers)
        try:
            data = encode(Request(number, asked))
            self._connection.send(data)
        except ProtocolError as error:
            future.set_exception(ClusterError(f"the request cannot be sent to a node: {error}"))
            return future
        self._waiting[number] = (asked, future)

        def done(ended: asyncio.Future[Reply]) -> None:
            if self._waiting.pop(number, None) is not None and ended.cancelled() and not self.closed:
                assert self._connection is not None
                self._connection.send(encode(Request(0, Drop(number))))

        future.add_done_callback(done)
        return future

    async def await_end(self) -> None:
        """Wait until the connection is gone."""
        await asyncio.shield(self.lost)

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()

    def _gone(self) -> NodeStateError:
        who = "the node" if self._node is None else f"node {self._node}"
        if self.problem is not None:
            return NodeStateError(f"{who} is of another version than this process, or is not a node: {self.problem}")
        return NodeStateError(f"{who} ended, or cannot be reached, before it answered")

    def _received(self, payload: bytes) -> None:
        try:
            answer = decode_answer(payload)
            asked, future = self._waiting.get(answer.number, (None, None))
            if asked is None or future is None or future.done():
                return
            if answer.refusal is not None:
                future.set_exception(rebuilt(answer.refusal))
            else:
                future.set_result(Reply(decode_body(asked, answer.body), answer))
        except ProtocolError as error:
            # Of another version than ours: nothing that it says can be relied on.
            self.problem = error
            self.close()

    def _lost(self, error: BaseException | None) -> None:
        if self.closed:
            return
        self.closed = True
        if isinstance(error, ProtocolError):
            self.problem = error
        for _, future in tuple(self._waiting.values()):
            if not future.done():
                future.set_exception(self._gone())
                future.exception()  # not everybody waits for its answer
        self._waiting.clear()
        if not self.lost.done():
            self.lost.set_result(None)
        if self._connection is not None:
            self._ended(self)


async def answers_to(asked: Sequence[asyncio.Future[Any]], timeout: float) -> None:
    """Wait for answers, whatever they are, up to `timeout` seconds; what has none by then is not called off."""
    for one in asked:
        one.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody else looks at it
    if asked:
        await asyncio.wait(asked, timeout=timeout)
