"""The fast path and the guarded one: the same comes of both, wherever one gives way to the other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from raftoral_nb.core.commands import ChangeMembers, Proposal
from raftoral_nb.core.records import NodeId, ProposalId
from raftoral_nb.limits import MAX_APPLIED_ENTRIES, MAX_ENTRIES_IN_FLIGHT
from raftoral_nb.raft.journal import Snapshot
from raftoral_nb.raft.timing import Timing
from raftoral_nb.simulation.dice import SeededDice
from raftoral_nb.simulation.disk import SLOWEST_SYNC, DiskJournal, SimulatedDisk, SimulatedSaver
from raftoral_nb.simulation.fast_path_mutants import altered, conditions
from raftoral_nb.simulation.mutants import patched
from raftoral_nb.transport.messages import (
    AppendEntries,
    Message,
    NextIndex,
    Outdated,
    PreVote,
    RequestVote,
    ResponseVote,
    SnapshotPiece,
    TimeoutNow,
)
from raftoral_nb.virtual_time.clock import run

from .members import Members, committed, registration
from .servers import Server, on_members, on_server
from .test_guard import append, entries

FOUND_BY_TWINS = [
    ("_follow", "message.term == raft.term"),
    ("_follow", "raft.leader == peer"),
    ("_follow", "message.prev_index == journal.last_index"),
    ("_follow", "message.prev_term == journal.last_term"),
    ("_follow", "raft.election_due > now"),
    ("_follow", "commit > raft.commit_index"),
    ("_acknowledged", "message.term == raft.term"),
    ("_acknowledged", "message.success"),
    ("_acknowledged", "peer in raft.match_indexes"),
    ("_acknowledged", "index > raft.match_indexes[peer]"),
    ("_acknowledged", "raft.next_indexes[peer] <= index"),
    ("turn", "raft.role == LEADER"),
    ("turn", "journal.term_at(index) == raft.term"),
]
"""Conditions that are noticed to be missing when the same happens to two servers, one on each path."""


class Twins:
    """Two servers to whom the same happens: one takes the fast path where it can, the other never does."""

    def __init__(self, of: int) -> None:
        self.both = fast, guarded = Server(of), Server(of)
        guarded.replica.fast_path.choice = lambda: False
        self.fast = fast
        self.taken = 0
        take = fast.replica.fast_path.take

        def counted(peer: NodeId, message: Message, now: float) -> bool:
            taken = take(peer, message, now)
            self.taken += taken
            return taken

        fast.replica.fast_path.take = counted  # type: ignore[method-assign]

    async def do(self, act: Callable[[Server], object]) -> None:
        for server in self.both:
            server.sent.clear()
            if server.error is None:
                act(server)
        await asyncio.sleep(0)
        fast, guarded = map(_what_is_known, self.both)
        assert fast == guarded

    def close(self) -> None:
        for server in self.both:
            server.replica.close()


def _what_is_known(server: Server) -> dict[str, object]:
    raft, journal = server.replica.raft, server.journal
    leads = server.replica.role == "leader"
    return {
        "error": type(server.error),
        "sent": sorted(server.sent, key=lambda one: one[0]),
        "log": journal[: len(journal)],
        "stored commit index": journal.getRaftCommitIndex(),
        "vote": (journal.getCurrentTerm(), journal.getVotedForNodeId()),
        "applied": server.applied,
        "raft": (raft.role, raft.term, raft.leader, raft.commit_index, raft.applied_index),
        # Not when it is due: the one draws its timeouts more often than the other.
        "election": None if leads else (raft.campaigns_now, raft.election_timer_stopped),
        "next": dict(raft.next_indexes) if leads else None,
        "matched": dict(raft.match_indexes) if leads else None,
        "heard": dict(raft.heard_at) if leads else server.replica.pre_voting.heard_at,
        "members": server.replica.members,
        "snapshots sent": sorted(server.replica._transfers.under_way),
    }


def _message(dice: random.Random, server: Server) -> Message:
    """A message that may well come now, or one that may not."""
    raft, journal = server.replica.raft, server.journal
    term = max(0, raft.term + (dice.choice((-1, 1)) if dice.random() < 0.04 else 0))
    last, drawn = journal.last_index, dice.random()
    if drawn < 0.02:
        return RequestVote(term + dice.randrange(2), last + dice.randrange(-1, 2), journal.last_term)
    if drawn < 0.04:
        return dice.choice((ResponseVote(term), TimeoutNow(term), Outdated(term)))
    if drawn < 0.5:
        success = dice.random() < 0.9
        index = max(1, last + dice.choice((1, 1, 1, 1, 0, -1, -2)))
        if dice.random() < 0.1:
            # What it lacks, or has now, may be in no log any more.
            index, success = journal.first_index + dice.randrange(2), dice.random() < 0.5
        return NextIndex(term, index, success=success, reset=not success)
    after = max(1, last + (dice.choice((-2, -1, 1)) if dice.random() < 0.1 else 0))
    after_term = journal.term_at(after)
    if after_term is None or dice.random() < 0.04:
        after_term = max(0, term - 1)
    new = entries(after + 1, *[term] * dice.randrange(4))
    return append(term, after, after_term, new, max(1, after + len(new) - dice.randrange(-1, 4)))


def _elect(server: Server) -> None:
    server.replica.campaign()
    for peer in server.replica.raft.peers:
        server.receive(peer, ResponseVote(server.term))


def _snapshot(server: Server) -> None:
    """Keep nothing of the log but what is not applied."""
    journal, index = server.journal, server.replica.raft.applied_index
    if index > journal.snapshot_index:
        journal.keep(Snapshot(index, journal.term_at(index) or 0, (b"",)))
        journal.compact(index)
        server.replica._compacted()


def _heartbeat(server: Server) -> None:
    server.replica.raft.send_now()
    server.replica.advance()


def _event(dice: random.Random, twins: Twins, number: int, *, leads: bool) -> Callable[[Server], object]:
    """What happens next to both."""
    replica = twins.fast.replica
    # The last one is heard less often, and falls behind.
    peer = dice.choice((replica.raft.peers[:-1] if dice.random() < 0.9 else ()) or replica.raft.peers)
    drawn = dice.random()
    if drawn < 0.01 or (leads and replica.role != "leader" and drawn < 0.2):
        return _elect
    if drawn < 0.2:
        command = ChangeMembers(5, "add") if dice.random() < 0.1 else registration(number)
        proposal = Proposal(ProposalId("0.9.a", number), command)
        return lambda server: server.replica.submit([proposal])
    if drawn < 0.24:
        up = peer in replica.raft.connected_peers
        return lambda server: (server.replica.disconnected if up else server.replica.connected)(peer)
    if drawn < 0.26:
        return _heartbeat
    if drawn < 0.29:
        return _snapshot
    messages = [_message(dice, twins.fast) for _ in range(dice.choice((1, 1, 2)))]
    return lambda server: server.receive(peer, *messages)


def played(seed: int) -> int:
    """Let the same happen to twins; how many messages took the fast path. Raises `AssertionError` where they differ."""
    dice = random.Random(seed)

    async def main() -> int:
        twins = Twins(2 + seed % 3)
        try:
            for number in range(200):
                await twins.do(_event(dice, twins, number, leads=seed % 2 == 0))
                if twins.fast.error is not None:
                    break
        finally:
            twins.close()
        return twins.taken

    return run(main)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_comes_both_paths_leave_the_same_behind(seed: int) -> None:
    assert played(seed), "no message took the fast path"


@pytest.mark.parametrize(("method", "piece"), FOUND_BY_TWINS)
def test_without_a_condition_they_do_not(method: str, piece: str) -> None:
    with patched(altered(method, piece)()):
        assert any(_differs(seed) for seed in range(200))


def _differs(seed: int) -> bool:
    try:
        played(seed)
    except AssertionError:
        return True
    return False


# --- from one path to the other


def test_a_follower_that_missed_an_entry_is_sent_it_with_the_next_and_not_that_one_alone() -> None:
    async def test(server: Server) -> None:
        server.become("leader")
        server.acknowledge(2, server.journal.last_index)
        server.acknowledge(3, server.journal.last_index)
        server.replica.disconnected(3)
        missed = await server.propose(registration(1))
        assert server.to(3, AppendEntries) == []
        server.replica.connected(3)
        await server.propose(registration(2))
        assert [message.prev_index for message in server.to(3, AppendEntries)] == [missed - 1]
        assert [message.prev_index for message in server.to(2, AppendEntries)] == [missed]

    on_server(test)


def test_who_waits_for_a_snapshot_is_sent_nothing_else_and_its_answer_ends_the_waiting() -> None:
    async def test(server: Server) -> None:
        await _snapshot_under_way(server)
        snapshot = server.journal.snapshot_index
        await server.propose(registration(4))
        assert all(not message.entries for message in server.to(3, AppendEntries))
        assert server.to(2, AppendEntries)[0].entries
        server.acknowledge(3, snapshot)
        assert not server.replica._transfers.under_way
        assert [entry[1] for message in server.to(3, AppendEntries) for entry in message.entries] == [
            *range(snapshot + 1, server.journal.last_index + 1)
        ]

    on_server(test)


async def _snapshot_under_way(server: Server) -> None:
    """Server 1 leads, and 3 is being sent a snapshot of all that is applied."""
    server.become("leader")
    for number in range(3):
        server.acknowledge(2, await server.propose(registration(number)))
    _snapshot(server)
    server.receive(3, NextIndex(server.term, 2, success=False, reset=True))
    assert server.to(3, SnapshotPiece)
    assert [*server.replica._transfers.under_way] == [3]


def test_what_is_committed_stays_so_when_the_members_become_more() -> None:
    async def test(server: Server) -> None:
        server.become("leader")
        server.acknowledge(2, server.journal.last_index)
        late = server.journal.last_index
        server.acknowledge(2, await server.propose(registration(1)))
        committed_index = server.commit_index
        added = await server.propose(ChangeMembers(5, "add"))
        assert len(server.replica.members) == 4
        server.acknowledge(2, added)
        server.acknowledge(3, late)
        assert server.commit_index == committed_index
        server.acknowledge(3, added)
        assert server.commit_index == added

    on_server(test)


def test_a_change_of_members_waits_for_the_one_before_though_both_are_asked_for_at_once() -> None:
    async def test(server: Server) -> None:
        server.become("leader")
        server.acknowledge(2, server.journal.last_index)
        both = [Proposal(ProposalId("0.9.a", number), ChangeMembers(3 + number, "add")) for number in (1, 2)]
        server.replica.submit(both)
        await asyncio.sleep(0)
        assert len(server.replica.members) == 4

    on_server(test)


def test_a_leader_that_is_deposed_with_entries_on_their_way_gives_them_up_and_counts_no_answer_to_them() -> None:
    async def test(server: Server) -> None:
        server.become("leader")
        server.acknowledge(2, server.journal.last_index)
        known = server.journal.last_index
        term = server.term
        lost = await server.propose(registration(1))
        newer = ((b"\x00other", lost, term + 1),)
        assert server.receive(3, append(term + 1, known, term, newer)) == [
            NextIndex(term + 1, lost + 1, success=True, reset=False)
        ]
        server.receive(2, NextIndex(term, lost + 1, success=True, reset=False))
        assert server.journal.term_at(lost) == term + 1
        assert server.commit_index == known
        server.receive(3, append(term + 1, lost, term + 1, commit=lost))
        assert server.commit_index == lost

    on_server(test)


def test_an_acknowledgement_of_an_earlier_leadership_counts_for_nothing_in_a_later_one() -> None:
    async def test(server: Server) -> None:
        server.become("leader")
        term = server.term
        await server.propose(registration(1))
        server.receive(3, Outdated(term + 1))
        server.become("leader")
        assert server.term > term
        before = server.commit_index
        server.receive(2, NextIndex(term, server.journal.last_index + 1, success=True, reset=False))
        assert server.commit_index == before
        server.acknowledge(2, server.journal.last_index)
        assert server.commit_index == server.journal.last_index

    on_server(test)


def test_a_leader_whose_peers_are_silent_steps_down_however_much_it_appends() -> None:
    async def test(server: Server) -> None:
        server.become("leader")
        server.acknowledge(2, server.journal.last_index)
        for number in range(100):
            if server.replica.role != "leader":
                break
            server.replica.submit([Proposal(ProposalId("0.9.a", number), registration(number))])
            await asyncio.sleep(0.01)
        assert server.replica.role == "follower"
        assert number < 70, "it led for longer than an election timeout and a heartbeat"

    on_server(test)


def test_who_is_told_to_campaign_does_so_though_its_leader_sends_more() -> None:
    async def test(server: Server) -> None:
        server.receive(2, append(1, 1, 0, entries(2, 1)))
        server.receive(2, TimeoutNow(1), append(1, 2, 1, entries(3, 1)))
        assert server.replica.role == "candidate"
        assert server.terms() == [1, 1]

    on_server(test)


@pytest.mark.parametrize("heartbeats", range(30, 50))
def test_a_follower_asks_for_votes_within_an_election_timeout_after_its_leader_falls_silent(heartbeats: int) -> None:
    async def test(server: Server) -> None:
        timing = Timing()
        server.receive(2, append(1, 1, 0, entries(2, 1), 2))
        for _ in range(heartbeats):
            await asyncio.sleep(timing.heartbeat)
            server.receive(2, append(1, 2, 1, (), 2))
        server.sent.clear()
        await asyncio.sleep(timing.election_min - timing.heartbeat)
        assert server.to(2, PreVote) == []
        await asyncio.sleep(timing.election_max - timing.election_min + timing.heartbeat + 0.001)
        assert server.to(2, PreVote)

    on_server(test)


def test_a_follower_applies_a_long_backlog_in_successive_turns_of_the_loop_without_a_timer() -> None:
    async def test(server: Server) -> None:
        last = 1 + 5 * MAX_APPLIED_ENTRIES
        server.receive(2, append(1, 1, 0, entries(2, *[1] * (last - 1))))
        server.receive(2, append(1, last, 1, (), last))
        assert len(server.applied) == MAX_APPLIED_ENTRIES
        for _ in range(10):
            await asyncio.sleep(0)
        assert server.applied == [*range(2, last + 1)]

    on_server(test)


def test_a_proposal_that_waits_for_room_is_appended_as_soon_as_entries_are_committed() -> None:
    async def test(server: Server) -> None:
        server.become("leader")
        server.acknowledge(2, server.journal.last_index)
        for number in range(MAX_ENTRIES_IN_FLIGHT):
            full = await server.propose(registration(number))
        assert await server.propose(registration(MAX_ENTRIES_IN_FLIGHT)) == full
        server.acknowledge(2, full)
        await asyncio.sleep(0)
        assert server.journal.last_index == full + 1

    on_server(test)


class _Unwatched:
    """Watches no journal."""

    def added(self, node: NodeId, data: bytes, index: int, term: int) -> None: ...

    def deleted(self, node: NodeId, index: int, last: int) -> None: ...

    def voted(self, node: NodeId, term: int, vote: str) -> None: ...


def on_disk(test: Callable[[Server], Coroutine[Any, Any, None]]) -> None:
    """Drive a server whose disk stores a while after it was asked to."""

    async def main() -> None:
        dice = SeededDice("fast path")
        journal = DiskJournal(1, SimulatedDisk(1, dice, _Unwatched()), _Unwatched(), SimulatedSaver(dice))
        server = Server(journal=journal)
        await test(server)
        assert server.error is None
        server.replica.close()

    run(main)


def test_a_follower_says_that_it_has_an_entry_when_it_is_stored() -> None:
    async def test(server: Server) -> None:
        server.receive(2, append(1, 1, 0, entries(2, 1)))
        await asyncio.sleep(1.0)
        answers = server.receive(2, append(1, 2, 1, entries(3, 1)))
        assert server.journal.last_index == 3
        assert server.journal.stored_index == 2
        assert answers == []
        await asyncio.sleep(0.1)
        assert server.to(2, NextIndex) == [NextIndex(1, 4, success=True, reset=False)]

    on_disk(test)


def test_entries_that_come_while_others_are_stored_are_acknowledged_when_they_are_stored_themselves() -> None:
    async def test(server: Server) -> None:
        server.receive(2, append(1, 1, 0, entries(2, 1)))
        await asyncio.sleep(SLOWEST_SYNC)
        server.receive(2, append(1, 2, 1, entries(3, 1)))
        assert server.journal.saving
        server.receive(2, append(1, 3, 1, entries(4, 1)))
        for _ in range(int(2000 * SLOWEST_SYNC) + 10):  # milliseconds: two groups, one after the other
            answered = [message.next_index - 1 for message in server.to(2, NextIndex)]
            assert max(answered, default=0) <= server.journal.stored_index
            await asyncio.sleep(0.001)
        assert answered == [3, 4]

    on_disk(test)


def test_a_frozen_follower_acknowledges_what_its_disk_has_stored_meanwhile_when_it_thaws() -> None:
    async def test(server: Server) -> None:
        server.receive(2, append(1, 1, 0, entries(2, 1)))
        await asyncio.sleep(SLOWEST_SYNC)
        server.receive(2, append(1, 2, 1, entries(3, 1)))
        server.replica.freeze()
        await asyncio.sleep(SLOWEST_SYNC)
        assert server.journal.stored_index == 3
        assert server.sent == []
        server.replica.thaw()
        assert server.to(2, NextIndex) == [NextIndex(1, 4, success=True, reset=False)]

    on_disk(test)


async def _one_follower_was_quicker_than_the_disk(server: Server) -> int:
    """Server 1 leads and has not stored its last entry, but server 2 has. No timer is due until it is stored."""
    server.become("leader")
    await asyncio.sleep(0.1)
    server.acknowledge(2, server.journal.last_index)
    index = await server.propose(registration(1))
    assert [message.entries[0][1] for message in server.to(2, AppendEntries)] == [index]
    server.replica._disarm()  # a timer would have PySyncObj count, and wait for the disk
    assert server.journal.stored_index < index
    server.acknowledge(2, index)
    server.replica._disarm()
    assert server.commit_index < index
    return index


def test_a_leader_counts_itself_when_it_has_stored_an_entry_though_a_follower_was_quicker() -> None:
    async def test(server: Server) -> None:
        index = await _one_follower_was_quicker_than_the_disk(server)
        await asyncio.sleep(SLOWEST_SYNC)
        assert server.commit_index == index

    on_disk(test)


def test_a_frozen_leader_counts_what_its_disk_has_stored_meanwhile_when_it_thaws() -> None:
    async def test(server: Server) -> None:
        index = await _one_follower_was_quicker_than_the_disk(server)
        server.replica.freeze()
        await asyncio.sleep(SLOWEST_SYNC)
        assert server.journal.stored_index == index
        assert server.commit_index < index
        server.replica.thaw()
        await asyncio.sleep(0)
        assert server.commit_index == index

    on_disk(test)


def test_two_followers_are_a_majority_before_the_leader_has_stored_an_entry_itself() -> None:
    async def test(server: Server) -> None:
        server.become("leader")
        await asyncio.sleep(0.1)
        server.acknowledge(2, server.journal.last_index)
        index = await server.propose(registration(1))
        server.acknowledge(2, index)
        assert server.commit_index < index
        server.acknowledge(3, index)
        assert server.journal.stored_index < index
        assert server.commit_index == index

    on_disk(test)


@pytest.mark.parametrize("seed", range(6))
def test_members_that_take_either_path_by_chance_apply_the_same(seed: int) -> None:
    async def test(members: Members) -> None:
        for member in members.members.values():
            member.replica.fast_path.choice = partial(SeededDice(seed, member.node).happens, 0.5)
        leader = await members.leader()
        outcomes = await asyncio.gather(*(members.commit(number, by=leader) for number in range(40)))
        assert all(map(committed, outcomes))
        await members.level()
        assert members.applied(1) == members.applied(2) == members.applied(3)

    on_members(test)


FOUND_BY_TESTS = {
    (
        "_acknowledged",
        "peer not in self._transfers.under_way",
    ): test_who_waits_for_a_snapshot_is_sent_nothing_else_and_its_answer_ends_the_waiting,
    (
        "ready",
        "peer not in under_way",
    ): test_who_waits_for_a_snapshot_is_sent_nothing_else_and_its_answer_ends_the_waiting,
    (
        "ready",
        "raft.next_indexes[peer] == following",
    ): test_a_follower_that_missed_an_entry_is_sent_it_with_the_next_and_not_that_one_alone,
    ("turn", "index > raft.commit_index"): test_what_is_committed_stays_so_when_the_members_become_more,
}
"""Conditions that are noticed to be missing by one of the tests above."""

NO_CONDITIONS = {
    # What is not applied here is applied by PySyncObj, in the loop's next turn.
    ("turn", "raft.commit_index <= raft.applied_index"),
    # The switch.
    ("ready", "self.choice is None"),
    ("ready", "self.choice()"),
}


@pytest.mark.parametrize(("method", "piece"), FOUND_BY_TESTS)
def test_without_a_condition_one_of_these_fails(method: str, piece: str) -> None:
    with patched(altered(method, piece)()), pytest.raises(AssertionError):
        FOUND_BY_TESTS[method, piece]()


def test_every_condition_is_left_out_in_a_test() -> None:
    """Most in the simulation, too (`simulation.mutants`)."""
    methods = "_follow", "_acknowledged", "ready", "turn"
    written = {(method, piece) for method in methods for piece in conditions(method)}
    assert written == {*FOUND_BY_TWINS, *FOUND_BY_TESTS, *NO_CONDITIONS}
