"""A node's journal that says what is stored in it, for transcripts."""

from __future__ import annotations

from collections.abc import Callable

from ..core.records import NodeId
from ..raft.journal import MemoryJournal, Snapshot
from .paper_words import content_words, place


class NotedStore:
    """The keeper of a node's journal, whole. A `disk.Store`."""

    damage = (0, 0)

    def __init__(self, node: NodeId, note: Callable[[str], None]) -> None:
        self.journal = NotedJournal(node, note)

    def open(self) -> MemoryJournal:
        """Return the journal that there always was."""
        return self.journal

    def crash_after(self, operations: int) -> None:
        """Do nothing: no disk fails here."""

    def crashed(self) -> None:
        """Do nothing: a crash loses nothing here."""


class NotedJournal(MemoryJournal):
    """A journal that says what is stored in it."""

    def __init__(self, node: NodeId, note: Callable[[str], None]) -> None:
        super().__init__()
        self._node = node
        self._note = note

    def add(self, command: bytes, idx: int, term: int) -> None:
        """Append an entry."""
        super().add(command, idx, term)
        if idx > 1:
            self._note(f"stores [{place(idx, term)} {content_words(command)}]")

    def deleteEntriesFrom(self, entryFrom: int) -> None:  # noqa: N802, N803 - PySyncObj's names
        """Drop entries."""
        first, last = self.first_index + entryFrom, self.last_index
        until = f" to {place(last, self.term_at(last))}" if first < last else ""
        gone = f"deletes {place(first, self.term_at(first))}{until}"
        super().deleteEntriesFrom(entryFrom)
        if first <= last:
            self._note(gone)

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:  # noqa: N802, N803
        """Remember term and vote."""
        if term > self.getCurrentTerm() and votedForNodeId is None:
            self._note(f"stores term {term}")
        elif votedForNodeId is not None:
            whom = "itself" if votedForNodeId == str(self._node) else votedForNodeId
            self._note(f"stores term {term} and its vote for {whom}")
        super().setCurrentTerm(term, votedForNodeId)

    def note_committed(self, index: int) -> None:
        """Remember how far the log is committed."""
        if index > self.getRaftCommitIndex():
            self._note(f"commit index {index}")
        super().note_committed(index)

    def keep(self, snapshot: Snapshot) -> None:
        """Keep a snapshot."""
        self._note(f"keeps a snapshot of its own, up to {place(snapshot.index, snapshot.term)}")
        super().keep(snapshot)

    def compact(self, first: int) -> None:
        """Drop what a snapshot stands for."""
        before = self.first_index
        super().compact(first)
        if self.first_index > before:
            self._note(f"drops its log before {first}")

    def install(self, snapshot: Snapshot) -> None:
        """Replace the log by a snapshot."""
        super().install(snapshot)
        self._note(f"replaces its log by the snapshot up to {place(snapshot.index, snapshot.term)}")
