"""The guard: every Raft message passes here, and here PySyncObj's hazards are mended. Votes are decided by PySyncObj, behind it.

PySyncObj 0.3.17 departs from Raft (Ongaro and Ousterhout, 2014) in ways that lose committed entries. It is kept as it is;
the messages are not. What is mended, by the names the tests use:

`truncate_only_on_conflict`
    A follower deletes everything behind a message's `prev_index`, conflict or not, acknowledged entries included
    (`syncobj.py` 991-1004). Raft: delete only from the first entry that conflicts. The guard cuts from a message what the
    follower already holds; when nothing is left it answers itself, for the verified prefix only. It deletes what conflicts
    itself, too: PySyncObj does so only if it is shown more of the log than the entry before, and a large entry is not shown.
`commit_only_verified`
    A commit index is applied to whatever the follower holds (1022-1035). Raft: only up to what this message verified.
`answers_carry_terms`
    Acknowledgements carry no term (1098-1106): one from an earlier leadership counts in a later one. Ours carry the term
    they answer, and others are dropped. Nothing is answered to a message of an older term.
`resets_go_back_only`
    A refused message may *raise* what the leader sends next, so that a conflicting tail behind several batches is never
    repaired. Ours only lower it, never below what is matched, and go to the start of the conflicting term at once.
`one_vote_per_voter`
    Votes are counted, not voters (1063-1068); and those of nodes that are no members count too.
`no_foreign_commands`
    `apply_command`, PySyncObj's snapshots and cut-up transmissions do not exist on our wire: commands and snapshots travel
    in our own frames.
`snapshots_beside_the_log`
    PySyncObj installs a snapshot over a log that is ahead of it, and commits whatever lies behind (1022-1035, 1485-1504). Ours
    are sent and installed beside it (`snapshot_transfer`, `replica`); here a follower that needs one is noticed, and
    gets nothing but heartbeats until it has it. What a message says of entries below a follower's own snapshot is
    committed, and so held.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from ..core.records import NodeId
from ..transport.messages import AppendEntries, Message, NextIndex, Outdated, RequestVote, ResponseVote, TimeoutNow
from .journal import MemoryJournal
from .pysyncobj_driver import LEADER, Raft
from .snapshot_transfer import Transfers


class Verdict(NamedTuple):
    """The decision about a message.

    Delete the log from `conflict` (an index) on, give `deliver` to PySyncObj, send `answer` back.

    Each may be missing.
    """

    deliver: dict[str, Any] | None = None
    answer: Message | None = None
    conflict: int | None = None


_NOTHING = Verdict()


class Guard:
    """The guard between one replica's PySyncObj and the network.

    `enabled=False` only translates messages. It exists so that tests can show what each rule is for.
    """

    def __init__(self, journal: MemoryJournal, raft: Raft, transfers: Transfers, *, enabled: bool = True) -> None:
        self._journal = journal
        self._raft = raft
        self._transfers = transfers
        self._enabled = enabled
        self._answering_term = 0
        self._voters: set[NodeId] = set()
        self._voters_term = 0

    # --- messages from a peer

    def incoming(self, peer: NodeId, message: Message) -> Verdict:
        """Judge a message of `peer` before PySyncObj sees it."""
        match message:
            case AppendEntries():
                self._answering_term = message.term
                return self._append_entries(message) if self._enabled else Verdict(_append_dict(message))
            case NextIndex():
                return self._next_index(peer, message) if self._enabled else Verdict(_next_dict(message))
            case RequestVote():
                return Verdict(
                    {
                        "type": "request_vote",
                        "term": message.term,
                        "last_log_index": message.last_log_index,
                        "last_log_term": message.last_log_term,
                    }
                )
            case ResponseVote():
                return self._response_vote(peer, message)
            case Outdated():
                # A request for a vote that cannot be granted: it makes PySyncObj adopt the term and step down, no more.
                vote = {"type": "request_vote", "term": message.term, "last_log_index": 0, "last_log_term": 0}
                return Verdict(vote) if message.term > self._raft.term else _NOTHING
            case TimeoutNow():
                return Verdict({"type": "timeout_now", "term": message.term})
            case _:
                return _NOTHING

    def _append_entries(self, message: AppendEntries) -> Verdict:
        if message.term < self._raft.term:
            return _NOTHING
        journal = self._journal
        first = journal.first_index
        if message.prev_index < first:
            # All up to there is committed here, so the leader of this term has the same.
            last = message.prev_index + len(message.entries)
            if last < first:
                return Verdict(
                    _heartbeat_dict(message.term, 0),
                    NextIndex(term=message.term, next_index=last + 1, success=True, reset=False),
                )
            message = msgspec.structs.replace(
                message,
                prev_index=first,
                prev_term=journal.term_at(first) or 0,
                entries=message.entries[first - message.prev_index :],
            )
        term_here = journal.term_at(message.prev_index)
        if term_here is None:
            # Not there yet: ask for what follows our last entry.
            return self._ask_from(message, journal.last_index + 1)
        if term_here != message.prev_term:
            # Not the same entry: the whole run of that term is in doubt, down to what is committed.
            floor = max(self._raft.commit_index, journal.first_index)
            return self._ask_from(message, journal.first_index_of_term_at(message.prev_index, floor))

        verified = message.prev_index
        held = 0
        for _, index, term in message.entries:
            if journal.term_at(index) != term:
                break
            verified = index
            held += 1
        new = message.entries[held:]
        if not new and verified < journal.last_index:
            # All of it is here, and more: PySyncObj would delete the rest.
            return Verdict(
                _heartbeat_dict(message.term, min(message.commit_index, verified)),
                NextIndex(term=message.term, next_index=verified + 1, success=True, reset=False),
            )
        last = new[-1][1] if new else verified
        return Verdict(
            {
                "type": "append_entries",
                "term": message.term,
                "commit_index": min(message.commit_index, last),
                "entries": new,
                "prevLogIdx": verified,
                "prevLogTerm": journal.term_at(verified),
            },
            conflict=verified + 1 if new and verified < journal.last_index else None,
        )

    def _ask_from(self, message: AppendEntries, index: int) -> Verdict:
        # A heartbeat without a log position keeps PySyncObj from answering, and a commit index of 0 from committing.
        return Verdict(
            _heartbeat_dict(message.term, 0),
            NextIndex(term=message.term, next_index=index, success=False, reset=True),
        )

    def _next_index(self, peer: NodeId, message: NextIndex) -> Verdict:
        raft = self._raft
        if (
            peer not in raft.peers
            or raft.role != LEADER
            or message.term != raft.term
            or message.next_index > self._journal.last_index + 1
        ):
            return _NOTHING
        snapshot = self._transfers.to(peer)
        if snapshot is not None and (message.reset or message.next_index <= snapshot.index):
            # It answers heartbeats, and waits for the rest of the snapshot.
            self._transfers.waits(peer, message.term)
            return _HEARD
        if not message.reset:
            return Verdict(_next_dict(message))
        first = self._journal.first_index
        if first > 1 and raft.match_index(peer) < first and min(message.next_index, raft.next_index(peer)) <= first:
            # What it needs next is in no log here any more.
            self._transfers.begin(peer, message.term)
            raft.set_next_index(peer, self._journal.last_index + 1)
            return _HEARD
        # Entry 1 is the same on every node, so no node is ever asked to go below 2.
        lowest = max(raft.match_index(peer), first) + 1
        asked = max(lowest, min(message.next_index, raft.next_index(peer)))
        return Verdict({"type": "next_node_idx", "next_node_idx": asked, "reset": True, "success": False})

    def _response_vote(self, peer: NodeId, message: ResponseVote) -> Verdict:
        if peer not in self._raft.peers:
            return _NOTHING
        if self._enabled:
            if message.term != self._raft.term:
                return _NOTHING  # PySyncObj would not count it either; the voters of the present term stay known
            if message.term != self._voters_term:
                self._voters_term = message.term
                self._voters.clear()
            if peer in self._voters:
                return _NOTHING
            self._voters.add(peer)
        return Verdict({"type": "response_vote", "term": message.term})

    def deliver(self, peer: NodeId, message: Message) -> Message | None:
        """Let PySyncObj process a message of `peer`, as far as it may; returns what to answer, if PySyncObj does not."""
        verdict = self.incoming(peer, message)
        if verdict.conflict is not None:
            self._journal.deleteEntriesFrom(verdict.conflict - self._journal.first_index)
        if verdict.deliver is not None:
            if self._enabled and isinstance(message, NextIndex):
                self._deliver_next_index(peer, verdict.deliver)
            else:
                self._raft.deliver(peer, verdict.deliver)
        return verdict.answer

    def _deliver_next_index(self, peer: NodeId, message: dict[str, Any]) -> None:
        before = self._raft.next_index(peer)
        self._raft.deliver(peer, message)
        if message["success"] and self._transfers.to(peer) is not None:
            # It has the snapshot; the log continues from there, or from where it begins by now.
            self._transfers.end(peer)
            self._raft.set_next_index(peer, max(self._raft.match_index(peer), self._journal.first_index) + 1)
            self._raft.send_now()
        elif message["reset"]:
            # The follower waits for entries it lacks: send them in the next tick, not with the next heartbeat.
            self._raft.send_now()
        elif before > self._raft.next_index(peer):
            # An acknowledgement says nothing about entries sent since; PySyncObj would send them all again.
            self._raft.set_next_index(peer, before)

    # --- messages of PySyncObj

    def outgoing(self, peer: NodeId, message: dict[str, Any]) -> Message | None:
        """Translate a message of PySyncObj for the wire; None for one that must not leave."""
        match message["type"]:
            case "append_entries":
                if "prevLogIdx" not in message or "transmission" in message:
                    return None
                # Who waits for a snapshot has no use for entries behind it, only for a sign of life.
                useless = self._transfers.to(peer) is not None
                return AppendEntries(
                    term=message["term"],
                    prev_index=message["prevLogIdx"],
                    prev_term=message["prevLogTerm"],
                    entries=() if useless else tuple(message["entries"]),
                    commit_index=message["commit_index"],
                )
            case "next_node_idx":
                return NextIndex(
                    term=self._answering_term,
                    next_index=message["next_node_idx"],
                    success=message["success"],
                    reset=message["reset"],
                )
            case "request_vote":
                return RequestVote(
                    term=message["term"],
                    last_log_index=message["last_log_index"],
                    last_log_term=message["last_log_term"],
                )
            case "response_vote":
                return ResponseVote(term=message["term"])
            case "timeout_now":
                return TimeoutNow(term=message["term"])
            case _:
                return None


# An answer that says no more than that its sender lives (1083).
_HEARD = Verdict({"type": "next_node_idx", "next_node_idx": 0, "reset": False, "success": False})


def _heartbeat_dict(term: int, commit_index: int) -> dict[str, Any]:
    return {"type": "append_entries", "term": term, "commit_index": commit_index}


def _append_dict(message: AppendEntries) -> dict[str, Any]:
    return {
        "type": "append_entries",
        "term": message.term,
        "commit_index": message.commit_index,
        "entries": list(message.entries),
        "prevLogIdx": message.prev_index,
        "prevLogTerm": message.prev_term,
    }


def _next_dict(message: NextIndex) -> dict[str, Any]:
    return {
        "type": "next_node_idx",
        "next_node_idx": message.next_index,
        "reset": message.reset,
        "success": message.success,
    }
