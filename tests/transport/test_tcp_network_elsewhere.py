"""Nodes of several processes on TCP, each process with a network of its own, and clients, which are no nodes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from raftoral_nb.errors import ClusterError
from raftoral_nb.transport import connection
from raftoral_nb.transport.clients import ReplyChannel, connect
from raftoral_nb.transport.tcp_network import Address, TcpEndpoint, TcpNetwork
from tests.transport.network_helpers import Recorder, numbered
from tests.transport.tcp_helpers import KEY, run


class Echo:
    """Answers each frame of a client with the same, in capitals."""

    def __init__(self, channel: ReplyChannel) -> None:
        self.channel = channel
        self.left = asyncio.Event()

    def received(self, payloads: Sequence[bytes]) -> None:
        for payload in payloads:
            self.channel.answer(payload.upper())

    def lost(self) -> None:
        self.left.set()


class Process:
    """What one process has: a network, and one node on it."""

    def __init__(self) -> None:
        self.clients: list[Echo] = []
        self.network = TcpNetwork(KEY, accept_client=self._receive)
        self.recorder = Recorder()

    def _receive(self, channel: ReplyChannel) -> Echo:
        self.clients.append(Echo(channel))
        return self.clients[-1]

    async def attach(self, node: int) -> Address:
        endpoint = await self.network.attach(node, self.recorder)
        assert isinstance(endpoint, TcpEndpoint)
        self.endpoint = endpoint
        return endpoint.address


@contextlib.asynccontextmanager
async def processes(count: int) -> AsyncIterator[list[Process]]:
    made = [Process() for _ in range(count)]
    try:
        yield made
    finally:
        for process in made:
            await process.network.close()


def test_nodes_of_different_processes_are_connected_once_they_know_of_each_other() -> None:
    async def test() -> None:
        async with processes(2) as (one, two):
            first, second = await one.attach(1), await two.attach(2)
            two.network.introduce(1, first)
            one.network.introduce(2, second)
            await one.recorder.until_fact(("up", 2, 0))
            await two.recorder.until_fact(("up", 1, 0))
            one.endpoint.send(2, numbered(7))
            await two.recorder.until_fact(("got", 1, 7))

    run(test)


def test_a_node_that_comes_back_at_another_address_is_found_there_once_that_is_said() -> None:
    async def test() -> None:
        async with processes(3) as (one, two, again):
            two.network.introduce(1, await one.attach(1))
            await two.attach(2)
            await two.recorder.until_fact(("up", 1, 0))
            await one.network.close()
            await two.recorder.until_fact(("down", 1, 0))
            two.network.introduce(1, await again.attach(1))
            await again.recorder.until_fact(("up", 2, 0))

    run(test)


def test_a_node_that_starts_again_in_its_process_is_where_others_know_it_to_be() -> None:
    async def test() -> None:
        async with processes(2) as (one, two):
            first = await one.attach(1)
            await two.attach(2)
            two.network.introduce(1, first)
            await one.recorder.until_fact(("up", 2, 0))
            one.endpoint.close()
            await two.recorder.until_fact(("down", 1, 0))
            assert await one.attach(1) == first
            await one.recorder.until_fact(("up", 2, 0), times=2)

    run(test)


def test_clients_stay_and_come_while_a_node_is_away_from_its_process_and_other_nodes_are_not_let_in() -> None:
    async def test() -> None:
        async with processes(2) as (one, two):
            answers: asyncio.Queue[bytes] = asyncio.Queue()
            gone = asyncio.Event()
            first = await one.attach(1)
            await two.attach(2)
            two.network.introduce(1, first)
            await two.recorder.until_fact(("up", 1, 0))
            client = await connect(KEY, first, 1, answers.put_nowait, lambda error: gone.set())
            left, refused, admits = one.endpoint, asyncio.Event(), one.endpoint.admits

            def seen(peer: int) -> bool:
                if peer == 2:
                    refused.set()
                return admits(peer)

            left.admits = seen  # type: ignore[method-assign]
            left.close()
            await two.recorder.until_fact(("down", 1, 0))
            await refused.wait()
            other = await connect(KEY, first, 1, answers.put_nowait, lambda error: None)
            for one_client in (client, other):
                one_client.send(b"who is there?")
                assert await answers.get() == b"WHO IS THERE?"
            await one.attach(1)
            await two.recorder.until_fact(("up", 1, 0), times=2)
            assert two.recorder.facts.count(("down", 1, 0)) == 1, "it was not let in meanwhile"
            client.send(b"still?")
            assert await answers.get() == b"STILL?"
            assert one.network.refused_frames == one.network.dropped_unauthenticated == 0
            one.endpoint.close()
            await one.network.close()
            await gone.wait()

    run(test)


def test_a_host_that_does_not_answer_is_not_waited_for_as_long_as_the_system_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT", 0.05)

    async def test() -> None:
        async with processes(2) as (one, two):
            first = await one.attach(1)
            await two.attach(2)
            loop = asyncio.get_running_loop()
            real = loop.create_connection
            dialed: list[int] = []

            async def silent(*arguments: Any, **more: Any) -> Any:
                dialed.append(1)
                if len(dialed) == 1:
                    await loop.create_future()  # as a host that is off
                return await real(*arguments, **more)

            monkeypatch.setattr(loop, "create_connection", silent)
            two.network.introduce(1, first)
            await one.recorder.until_fact(("up", 2, 0))
            await two.recorder.until_fact(("up", 1, 0))
            assert len(dialed) == 2

    run(test)


def test_a_link_cut_at_both_ends_breaks_and_comes_back_between_processes_as_well() -> None:
    async def test() -> None:
        async with processes(2) as (one, two):
            first = await one.attach(1)
            await two.attach(2)
            two.network.introduce(1, first)
            await one.recorder.until_fact(("up", 2, 0))
            await two.recorder.until_fact(("up", 1, 0))
            for process in (one, two):
                process.network.cut_noticed = 0.0
                process.network.cut(1, 2)
            await one.recorder.until_fact(("down", 2, 0))
            await two.recorder.until_fact(("down", 1, 0))
            for process in (one, two):
                process.network.mend(1, 2)
            await one.recorder.until_fact(("up", 2, 0), times=2)

    run(test)


def test_a_forgotten_node_is_shown_out_and_not_dialed() -> None:
    async def test() -> None:
        async with processes(2) as (one, two):
            two.network.introduce(1, await one.attach(1))
            await two.attach(2)
            await one.recorder.until_fact(("up", 2, 0))
            two.network.forget(1)
            await one.recorder.until_fact(("down", 2, 0))
            assert dict(two.network.elsewhere) == {}
            assert two.endpoint._dialers == {}

    run(test)


def test_a_client_with_the_key_is_served_and_is_no_node() -> None:
    async def test() -> None:
        async with processes(1) as (one,):
            answers: asyncio.Queue[bytes] = asyncio.Queue()
            gone = asyncio.Event()
            client = await connect(KEY, await one.attach(1), 1, answers.put_nowait, lambda error: gone.set())
            client.send(b"hello")
            assert await answers.get() == b"HELLO"
            assert one.endpoint.connected_peers == frozenset()
            client.close()
            await gone.wait()
            await one.clients[0].left.wait()

    run(test)


def test_a_client_with_another_key_is_not_let_in_and_nobody_serves_it() -> None:
    async def test() -> None:
        async with processes(1) as (one,):
            address = await one.attach(1)
            with pytest.raises(ClusterError, match="refuses the connection"):
                await connect(bytes(32), address, 1, lambda payload: None, lambda error: None)
            assert one.clients == []
            assert one.network.refused_frames == 1
            with pytest.raises(ClusterError, match="not a node of this cluster"):
                await connect(KEY, address, 2, lambda payload: None, lambda error: None)

    run(test)


def test_a_client_who_comes_where_nobody_listens_is_told_so() -> None:
    async def test() -> None:
        async with processes(1) as (one,):
            address = await one.attach(1)
        with pytest.raises(ClusterError, match="nothing listens"):
            await connect(KEY, address, 1, lambda payload: None, lambda error: None)

    run(test)
