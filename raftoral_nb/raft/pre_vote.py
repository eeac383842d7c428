"""Asking before campaigning, so that a node that was cut off does not unseat a healthy leader when it returns.

PySyncObj has no pre-vote: a node that hears nothing raises the term, and everybody follows the higher term. Here its
election deadline never comes due by itself. When it would, this node first asks whether the others would vote for it;
only a majority of such promises lets PySyncObj campaign. (Raft dissertation, Ongaro 2014, section 9.6.)

Asking is harmless, and so it need not wait for a whole election timeout when there is a sign that the leader is gone: the
link to it broke. A leader that lives has its links again after `FIRST_REDIAL` seconds, so a follower waits a little longer
than that. A leader that is paused or cut off keeps its links, and is found out by its silence as before.
"""

from __future__ import annotations

from collections.abc import Callable

from ..core.records import NodeId
from ..transport.messages import AppendEntries, Message, Outdated, PreVote, PreVoteGranted
from ..transport.network import FIRST_REDIAL
from .journal import MemoryJournal
from .pysyncobj_driver import LEADER, Dice, ElectionTiming, Raft

SUSPICION_MIN, SUSPICION_MAX = 0.5, 2.0
"""The time beyond `FIRST_REDIAL` that a follower waits for a broken link to its leader before it asks (heartbeats)."""

MARGIN = 0.005
"""Seconds before the deadline at which it counts as due: PySyncObj must not see it pass between our look and its own."""


class PreVoting:
    """The decision when one replica's PySyncObj may campaign."""

    def __init__(
        self,
        node: NodeId,
        journal: MemoryJournal,
        raft: Raft,
        *,
        clock: Callable[[], float],
        dice: Dice,
        timing: ElectionTiming,
        send: Callable[[NodeId, Message], None],
    ) -> None:
        self._journal = journal
        self._raft = raft
        self._clock = clock
        self._dice = dice
        self._node = node
        # Invariant: the other members; `member` says whether this node is one.
        self.peers: tuple[NodeId, ...] = ()
        self.member = True
        self._timing = timing
        self._send = send
        self.heard_at = float("-inf")
        """The time when a leader was last heard (clock seconds); -infinity: not since its link broke."""
        # Invariant: the term that the promises in `_promised` are for; they are void in any other.
        self._asked_term = 0
        self._promised: set[NodeId] = set()

    @property
    def silence(self) -> float | None:
        """Seconds since a leader was heard; None for one who leads, or whose leader's link broke, or who heard of none yet."""
        if self._raft.role == LEADER or self.heard_at == float("-inf"):
            return None
        return max(0.0, self._clock() - self.heard_at)

    @property
    def timer(self) -> float | None:
        """Seconds until the deadline; None for a node that leads, or waits for none: alone, or no member."""
        raft = self._raft
        if raft.role == LEADER or raft.election_timer_stopped or not raft.reachable:
            return None
        return max(0.0, raft.election_due - self._clock())

    def due(self) -> bool:
        """Return whether the election deadline has come, or all but come."""
        return self._raft.election_due <= self._clock() + MARGIN

    def before_tick(self) -> None:
        """Ask for pre-votes if the deadline is due, instead of campaigning, and wait another timeout."""
        raft = self._raft
        if raft.role == LEADER or not self.due():
            return
        if not self.member:
            raft.stop_election_timer()  # until a leader is heard again
            return
        if not self.peers or raft.campaigns_now:
            return
        raft.restart_election_timer()
        if not raft.reachable:
            return
        self._asked_term = raft.term + 1
        self._promised.clear()
        journal = self._journal
        question = PreVote(self._asked_term, journal.last_index, journal.term_at(journal.last_index) or 0)
        for peer in self.peers:
            self._send(peer, question)

    def link_lost(self, peer: NodeId) -> None:
        """Note that the link to `peer` broke.

        If that was the leader, ask soon, and promise others what they ask for.
        """
        raft = self._raft
        if raft.role == LEADER or peer != raft.leader:
            return
        self.heard_at = float("-inf")
        share = SUSPICION_MIN + (SUSPICION_MAX - SUSPICION_MIN) * self._dice.random()
        raft.campaign_within(FIRST_REDIAL + self._timing.heartbeat * share)

    def link_back(self, peer: NodeId) -> None:
        """Note that there is a link to `peer` again.

        If it leads and lives, it will be heard within a heartbeat or two.
        """
        raft = self._raft
        if raft.role != LEADER and peer == raft.leader and not raft.campaigns_now:
            raft.campaign_not_before(self._timing.heartbeat * (2.0 + self._dice.random()))

    def heard(self, message: AppendEntries) -> Outdated | None:
        """Note that a leader's message came: one of the present term shows that the cluster needs no other.

        Returns what to tell a leader of an earlier term. Without that, a node at a higher term would never find its way back.
        """
        if message.term < self._raft.term:
            return Outdated(self._raft.term)
        self.heard_at = self._clock()
        return None

    def asked(self, peer: NodeId, message: PreVote) -> None:
        """Promise `peer`, which would campaign, a vote if its log is as good as ours and we, too, hear from no leader.

        One that asks for a term that is past is told ours: it may be the only one whose log can win, and no other
        would.
        """
        raft, journal = self._raft, self._journal
        if message.term <= raft.term:
            self._send(peer, Outdated(raft.term))
            return
        leader_lives = raft.role == LEADER or self._clock() - self.heard_at < self._timing.election_min
        own = (journal.term_at(journal.last_index) or 0, journal.last_index)
        theirs = (message.last_log_term, message.last_log_index)
        if leader_lives or theirs < own:
            return
        if theirs > own or peer < self._node:
            # If both asked at once, both would campaign and share the votes. One gives way; it asks again if neither
            # wins.
            self._asked_term = 0
        self._send(peer, PreVoteGranted(message.term))

    def granted(self, peer: NodeId, message: PreVoteGranted) -> None:
        """Note that `peer` promises its vote; with a majority of promises, campaign."""
        raft = self._raft
        if raft.role == LEADER or message.term != self._asked_term or self._asked_term != raft.term + 1:
            return
        self._promised.add(peer)
        # Counted now: who was a member when asked need not be one any more.
        if self.member and 2 * (len(self._promised.intersection(self.peers)) + 1) > len(self.peers) + 1:
            self._asked_term = 0
            raft.campaign_now()
