"""What a journal says of itself is what its entries and its snapshot say, after every operation."""

from __future__ import annotations

from raftoral_nb.core.commands import Entry, Proposal, Takeover
from raftoral_nb.core.entry_codec import encode_entry
from raftoral_nb.raft.journal import MemoryJournal, Snapshot


def plain() -> bytes:
    return b"\x00" + encode_entry(Entry((Proposal(None, Takeover(node=1, term=1)),)))


def naming(*members: int) -> bytes:
    return b"\x00" + encode_entry(Entry((Proposal(None, Takeover(node=1, term=1)),), members))


def held(journal: MemoryJournal) -> tuple[int, ...]:
    return tuple(journal[position][1] for position in range(len(journal)))


def filled() -> MemoryJournal:
    """Seven entries; the second, the fourth and the sixth name members."""
    journal = MemoryJournal()
    for index in range(1, 8):
        journal.add(naming(1, 2, index) if index in (2, 4, 6) else plain(), index, 1)
    return journal


def test_an_empty_journal_has_no_last_entry_and_names_nobody() -> None:
    journal = MemoryJournal()
    assert (journal.first_index, journal.last_index, journal.members) == (1, 0, ())


def test_entries_move_the_end_of_the_log_and_the_last_that_names_members_counts() -> None:
    journal = filled()
    assert (journal.first_index, journal.last_index) == (1, 7)
    assert (journal.members, journal.members_since) == ((1, 2, 6), 6)


def test_a_log_that_is_cut_ends_earlier_and_names_those_it_named_before() -> None:
    journal = filled()
    journal.deleteEntriesFrom(4)
    assert held(journal) == (1, 2, 3, 4)
    assert (journal.first_index, journal.last_index) == (1, 4)
    assert (journal.members, journal.members_since) == ((1, 2, 4), 4)
    journal.add(plain(), 5, 2)
    assert (journal.last_index, journal.term_at(5), journal.members) == (5, 2, (1, 2, 4))


def test_a_compacted_log_begins_later_and_names_those_of_its_snapshot_or_of_an_entry_behind_it() -> None:
    for index, members in ((5, (1, 2, 6)), (7, (1, 2, 9))):
        journal = filled()
        journal.keep(Snapshot(index, 1, (b"",), (1, 2, 9)))
        journal.compact(index - 1)
        assert held(journal) == tuple(range(index - 1, 8))
        assert (journal.first_index, journal.last_index) == (index - 1, 7)
        assert journal.members == members


def test_a_log_that_a_snapshot_replaced_has_the_entry_it_stands_for_and_goes_on_behind_it() -> None:
    journal = filled()
    journal.install(Snapshot(20, 3, (b"",), (1, 5)))
    assert held(journal) == (20,)
    assert (journal.first_index, journal.last_index, journal.members) == (20, 20, (1, 5))
    journal.add(naming(1, 5, 6), 21, 3)
    assert (journal.first_index, journal.last_index, journal.members) == (20, 21, (1, 5, 6))
