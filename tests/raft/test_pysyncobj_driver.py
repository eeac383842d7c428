"""PySyncObj as it is driven: one moment for each of its turns, and one message for each peer."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any

from raftoral_nb.raft.journal import MemoryJournal, Snapshot
from raftoral_nb.raft.pysyncobj_driver import LEADER, Raft
from raftoral_nb.raft.timing import Timing


def leader(clock: Callable[[], float], journal: MemoryJournal, sent: list[dict[str, Any]]) -> Raft:
    """Node 1 of two, elected. What it sends is put into `sent`; too much of it in one turn is an error."""

    def send(_peer: int, message: dict[str, Any]) -> None:
        sent.append(message)
        assert len(sent) < 100, "it goes on sending"

    raft = Raft(
        1,
        [2],
        journal=journal,
        applied=0,
        clock=clock,
        dice=Random(1),
        timing=Timing(),
        send=send,
        apply=lambda index, command: None,
        role_changed=lambda: None,
    )
    raft.connected(2)
    raft.campaign_now()
    raft.tick()
    raft.deliver(2, {"type": "response_vote", "term": raft.term})
    raft.tick()
    assert raft.role == LEADER
    acknowledge(raft, journal.last_index)
    sent.clear()
    return raft


def acknowledge(raft: Raft, index: int) -> None:
    raft.deliver(2, {"type": "next_node_idx", "next_node_idx": index + 1, "reset": False, "success": True})


def test_a_turn_looks_at_the_clock_once_whatever_pysyncobj_asks_in_it() -> None:
    looks = count(1000)
    raft = leader(lambda: float(next(looks)) / 1000, MemoryJournal(), [])
    before = next(looks)
    raft.tick()
    assert next(looks) == before + 2
    acknowledge(raft, 1)
    assert next(looks) == before + 4


def test_a_leader_that_would_offer_a_snapshot_of_pysyncobjs_goes_on_though_its_clock_stands() -> None:
    journal, sent = MemoryJournal(), list[dict[str, Any]]()
    raft = leader(lambda: 5.0, journal, sent)
    for number in range(3):
        raft.append(b"entry %d" % number)
        raft.tick()
    last = journal.last_index
    acknowledge(raft, last)
    raft.tick()
    assert raft.commit_index == last
    journal.keep(Snapshot(last, raft.term, (b"",)))
    journal.compact(last)
    raft.set_next_index(2, 2)  # it is in no log any more
    sent.clear()
    raft.has_more = False
    raft.send_now()
    raft.tick()
    assert [message.get("serialized", "entries") for message in sent] == [None]
    assert not raft.has_more, "there is nothing that it could send next"
    assert raft.reachable == 1


def test_a_leader_that_stalls_again_and_again_knows_for_how_long_a_peer_has_said_nothing_while_it_was_awake() -> None:
    now = 1.0
    raft = leader(lambda: now, MemoryJournal(), [])
    slack = Timing().heartbeat
    for _ in range(20):  # awake for 0.05 s, asleep for 0.15 s
        now = raft.heartbeat_due + 0.15
        raft.excuse_own_sleep(slack, now)
        raft.excuse_own_sleep(slack, now)
        raft.tick()
        assert raft.role == LEADER, "its own sleep is not the peer's"
    assert now - raft.heard_at[2] < 0.01
    assert 0.9 < now - raft.heard_of(2) < 1.1
    raft.excuse_own_sleep(slack, now)
    acknowledge(raft, 1)
    assert raft.heard_of(2) == now


def test_a_leader_that_slept_for_long_has_not_missed_its_peers_meanwhile() -> None:
    now = 1.0
    raft = leader(lambda: now, MemoryJournal(), [])
    now = 100.0
    raft.excuse_own_sleep(Timing().heartbeat, now)
    assert now - raft.heard_of(2) < 0.2
