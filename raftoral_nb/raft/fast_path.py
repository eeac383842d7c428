"""The fast path: what a cluster does nearly all the time, done on PySyncObj's fields directly.

While nothing happens but commands, a leader appends an entry and sends it to followers that have all the others, a follower
appends what continues its log and says so, and the leader counts and commits. PySyncObj and the guard take some hundred calls for
each of these. Here they are done in a few, *under the conditions that stand in the code one by one*; whatever does not meet
them goes the guarded way (`guard`, then PySyncObj). So does every heartbeat that is due, as nothing here puts one off: what is
left undone here (stepping down without a majority, say) PySyncObj does within a heartbeat.

Why it is safe: each step leaves the fields of PySyncObj and the journal as the guarded way would have left them.

*A follower* (`_follow`) takes a message of its leader's present term whose `prev_index` and `prev_term` are those of its own last entry. By
log matching its whole log is then the leader's up to there. It only appends, so that nothing can be deleted; all of its log is
verified, so that it may commit what the message says, up to its last entry. A leader or candidate never gets here: only a follower
knows another node as the leader of its term.

*A leader* (`append`) adds an entry of its term and sends it to those who were sent all before it, in a message that is true whoever
gets it. Whoever has lost one will refuse it, the guarded way.

*Acknowledgements* (`_acknowledged`) carry the term that they answer. One of the present term answers a message of this node's leadership, so
the follower holds this leader's log up to the index that it names, which is never beyond that log. If the node no longer leads in
this term, nobody reads what is noted here, and it is reset when the node is elected again.

*Commits* (`turn`) need the majority of the members that the log names last, and an entry of the leader's own term (Raft, section 5.4.2).
A leader counts itself for what it has stored, and not more, as it counts the followers, whose answers wait in the outbox until they are true. So
nobody waits for a disk: where PySyncObj would have the leader's own copy stored there and then (`DurableJournal.setRaftCommitIndex`),
the outbox tells when it is (`Replica`), and two followers are a majority of three before that.

The simulation takes either way by chance, step by step, and leaves out one condition after the other (`simulation.mutants`).
"""

from __future__ import annotations

from collections.abc import Callable

from ..core.records import NodeId
from ..transport.messages import AppendEntries, Message, NextIndex
from .journal import MemoryJournal
from .outbox import Outbox
from .pre_vote import PreVoting
from .pysyncobj_driver import LEADER, REGULAR, Raft
from .snapshot_transfer import Transfers


class FastPath:
    """The fast path of one replica. It keeps no state of its own: all that it knows is in PySyncObj, the journal and the outbox.

    `choice()`, if there is one, is asked before each step and says whether this one may be taken here: so a test, or the
    simulation, goes from one path to the other wherever it likes.
    """

    def __init__(
        self, journal: MemoryJournal, raft: Raft, transfers: Transfers, pre_voting: PreVoting, outbox: Outbox
    ) -> None:
        self._journal = journal
        self._raft = raft
        self._transfers = transfers
        self._pre_voting = pre_voting
        self._outbox = outbox
        self.choice: Callable[[], bool] | None = None

    def take(self, peer: NodeId, message: Message, now: float) -> bool:
        """Process a message of `peer`, received `now` (clock seconds). False, and nothing done, if it is not for this path."""
        if self.choice is not None and not self.choice():
            return False
        if isinstance(message, AppendEntries):
            return self._follow(peer, message, now)
        return isinstance(message, NextIndex) and self._acknowledged(peer, message, now)

    def _follow(self, peer: NodeId, message: AppendEntries, now: float) -> bool:
        raft, journal = self._raft, self._journal
        if not (
            message.term == raft.term
            and raft.leader == peer
            and message.prev_index == journal.last_index
            and message.prev_term == journal.last_term
            # Its election deadline has not come. It has at once if the leader, handing over, told this node to campaign.
            and raft.election_due > now
        ):
            return False
        for data, index, term in message.entries:
            journal.add(data, index, term)
        raft.leader_heard(now)
        self._pre_voting.heard_at = now
        last = journal.last_index
        self._outbox.send(peer, NextIndex(message.term, last + 1, True, False))
        commit = min(message.commit_index, last)
        if commit > raft.commit_index:
            raft.commit_to(commit)
        return True

    def _acknowledged(self, peer: NodeId, message: NextIndex, now: float) -> bool:
        raft = self._raft
        if not (
            message.term == raft.term
            # Not a refusal.
            and message.success
            # A member still.
            and peer in raft.match_indexes
            # From a follower that is being sent a snapshot this may mean that it has it: the guard ends the transfer then.
            and peer not in self._transfers.under_way
        ):
            return False
        index = message.next_index - 1
        if index > raft.match_indexes[peer]:
            raft.match_indexes[peer] = index
            # Entries behind it that were sent meanwhile are not sent again: nothing says that they are lost.
            if raft.next_indexes[peer] <= index:
                raft.next_indexes[peer] = index + 1
        raft.heard_at[peer] = now
        return True

    def ready(self) -> bool:
        """Return whether a leader may `append`: each follower that is connected was sent all that is in the log."""
        raft, under_way = self._raft, self._transfers.under_way
        following = self._journal.last_index + 1
        for peer in raft.connected_peers:
            # A follower that is being sent a snapshot cannot use entries before it has it.
            if not (raft.next_indexes[peer] == following and peer not in under_way):
                return False
        return self.choice is None or self.choice()

    def append(self, data: bytes) -> None:
        """Append a command to a leader's log, and send it to all followers that are connected."""
        raft, journal = self._raft, self._journal
        term, last, last_term, entry = raft.term, journal.last_index, journal.last_term, REGULAR + data
        journal.add(entry, last + 1, term)
        message = AppendEntries(term, last, last_term, ((entry, last + 1, term),), raft.commit_index)
        for peer in raft.connected_peers:
            raft.next_indexes[peer] = last + 2
            self._outbox.send(peer, message)

    def turn(self) -> bool:
        """Commit what a majority holds, and apply a piece of what is committed: what PySyncObj does in a tick when nothing is due.

        Return whether anything was applied.
        """
        raft, journal = self._raft, self._journal
        if raft.role == LEADER:
            # It counts itself as it counts others: for what it has stored.
            held = sorted([journal.stored_index, *[raft.match_indexes[peer] for peer in raft.peers]])
            # Of n members, n // 2 + 1 hold this one.
            index = held[(len(held) - 1) // 2]
            if index > raft.commit_index and journal.term_at(index) == raft.term:
                raft.commit_to(index)
        if raft.commit_index <= raft.applied_index:
            return False
        raft.apply_committed()
        return True
