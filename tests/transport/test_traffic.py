"""What is counted of the messages between nodes."""

from __future__ import annotations

import asyncio
from typing import get_args

from raftoral_nb import Cluster
from raftoral_nb.transport.memory_network import MemoryNetwork
from raftoral_nb.transport.messages import AppendEntries, Message, RequestVote
from raftoral_nb.transport.traffic import HEARTBEAT, KINDS, Traffic, note


def test_every_kind_of_message_has_a_name_of_its_own() -> None:
    assert set(KINDS) == set(get_args(Message))
    assert len({HEARTBEAT, *KINDS.values()}) == len(KINDS) + 1


def test_messages_are_counted_by_direction_and_kind_and_heartbeats_apart() -> None:
    traffic = Traffic()
    lane = traffic.lane(1, 2)
    note(lane, RequestVote(3, 0, 0))
    note(lane, AppendEntries(3, 0, 0, (), 0))
    note(lane, AppendEntries(3, 0, 0, ((b"x", 1, 3),), 0))
    note(traffic.lane(1, 2), RequestVote(4, 0, 0))
    assert traffic.sent(1, 2) == {"ask vote": 2, "heartbeat": 1, "append": 1}
    assert traffic.sent(2, 1) == {}


class Deaf:
    """Hears nothing."""

    def connected(self, peer: int) -> None: ...

    def disconnected(self, peer: int) -> None: ...

    def received(self, peer: int, messages: object) -> None: ...


async def _counted() -> list[dict[str, int]]:
    network = MemoryNetwork(asyncio.get_running_loop())
    first, second = network.join(1, Deaf()), network.join(2, Deaf())
    first.send(2, RequestVote(1, 0, 0))  # there is no link yet
    await asyncio.sleep(0)
    first.send(2, RequestVote(1, 0, 0))
    network.cut(1, 2)
    first.send(2, RequestVote(2, 0, 0))
    found = [network.traffic.sent(1, 2)]
    second.close()
    found.append(network.traffic.sent(1, 2))
    await network.close()
    return found


def test_what_a_cut_swallows_was_sent_what_has_no_link_was_not_and_a_node_that_left_is_forgotten() -> None:
    assert asyncio.run(_counted()) == [{"ask vote": 2}, {}]


def test_statistics_say_what_went_over_each_link_on_tcp_too() -> None:
    with Cluster(3) as cluster:
        leader = cluster.wait_for_leader()
        follower = next(number for number in cluster.nodes if number != leader)
        cluster.nodes[follower].wait_until_applied()
        nodes = cluster.statistics().nodes
        assert nodes[leader].links[follower].sent["append"] >= 1
        assert nodes[follower].links[leader].sent["acknowledge"] >= 1
        assert "append" not in nodes[follower].links[leader].sent
