"""The voting members, and when they may change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from ..core.blob_refs import REFERENCE_START
from ..core.commands import ChangeMembers, Proposal, WithBlobs
from ..core.records import NodeId, ProposalId
from ..limits import MAX_NODES
from .journal import MemoryJournal, proposals_in
from .pysyncobj_driver import Raft

BLOBS_WAIT: Final = 2.0
"""The time for which a leader appends nothing that refers to blobs after it refused a change of members because of such entries (seconds)."""


def changed_members(members: Iterable[NodeId], change: ChangeMembers) -> tuple[NodeId, ...]:
    """Return the members after a change, whether or not it may be made."""
    others = {member for member in members if member != change.node}
    return tuple(sorted({*others, change.node} if change.change == "add" else others))


def members_after(
    members: tuple[NodeId, ...], change: ChangeMembers, *, leader: NodeId, settled: bool, new: bool
) -> tuple[NodeId, ...] | None:
    """Return the members after a change that `leader` is asked to make; None if it may not make it now.

    One at a time: the majorities before and after a change of one node always meet, those of two changes need not. `settled`
    says that the last change is committed and applied and, besides, that an entry of the leader's own term is committed:
    without the latter two leaders can each make a change that the other has not seen (Ongaro, "bug in single-server
    membership changes", raft-dev, 2015). `new` says that no node of this number or a higher one was ever a member: one that
    comes back without its log could vote twice in a term.

    Among the members after it large values were counted: others may not have them.
    """
    node = change.node
    after = changed_members(members, change)
    if not settled or (change.counted and change.counted != after):
        return None
    if change.change == "add":
        may = node not in members and new and len(members) < MAX_NODES
    else:
        # A leader that leaves would have to lead without counting itself; its leadership is transferred first.
        may = node in members and node != leader
    return after if may else None


class ChangesListener(Protocol):
    """What a node knows of its state that changes of members depend on."""

    def was_member(self, node: NodeId) -> bool:
        """Return whether a node of that number, or of a higher one, has been a member before."""
        ...

    def was_answered(self, proposal: ProposalId) -> bool:
        """Return whether a proposal of that id was applied, and what became of it is known."""
        ...

    def refers_to_blobs(self) -> bool:
        """Return whether the state refers to any blob. Looks at every run."""
        ...


class MemberChanges:
    """The changes that one replica is asked to make while it leads. On the consensus loop."""

    def __init__(
        self,
        node: NodeId,
        journal: MemoryJournal,
        raft: Raft,
        loop: asyncio.AbstractEventLoop,
        listener: ChangesListener,
        let_go: Callable[[list[Proposal]], None],
    ) -> None:
        """`let_go(proposals)` is called with what was kept back."""
        self._node = node
        self._journal = journal
        self._raft = raft
        self._loop = loop
        self._listener = listener
        self._let_go = let_go
        # Invariant: None but for BLOBS_WAIT after a change was refused because of blobs; then what refers to blobs and came since.
        self._kept_back: list[Proposal] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def after(
        self, members: tuple[NodeId, ...], proposal: ProposalId | None, change: ChangeMembers
    ) -> tuple[NodeId, ...] | None:
        """Return the members that an entry with this change names, if it is appended now; None if it may not be made.

        If large values are in the way, those that are proposed from here on are kept back for a while.
        """
        journal, raft = self._journal, self._raft
        settled = journal.members_since <= raft.applied_index and journal.term_at(raft.commit_index) == raft.term
        new = not self._listener.was_member(change.node)
        after = members_after(members, change, leader=self._node, settled=settled, new=new)
        if after is None or self._is_repeated(proposal):
            return None
        if self._refers_to_blobs(change.blobs_to):
            if self._kept_back is None:
                self._kept_back = []
                self._timer = self._loop.call_later(BLOBS_WAIT, self._release)
            return None
        self._release()  # they were counted among the members of before, and will be counted again
        return after

    def admitted(self, proposals: Iterable[Proposal]) -> Iterable[Proposal]:
        """Return those that may be appended now; what refers to blobs is kept back after a change was refused because of such entries."""
        if self._kept_back is None:
            return proposals
        admitted: list[Proposal] = []
        for proposal in proposals:
            (self._kept_back if isinstance(proposal.carried, WithBlobs) else admitted).append(proposal)
        return admitted

    def forget(self) -> None:
        """Drop what was kept back: who proposed it proposes it again to whoever leads."""
        self._kept_back = None
        self._release()

    def _release(self) -> None:
        kept, self._kept_back = self._kept_back, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if kept:
            self._let_go(kept)

    def _is_repeated(self, proposal: ProposalId | None) -> bool:
        """Return whether the log has a proposal of that id: its answer is, or will be, what became of it there."""
        if proposal is None:
            return False
        if self._listener.was_answered(proposal):
            return True
        first, last = self._journal.first_index, self._journal.last_index
        unapplied = range(max(first, self._raft.applied_index + 1), last + 1)
        return any(one.id == proposal for index in unapplied for one in proposals_in(self._journal[index - first][0]))

    def _refers_to_blobs(self, counted_to: int) -> bool:
        """Return whether an entry behind `counted_to` refers to blobs, or one may have done that a snapshot stands for now."""
        journal = self._journal
        first = journal.first_index
        if counted_to < first and first > 1 and self._listener.refers_to_blobs():
            return True
        behind = range(max(first, counted_to + 1), journal.last_index + 1)
        return any(REFERENCE_START in journal[index - first][0] for index in behind)
