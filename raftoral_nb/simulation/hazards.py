"""PySyncObj without one rule of the guard, or without all: what the rules are for must show, each by symptoms of its own.

The names of the rules are those of `docs/guard.md`. Whenever one is missing, the journal's last defence is off too (it
refuses to delete what it knows to be committed, and so takes the node out of use before anything is lost).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from ..core.records import NodeId
from ..errors import InternalError
from ..raft import pysyncobj_driver
from ..raft.guard import Guard, Verdict
from ..raft.journal import MemoryJournal
from ..transport import traffic
from ..transport.messages import Message
from . import mutants
from .invariants import COMMITTED_BY_FOLLOWER, COMMITTED_BY_LEADER, DELETED, TORN_APART, UNREPAIRED
from .mutants import Patch
from .workload import LIBRARY_BATCH_BYTES

ALL: Final = "all"
"""A placeholder for a rule's name: all of them, the whole guard."""


class GuardRule(msgspec.Struct, frozen=True):
    """One rule of the guard. `symptoms` are the invariants of which its absence violates one."""

    name: str
    hazard: str
    patches: Callable[[], list[Patch]]
    symptoms: frozenset[str]
    schedule: str
    """The schedule that shows its absence soonest."""


class _Piece(msgspec.Struct, frozen=True):
    """A piece of an entry that PySyncObj cut up. There is no such message on our wire."""

    message: dict[str, Any]


def _entries_cut_up() -> list[Patch]:
    """PySyncObj's batch size, and its pieces pass."""
    incoming, outgoing = Guard.incoming, Guard.outgoing

    def pieces_in(self: Guard, peer: NodeId, message: Message) -> Verdict:
        if isinstance(message, _Piece):
            self._answering_term = message.message["term"]
            return Verdict(dict(message.message))
        return incoming(self, peer, message)

    def pieces_out(self: Guard, peer: NodeId, message: dict[str, Any]) -> Any:
        return _Piece(dict(message)) if "transmission" in message else outgoing(self, peer, message)

    return [
        (traffic, "KINDS", {**traffic.KINDS, _Piece: "piece"}),  # or counting them breaks the node before they can
        (pysyncobj_driver, "MAX_ENTRY_BYTES", LIBRARY_BATCH_BYTES - 1),
        (Guard, "incoming", pieces_in),
        (Guard, "outgoing", pieces_out),
    ]


def _committed_entries_deleted() -> list[Patch]:
    original = MemoryJournal.deleteEntriesFrom

    def delete(self: MemoryJournal, entryFrom: int) -> None:  # noqa: N803 - PySyncObj's name
        committed, self._commit_index = self._commit_index, 0
        try:
            original(self, entryFrom)
        finally:
            self._commit_index = committed

    return [(MemoryJournal, "deleteEntriesFrom", delete)]


RULES: Final[dict[str, GuardRule]] = {
    rule.name: rule
    for rule in (
        GuardRule(
            "truncate_only_on_conflict",
            "a follower deletes everything behind a message's position, acknowledged entries included",
            mutants.truncates_always,
            frozenset({DELETED}),
            "delays",
        ),
        GuardRule(
            "answers_carry_terms",
            "an acknowledgement of an earlier leadership commits what nobody has",
            mutants.answers_without_terms,
            frozenset({COMMITTED_BY_LEADER}),
            "stale answers",
        ),
        GuardRule(
            "resets_go_back_only",
            "a refusal raises what a follower is sent next, and its tail is asked about entry by entry",
            mutants.resets_anywhere,
            frozenset({UNREPAIRED}),
            "elections",
        ),
        GuardRule(
            "commit_only_verified",
            "a follower commits whatever it holds up to the leader's commit index",
            mutants.commits_unverified,
            frozenset({COMMITTED_BY_FOLLOWER}),
            "partitions",
        ),
        GuardRule(
            "entries_sent_whole",
            "an entry just under a multiple of the batch size is cut wrongly",
            _entries_cut_up,
            frozenset({TORN_APART}),
            "sizes",
        ),
    )
}
"""The rules by name. (`one_vote_per_voter` is not among them: as long as a node answers once per term, which is an invariant, and no
link repeats a message, which ours cannot, its absence changes nothing; a test holds that.)"""


@contextmanager
def without(name: str | None) -> Iterator[None]:
    """Run PySyncObj without the rule `name` of the guard, or without `ALL`; None changes nothing.

    Without all, the caller makes its nodes unguarded. Raises `InternalError` if there is no rule of that name.
    """
    if name is None:
        yield
        return
    if name != ALL and name not in RULES:
        raise InternalError(f"there is no rule {name!r}; there are {', '.join((ALL, *RULES))}")
    rule_patches = [*_entries_cut_up(), *mutants.uncompacted()] if name == ALL else RULES[name].patches()
    with mutants.patched([*rule_patches, *_committed_entries_deleted()]):
        yield
