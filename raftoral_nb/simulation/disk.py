"""Disks that lose what was not synced, and journals on them.

A journal writes a record for every operation and syncs it before the operation returns, because PySyncObj answers as soon
as it does ("synced before acknowledged"). A crash may come before the record is written, between writing and syncing (then
the record is kept, lost or torn, as the dice fall), or after the sync. What the next incarnation finds is read back from
the disk, record by record, up to the first one that is damaged.

This is the seam for real stores: a `Store` gives journals and is told of crashes. `WholeStore` models the memory journal that
the cluster keeps for its nodes today. A node never comes back without its disk as the same member; there is no membership
change yet, so no schedule takes a disk away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..model import NodeId
from ..raft.journal import MemoryJournal, Snapshot
from .dice import SeededDice


class PowerCut(BaseException):
    """Raised inside a disk operation: the node ends here. Not an `Exception`, so that nothing on the way handles it."""

    def __init__(self, node: NodeId) -> None:
        super().__init__(f"the power of node {node} was cut")
        self.node = node


class JournalWatch(Protocol):
    """Who looks at what journals do."""

    def added(self, node: NodeId, data: bytes, index: int, term: int) -> None:
        """An entry was appended."""
        ...

    def deleted(self, node: NodeId, index: int, last: int) -> None:
        """Entries `index` to `last` were deleted as conflicting."""
        ...

    def voted(self, node: NodeId, term: int, vote: str) -> None:
        """A vote is safe on the disk."""
        ...


Record = tuple[str, tuple[object, ...], tuple[object, ...]]
"""Operation, its arguments as they are on the disk, and what stands for their checksum: the arguments that were written."""


def torn(operation: str, args: tuple[object, ...]) -> tuple[object, ...]:
    """What a torn record holds: the front of an entry's data, a vote that is missing."""
    match operation, args:
        case "add", (bytes() as data, index, term):
            return (data[: len(data) // 2], index, term)
        case "setCurrentTerm", (term, _):
            return (term, None)
        case _:
            return (0,)


class SimulatedDisk:
    """One node's disk: records that are synced, and records that are not yet.

    `crash_after` counts the disk operations (writes and syncs) until the power is cut inside of one; 0: never.
    """

    def __init__(self, node: NodeId, dice: SeededDice) -> None:
        self._node = node
        self._dice = dice
        self._synced: list[Record] = []
        self._unsynced: list[Record] = []
        self.crash_after = 0
        self.operations = 0
        self.lost = 0
        self.torn = 0

    def _operation(self) -> None:
        self.operations += 1
        if self.crash_after:
            self.crash_after -= 1
            if not self.crash_after:
                raise PowerCut(self._node)

    def write(self, operation: str, *args: object) -> None:
        """Write a record. It is not safe before `sync`."""
        self._operation()
        self._unsynced.append((operation, args, args))

    def sync(self) -> None:
        """Make everything that was written safe."""
        self._operation()
        self._synced += self._unsynced
        self._unsynced.clear()

    def crash(self) -> None:
        """The power is gone: of what was not synced some is kept, in order, the next may be torn, the rest is lost."""
        self.crash_after = 0
        kept = self._dice.below(len(self._unsynced) + 1)
        rest = self._unsynced[kept:]
        self._synced += self._unsynced[:kept]
        self._unsynced.clear()
        if rest and self._dice.happens(0.5):
            operation, args, checksum = rest[0]
            self._synced.append((operation, torn(operation, args), checksum))
            self.torn += 1
        self.lost += len(rest)

    def read(self) -> list[Record]:
        """The records up to the first damaged one; what comes from there on is cut off."""
        for position, (_, args, checksum) in enumerate(self._synced):
            if args != checksum:
                del self._synced[position:]
                break
        return self._synced


class DiskJournal(MemoryJournal):
    """The memory journal with a disk below it: what it holds after a crash is what the disk gives back."""

    def __init__(self, node: NodeId, disk: SimulatedDisk, watch: JournalWatch) -> None:
        super().__init__()
        self._node = node
        self._disk = disk
        self._watch = watch
        for operation, args, _ in disk.read():
            getattr(super(), operation)(*args)

    def add(self, command: bytes, idx: int, term: int) -> None:
        """Append an entry; it is safe when this returns."""
        super().add(command, idx, term)
        self._disk.write("add", command, idx, term)
        self._disk.sync()
        self._watch.added(self._node, command, idx, term)

    def deleteEntriesFrom(self, entryFrom: int) -> None:  # noqa: N802, N803
        """Drop entries; they are gone for good when this returns."""
        first, last = self._entries[0][1] + entryFrom, self.last_index
        if first <= last:
            self._watch.deleted(self._node, first, last)
        super().deleteEntriesFrom(entryFrom)
        self._disk.write("deleteEntriesFrom", entryFrom)
        self._disk.sync()

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:  # noqa: N802, N803
        """Remember term and vote; they are safe when this returns. The commit index is not kept: it is learned again."""
        super().setCurrentTerm(term, votedForNodeId)
        self._disk.write("setCurrentTerm", term, votedForNodeId)
        self._disk.sync()
        if votedForNodeId is not None:
            self._watch.voted(self._node, term, votedForNodeId)

    def keep(self, snapshot: Snapshot) -> None:
        """Keep a snapshot; it is safe when this returns."""
        super().keep(snapshot)
        self._disk.write("keep", snapshot)
        self._disk.sync()

    def compact(self, first: int) -> None:
        """Drop entries that the snapshot stands for."""
        super().compact(first)
        self._disk.write("compact", first)
        self._disk.sync()

    def install(self, snapshot: Snapshot) -> None:
        """Replace the log by a snapshot, wholly or, when the node crashes in it, not at all."""
        super().install(snapshot)
        self._disk.write("install", snapshot)
        self._disk.sync()


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
    """Keeps one node's journal while the node comes and goes."""

    def open(self) -> MemoryJournal:
        """What a new incarnation starts from."""
        ...

    def crash_after(self, operations: int) -> None:
        """Cut the power inside the disk operation that comes after so many; `PowerCut` is raised there."""
        ...

    def crashed(self) -> None:
        """The node is gone: decide what became of what was not synced."""
        ...

    @property
    def damage(self) -> tuple[int, int]:
        """How many records crashes have lost, and how many they tore."""
        ...


class WholeStore:
    """Keeps the journal itself, whole: the `memory` level, where a kill is no power cut."""

    def __init__(self, node: NodeId, watch: JournalWatch) -> None:
        self._journal = WholeJournal(node, watch)

    def open(self) -> MemoryJournal:
        """The journal that there always was."""
        return self._journal

    def crash_after(self, operations: int) -> None:
        """Crash before or after an operation takes effect."""
        self._journal.crash_after = operations

    def crashed(self) -> None:
        """Nothing is lost."""
        self._journal.crash_after = 0

    damage = (0, 0)


class DiskStore:
    """Keeps a disk, and reads the journal back from it."""

    def __init__(self, node: NodeId, watch: JournalWatch, dice: SeededDice) -> None:
        self._node = node
        self._watch = watch
        self._disk = SimulatedDisk(node, dice)

    def open(self) -> MemoryJournal:
        """A journal made from what the disk holds."""
        return DiskJournal(self._node, self._disk, self._watch)

    def crash_after(self, operations: int) -> None:
        """Crash in a write or a sync."""
        self._disk.crash_after = operations

    def crashed(self) -> None:
        """Lose or tear what was not synced."""
        self._disk.crash()

    @property
    def damage(self) -> tuple[int, int]:
        """How many records crashes have lost, and how many they tore."""
        return (self._disk.lost, self._disk.torn)


StoreMaker = Callable[[NodeId, JournalWatch, SeededDice], Store]
"""Makes the store of one node."""


def disk_store(node: NodeId, watch: JournalWatch, dice: SeededDice) -> Store:
    """A `DiskStore`."""
    return DiskStore(node, watch, dice)


def whole_store(node: NodeId, watch: JournalWatch, dice: SeededDice) -> Store:  # noqa: ARG001
    """A `WholeStore`."""
    return WholeStore(node, watch)
