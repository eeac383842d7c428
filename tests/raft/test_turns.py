"""However large state and log are, the consensus loop does a bounded piece of work in each of its turns. Counted, not timed."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from raftoral_nb.core.records import NodeId, Step
from raftoral_nb.core.run_record import Run
from raftoral_nb.core.snapshot import Frozen, Reader
from raftoral_nb.core.state import ClientSession, State, summary
from raftoral_nb.errors import InternalError
from raftoral_nb.limits import MAX_APPLIED_BYTES, MAX_MESSAGE_BYTES
from raftoral_nb.raft import journal as journal_module
from raftoral_nb.raft import member as member_module
from raftoral_nb.raft.compaction import Compaction
from raftoral_nb.raft.journal import ENTRY_OVERHEAD, MemoryJournal, Snapshot
from raftoral_nb.raft.member import Member
from raftoral_nb.raft.snapshot_transfer import PIECES_IN_FLIGHT
from raftoral_nb.transport.messages import AppendEntries, Message
from raftoral_nb.virtual_time.clock import run
from tests.core.commands import definition

from .members import Members, committed

NEVER = Compaction(log_bytes=10**9, kept_bytes=500, piece_bytes=1000)
"""Snapshots only when a test asks for one, in small pieces."""

STEPS = 20
RUNS = 100


class Turns:
    """Counts what is done in each turn of the running loop, by name."""

    def __init__(self) -> None:
        self.most: Counter[str] = Counter()
        self.all: Counter[str] = Counter()
        self._now: Counter[str] = Counter()
        loop: Any = asyncio.get_running_loop()
        run_once = loop._run_once

        def turn() -> None:
            run_once()
            self.most |= self._now  # the greater one of each
            self.all += self._now
            self._now.clear()

        loop._run_once = turn

    def count(self, name: str, number: int = 1) -> None:
        self._now[name] += number


def large_state() -> State:
    state = State(index=50)
    code = definition()
    for number in range(RUNS):
        steps = [Step(f"{place}/s", "compute", bytes(20), None, 1, 1) for place in range(STEPS)]
        by_id = {step.step_id: step for step in steps}
        state.runs[f"r{number}"] = Run(f"r{number}", code, b"", 3, [*steps], by_id, "completed", b"")
        state.finished.append(f"r{number}")
    return state


async def _large_members() -> Members:
    """Three nodes that begin with a snapshot in more than a hundred pieces."""
    members = Members(3, compaction=NEVER)
    pieces = tuple(Frozen(large_state()).pieces(NEVER.piece_bytes))
    assert len(pieces) > 100
    for number in members.numbers:
        members.journals.of(number).install(Snapshot(50, 1, pieces))
        members.journals.of(number).setCurrentTerm(1, None)
    return members


@pytest.fixture
def feeds(monkeypatch: pytest.MonkeyPatch) -> list[Turns]:
    """The turns of a test, when it has put them here, count the pieces that are read."""
    found: list[Turns] = []
    feed = Reader.feed

    def counted(self: Reader, piece: bytes) -> None:
        found[0].count("pieces read")
        feed(self, piece)

    monkeypatch.setattr(Reader, "feed", counted)
    return found


def test_nodes_read_their_snapshots_a_piece_in_a_turn(feeds: list[Turns]) -> None:
    async def main() -> None:
        members = await _large_members()
        feeds.append(turns := Turns())
        await members.start()
        assert len(members.members[1].state.runs) == RUNS
        assert turns.most["pieces read"] <= 2  # the last one of one node, and the first one of the next
        assert turns.all["pieces read"] > 300
        await members.close()

    run(main)


def test_a_snapshot_is_made_a_piece_in_a_turn_on_each_node(monkeypatch: pytest.MonkeyPatch, feeds: list[Turns]) -> None:
    async def main() -> None:
        members = await _large_members()
        feeds.append(turns := Turns())
        await members.start()
        await members.leader()
        assert committed(await members.commit(1))
        await members.level()
        pieces = Frozen.pieces

        def counted(self: Frozen, size: int) -> Any:
            for piece in pieces(self, size):
                turns.count("pieces made")
                yield piece

        monkeypatch.setattr(Frozen, "pieces", counted)
        for member in members.members.values():
            member.replica.compactor.begin(member.state)
        await members.commit(2)
        await asyncio.sleep(1)
        for number in members.numbers:
            snapshot = members.journals.of(number).snapshot
            assert snapshot is not None
            assert snapshot.index > 50
        assert turns.most["pieces made"] == 3
        assert turns.all["pieces made"] > 300
        await members.close()

    run(main)


def test_a_node_that_was_outrun_reads_few_pieces_in_a_turn_and_frees_its_old_state_and_log_bit_by_bit(
    monkeypatch: pytest.MonkeyPatch, feeds: list[Turns]
) -> None:
    monkeypatch.setattr(member_module, "MAX_RELEASED", 3 * STEPS)
    monkeypatch.setattr(journal_module, "MAX_RELEASED", 10)

    async def main() -> None:
        members = await _large_members()
        feeds.append(turns := Turns())
        await members.start()
        leader = await members.leader()
        late = next(number for number in members.numbers if number != leader.node)
        for number in range(40):
            await members.commit(number % 20)
        await members.level()
        for number in members.numbers:
            members.network.cut(number, late)
        for number in range(40):
            await members.commit(number % 20)
        leader.replica.compactor.begin(leader.state)
        let_go, release = Member._let_go, MemoryJournal.release

        def counted(self: Member, parts: list[Run | ClientSession]) -> None:
            before = len(parts)
            let_go(self, parts)
            if self.node == late:
                turns.count("parts let go", before - len(parts))

        def counted_release(self: MemoryJournal) -> bool:
            before = len(self._released)
            more = release(self)
            if self is members.journals.of(late):
                turns.count("entries let go", before - len(self._released))
            return more

        monkeypatch.setattr(Member, "_let_go", counted)
        monkeypatch.setattr(MemoryJournal, "release", counted_release)
        await members.until(lambda: members.journals.of(leader.node).first_index > 100)
        before = turns.all["pieces read"]
        members.network.heal_all()
        await members.level()
        await asyncio.sleep(1)
        assert turns.all["pieces read"] - before > 100
        assert turns.most["pieces read"] <= PIECES_IN_FLIGHT
        assert turns.all["parts let go"] >= RUNS
        assert turns.most["parts let go"] <= 3
        assert turns.all["entries let go"] > 40
        assert turns.most["entries let go"] <= 10
        assert summary(members.members[late].state) == summary(leader.state)
        await members.close()

    run(main)


def test_a_follower_that_lacks_much_of_the_log_is_sent_a_message_in_a_turn_and_applies_a_bit_in_a_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journal_module, "MAX_MESSAGE_ENTRIES", 16)
    monkeypatch.setattr(journal_module, "MAX_APPLIED_ENTRIES", 4)

    watched: dict[NodeId, Turns] = {}
    applied = Member.committed

    def counted_committed(self: Member, index: int, data: bytes) -> None:
        if self.node in watched:
            watched[self.node].count("applied")
        applied(self, index, data)

    monkeypatch.setattr(Member, "committed", counted_committed)

    async def main() -> None:
        members = Members(3, compaction=NEVER)
        await members.start()
        leader = await members.leader()
        late = next(number for number in members.numbers if number != leader.node)
        for number in members.numbers:
            members.network.cut(number, late)
        for number in range(300):
            await members.commit(number % 20)
        turns = watched[late] = Turns()
        send = leader._endpoint.send  # type: ignore[union-attr]

        def counted(peer: NodeId, message: Message) -> None:
            if isinstance(message, AppendEntries) and message.entries:
                turns.count(f"messages to {peer}")
                turns.count(f"entries to {peer}", len(message.entries))
            send(peer, message)

        monkeypatch.setattr(leader._endpoint, "send", counted)
        members.network.heal_all()
        await members.level()
        assert turns.all[f"entries to {late}"] >= 300
        assert turns.most[f"messages to {late}"] == 1
        assert turns.most[f"entries to {late}"] == 16
        assert turns.all["applied"] >= 300
        assert turns.most["applied"] <= 4
        await members.close()

    run(main)


# --- what the journal gives at a time

sizes = st.lists(st.sampled_from([0, 1, 100, 40_000, 70_000, 600_000, 1_100_000]), min_size=1, max_size=12)
_DATA = bytes(1_100_000)


def _journal(of: Sequence[int], first: int = 1) -> MemoryJournal:
    found = MemoryJournal()
    for index, size in enumerate(of, first):
        found.add(_DATA[:size], index, 1)
    return found


@given(sizes, st.integers(0, 12), st.booleans())
def test_a_slice_of_the_log_has_as_much_as_the_limit_allows_and_at_least_one_entry(
    of: list[int], begin: int, sent: bool
) -> None:
    journal = _journal(of)
    begin = min(begin, len(of) - 1)
    found = journal[begin:] if sent else journal[begin : len(of)]
    most = MAX_MESSAGE_BYTES if sent else MAX_APPLIED_BYTES
    assert [index for _, index, _ in found] == list(range(begin + 1, begin + 1 + len(found)))
    takes = [size + ENTRY_OVERHEAD for size in of[begin:]]
    assert len(found) == 1 or (found and sum(takes[: len(found)]) <= most)
    assert len(found) == len(takes) or sum(takes[: len(found) + 1]) > most


@given(sizes, st.integers(0, 3), st.integers(0, 12), st.integers(0, 3_000_000))
def test_what_is_kept_behind_a_snapshot_is_found_as_if_it_were_counted(
    of: list[int], cut: int, place: int, size: int
) -> None:
    journal = _journal(of)
    first = min(1 + cut, len(of))
    journal.keep(Snapshot(len(of), 1, (b"",)))
    journal.compact(first)
    index = min(first + place, len(of))
    expected, kept = index, 0
    while expected > first and kept < size:
        kept += of[expected - 1] + ENTRY_OVERHEAD
        expected -= 1
    assert journal.first_before(index, size) == expected


@given(st.lists(st.sampled_from(["add", "cut", "compact"]), max_size=30))
def test_sizes_follow_the_log_whatever_is_added_cut_and_dropped(what: list[str]) -> None:
    journal = _journal([5])
    for one in what:
        if one == "add":
            journal.add(bytes(journal.last_index % 7), journal.last_index + 1, 1)
        elif one == "cut" and len(journal) > 1:
            try:
                journal.deleteEntriesFrom(len(journal) - 1)
            except InternalError:  # committed
                continue
        elif one == "compact" and len(journal) > 2:
            journal.keep(Snapshot(journal.first_index + 1, 1, (b"",)))
            journal.compact(journal.first_index + 1)
    assert len(journal._ends) == len(journal)
    ends = journal._ends
    found = [later - earlier for earlier, later in itertools.pairwise(ends)]
    assert found == [len(data) + ENTRY_OVERHEAD for data, _, _ in journal[1:]]
