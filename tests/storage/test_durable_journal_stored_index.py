"""How far a log is stored: what a leader counts itself for, whatever happens while a group is on its way to the disk."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, cast

import pytest

from raftoral_nb.raft.journal import Snapshot
from raftoral_nb.simulation.dice import SeededDice
from raftoral_nb.simulation.disk import SimulatedDisk
from raftoral_nb.storage import durable_journal
from raftoral_nb.storage.durable_journal import DurableJournal
from raftoral_nb.storage.record_chain import identity
from raftoral_nb.storage.sqlite_store import recover

OPERATIONS = ["add"] * 6 + ["vote", "cut", "cut", "commit", "note", "snapshot", "compact", "install", "sync"]


class _Unwatched:
    def added(self, node: int, data: bytes, index: int, term: int) -> None: ...

    def deleted(self, node: int, index: int, last: int) -> None: ...

    def voted(self, node: int, term: int, vote: str) -> None: ...


class _Saver:
    """A disk that stores a group, and says so later, when the test wants it to."""

    def __init__(self) -> None:
        self._work: Callable[[], None] | None = None
        self._finished: list[Callable[[], None]] = []

    def submit(self, _loop: object, work: Callable[[], None], finished: Callable[[], None]) -> Callable[[], None]:
        self._work = work
        self._finished.append(finished)
        return self.store

    def store(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            work()

    def tell(self) -> None:
        """Tell of the oldest group that nobody was told of, if it is stored."""
        if self._finished and (len(self._finished) > 1 or self._work is None):
            self._finished.pop(0)()

    def close(self) -> None: ...


def _happens(operation: str, journal: DurableJournal, dice: random.Random) -> None:
    last, commit = journal.last_index, journal.getRaftCommitIndex()
    match operation:
        case "add":
            journal.add(dice.randbytes(3), last + 1, max(journal.getCurrentTerm(), journal.last_term))
        case "vote":
            journal.setCurrentTerm(journal.getCurrentTerm() + 1, dice.choice([None, "1", "2"]))
        case "cut" if last > commit:
            journal.deleteEntriesFrom(dice.randint(commit + 1, last) - journal.first_index)
        case "commit":
            journal.setRaftCommitIndex(dice.randint(commit, last))
        case "note":
            journal.note_committed(dice.randint(commit, last))
        case "snapshot" if commit > max(journal.snapshot_index, journal.first_index):
            journal.keep(Snapshot(commit, journal.term_at(commit) or 0, (dice.randbytes(9),)))
        case "compact" if journal.snapshot_index > journal.first_index:
            journal.compact(dice.randint(journal.first_index, journal.snapshot_index))
        case "install" if dice.random() < 0.3:
            # Of a later term: it may stand for less than what is here and not committed.
            term = max(journal.getCurrentTerm(), journal.last_term) + 1
            journal.setCurrentTerm(term, None)
            journal.install(Snapshot(dice.randint(commit + 1, last + 3), term, (dice.randbytes(9),)))
        case "sync":
            journal.sync()


@pytest.mark.parametrize("seed", range(30))
def test_what_counts_as_stored_is_on_the_disk_whatever_happens_while_a_group_is_stored(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable_journal, "GARBAGE_BYTES", 300)
    dice, saver = random.Random(seed), _Saver()
    disk = SimulatedDisk(1, SeededDice(seed), _Unwatched())
    writer, recovered, pieces, _ = disk.open(None)
    journal = DurableJournal(writer, recovered, pieces, saver=saver)
    journal.add(b"first", 1, 0)
    nowhere = cast("asyncio.AbstractEventLoop", None)
    counted: list[Any] = []
    for _ in range(300):
        match dice.randrange(4):
            case 0 if not journal.saving and not journal.safe:
                journal.save(nowhere, counted.append)
            case 1:
                saver.store()
            case 2:
                saver.tell()
            case _:
                _happens(dice.choice(OPERATIONS), journal, dice)
        on_disk = recover(disk, identity("simulated", 1))[0].contents
        stored = {index: (data, term) for data, index, term in on_disk.entries}
        for data, index, term in journal.tail(len(journal)):
            assert index > journal.stored_index or stored[index] == (data, term)
        assert not journal.safe or journal.stored_index == journal.last_index
        if journal.safe:
            assert (on_disk.term, on_disk.vote) == (journal.getCurrentTerm(), journal.getVotedForNodeId())
    assert counted, "nothing was stored beside the loop"
    assert not any(counted)
