"""The voting members, and when they may change."""

from __future__ import annotations

from ..core.commands import ChangeMembers
from ..core.records import NodeId
from ..limits import MAX_NODES


def members_after(
    members: tuple[NodeId, ...], change: ChangeMembers, *, leader: NodeId, settled: bool, new: bool, stored: bool
) -> tuple[NodeId, ...] | None:
    """Return the members after a change that `leader` is asked to make; None if it may not make it now.

    One at a time: the majorities before and after a change of one node always meet, those of two changes need not. `settled`
    says that the last change is committed and applied and, besides, that an entry of the leader's own term is committed:
    without the latter two leaders can each make a change that the other has not seen (Ongaro, "bug in single-server
    membership changes", raft-dev, 2015). `new` says that no node of this number or a higher one was ever a member: one that
    comes back without its log could vote twice in a term. `stored` says that a majority after the change has the large values that the log
    refers to: those of entries behind `change.blobs_to` nobody has counted.
    """
    node = change.node
    if not (settled and stored):
        return None
    if change.change == "add":
        may = node not in members and new and len(members) < MAX_NODES
        return tuple(sorted((*members, node))) if may else None
    # A leader that leaves would have to lead without counting itself; its leadership is transferred first.
    may = node in members and node != leader
    return tuple(member for member in members if member != node) if may else None
