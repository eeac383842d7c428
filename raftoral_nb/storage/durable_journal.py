"""A journal that outlives its process: the memory journal, with every operation written to a store.

Reads come from memory. Writes gather there, and `sync` (or `save`, beside the consensus loop) stores what has gathered as one
group: many entries, one sync. The replica decides what must wait for it, except for one thing that is decided
here: PySyncObj counts nothing as committed that this node itself has not stored (`raft.fast_path` counts what each has stored).
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Final, Protocol

from ..errors import StorageError
from ..raft.journal import MemoryJournal, Snapshot
from .record_chain import Added, Base, Chain, ChainContents, Cut, Head, Record, Recovered, Row, Voted, kept
from .sqlite_store import Group, Piece, RecordWriter, numbered

GARBAGE_BYTES: Final = 8 * 1024 * 1024
"""Superseded records (deleted entries, earlier terms and votes) that are left in a log before it is written anew, in bytes."""

_SMALL_RECORD: Final = 64


class Saver(Protocol):
    """A thread that does work beside the consensus loop, one piece after the other."""

    def submit(
        self, loop: asyncio.AbstractEventLoop, work: Callable[[], None], finished: Callable[[], None]
    ) -> Callable[[], None]:
        """Have `work()` done, then `finished()` called on the loop; returns what waits until the work is done."""
        ...

    def close(self) -> None:
        """End, after what was submitted."""
        ...


class SaverThread:
    """A daemon thread that does one node's writing, so that nothing else waits for its disk."""

    def __init__(self, name: str) -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()

    def submit(
        self, loop: asyncio.AbstractEventLoop, work: Callable[[], None], finished: Callable[[], None]
    ) -> Callable[[], None]:
        """Have `work()` done on the thread, then `finished()` called on the loop; `work` must not raise."""
        done = threading.Event()

        def call() -> None:
            work()
            done.set()
            with contextlib.suppress(RuntimeError):  # the loop is gone, and with it whoever waited
                loop.call_soon_threadsafe(finished)

        self._work.put(call)

        def wait() -> None:
            done.wait()

        return wait

    def close(self) -> None:
        """End, after what was submitted."""
        self._work.put(None)
        self._thread.join()

    def _main(self) -> None:
        while (call := self._work.get()) is not None:
            call()


class _Saving:
    """A group on its way."""

    def __init__(self, written: int, last_index: int) -> None:
        self.written = written
        # Invariant: no entry above it that the log holds now is in the group or before it.
        self.last_index = last_index
        self.wait: Callable[[], None] = _nothing
        self.error: BaseException | None = None


class DurableJournal(MemoryJournal):
    """The log, term, vote and snapshot of a node, kept in a store.

    Every operation takes effect in memory at once. `safe` says whether all of them are stored; `written` counts them,
    `stored` those that are. After a failure of the store nothing is stored any more, and `sync` and `save` say so: the
    node must end, and may start again from what the store holds.
    """

    def __init__(
        self,
        writer: RecordWriter,
        recovered: Recovered,
        pieces: tuple[bytes, ...],
        *,
        saver: Saver | None = None,
    ) -> None:
        super().__init__()
        contents = recovered.contents
        for data, index, entry_term in contents.entries:
            super().add(data, index, entry_term)
        self._term, self._vote = contents.term, contents.vote
        self._commit_index = contents.commit
        if contents.kept is not None:
            snapshot = Snapshot(contents.kept.index, contents.kept.term, pieces, contents.kept.members)
            self.snapshot = snapshot
            self._naming = [(index, members) for index, members in self._naming if index > snapshot.index]
            self._look()
        self._kept = contents.kept
        self._writer = writer
        self._saver = saver
        self._chain: Chain = recovered.chain
        self._pending: list[Record] = []
        self._pieces: tuple[Piece, ...] = ()
        self._anew = False
        self._garbage = 0
        self._saving: _Saving | None = None
        self._error: BaseException | None = None
        self._closed = False
        self.written = 0
        self.stored = 0
        # Invariant: the entries held up to this index are stored.
        self._stored_index = self.last_index

    def begin(self) -> None:
        """Write the log anew: it shows that there is room for it. Raises `StorageError`."""
        self._write_anew()
        self.sync()

    # --- what is written

    def add(self, command: bytes, idx: int, term: int) -> None:
        """Append an entry. Raises `InternalError` if it would leave a gap."""
        super().add(command, idx, term)
        self._write(Added(idx, term, command, self._commit_index))

    def deleteEntriesFrom(self, entryFrom: int) -> None:  # noqa: N802, N803
        """Drop the entries from position `entryFrom` on. Raises `InternalError` if one of them is committed."""
        dropped = self._entries[entryFrom:]
        super().deleteEntriesFrom(entryFrom)
        if dropped:
            first = dropped[0][1]
            self._stored_index = min(self._stored_index, first - 1)
            if self._saving is not None:
                self._saving.last_index = min(self._saving.last_index, first - 1)
            self._garbage += sum(len(data) + _SMALL_RECORD for data, _, _ in dropped)
            self._write(Cut(first))

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:  # noqa: N802, N803
        """Remember the current term and who got this node's vote in it."""
        super().setCurrentTerm(term, votedForNodeId)
        self._garbage += _SMALL_RECORD
        self._write(Voted(term, votedForNodeId))

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:  # noqa: N802, N803
        """Remember how far the log is known to be committed; it is written with the next entry.

        PySyncObj counts a leader among those that hold an entry whether or not the leader has stored it, and calls this before it
        acts on the result. So what is not stored yet is stored first, while the loop waits; a leader that cannot store it commits
        nothing. Raises `StorageError`.
        """
        if raftCommitIndex > self._stored_index and not self.safe:
            self.sync()
        super().setRaftCommitIndex(raftCommitIndex)

    def keep(self, snapshot: Snapshot) -> None:
        """Keep a snapshot of this log in place of the last one. Raises `InternalError` if it is not one of this log."""
        super().keep(snapshot)
        self._kept = kept(snapshot)
        self._pieces = numbered(snapshot.pieces, snapshot.index)
        self._write(self._kept)

    def compact(self, first: int) -> None:
        """Drop the entries before `first`. Raises `InternalError` unless the snapshot stands for `first` and all before."""
        super().compact(first)
        self._write_anew()

    def install(self, snapshot: Snapshot) -> None:
        """Replace the whole log by a snapshot of another node's. Raises `InternalError` if something committed would be lost."""
        super().install(snapshot)
        self._kept = kept(snapshot)
        self._pieces = numbered(snapshot.pieces, snapshot.index)
        self._stored_index = 0
        if self._saving is not None:
            self._saving.last_index = 0
        self._write_anew()

    def _write(self, record: Record) -> None:
        self.written += 1
        self.safe = False
        self._pending.append(record)
        if self._garbage > GARBAGE_BYTES:
            self._write_anew()

    def _write_anew(self) -> None:
        self.written += 1
        self.safe = False
        self._anew = True
        self._garbage = 0

    # --- storing it

    @property
    def stored_index(self) -> int:
        """The entries held up to this index are stored."""
        return self._stored_index

    @property
    def saving(self) -> bool:
        """True if a `save` is under way."""
        return self._saving is not None

    def save(self, loop: asyncio.AbstractEventLoop, done: Callable[[BaseException | None], None]) -> None:
        """Store what was written so far, and call `done(error)` on the loop, or right now if the store is quick.

        Not to be called while `saving`. More may be written meanwhile.
        """
        if self._saver is None:
            try:
                self.sync()
            except StorageError as error:
                done(error)
            else:
                done(None)
            return
        self._refuse_if_broken()
        saving = self._saving = _Saving(self.written, self.last_index)
        group, head = self._group()

        def work() -> None:
            try:
                self._writer.write(group, head)
            except Exception as error:
                saving.error = error

        def finished() -> None:
            if not self._closed:
                self._finish(saving)
                done(self._error)

        saving.wait = self._saver.submit(loop, work, finished)

    def sync(self) -> None:
        """Store everything written so far before returning. Raises `StorageError`: then the node must end."""
        self._refuse_if_broken()
        saving = self._saving
        if saving is not None:
            saving.wait()
            self._finish(saving)
            self._refuse_if_broken()
        if not self.safe:
            saving = _Saving(self.written, self.last_index)
            group, head = self._group()
            try:
                self._writer.write(group, head)
            except Exception as error:
                saving.error = error
            self._finish(saving)
            self._refuse_if_broken()

    def _finish(self, saving: _Saving) -> None:
        if self._saving is saving:
            self._saving = None
        if saving.error is not None:
            self._error = self._error or saving.error
        elif self._error is None and saving.written > self.stored:
            self.stored = saving.written
            self.safe = self.written == self.stored
            self._stored_index = saving.last_index

    def _refuse_if_broken(self) -> None:
        if self._error is not None:
            raise self._error

    def _group(self) -> tuple[Group, Head]:
        chain = self._chain
        rows: tuple[Row, ...]
        base = None
        if self._anew:
            rows = (chain.append(self._base()),)
            base = rows[0].number
        else:
            rows = tuple(map(chain.append, self._pending))
        pieces, self._pieces = self._pieces, ()
        self._pending, self._anew = [], False
        supersedes = None if self._kept is None or not (pieces or base) else self._kept.index
        return Group(rows, pieces, base, supersedes), chain.head

    def _base(self) -> Base:
        contents = ChainContents()
        contents.term, contents.vote, contents.commit = self._term, self._vote, self._commit_index
        contents.entries, contents.kept = self._entries, self._kept
        return contents.base(self._chain.digest)

    def close(self) -> None:
        """Let go of the store. What was not stored is lost, as if the process had ended. Idempotent."""
        if self._saver is not None and not self._closed:
            self._saver.close()
        self.close_store()

    def close_store(self) -> None:
        """Close as `close` does, and leave the saver's thread to another owner."""
        if not self._closed:
            self._closed = True
            self._writer.close()
            self.blobs.close()


def _nothing() -> None:
    pass
