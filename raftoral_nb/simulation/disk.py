"""Disks that lose what was not synced, and the engine's own journal on them.

The journal (`raft.durable`) gathers what is written and stores it in groups: rows and snapshot pieces are written, synced, and
then the head. The power may be cut before any of these. What was not synced is then kept, lost or torn, as the dice fall; and what the
next incarnation starts from is what the engine's own recovery (`raft.records`) makes of that. Half of the disks store beside
the loop, with a delay, as `durability="disk"` does, the others at once.

A `Store` gives journals and is told of crashes. `WholeStore` keeps the memory journal as a cluster without a data directory does. A
node never comes back without its disk as the same member.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from ..core.records import NodeId
from ..raft.blob_store import MemoryBlobs
from ..raft.journal import MemoryJournal, Snapshot
from ..storage.durable_journal import DurableJournal, Saver
from ..storage.record_chain import (
    HEAD_BYTES,
    Base,
    Chain,
    ChainContents,
    Head,
    Recovered,
    Row,
    Voted,
    decoded,
    identity,
    mended_head,
    slot_offset,
)
from ..storage.sqlite_store import Group, Piece, RecordWriter, recover
from .dice import SeededDice

SLOWEST_SYNC: Final = 0.02
"""Virtual seconds that storing a group takes at most."""


class PowerCut(BaseException):
    """Raised inside a disk operation: the node ends here. Not an `Exception`, so that nothing on the way handles it."""

    def __init__(self, node: NodeId) -> None:
        super().__init__(f"the power of node {node} was cut")
        self.node = node


class JournalWatch(Protocol):
    """An observer of what journals do."""

    def added(self, node: NodeId, data: bytes, index: int, term: int) -> None:
        """Note that an entry was appended."""
        ...

    def deleted(self, node: NodeId, index: int, last: int) -> None:
        """Note that entries `index` to `last` were deleted as conflicting."""
        ...

    def voted(self, node: NodeId, term: int, vote: str) -> None:
        """Note that a vote is safe on the disk."""
        ...


Stored = Row | Piece


def torn(one: Stored) -> Stored:
    """Return what a torn write leaves: the front of it, and nothing where the rest should be."""
    half = len(one.body) // 2
    body = one.body[:half] + bytes(len(one.body) - half)
    return Row(one.number, body, one.digest) if isinstance(one, Row) else Piece(one.snapshot, one.number, body)


class SimulatedDisk:
    """One node's disk: what is synced on it, and what is written and not synced yet. A store of the engine's (`raft.store`).

    `crash_after` counts the disk operations (writes and syncs) until the power is cut inside of one; 0: never.
    """

    may_be_torn = True

    def __init__(self, node: NodeId, dice: SeededDice, watch: JournalWatch) -> None:
        self._node = node
        self._dice = dice
        self._watch = watch
        self._own = identity("simulated", node)
        first = Chain(0, self._own, self._own).append(ChainContents().base(self._own))
        self._synced: list[Stored] = [first]
        self._unsynced: list[Stored] = []
        slot = Head(first.number, first.digest).slot(self._own).ljust(HEAD_BYTES // 2, b"\0")
        self._head = self._synced_head = slot + slot
        self._heads = 0
        self.crash_after = 0
        self.operations = 0
        self.lost = 0
        self.torn = 0

    def open(self, saver: Saver | None) -> tuple[RecordWriter, Recovered, tuple[bytes, ...], Saver | None]:
        """Return what a journal is made of, read and checked by the engine's own recovery."""
        recovered, pieces = recover(self, self._own)
        _, self._head = mended_head(self._head, self._own, recovered.chain.head)
        self._synced_head = self._head
        last = recovered.chain.number
        self._synced = [one for one in self._synced if isinstance(one, Piece) or one.number <= last]
        return self, recovered, pieces, saver

    def _operation(self) -> None:
        self.operations += 1
        if self.crash_after:
            self.crash_after -= 1
            if not self.crash_after:
                raise PowerCut(self._node)

    # --- written by a journal

    def write(self, group: Group, head: Head) -> None:
        """Write a group, sync it, and write the head behind it. The power may be cut before each of these."""
        if group.base is not None:
            self._synced_head = self._head
        written: list[Stored] = [*group.pieces, *group.rows]
        for one in written:
            self._operation()
            self._unsynced.append(one)
        self.sync()
        for row in group.rows:
            record = decoded(row)
            if isinstance(record, Base | Voted) and record.vote is not None:
                self._watch.voted(self._node, record.term, record.vote)
        if group.base is not None or group.snapshot is not None:
            self._operation()
            self._synced = [one for one in self._synced if not _superseded(one, group)]
        self._operation()
        self._heads += 1
        slot, at = head.slot(self._own), slot_offset(self._heads)
        self._head = self._head[:at] + slot + self._head[at + len(slot) :]
        if group.base is not None or self._dice.happens(0.3):
            self._synced_head = self._head

    def sync(self) -> None:
        """Make everything that was written safe."""
        self._operation()
        self._synced += self._unsynced
        self._unsynced.clear()

    def close(self) -> None:
        """Close the disk: the node is gone."""

    # --- what a crash leaves

    def crash(self) -> None:
        """Cut the power: of what was not synced some is kept, in order, the next may be torn, the rest is lost."""
        self.crash_after = 0
        kept = self._dice.below(len(self._unsynced) + 1)
        rest = self._unsynced[kept:]
        self._synced += self._unsynced[:kept]
        self._unsynced.clear()
        if rest and self._dice.happens(0.5):
            self._synced.append(torn(rest[0]))
            self.torn += 1
        self.lost += len(rest)
        size = HEAD_BYTES // 2
        slots = []
        for at in (0, size):
            new, old = self._head[at : at + size], self._synced_head[at : at + size]
            last = at == slot_offset(self._heads)
            slots.append(self._dice.pick([new, old, new[:30] + old[30:]] if last else [new, old]))
        self._head = self._synced_head = b"".join(slots)

    # --- read when a node starts

    def head(self) -> bytes:
        """Return the head file."""
        return self._head

    def rows(self) -> Iterator[Row]:
        """Yield all rows, as they are stored."""
        return iter([one for one in self._synced if isinstance(one, Row)])

    def pieces(self, snapshot: int) -> list[bytes]:
        """Return the pieces of a snapshot; of one that was written twice, the last."""
        found = {one.number: one.body for one in self._synced if isinstance(one, Piece) and one.snapshot == snapshot}
        return [found[number] for number in sorted(found)]


def _superseded(one: Stored, group: Group) -> bool:
    if isinstance(one, Row):
        return group.base is not None and one.number < group.base
    return group.snapshot is not None and one.snapshot != group.snapshot


class SimulatedSaver:
    """A stand-in for a disk's thread: it saves some virtual milliseconds later, or at once if somebody waits."""

    def __init__(self, dice: SeededDice) -> None:
        self._dice = dice
        self._closed = False

    def submit(
        self, loop: asyncio.AbstractEventLoop, work: Callable[[], None], finished: Callable[[], None]
    ) -> Callable[[], None]:
        """Have `work()` done after a while, then `finished()` called on the loop."""
        done = False

        def do() -> None:
            nonlocal done
            if not done and not self._closed:
                done = True
                work()

        def due() -> None:
            do()
            if not self._closed:
                finished()

        loop.call_later(SLOWEST_SYNC * self._dice.random() ** 2, due)
        return do

    def close(self) -> None:
        """Close the disk: the node is gone, and what was on its way is not written."""
        self._closed = True


class DiskJournal(DurableJournal):
    """The engine's durable journal on a simulated disk: what it holds after a crash is what recovery makes of the disk."""

    def __init__(self, node: NodeId, disk: SimulatedDisk, watch: JournalWatch, saver: Saver | None) -> None:
        writer, recovered, pieces, saver = disk.open(saver)
        super().__init__(writer, recovered, pieces, saver=saver)
        self._node = node
        self._watch = watch

    def add(self, command: bytes, idx: int, term: int) -> None:
        """Append an entry."""
        super().add(command, idx, term)
        self._watch.added(self._node, command, idx, term)

    def deleteEntriesFrom(self, entryFrom: int) -> None:  # noqa: N802, N803
        """Drop entries."""
        first, last = self._entries[0][1] + entryFrom, self.last_index
        if first <= last:
            self._watch.deleted(self._node, first, last)
        super().deleteEntriesFrom(entryFrom)


class WholeJournal(MemoryJournal):
    """The memory journal as the cluster keeps it: an operation happens wholly or, when the node crashes in it, not at all."""

    def __init__(self, node: NodeId, watch: JournalWatch) -> None:
        super().__init__()
        self._node = node
        self._watch = watch
        self.crash_after = 0
        self.operations = 0

    def _operation(self) -> None:
        self.operations += 1
        if self.crash_after:
            self.crash_after -= 1
            if not self.crash_after:
                raise PowerCut(self._node)

    def add(self, command: bytes, idx: int, term: int) -> None:
        """Append an entry."""
        self._operation()
        super().add(command, idx, term)
        self._watch.added(self._node, command, idx, term)
        self._operation()

    def deleteEntriesFrom(self, entryFrom: int) -> None:  # noqa: N802, N803
        """Drop entries."""
        self._operation()
        first, last = self._entries[0][1] + entryFrom, self.last_index
        if first <= last:
            self._watch.deleted(self._node, first, last)
        super().deleteEntriesFrom(entryFrom)
        self._operation()

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:  # noqa: N802, N803
        """Remember term and vote."""
        self._operation()
        super().setCurrentTerm(term, votedForNodeId)
        if votedForNodeId is not None:
            self._watch.voted(self._node, term, votedForNodeId)
        self._operation()

    def keep(self, snapshot: Snapshot) -> None:
        """Keep a snapshot."""
        self._operation()
        super().keep(snapshot)
        self._operation()

    def compact(self, first: int) -> None:
        """Drop entries that the snapshot stands for."""
        self._operation()
        super().compact(first)
        self._operation()

    def install(self, snapshot: Snapshot) -> None:
        """Replace the log by a snapshot."""
        self._operation()
        super().install(snapshot)
        self._operation()


class Store(Protocol):
    """The keeper of one node's journal while the node comes and goes."""

    def open(self) -> MemoryJournal:
        """Return what a new incarnation starts from."""
        ...

    def crash_after(self, operations: int) -> None:
        """Cut the power inside the disk operation that comes after so many; `PowerCut` is raised there."""
        ...

    def crashed(self) -> None:
        """Decide what became of unsynced data: the node is gone."""
        ...

    @property
    def damage(self) -> tuple[int, int]:
        """The numbers of records that crashes have lost, and torn."""
        ...


class WholeStore:
    """The keeper of the journal itself, whole: the `memory` level, where a kill is no power cut."""

    def __init__(self, node: NodeId, watch: JournalWatch) -> None:
        self._journal = WholeJournal(node, watch)
        self._journal.blobs = MemoryBlobs(share=False)

    def open(self) -> MemoryJournal:
        """Return the journal that there always was."""
        return self._journal

    def crash_after(self, operations: int) -> None:
        """Crash before or after an operation takes effect."""
        self._journal.crash_after = operations

    def crashed(self) -> None:
        """Do nothing: a crash loses nothing here."""
        self._journal.crash_after = 0

    damage = (0, 0)


class DiskStore:
    """The keeper of a disk, which reads the journal back from it."""

    def __init__(self, node: NodeId, watch: JournalWatch, dice: SeededDice) -> None:
        self._node = node
        self._watch = watch
        self._dice = dice
        self._disk = SimulatedDisk(node, dice, watch)
        self._in_background = dice.happens(0.5)
        self._saver: SimulatedSaver | None = None
        self._blobs = MemoryBlobs(share=False)

    def open(self) -> MemoryJournal:
        """Return a journal made from what the disk holds."""
        self._saver = SimulatedSaver(self._dice) if self._in_background else None
        journal = DiskJournal(self._node, self._disk, self._watch, self._saver)
        journal.blobs = self._blobs
        return journal

    def crash_after(self, operations: int) -> None:
        """Crash in a write or a sync."""
        self._disk.crash_after = operations

    def crashed(self) -> None:
        """Lose or tear what was not synced."""
        if self._saver is not None:
            self._saver.close()
        self._disk.crash()

    @property
    def damage(self) -> tuple[int, int]:
        """The numbers of records that crashes have lost, and torn."""
        return (self._disk.lost, self._disk.torn)


def disk_store(node: NodeId, watch: JournalWatch, dice: SeededDice) -> Store:
    """Return a `DiskStore`."""
    return DiskStore(node, watch, dice)


def whole_store(node: NodeId, watch: JournalWatch, dice: SeededDice) -> Store:  # noqa: ARG001
    """Return a `WholeStore`."""
    return WholeStore(node, watch)
