"""Nodes on a TCP network for tests, and a check that a test left no socket, task or timer behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from raftoral_nb.core.records import NodeId
from raftoral_nb.transport.tcp_network import TcpEndpoint, TcpNetwork
from tests.transport.network_helpers import PATIENCE, Recorder, numbered

KEY = bytes(range(32))
"""The key of the tests' cluster."""


def open_sockets() -> list[str]:
    """The sockets this process has open."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(str(descriptor.readlink()))
    return sorted(link for link in links if link.startswith("socket:"))


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a test and looks for what it left behind: tasks, timers, sockets, reports of unhandled errors."""
    reports: list[dict[str, Any]] = []

    async def watched() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: reports.append(context))
        before = open_sockets()
        await test()
        assert len(asyncio.all_tasks()) == 1
        assert [handle for handle in loop._scheduled if not handle.cancelled()] == []  # type: ignore[attr-defined]
        assert open_sockets() == before

    asyncio.run(watched())
    assert reports == []


class Nodes:
    """A network with nodes on it."""

    def __init__(self, network: TcpNetwork) -> None:
        self.network = network
        self.recorders: dict[NodeId, Recorder] = {}
        self.endpoints: dict[NodeId, TcpEndpoint] = {}

    async def add(self, node: NodeId) -> None:
        recorder = Recorder()
        endpoint = await self.network.attach(node, recorder)
        assert isinstance(endpoint, TcpEndpoint)
        self.recorders[node], self.endpoints[node] = recorder, endpoint

    async def deliver(self, source: NodeId, target: NodeId, number: int) -> None:
        """Sends a message and waits until it is there."""
        self.endpoints[source].send(target, numbered(number))
        await self.recorders[target].until_fact(("got", source, number))


@contextlib.asynccontextmanager
async def nodes(count: int = 2) -> AsyncIterator[Nodes]:
    """Connected nodes."""
    network = TcpNetwork(KEY)
    made = Nodes(network)
    try:
        for node in range(1, count + 1):
            await made.add(node)
        for node, recorder in made.recorders.items():
            for peer in made.recorders:
                if peer != node:
                    await recorder.until_fact(("up", peer, 0))
        yield made
    finally:
        await network.close()


def arrivals(endpoint: TcpEndpoint) -> Recorder:
    """What reaches an endpoint's inbox from now on, whether or not it is handed over."""
    arrived = Recorder()
    put = endpoint._inbox._put

    def note(item: Any) -> None:
        if item.messages is not None:
            arrived.received(item.peer, item.messages)
        elif item.up:
            arrived.connected(item.peer)
        else:
            arrived.disconnected(item.peer)
        put(item)

    endpoint._inbox._put = note  # type: ignore[method-assign]
    return arrived


async def knock(endpoint: TcpEndpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """An unauthenticated connection to a node."""
    return await asyncio.open_connection(*endpoint.address)


async def until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Reads until the other end closes; what was read."""
    read = b""
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                read += data
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return read
