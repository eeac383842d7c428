"""The network over TCP, real sockets on 127.0.0.1: what peers hear of each other, and when."""

from __future__ import annotations

import asyncio
import os
import pickle
import socket

import pytest

from raftoral_nb.core.records import NodeId
from raftoral_nb.errors import ClusterError, NodeStateError, PortInUseError
from raftoral_nb.limits import MAX_PAUSED_MESSAGES
from raftoral_nb.transport import frames
from raftoral_nb.transport.frames import FrameSession, PeerIdentity
from raftoral_nb.transport.messages import AppendEntries, encode_message
from raftoral_nb.transport.network import Network
from raftoral_nb.transport.tcp_network import TcpNetwork
from tests.ports import free_ports
from tests.transport.network_helpers import Recorder, numbered, turns
from tests.transport.tcp_helpers import KEY, Nodes, arrivals, knock, nodes, run, until_closed


def test_every_pair_is_connected_once_and_messages_arrive_in_order() -> None:
    async def test() -> None:
        async with nodes(3) as made:
            for number in range(500):
                for source, target in ((1, 2), (2, 1), (3, 1), (2, 3)):
                    made.endpoints[source].send(target, numbered(number))
            for source, target in ((1, 2), (2, 1), (3, 1), (2, 3)):
                await made.recorders[target].until_fact(("got", source, 499))
                assert made.recorders[target].numbers(source) == list(range(500))
            assert len(made.network._connections) == 6  # two ends for each of three pairs
            assert made.endpoints[1].connected_peers == {2, 3}
            assert made.network.refused_frames == 0
            typed: Network = made.network
            assert typed.refused_frames == 0

    run(test)


def test_messages_that_arrive_in_one_read_are_delivered_together() -> None:
    async def test() -> None:
        async with nodes() as made:
            for number in range(20):
                made.endpoints[1].send(2, numbered(number))
            await made.recorders[2].until_fact(("got", 1, 19))
            assert len(made.recorders[2].batches) < 20

    run(test)


def test_a_large_message_passes_whole() -> None:
    async def test() -> None:
        async with nodes() as made:
            message = AppendEntries(1, 0, 0, ((os.urandom(8_000_000), 1, 1), (os.urandom(8_000_000), 2, 1)), 0)
            made.endpoints[2].send(1, message)
            await made.recorders[1].until_fact(("got", 2, -1))
            assert made.recorders[1].messages == [message]

    run(test)


def test_a_message_that_no_frame_can_hold_is_dropped_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with nodes() as made:
            made.endpoints[2].send(1, AppendEntries(1, 0, 0, ((bytes(frames.MAX_PAYLOAD_BYTES), 1, 1),), 0))
            await made.deliver(2, 1, 1)
            assert made.recorders[1].facts == [("up", 2, 0), ("got", 2, 1)]

    run(test)
    assert "cannot send a message to node 1" in caplog.text


def test_nothing_listens_beyond_the_loopback_address() -> None:
    async def test() -> None:
        async with nodes(3) as made:
            for endpoint in made.endpoints.values():
                assert endpoint._listener.getsockname()[0] == "127.0.0.1"
                assert endpoint._listener.family == socket.AF_INET
            for end in made.network._connections:
                assert end._transport is not None
                assert end._transport.get_extra_info("sockname")[0] == "127.0.0.1"
                assert end._transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(test)


def test_a_reset_link_comes_up_again_from_either_end() -> None:
    async def test() -> None:
        async with nodes() as made:
            for times, node in enumerate((1, 2, 1), start=1):
                made.endpoints[node].reset(3 - node)
                assert made.endpoints[node].connected_peers == frozenset()
                made.endpoints[node].send(3 - node, numbered(99))
                for end in (1, 2):
                    await made.recorders[end].until_fact(("up", 3 - end, 0), times=times + 1)
                await made.deliver(1, 2, times)
                await made.deliver(2, 1, times)
            ups_and_downs = [fact[0] for fact in made.recorders[1].facts if fact[0] != "got"]
            assert ups_and_downs == ["up", "down"] * 3 + ["up"]
            assert 99 not in made.recorders[1].numbers(2) + made.recorders[2].numbers(1)

    run(test)


@pytest.mark.parametrize("node", [1, 2, 3])
def test_a_node_that_was_killed_and_comes_back_is_connected_as_a_new_incarnation(node: NodeId) -> None:
    async def test() -> None:
        async with nodes(3) as made:
            others = [peer for peer in (1, 2, 3) if peer != node]
            for times in (1, 2, 3):
                made.endpoints[node].close()
                await made.add(node)  # at once: its old connections are not even closed
                for peer in others:
                    await made.recorders[peer].until_fact(("up", node, 0), times=times + 1)
                    await made.recorders[node].until_fact(("up", peer, 0))
                    await made.deliver(peer, node, times)
                    await made.deliver(node, peer, times)
                    facts = [fact[0] for fact in made.recorders[peer].facts if fact[0] != "got" and fact[1] == node]
                    assert facts == ["up", "down"] * times + ["up"]
                assert made.endpoints[node].identity.incarnation == times + 1
            assert made.network.refused_frames == 0

    run(test)


def test_a_killed_node_is_not_dialed_and_hears_nothing_more() -> None:
    async def test() -> None:
        async with nodes(3) as made:
            made.endpoints[3].send(1, numbered(1))
            made.endpoints[1].send(3, numbered(1))
            made.endpoints[1].close()
            made.endpoints[1].close()
            heard = list(made.recorders[1].facts)
            for peer in (2, 3):
                await made.recorders[peer].until_fact(("down", 1, 0))
                assert made.endpoints[peer].connected_peers == {5 - peer}
                assert 1 not in made.endpoints[peer]._dialers
            await turns()
            assert made.recorders[1].facts == heard
            made.endpoints[1].send(2, numbered(2))
            made.endpoints[1].reset(2)
            made.endpoints[1].pause()
            made.endpoints[1].resume()
            await made.deliver(2, 3, 5)
            with pytest.raises(NodeStateError, match="node 2 is on the network already"):
                await made.network.attach(2, Recorder())

    run(test)


def test_a_later_connection_of_a_peer_replaces_the_earlier_one_but_an_older_incarnation_does_not() -> None:
    async def test() -> None:
        async with nodes(1) as made:
            recorder = made.recorders[1]

            async def dial(incarnation: int) -> tuple[FrameSession, asyncio.StreamReader, asyncio.StreamWriter]:
                session = FrameSession(KEY, PeerIdentity(9, incarnation), dialer=True, expected=1)
                reader, writer = await knock(made.endpoints[1])
                writer.write(session.opening())
                session.feed(await reader.readexactly(frames.HELLO_BYTES))
                writer.write(session.take_outgoing())
                session.feed(await reader.readexactly(frames.MAC_BYTES))
                assert session.established
                return session, reader, writer

            _, first_reader, first_writer = await dial(5)
            await recorder.until_fact(("up", 9, 0))
            session, reader, writer = await dial(6)
            assert await until_closed(first_reader, first_writer) == b""
            await recorder.until_fact(("up", 9, 0), times=2)
            _, old_reader, old_writer = await dial(5)
            assert await until_closed(old_reader, old_writer) == b""
            writer.write(session.seal(encode_message(numbered(3))))
            await recorder.until_fact(("got", 9, 3))
            assert recorder.facts == [("up", 9, 0), ("down", 9, 0), ("up", 9, 0), ("got", 9, 3)]
            assert made.network.refused_frames == 0
            # What is authentic but no message ends the connection, and is counted.
            writer.write(session.seal(encode_message(numbered(4))) + session.seal(pickle.dumps(numbered)))
            assert await until_closed(reader, writer) == b""
            await recorder.until_fact(("down", 9, 0), times=2)
            assert made.network.refused_frames == 1

    run(test)


def test_a_paused_node_hears_everything_in_order_when_it_is_resumed() -> None:
    async def test() -> None:
        async with nodes(3) as made:
            before = list(made.recorders[1].facts)
            made.endpoints[1].pause()
            arrived = arrivals(made.endpoints[1])
            for number in range(100):
                made.endpoints[2].send(1, numbered(number))
            made.endpoints[1].send(3, numbered(1))  # sending is the node's own affair
            await made.recorders[3].until_fact(("got", 1, 1))
            await arrived.until_fact(("got", 2, 99))
            made.endpoints[2].close()
            await arrived.until_fact(("down", 2, 0))
            assert made.recorders[1].facts == before
            made.endpoints[1].resume()
            assert made.recorders[1].facts == [*before, *(("got", 2, number) for number in range(100)), ("down", 2, 0)]
            await made.deliver(3, 1, 7)

    run(test)


def test_too_much_for_a_paused_node_resets_the_link() -> None:
    async def test() -> None:
        async with nodes() as made:
            made.endpoints[1].pause()
            arrived = arrivals(made.endpoints[1])
            for number in range(MAX_PAUSED_MESSAGES + 1):
                made.endpoints[2].send(1, numbered(number))
            await made.recorders[2].until_fact(("up", 1, 0), times=2)
            await arrived.until_fact(("up", 2, 0))
            made.endpoints[1].resume()
            await made.deliver(2, 1, 1)
            assert made.recorders[1].facts == [("up", 2, 0), ("down", 2, 0), ("up", 2, 0), ("got", 2, 1)]

    run(test)


def test_too_many_bytes_for_a_paused_node_reset_the_link() -> None:
    async def test() -> None:
        async with nodes() as made:
            made.endpoints[1].pause()
            message = AppendEntries(1, 0, 0, ((bytes(12_000_000), 1, 1),), 0)
            for _ in range(6):
                made.endpoints[2].send(1, message)
                await turns()
            await made.recorders[2].until_fact(("down", 1, 0))
            made.endpoints[1].resume()
            assert made.recorders[1].facts[:2] == [("up", 2, 0), ("down", 2, 0)]

    run(test)


def test_a_cut_link_stays_up_and_loses_messages_in_the_directions_that_are_cut() -> None:
    async def test() -> None:
        async with nodes(3) as made:
            made.network.cut(1, 2, both=False)
            made.endpoints[1].send(2, numbered(1))
            await made.deliver(2, 1, 1)
            made.network.cut(1, 2)
            made.endpoints[2].send(1, numbered(2))
            await made.deliver(2, 3, 2)
            await made.deliver(1, 3, 2)
            made.network.mend(1, 2, both=False)
            await made.deliver(1, 2, 3)
            made.endpoints[2].send(1, numbered(3))
            made.network.heal_all()
            await made.deliver(2, 1, 4)
            assert made.recorders[1].numbers(2) == [1, 4]
            assert made.recorders[2].numbers(1) == [3]
            assert [fact for fact in made.recorders[1].facts if fact[0] == "down"] == []
            assert len(made.network._connections) == 6

    run(test)


def test_a_message_on_its_way_when_the_link_is_cut_is_lost() -> None:
    async def test() -> None:
        async with nodes(2) as made:
            made.endpoints[1].send(2, numbered(1))
            made.network.cut(1, 2, both=False)
            await made.deliver(2, 1, 1)
            await turns()
            made.network.mend(1, 2)
            await made.deliver(1, 2, 2)
            assert made.recorders[2].numbers(1) == [2]

    run(test)


def test_a_taken_port_is_named_with_what_to_do() -> None:
    async def test() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            network = TcpNetwork(KEY, {2: port})
            await network.attach(1, Recorder())
            with pytest.raises(
                PortInUseError, match=f"port {port}, wanted for node 2, is taken .* choose another port"
            ):
                await network.attach(2, Recorder())
            await network.close()

    run(test)


def test_a_given_port_is_used_again_by_a_restarted_node() -> None:
    async def test() -> None:
        (port,) = free_ports(1)
        network = TcpNetwork(KEY, {1: port})
        made = Nodes(network)
        await made.add(1)
        await made.add(2)
        for times in (1, 2, 3):
            await made.recorders[2].until_fact(("up", 1, 0), times=times)
            assert made.endpoints[1].address == ("127.0.0.1", port)
            made.endpoints[1].close()
            await made.add(1)
        await network.close()

    run(test)


@pytest.mark.parametrize("rounds", range(12))
def test_closing_at_any_moment_leaves_nothing_behind(rounds: int) -> None:
    async def test() -> None:
        made = Nodes(TcpNetwork(KEY))
        for node in (1, 2, 3):
            await made.add(node)
        await turns(rounds)
        made.endpoints[2].close()
        await turns(rounds % 4)
        await made.add(2)
        await turns(rounds)
        await made.network.close()
        await made.network.close()
        heard = [list(recorder.facts) for recorder in made.recorders.values()]
        for endpoint in made.endpoints.values():
            endpoint.send(1, numbered(1))
            endpoint.close()
        assert heard == [recorder.facts for recorder in made.recorders.values()]
        with pytest.raises(ClusterError, match="closed"):
            await made.network.attach(4, Recorder())

    run(test)
