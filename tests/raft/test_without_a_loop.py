"""Guard and driver without an event loop: three nodes whose clock and whose messages a test has in its hands."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random

from raftoral_nb.core.records import NodeId
from raftoral_nb.raft.guard import Guard
from raftoral_nb.raft.journal import MemoryJournal
from raftoral_nb.raft.pysyncobj_driver import FOLLOWER, LEADER, Raft
from raftoral_nb.raft.snapshot_transfer import Transfers
from raftoral_nb.raft.timing import Timing
from raftoral_nb.transport.messages import AppendEntries, Message

NODES = (1, 2, 3)


class Node:
    """One node's PySyncObj behind its guard. What it says is in `outbox` until somebody takes it."""

    def __init__(self, number: NodeId, clock: Callable[[], float]) -> None:
        self.number = number
        self.journal = MemoryJournal()
        self.applied: list[bytes] = []
        self.outbox: deque[tuple[NodeId, Message]] = deque()
        self.raft = Raft(
            number,
            [peer for peer in NODES if peer != number],
            journal=self.journal,
            applied=0,
            clock=clock,
            dice=Random(number),
            timing=Timing(),
            send=lambda peer, message: self._send(peer, self.guard.outgoing(peer, message)),
            apply=lambda index, command: self.applied.append(command),
            role_changed=lambda: None,
        )
        self.guard = Guard(self.journal, self.raft, Transfers(self.journal, self._send))
        for peer in self.raft.peers:
            self.raft.connected(peer)

    def _send(self, peer: NodeId, message: Message | None) -> None:
        if message is not None:
            self.outbox.append((peer, message))

    def receive(self, peer: NodeId, message: Message) -> None:
        self._send(peer, self.guard.deliver(peer, message))

    def log(self) -> list[tuple[int, int]]:
        """Index and term of each entry."""
        return [(index, term) for _, index, term in self.journal.tail(len(self.journal))]


class Cluster:
    """Three nodes; time stands unless a test sets `now`, and nothing arrives unless `exchange` is called."""

    def __init__(self) -> None:
        self.now = 10.0
        self.nodes = {number: Node(number, lambda: self.now) for number in NODES}

    def tick(self, *numbers: NodeId) -> None:
        for number in numbers or NODES:
            self.nodes[number].raft.tick()

    def exchange(self, *without: NodeId) -> list[Message]:
        """Deliver what was said, and what is said to that, until nothing is; what somebody among `without` says or is told is lost."""
        said = []
        while speaking := [node for node in self.nodes.values() if node.outbox]:
            for node in speaking:
                peer, message = node.outbox.popleft()
                if node.number not in without and peer not in without:
                    said.append(message)
                    self.nodes[peer].receive(node.number, message)
        return said

    def elect(self, number: NodeId, *without: NodeId) -> Node:
        node = self.nodes[number]
        node.raft.campaign_now()
        self.tick(number)
        self.exchange(*without)
        assert node.raft.role == LEADER
        return node

    def propose(self, node: Node, command: bytes) -> None:
        node.raft.append(command)
        node.raft.tick()  # takes it
        node.raft.send_now()
        node.raft.tick()  # sends it


def test_a_command_is_applied_by_all_once_a_majority_has_it() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.propose(leader, b"first")
    assert leader.applied == []
    cluster.exchange()
    leader.raft.tick()
    assert leader.applied == [b"first"]
    leader.raft.send_now()
    cluster.tick(1)
    cluster.exchange()
    cluster.tick()
    assert {number: node.applied for number, node in cluster.nodes.items()} == {number: [b"first"] for number in NODES}


def test_what_a_deposed_leader_said_to_nobody_is_deleted_and_what_all_have_stays() -> None:
    cluster = Cluster()
    old = cluster.elect(1)
    cluster.propose(old, b"kept")
    cluster.exchange()
    shared = old.log()
    for command in (b"lost", b"lost too"):
        cluster.propose(old, command)
    cluster.exchange(1)
    assert len(old.log()) == len(shared) + 2
    new = cluster.elect(2, 1)
    cluster.propose(new, b"instead")
    cluster.exchange(1)
    for _ in range(3):  # it refuses, is asked from further up, and is sent what it lacks
        new.raft.send_now()
        cluster.tick(2)
        cluster.exchange()
    assert old.raft.role == FOLLOWER
    assert old.log() == new.log()
    assert old.log()[: len(shared)] == shared
    new.raft.send_now()
    cluster.tick(2)
    cluster.exchange()
    cluster.tick()
    assert old.applied == new.applied == [b"kept", b"instead"]


def test_a_leader_says_nothing_between_two_heartbeats_and_one_thing_to_each_at_a_heartbeat() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.exchange()
    for _ in range(2):
        leader.raft.send_now()
        leader.raft.tick()
        cluster.exchange()
    leader.raft.tick()
    assert not leader.outbox
    cluster.now = leader.raft.heartbeat_due + 0.001
    leader.raft.tick()
    assert [(peer, type(message)) for peer, message in leader.outbox] == [(2, AppendEntries), (3, AppendEntries)]
