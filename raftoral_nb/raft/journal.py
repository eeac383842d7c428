"""A node's log, term, vote and snapshot. The log has the form PySyncObj asks for (`pysyncobj.journal.Journal`)."""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_right
from collections.abc import Callable
from typing import overload

import msgspec

from ..core.commands import Proposal
from ..core.entry_codec import NAMES_MEMBERS, decode_entry, named_members
from ..core.records import NodeId
from ..errors import InternalError, ProtocolError
from ..limits import MAX_APPLIED_BYTES, MAX_APPLIED_ENTRIES, MAX_MESSAGE_BYTES, MAX_MESSAGE_ENTRIES, MAX_RELEASED
from .blob_store import BlobStore, MemoryBlobs

LogEntry = tuple[bytes, int, int]
"""An entry as it is stored: data, index, term."""

ENTRY_OVERHEAD = 128
"""Counted for an entry beside its data (bytes): about what Python needs for it."""


class Snapshot(msgspec.Struct, frozen=True):
    """The replicated state as it was after the entry at `index`, whose term is `term`; see `raftoral_nb.core.snapshot`.

    `members` are those that the log up to there names; empty if it names none.
    """

    index: int
    term: int
    pieces: tuple[bytes, ...]
    members: tuple[NodeId, ...] = ()

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(map(len, self.pieces))


class MemoryJournal:
    """A log, term, vote and snapshot held in memory, by the cluster: it outlives its node's `kill` as a disk would.

    Does not survive the process. Slices are cut: PySyncObj reads "the rest of the log" for every message it sends, and "all
    that is committed" for every batch it applies, and this bounds both (`MAX_MESSAGE_ENTRIES`, `MAX_APPLIED_ENTRIES`, and the
    same in bytes).

    For journals that store what is written (`durable_journal`): operations take effect at once, and are stored by
    `sync`, or by `save` while the loop continues. Until then nothing may be sent that says that they are. Here there is
    nothing to store.
    """

    written: int = 0
    """The number of operations written."""
    stored: int = 0
    """The number of written operations that are stored."""
    safe: bool = True
    """True if everything that was written is stored."""

    def __init__(self) -> None:
        self.blobs: BlobStore = MemoryBlobs()
        """The large values that the log refers to, kept as the log is."""
        # Invariant: indexes are consecutive, and terms never decrease. Begins at 1, or at or below the snapshot's index.
        self._entries: list[LogEntry] = []
        # Invariant: as long as `_entries`; what the entries up to each take together, counted from some point (bytes).
        self._ends = array("q")
        # Dropped entries that `release` has not let go yet.
        self._released: list[LogEntry] = []
        self._term = 0
        self._vote: str | None = None
        # Invariant: nothing at or below it is ever deleted, and it never goes back.
        self._commit_index = 1
        # Invariant: its index only rises, and is at most the commit index.
        self.snapshot: Snapshot | None = None
        # Invariant: the entries of the log that name members, by index, ascending.
        self._naming: list[tuple[int, tuple[NodeId, ...]]] = []
        # What is read many times for each message. Invariant: as the entries and the snapshot say.
        self.first_index = 1
        """Index of the first entry held (1 until the log was compacted). All up to it is committed."""
        self.last_index = 0
        """Index of the last entry."""
        self.last_term = 0
        """Term of the last entry."""
        self.members: tuple[NodeId, ...] = ()
        """The voting members: those that the log names last, committed or not. Empty if it names none."""

    # --- what PySyncObj calls

    def add(self, command: bytes, idx: int, term: int) -> None:
        """Append an entry. Raises `InternalError` if it would leave a gap."""
        if not self._entries:
            self.first_index = idx
        elif idx != self.last_index + 1:
            raise InternalError(f"entry {idx} was appended behind entry {self.last_index}")
        self._entries.append((command, idx, term))
        self.last_index = idx
        self.last_term = term
        # One byte is looked at before the rest is copied.
        named = command[1:2] == NAMES_MEMBERS
        if named and (members := named_members(command[1:])) is not None:
            self._naming.append((idx, members))
            self.members = members
        self._ends.append((self._ends[-1] if self._ends else 0) + len(command) + ENTRY_OVERHEAD)

    def clear(self) -> None:
        """Refuse: the log is only ever cut at a conflict."""
        raise InternalError("the log must not be cleared")

    def deleteEntriesFrom(self, entryFrom: int) -> None:  # noqa: N802, N803 - PySyncObj's names
        """Drop the entries from position `entryFrom` on. Raises `InternalError` if one of them is committed."""
        first = self._entries[0][1] + entryFrom
        if first <= self._commit_index:
            raise InternalError(f"entry {first} is committed (up to {self._commit_index}) and was to be deleted")
        del self._entries[entryFrom:]
        while self._naming and self._naming[-1][0] >= first:
            self._naming.pop()
        del self._ends[entryFrom:]
        self._look()

    def _look(self) -> None:
        """Read anew what the entries and the snapshot say, after a change that was more than another entry."""
        entries, naming, snapshot = self._entries, self._naming, self.snapshot
        self.first_index = entries[0][1] if entries else 1
        self.last_index, self.last_term = entries[-1][1:] if entries else (0, 0)
        self.members = naming[-1][1] if naming else () if snapshot is None else snapshot.members

    def deleteEntriesTo(self, entryTo: int) -> None:  # noqa: N802, N803
        """Refuse: what snapshots stand for is dropped by `compact`, and PySyncObj makes none."""
        raise InternalError(f"the log must not be cut to position {entryTo} by PySyncObj")

    @overload
    def __getitem__(self, item: int) -> LogEntry: ...
    @overload
    def __getitem__(self, item: slice) -> list[LogEntry]: ...
    def __getitem__(self, item: int | slice) -> LogEntry | list[LogEntry]:
        if isinstance(item, slice):
            start, stop, _ = item.indices(len(self._entries))
            # Only what is sent has no end; see `MAX_MESSAGE_BYTES`.
            sent = item.stop is None
            stop = min(stop, start + (MAX_MESSAGE_ENTRIES if sent else MAX_APPLIED_ENTRIES))
            if stop > start + 1:
                before = self._ends[start - 1] if start else self._ends[0] - _size(self._entries[0])
                most = before + (MAX_MESSAGE_BYTES if sent else MAX_APPLIED_BYTES)
                stop = max(start + 1, bisect_right(self._ends, most, start, stop))
            return self._entries[start:stop]
        return self._entries[item]

    def __len__(self) -> int:
        return len(self._entries)

    def _destroy(self) -> None:
        """Do nothing: the node is gone, but its journal stays."""

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:  # noqa: N802, N803
        """Remember how far the log is known to be committed (an index)."""
        self.note_committed(raftCommitIndex)

    def note_committed(self, index: int) -> None:
        """Remember how far the log is known to be committed (an index), whether or not this node has stored all of that.

        It need not have: a majority has, and without its own copy it neither counts itself nor says that it has one.
        """
        self._commit_index = max(self._commit_index, index)

    def getRaftCommitIndex(self) -> int:  # noqa: N802
        """Return the commit index remembered last; 1 for a new log."""
        return min(self._commit_index, self._entries[-1][1]) if self._entries else 1

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:  # noqa: N802, N803
        """Remember the current term and who got this node's vote in it."""
        self._term = term
        self._vote = votedForNodeId

    def getCurrentTerm(self) -> int:  # noqa: N802
        """Return the current term."""
        return self._term

    def getVotedForNodeId(self) -> str | None:  # noqa: N802
        """Return the node that got this node's vote in the current term, if any."""
        return self._vote

    def onOneSecondTimer(self) -> None:  # noqa: N802
        """Do nothing once a second."""

    # --- storing what was written

    @property
    def stored_index(self) -> int:
        """The entries held up to this index are stored."""
        return self.last_index

    @property
    def saving(self) -> bool:
        """True if a `save` is under way."""
        return False

    def sync(self) -> None:
        """Store everything written so far before returning. Raises `StorageError`: then the node must end."""

    def save(self, loop: asyncio.AbstractEventLoop, done: Callable[[BaseException | None], None]) -> None:  # noqa: ARG002
        """Store what was written so far, and call `done(error)` on the loop, or right now. Not to be called while `saving`."""
        done(None)

    def close(self) -> None:
        """Release the store: the node is gone. What was not stored is lost, as if the process had ended."""

    # --- what the guard and the views read

    def term_at(self, index: int) -> int | None:
        """Return the term of the entry at `index`, or None if it is not held."""
        position = index - self.first_index
        return self._entries[position][2] if 0 <= position < len(self._entries) else None

    def first_index_of_term_at(self, index: int, floor: int) -> int:
        """Return the first index above `floor` whose entries up to `index` all carry the term of `index`."""
        term = self.term_at(index)
        while index - 1 > floor and self.term_at(index - 1) == term:
            index -= 1
        return index

    @property
    def members_since(self) -> int:
        """The index of the entry that names them; 0 if that is in a snapshot or there is none."""
        return self._naming[-1][0] if self._naming else 0

    def first_before(self, index: int, size: int) -> int:
        """Return the highest index after which at least `size` bytes of entries are held up to `index`.

        If there is none, return the first index.
        """
        first = self.first_index
        return max(first, first + bisect_right(self._ends, self._ends[index - first] - size) - 1)

    # --- snapshots

    def tail(self, most: int) -> list[LogEntry]:
        """Return the last entries held, at most `most` of them; unlike a slice not cut to what one message may hold."""
        return self._entries[max(0, len(self._entries) - most) :]

    @property
    def snapshot_index(self) -> int:
        """The last entry that the snapshot stands for; 0 if there is none."""
        return 0 if self.snapshot is None else self.snapshot.index

    def keep(self, snapshot: Snapshot) -> None:
        """Keep a snapshot of this log in place of the last one. Raises `InternalError` if it is not one of this log."""
        last = self.snapshot_index
        if snapshot.index < last or self.term_at(snapshot.index) != snapshot.term:
            raise InternalError(f"a snapshot of entry {snapshot.index} does not belong to this log (the last: {last})")
        self.setRaftCommitIndex(snapshot.index)
        self.snapshot = snapshot
        self._look()

    def compact(self, first: int) -> None:
        """Drop the entries before `first`. Raises `InternalError` unless the snapshot stands for `first` and all before."""
        if self.snapshot is None or first > self.snapshot.index:
            raise InternalError(f"no snapshot stands for the entries up to {first}")
        if first > self.first_index:
            self._naming = [(index, members) for index, members in self._naming if index > self.snapshot.index]
            count = first - self.first_index
            self._released += self._entries[:count]
            del self._entries[:count]
            del self._ends[:count]
            self._look()

    def install(self, snapshot: Snapshot) -> None:
        """Replace the whole log by a snapshot of another node's.

        Raises `InternalError` if something committed would be lost by that: the snapshot must be ahead of what is known to
        be committed here, and if this log holds the snapshot's last entry there is nothing to install.
        """
        if snapshot.index <= self._commit_index or self.term_at(snapshot.index) == snapshot.term:
            raise InternalError(f"a snapshot of entry {snapshot.index} was to replace a log that has it")
        # What stands for the snapshot's last entry. It is never applied; the next entries refer to its index and term.
        self._released += self._entries
        self._entries = [(b"", snapshot.index, snapshot.term)]
        self._ends = array("q", [ENTRY_OVERHEAD])
        self._commit_index = snapshot.index
        self._naming = []
        self.snapshot = snapshot
        self._look()

    def release(self) -> bool:
        """Let go of a part of what `compact` and `install` dropped (`MAX_RELEASED` entries); True if there is more."""
        del self._released[-MAX_RELEASED:]
        return bool(self._released)


def _size(entry: LogEntry) -> int:
    return len(entry[0]) + ENTRY_OVERHEAD


def proposals_in(data: bytes) -> tuple[Proposal, ...]:
    """Return the proposals in a log entry with this data.

    None for those of PySyncObj itself, whose first byte says that.
    """
    try:
        return decode_entry(data[1:]).proposals
    except ProtocolError:
        return ()


class Journals:
    """The journals of a cluster's nodes, kept while their nodes come and go."""

    def __init__(self) -> None:
        self._journals: dict[NodeId, MemoryJournal] = {}

    def of(self, node: NodeId) -> MemoryJournal:
        """Return the journal of `node` as its latest incarnation has it, or left it; an empty one if there was none."""
        return self._journals.setdefault(node, MemoryJournal())

    def forget(self, node: NodeId) -> None:
        """Drop the journal of a node that will never come back."""
        self._journals.pop(node, None)

    async def open(self, node: NodeId) -> MemoryJournal:
        """Return the journal that a new incarnation of `node` starts from.

        Raises `StorageError` if it cannot be read or written.
        """
        return self.of(node)

    def close(self, node: NodeId) -> None:
        """Note that the incarnation has ended."""

    def end(self) -> None:
        """Note that the cluster has ended, and so have all nodes."""
