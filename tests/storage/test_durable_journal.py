"""Journals on SQLite: what is stored is read back, what is damaged is noticed, and nothing is called stored that is not."""

from __future__ import annotations

import asyncio
import gc
import random
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raftoral_nb.errors import DamagedStorageError, StorageError, StorageWriteError
from raftoral_nb.raft.journal import MemoryJournal, Snapshot
from raftoral_nb.storage import durable_journal, sqlite_store
from raftoral_nb.storage.data_directory import DirectoryJournals, Durability, node_folder, read_manifest, read_node
from raftoral_nb.storage.durable_journal import DurableJournal, SaverThread
from raftoral_nb.storage.record_chain import Chain, ChainContents, Head, Voted, follow_chain, identity, read_head

Contained = tuple[int, str | None, int, tuple[tuple[bytes, int, int], ...], Snapshot | None]


def contained(journal: MemoryJournal) -> Contained:
    """Everything that a journal holds."""
    entries = tuple(journal[position] for position in range(len(journal)))
    return (
        journal.getCurrentTerm(),
        journal.getVotedForNodeId(),
        journal.getRaftCommitIndex(),
        entries,
        journal.snapshot,
    )


def opened(journals: DirectoryJournals, node: int = 1) -> DurableJournal:
    journal = asyncio.run(journals.open(node))
    assert isinstance(journal, DurableJournal)
    return journal


@pytest.fixture
def journals(tmp_path: Path) -> Iterator[DirectoryJournals]:
    one = DirectoryJournals(tmp_path / "data", "test", (1,), "process")
    yield one
    one.end()


_opened_again: list[DirectoryJournals] = []


def again(one: DirectoryJournals, durability: Durability = "process") -> DirectoryJournals:
    """The same directory, once more; it is let go of when the test ends."""
    one.end()
    _opened_again.append(DirectoryJournals(one.path, "test", (1,), durability))
    return _opened_again[-1]


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    """From Python 3.13 on a database that nobody closed is a warning, in whichever test happens to run then."""
    yield
    while _opened_again:
        _opened_again.pop().end()


def filled(journal: DurableJournal, dice: random.Random, operations: int) -> list[Contained]:
    """Do things to a journal, stored after every few; returns what it held whenever it was stored."""
    held = []
    if not len(journal):
        journal.add(b"first", 1, 0)
    for number in range(operations):
        match dice.choice(["add"] * 6 + ["vote", "cut", "commit", "snapshot", "install"]):
            case "add":
                term = max(journal.getCurrentTerm(), journal[-1][2])
                journal.add(dice.randbytes(dice.choice([3, 40, 5000])), journal.last_index + 1, term)
            case "vote":
                journal.setCurrentTerm(journal.getCurrentTerm() + 1, dice.choice([None, "1", "2"]))
            case "cut":
                last = journal.last_index
                first = max(journal.getRaftCommitIndex() + 1, last - dice.randrange(3))
                if first <= last:
                    journal.deleteEntriesFrom(first - journal.first_index)
            case "commit":
                journal.setRaftCommitIndex(dice.randint(journal.getRaftCommitIndex(), journal.last_index))
            case "snapshot":
                index = dice.randint(journal.first_index, journal.getRaftCommitIndex())
                if journal.snapshot is None or index > journal.snapshot.index:
                    journal.keep(snapshot_of(index, journal.term_at(index) or 0, dice))
                    if dice.random() < 0.7:
                        journal.compact(dice.randint(journal.first_index, index))
            case "install" if number % 7 == 0:
                ahead = journal.last_index + dice.randrange(1, 5)
                journal.install(snapshot_of(ahead, journal.getCurrentTerm() + 1, dice))
                journal.setCurrentTerm(journal.getCurrentTerm() + 1, None)
        if dice.random() < 0.4:
            journal.sync()
            held.append(contained(journal))
    journal.sync()
    held.append(contained(journal))
    return held


def snapshot_of(index: int, term: int, dice: random.Random) -> Snapshot:
    return Snapshot(index, term, tuple(dice.randbytes(900) for _ in range(dice.randrange(1, 6))), (1, 2))


@pytest.mark.parametrize("durability", ["process", "disk"])
@pytest.mark.parametrize("seed", range(6))
def test_what_was_stored_is_read_back(tmp_path: Path, seed: int, durability: Durability) -> None:
    dice = random.Random(seed)
    one = DirectoryJournals(tmp_path / "data", "test", (1,), durability)
    for _ in range(4):
        journal = opened(one)
        last = filled(journal, dice, 30)[-1]
        one = again(one, durability)
        found = contained(opened(one))
        # How far it is committed is written with the next entry: it may be behind, never ahead.
        assert found[:2] + found[3:] == last[:2] + last[3:]
        assert found[2] <= last[2]
    one.end()


def test_what_was_not_stored_is_gone_when_the_process_ends(journals: DirectoryJournals) -> None:
    journal = opened(journals)
    journal.add(b"first", 1, 0)
    journal.sync()
    journal.add(b"second", 2, 0)
    journal.setCurrentTerm(3, "2")
    assert not journal.safe
    reopened = opened(again(journals))
    assert (reopened.last_index, reopened.getCurrentTerm(), reopened.getVotedForNodeId()) == (1, 0, None)
    reopened.close()


def test_the_members_that_a_log_names_are_read_back(journals: DirectoryJournals) -> None:
    journal = opened(journals)
    journal.add(b"first", 1, 0)
    journal.install(Snapshot(9, 2, (b"piece",), (1, 4, 5)))
    journal.sync()
    assert opened(again(journals)).members == (1, 4, 5)


def test_nothing_counts_as_committed_before_this_node_has_stored_it(journals: DirectoryJournals) -> None:
    journal = opened(journals)
    for index in (1, 2, 3):
        journal.add(b"x", index, 0)
    journal.setRaftCommitIndex(2)
    assert journal.safe
    reopened = opened(again(journals))
    assert reopened.last_index == 3


def test_a_log_does_not_grow_with_terms_and_votes_that_are_over(
    journals: DirectoryJournals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable_journal, "GARBAGE_BYTES", 2000)
    journal = opened(journals)
    for term in range(1, 400):
        journal.setCurrentTerm(term, None)
        journal.sync()
    with sqlite_store.SqliteReader(node_folder(journals.path, 1)) as reader:
        rows = list(reader.rows())
    assert len(rows) < 40
    assert opened(again(journals)).getCurrentTerm() == 399


# --- storing beside the loop


class SlowWriter:
    """A writer that waits until it is told to go on, and may fail."""

    def __init__(self) -> None:
        self.groups: list[sqlite_store.Group] = []
        self.go = threading.Semaphore(0)
        self.error: Exception | None = None

    def write(self, group: sqlite_store.Group, head: Head) -> None:
        assert self.go.acquire(timeout=30)
        if self.error is not None:
            raise self.error
        self.groups.append(group)

    def close(self) -> None:
        pass


def slow_journal(writer: SlowWriter) -> DurableJournal:
    own = identity("test", 1)
    contents = ChainContents()
    recovered = follow_chain([Chain(0, own, own).append(contents.base(own))], Head(0, own), own, may_be_torn=False)
    return DurableJournal(writer, recovered, (), saver=SaverThread("test-disk"))


def test_what_is_written_during_a_save_waits_for_the_next_one() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        writer = SlowWriter()
        journal = slow_journal(writer)
        saved: asyncio.Queue[BaseException | None] = asyncio.Queue()
        journal.add(b"a", 1, 0)
        journal.save(loop, saved.put_nowait)
        journal.add(b"b", 2, 0)
        assert journal.saving
        writer.go.release()
        assert await saved.get() is None
        assert (journal.stored, journal.written, journal.safe) == (1, 2, False)
        journal.save(loop, saved.put_nowait)
        writer.go.release()
        assert await saved.get() is None
        assert journal.safe
        assert [len(group.rows) for group in writer.groups] == [1, 1]
        journal.close()

    asyncio.run(main())


def test_an_entry_replaced_during_a_save_is_not_taken_for_stored() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        writer = SlowWriter()
        journal = slow_journal(writer)
        saved: asyncio.Queue[BaseException | None] = asyncio.Queue()
        journal.add(b"first", 1, 0)
        journal.add(b"old", 2, 1)
        journal.save(loop, saved.put_nowait)
        journal.deleteEntriesFrom(1)
        journal.add(b"new", 2, 2)
        writer.go.release()
        assert await saved.get() is None
        writer.go.release()
        journal.setRaftCommitIndex(2)  # stores the new entry first
        assert journal.safe
        assert len(writer.groups) == 2
        journal.close()

    asyncio.run(main())


def test_after_a_failed_save_nothing_counts_as_stored_and_nothing_is_committed() -> None:
    async def main() -> None:
        writer = SlowWriter()
        journal = slow_journal(writer)
        saved: asyncio.Queue[BaseException | None] = asyncio.Queue()
        writer.error = StorageWriteError("full")
        journal.add(b"a", 1, 0)
        journal.add(b"b", 2, 0)
        journal.save(asyncio.get_running_loop(), saved.put_nowait)
        writer.go.release()
        with pytest.raises(StorageWriteError):
            journal.setRaftCommitIndex(2)
        assert isinstance(await saved.get(), StorageWriteError)
        with pytest.raises(StorageWriteError):
            journal.sync()
        assert (journal.getRaftCommitIndex(), journal.stored) == (1, 0)
        journal.close()

    asyncio.run(main())


# --- damage


def pristine(tmp_path: Path, seed: int) -> tuple[Path, list[Contained]]:
    """A directory as a killed process leaves it (its write-ahead log is there), and what it held whenever it was stored."""
    path = tmp_path / "data"
    one = DirectoryJournals(path, "test", (1,), "process")
    journal = opened(one)
    held = filled(journal, random.Random(seed), 60)
    shutil.copytree(path, tmp_path / "killed")
    one.end()
    return tmp_path / "killed", held


def same(found: Contained, expected: Contained) -> bool:
    return found[:2] + found[3:] == expected[:2] + expected[3:] and found[2] <= expected[2]


def checked(path: Path, held: list[Contained], what: str) -> bool:
    """Open a directory: everything that was stored is there, or an error says what is wrong. Returns whether it was an error."""
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file() and file.name != "lock"}
    one = None
    try:
        one = DirectoryJournals(path, "test", (1,), "process")
        found = contained(opened(one))
    except StorageError as error:
        assert str(path) in str(error), what  # noqa: PT017 - that it is raised is one of two good outcomes
        after = {file: file.read_bytes() for file in path.rglob("*") if file.is_file() and file.name != "lock"}
        assert after == before, f"{what}: a damaged file was changed"
        return True
    finally:
        if one is not None:
            one.end()
    assert same(found, held[-1]), f"{what}: a wrong state was read"
    return False


def damages(path: Path, dice: random.Random, count: int) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Flipped bits in every file, at random and, so that small files get their share, as many in each."""
    files = sorted(file.relative_to(path) for file in path.rglob("*") if file.is_file() and file.stat().st_size)
    assert {file.name for file in files} >= {"cluster.json", "log.db", "log.db-wal", "log.head"}
    for file in files:
        size = (path / file).stat().st_size
        for _ in range(count):
            offset, bit = dice.randrange(size), dice.randrange(8)

            def flip(copy: Path, file: Path = file, offset: int = offset, bit: int = bit) -> None:
                data = bytearray((copy / file).read_bytes())
                data[offset] ^= 1 << bit
                (copy / file).write_bytes(data)

            yield f"bit {bit} of byte {offset} of {file}", flip
        for length in {0, 1, size // 2, size - 1, *(dice.randrange(size) for _ in range(count // 20))}:

            def truncate(copy: Path, file: Path = file, length: int = length) -> None:
                (copy / file).write_bytes((copy / file).read_bytes()[:length])

            yield f"{file} cut to {length} of {size} bytes", truncate
        if file.name != "lock":

            def remove(copy: Path, file: Path = file) -> None:
                (copy / file).unlink()

            yield f"{file} removed", remove


@pytest.mark.parametrize("seed", range(2))
def test_a_flipped_bit_or_a_missing_end_is_noticed_or_harmless_wherever_it_is(
    tmp_path: Path, request: pytest.FixtureRequest, seed: int
) -> None:
    path, held = pristine(tmp_path, seed)
    assert not checked(path, held, "untouched")
    shutil.rmtree(path)
    path, held = pristine(tmp_path / "again", seed)
    noticed = 0
    for number, (what, damage) in enumerate(
        damages(path, random.Random(seed + 100), request.config.getoption("--bit-flips"))
    ):
        copy = tmp_path / f"copy-{number}"
        shutil.copytree(path, copy)
        damage(copy)
        noticed += checked(copy, held, what)
        shutil.rmtree(copy)
    assert noticed > 20


def test_a_write_ahead_log_of_which_sqlite_drops_the_end_is_noticed(tmp_path: Path) -> None:
    path, held = pristine(tmp_path, 5)
    wal = sqlite_store.wal_of(node_folder(path, 1) / sqlite_store.LOG_FILE)
    wal.write_bytes(wal.read_bytes()[:-4096])
    with pytest.raises(
        DamagedStorageError, match=r"log\.db is damaged: it ends with record .*acknowledged ones are lost"
    ):
        DirectoryJournalsReader(path).read()
    assert held


class DirectoryJournalsReader:
    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> None:
        manifest = read_manifest(self.path)
        assert manifest is not None
        read_node(self.path, manifest, 1)


def test_a_node_that_crashes_in_each_of_its_lives_as_it_writes_a_head_can_always_be_read(tmp_path: Path) -> None:
    """The first head of a new life went where it always goes: over the good one, beside one that an earlier crash had torn."""
    folder, own = tmp_path / "node", identity("test", 1)
    chain = Chain(0, own, own)
    first = chain.append(ChainContents().base(own))
    sqlite_store.create(folder, first, own)
    head_file = folder / sqlite_store.HEAD_FILE
    for writes in (2, 1, 1, 3, 2, 1):
        writer = sqlite_store.SqliteWriter(folder, own, chain.head, synced=False)
        for _ in range(writes):
            good = read_head(head_file.read_bytes(), own)
            row = chain.append(Voted(chain.number, None))
            writer.write(sqlite_store.Group((row,), (), None, None), chain.head)
        writer.close()
        torn = bytearray(head_file.read_bytes())
        half = len(torn) // 2
        last = next(slot for slot in (0, 1) if Head(row.number, row.digest).slot(own) in torn[slot * half :][:half])
        torn[last * half + 20] ^= 1
        head_file.write_bytes(torn)
        assert read_head(bytes(torn), own) == good


def test_reading_that_ends_in_the_middle_leaves_nothing_that_raises_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, own = tmp_path / "node", identity("test", 1)
    chain = Chain(0, own, own)
    sqlite_store.create(folder, chain.append(ChainContents().base(own)), own)
    writer = sqlite_store.SqliteWriter(folder, own, chain.head, synced=False)
    rows = tuple(chain.append(Voted(term, None)) for term in (1, 2, 3))
    writer.write(sqlite_store.Group(rows, (), None, None), chain.head)
    writer.close()
    raised: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", raised.append)
    with sqlite_store.SqliteReader(folder) as reader:
        reading = reader.rows()
        next(reading)
    del reading
    gc.collect()
    assert raised == []


def test_a_node_that_crashes_in_each_of_its_lives_before_it_writes_a_head_can_always_be_read(tmp_path: Path) -> None:
    """A life begins with a new base. After two such crashes in a row it was called damaged: the head spoke of what the base had dropped."""
    folder, own = tmp_path / "node", identity("test", 1)
    chain = Chain(0, own, own)
    sqlite_store.create(folder, chain.append(ChainContents().base(own)), own)
    head_file = folder / sqlite_store.HEAD_FILE
    for writes in (3, 0, 0, 2, 0, 1):
        with sqlite_store.SqliteReader(folder) as reader:
            recovered, _ = reader.recover(own)
        assert recovered.chain.head == chain.head
        writer = sqlite_store.SqliteWriter(folder, own, chain.head, synced=False)
        base = chain.append(recovered.contents.base(chain.digest))
        before = head_file.read_bytes()
        writer.write(sqlite_store.Group((base,), (), base.number, None), chain.head)
        for _ in range(writes):
            before = head_file.read_bytes()
            row = chain.append(Voted(chain.number + 1, None))
            writer.write(sqlite_store.Group((row,), (), None, None), chain.head)
        writer.close()
        head_file.write_bytes(before)  # the last head did not come so far
