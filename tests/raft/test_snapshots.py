"""Logs that stay short, and nodes that are too far behind for them, on a virtual clock."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

from raftoral_nb.core.commands import Committed, Outcome
from raftoral_nb.core.records import NodeId
from raftoral_nb.core.snapshot import Frozen
from raftoral_nb.core.state import State, summary
from raftoral_nb.errors import ClusterError, InternalError
from raftoral_nb.raft.compaction import Compaction
from raftoral_nb.raft.journal import MemoryJournal, Snapshot
from raftoral_nb.raft.snapshot_transfer import PIECES_IN_FLIGHT, Transfers
from raftoral_nb.transport.messages import Message, NextIndex, SnapshotPiece, SnapshotProgress, encode_message
from raftoral_nb.virtual_time.clock import run

from .members import Members, committed, registration
from .test_guard import Bench, append, entries

SOON = Compaction(log_bytes=3000, kept_bytes=500, piece_bytes=400)
"""A snapshot every dozen commands, in several pieces."""


def on_members(count: int, test: Callable[[Members], Coroutine[Any, Any, None]], compaction: Compaction = SOON) -> None:
    async def main() -> None:
        members = Members(count, compaction=compaction)
        await members.start()
        try:
            await test(members)
            assert not any(watcher.broke for watcher in members.watchers.values())
        finally:
            await members.close()

    run(main)


async def _commit(members: Members, numbers: range) -> None:
    for number in numbers:
        assert committed(await members.commit(number % 20))  # registrations replace one another: the state stays small


def _same_state(members: Members) -> bool:
    summaries = [summary(member.state) for member in members.members.values()]
    return all(one == summaries[0] for one in summaries)


# --- compaction


@pytest.mark.parametrize("count", [1, 3])
def test_the_log_stays_short_however_many_commands_are_committed(count: int) -> None:
    async def test(members: Members) -> None:
        longest = 0
        for number in range(400):
            assert committed(await members.commit(number % 20))
            longest = max(longest, *(len(members.journals.of(node)) for node in members.numbers))
        assert longest < 120
        await members.level()
        assert all(member.log_length > 400 for member in members.members.values())
        assert _same_state(members)

    on_members(count, test)


def test_a_node_restarts_from_its_snapshot_and_the_log_behind_it() -> None:
    async def test(members: Members) -> None:
        await _commit(members, range(100))
        await members.level()
        assert members.journals.of(3).first_index > 50
        members.kill(3)
        await _commit(members, range(100, 105))
        await members.start(3)
        await members.level()
        assert _same_state(members)
        # Read from its own journal, as the others keep what it lacks, however large snapshots are: what is told is one jump from
        # nothing, and single entries from there.
        replaced = [fact for fact in members.watchers[3].facts if isinstance(fact, tuple) and fact[0] == "replaced"]
        assert len(replaced) == 1
        assert replaced[0][1] == 0

    on_members(3, test, msgspec.structs.replace(SOON, kept_bytes=3000))


def test_a_whole_cluster_restarts_from_its_snapshots() -> None:
    async def test(members: Members) -> None:
        await _commit(members, range(100))
        await members.level()
        before = summary(members.members[1].state)
        for number in members.numbers:
            members.kill(number)
        await members.start()
        await members.leader()
        await members.level()
        after = summary(members.members[1].state)
        assert after["runs"] == before["runs"]
        assert after["definitions"] == before["definitions"]
        await _commit(members, range(100, 130))
        await members.level()
        assert _same_state(members)

    on_members(3, test)


def test_compaction_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ClusterError, match="more than 0"):
        Compaction(log_bytes=0)


# --- a node that is too far behind


def test_a_node_that_was_away_for_longer_than_the_log_gets_a_snapshot_while_the_others_go_on() -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        term = leader.replica.raft.term
        away = 3 if leader.node != 3 else 2
        members.kill(away)
        await _commit(members, range(100))
        first = members.journals.of(leader.node).first_index
        assert first > members.journals.of(away).last_index + 1
        await members.start(away)
        await _commit(members, range(100, 160))
        await members.level()
        assert _same_state(members)
        facts = [fact for fact in members.watchers[away].facts if isinstance(fact, tuple) and fact[0] == "replaced"]
        assert facts[-1][2] >= first
        assert leader.replica.raft.term == term, "nobody else had to lead for that"
        assert leader.acting_term == term

    on_members(3, test)


def test_messages_to_a_node_that_is_far_behind_are_small() -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        away = 3 if leader.node != 3 else 2
        members.kill(away)
        for number in range(120):
            assert committed(await members.commit(number, size=300))
        sizes: list[int] = []
        pieces: list[tuple[int, int]] = []
        await members.start(away)
        endpoint = leader._endpoint
        assert endpoint is not None
        send = endpoint.send

        def watched(peer: NodeId, message: Message) -> None:
            if peer == away:
                sizes.append(len(encode_message(message)))
                if isinstance(message, SnapshotPiece):
                    pieces.append((message.number, len(message.data)))
            send(peer, message)

        endpoint.send = watched  # type: ignore[method-assign]
        await members.level()
        assert len(pieces) > 20
        assert [number for number, _ in pieces] == list(range(len(pieces)))
        assert max(size for _, size in pieces) < 2500
        # The end of the log comes with it: as much as goes between two snapshots.
        assert max(sizes) < sum(size for _, size in pieces)
        assert _same_state(members)

    on_members(3, test)


def test_a_node_that_dies_while_it_gets_a_snapshot_gets_it_when_it_is_back() -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        away = 3 if leader.node != 3 else 2
        members.kill(away)
        for number in range(60):
            assert committed(await members.commit(number, size=200))
        await members.start(away)
        transfers = leader.replica._transfers
        await members.until(lambda: transfers.to(away) is not None)
        await asyncio.sleep(0.05)
        members.kill(away)
        assert transfers.to(away) is None
        assert committed(await members.commit(61))
        await members.start(away)
        await members.level()
        assert _same_state(members)

    on_members(3, test)


def test_the_leader_may_die_while_it_sends_a_snapshot() -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        away = 5 if leader.node != 5 else 4
        members.kill(away)
        for number in range(60):
            assert committed(await members.commit(number, size=200))
        await members.start(away)
        await members.until(lambda: leader.replica._transfers.to(away) is not None)
        await asyncio.sleep(0.03)
        members.kill(leader.node)
        await members.leader(other_than=leader.node)
        await members.level()
        assert _same_state(members)

    on_members(5, test)


def test_a_proposal_that_was_committed_in_what_a_snapshot_skips_is_answered() -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        asking = members.members[3 if leader.node != 3 else 2]
        outcomes: list[Outcome] = []
        asking.propose(registration(900), 60.0, outcomes.append)
        await asyncio.sleep(0.015)  # it is on its way; the answer will not find back
        for number in members.numbers:
            if number != asking.node:
                members.network.cut(number, asking.node)
        await members.until(lambda: ("workflow-900", 1) in leader.state.definitions)
        await _commit(members, range(100))
        assert members.journals.of(leader.node).first_index > asking.replica.raft.applied_index + 1
        assert not outcomes
        members.network.heal_all()
        await members.until(lambda: bool(outcomes))
        assert isinstance(outcomes[0], Committed)
        await members.level()
        assert _same_state(members)

    on_members(3, test)


# --- what a follower does with pieces and with messages that lie below its snapshot


def _pieces(index: int, term: int, of_term: int, number_of_steps: int = 0) -> list[SnapshotPiece]:
    state = State(index=index)
    data = list(Frozen(state).pieces(1))
    last = len(data) - 1
    return [SnapshotPiece(term, index, of_term, number, number == last, one) for number, one in enumerate(data)]


def _on_bench(test: Callable[[Bench], None], *, snapshot: Snapshot | None = None) -> None:
    async def main() -> None:
        bench = Bench(guarded=True, snapshot=snapshot)
        test(bench)
        assert bench.error is None
        bench.replica.close()

    run(main)


def test_a_snapshot_takes_the_place_of_a_log_that_does_not_reach_it() -> None:
    def test(bench: Bench) -> None:
        bench.receive(2, append(3, 1, 0, entries(2, 1, 1)))  # two entries of another leader, never committed
        pieces = _pieces(50, 3, 2)
        assert bench.receive(2, pieces[0]) == [SnapshotProgress(3, 50, 1)]
        for piece in pieces[1:-1]:
            bench.receive(2, piece)
        assert bench.receive(2, pieces[-1]) == [NextIndex(term=3, next_index=51, success=True, reset=False)]
        assert bench.applied == [-50]
        assert (bench.journal.first_index, bench.journal.last_index, bench.journal.term_at(50)) == (50, 50, 2)
        assert bench.replica.raft.applied_index == bench.replica.raft.commit_index == 50
        # The log goes on behind it.
        answers = bench.receive(2, append(3, 50, 2, entries(51, 3), commit=51))
        assert answers == [NextIndex(term=3, next_index=52, success=True, reset=False)]
        assert bench.applied == [-50, 51]

    _on_bench(test)


def test_a_snapshot_that_is_older_than_what_is_committed_is_answered_and_not_installed() -> None:
    """The third hazard: PySyncObj would put the old state over the new one and forget acknowledged entries."""

    def test(bench: Bench) -> None:
        bench.receive(2, append(3, 1, 0, entries(2, 3, 3, 3), commit=4))
        for piece in _pieces(3, 3, 3):
            assert bench.receive(2, piece) == [NextIndex(term=3, next_index=4, success=True, reset=False)]
        assert bench.applied == [2, 3, 4]
        assert bench.journal.last_index == 4

    _on_bench(test)


def test_a_snapshot_whose_last_entry_is_in_the_log_leaves_the_log_as_it_is() -> None:
    def test(bench: Bench) -> None:
        bench.receive(2, append(3, 1, 0, entries(2, 3, 3, 3, 3), commit=2))
        assert bench.receive(2, _pieces(4, 3, 3)[0]) == [NextIndex(term=3, next_index=5, success=True, reset=False)]
        assert bench.journal.last_index == 5
        assert bench.applied == [2]

    _on_bench(test)


def test_pieces_of_another_term_are_ignored_and_a_piece_out_of_turn_is_asked_for_again() -> None:
    def test(bench: Bench) -> None:
        bench.receive(2, append(3, 1, 0))
        pieces = _pieces(50, 3, 2)
        assert bench.receive(2, _pieces(50, 2, 2)[0]) == []
        assert bench.receive(2, _pieces(50, 4, 2)[0]) == []
        assert bench.receive(2, pieces[1]) == [SnapshotProgress(3, 50, 0)]
        assert bench.receive(2, pieces[0]) == [SnapshotProgress(3, 50, 1)]
        assert bench.receive(2, pieces[0]) == [SnapshotProgress(3, 50, 1)]
        assert bench.applied == []

    _on_bench(test)


def test_a_piece_that_cannot_be_read_breaks_the_replica_and_nothing_else() -> None:
    async def main() -> None:
        bench = Bench(guarded=True)
        bench.receive(2, append(3, 1, 0))
        bench.receive(2, SnapshotPiece(3, 50, 2, 0, True, b"\xff"))
        assert "cannot be read" in str(bench.error)
        assert bench.journal.snapshot is None
        bench.replica.close()

    run(main)


def _held(index: int, term: int) -> Snapshot:
    return Snapshot(index, term, tuple(Frozen(State(index=index)).pieces()))


@pytest.mark.parametrize(
    ("message", "next_index"),
    [
        (append(5, 10, 2, entries(11, 2, 2, 2), commit=13), 14),
        (append(5, 30, 2), 31),
        (append(5, 48, 3, entries(49, 3, 4, 5, 5), commit=52), 53),
        (append(5, 50, 4, entries(51, 5), commit=51), 52),
    ],
    ids=["below", "heartbeat below", "across", "behind"],
)
def test_entries_below_the_own_snapshot_count_as_held(message: Any, next_index: int) -> None:
    def test(bench: Bench) -> None:
        answers = bench.receive(2, message)
        assert answers == [NextIndex(term=5, next_index=next_index, success=True, reset=False)]
        assert bench.journal.first_index == 50
        assert bench.applied == list(range(51, next_index))

    _on_bench(test, snapshot=_held(50, 4))


def test_a_message_from_below_the_own_snapshot_commits_nothing_behind_it() -> None:
    def test(bench: Bench) -> None:
        bench.receive(2, append(5, 50, 4, entries(51, 5, 5)))  # of a leader that died; 51 and 52 are others by now
        answers = bench.receive(3, append(6, 10, 2, entries(11, 2, 2), commit=52))
        assert answers == [NextIndex(term=6, next_index=13, success=True, reset=False)]
        assert bench.applied == []

    _on_bench(test, snapshot=_held(50, 4))


# --- the leader's side


def _sending(journal: MemoryJournal) -> tuple[Transfers, list[SnapshotPiece]]:
    sent: list[SnapshotPiece] = []

    def send(peer: NodeId, message: Message) -> None:
        assert peer == 2
        assert isinstance(message, SnapshotPiece)
        sent.append(message)

    return Transfers(journal, send), sent


def test_a_leader_sends_few_pieces_ahead_and_the_rest_as_they_are_acknowledged() -> None:
    journal = MemoryJournal()
    journal.install(Snapshot(50, 2, tuple(bytes([number]) for number in range(10))))
    transfers, sent = _sending(journal)
    transfers.begin(2, 3)
    assert [piece.number for piece in sent] == list(range(PIECES_IN_FLIGHT))
    transfers.progressed(2, SnapshotProgress(3, 50, 1))
    assert [piece.number for piece in sent[PIECES_IN_FLIGHT:]] == [PIECES_IN_FLIGHT]
    transfers.progressed(2, SnapshotProgress(3, 49, 5))  # of another snapshot
    assert len(sent) == PIECES_IN_FLIGHT + 1
    for expected in range(2, 10):
        transfers.progressed(2, SnapshotProgress(3, 50, expected))
    assert [piece.number for piece in sent] == list(range(10))
    assert [piece.final for piece in sent] == [False] * 9 + [True]
    assert transfers.needed_from() == 50
    transfers.end(2)
    assert transfers.needed_from() is None


def test_pieces_are_sent_again_when_a_follower_lives_and_makes_no_progress() -> None:
    journal = MemoryJournal()
    journal.install(Snapshot(50, 2, (b"a", b"b", b"c")))
    transfers, sent = _sending(journal)
    transfers.begin(2, 3)
    transfers.progressed(2, SnapshotProgress(3, 50, 1))
    for _ in range(100):
        transfers.waits(2, 3)
    assert [piece.number for piece in sent] == [0, 1, 2, 1, 2, 1, 2]


def test_whatever_messages_are_lost_or_doubled_a_transfer_makes_progress_and_ends() -> None:
    for seed in range(50):
        dice = random.Random(seed)
        journal = MemoryJournal()
        data = list(Frozen(State(index=50)).pieces(1))
        journal.install(Snapshot(50, 2, tuple(data)))
        transfers, sent = _sending(journal)
        reached = 0
        transfers.begin(2, 3)
        for _ in range(2000):
            if sent and dice.random() < 0.7:
                piece = sent.pop(0)
                if piece.number == reached:
                    reached += 1
                if dice.random() < 0.5:
                    transfers.progressed(2, SnapshotProgress(3, 50, reached))
            else:
                transfers.waits(2, 3)
            if reached == len(data):
                break
        assert reached == len(data), f"seed {seed}"


# --- the journal


def test_a_journal_keeps_only_snapshots_of_its_own_log_and_drops_only_what_they_stand_for() -> None:
    journal = MemoryJournal()
    for index in range(1, 11):
        journal.add(b"", index, 1)
    with pytest.raises(InternalError, match="no snapshot stands for"):
        journal.compact(5)
    with pytest.raises(InternalError, match="does not belong to this log"):
        journal.keep(Snapshot(5, 2, (b"",)))
    with pytest.raises(InternalError, match="does not belong to this log"):
        journal.keep(Snapshot(11, 1, (b"",)))
    journal.keep(Snapshot(6, 1, (b"",)))
    with pytest.raises(InternalError, match="does not belong to this log"):
        journal.keep(Snapshot(5, 1, (b"",)))
    with pytest.raises(InternalError, match="no snapshot stands for"):
        journal.compact(7)
    journal.compact(6)
    assert (journal.first_index, journal.last_index, len(journal)) == (6, 10, 5)
    assert (journal.term_at(5), journal.term_at(6)) == (None, 1)
    with pytest.raises(InternalError, match="committed"):
        journal.deleteEntriesFrom(0)
    journal.deleteEntriesFrom(1)
    assert journal.last_index == 6


def test_a_journal_refuses_a_snapshot_over_a_log_that_has_it() -> None:
    journal = MemoryJournal()
    for index in range(1, 11):
        journal.add(b"", index, 1)
    with pytest.raises(InternalError, match="a log that has it"):
        journal.install(Snapshot(10, 1, (b"",)))
    journal.install(Snapshot(10, 2, (b"",)))  # another entry 10: this log is not the one that was committed
    assert (journal.first_index, journal.last_index, journal.term_at(10)) == (10, 10, 2)
    assert journal.getRaftCommitIndex() == 10
    with pytest.raises(InternalError, match="a log that has it"):
        journal.install(Snapshot(9, 2, (b"",)))
