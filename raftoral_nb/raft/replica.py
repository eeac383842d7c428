"""One node's Raft, driven by events: a message came, a command came, a timer is due. Nothing else makes it move."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol

from ..core.commands import ChangeMembers, Entry, Proposal, Takeover
from ..core.entry_codec import batches, encode_entry
from ..core.records import NodeId
from ..core.state import State
from ..limits import MAX_ENTRIES_IN_FLIGHT
from ..transport.messages import (
    AppendEntries,
    Message,
    NextIndex,
    PreVote,
    PreVoteGranted,
    SnapshotPiece,
    SnapshotProgress,
    TimeoutNow,
)
from .compaction import Compaction, Compactor
from .fast_path import FastPath
from .guard import Guard
from .journal import MemoryJournal
from .membership import ChangesListener, MemberChanges
from .outbox import Outbox
from .pre_vote import PreVoting
from .pysyncobj_driver import FOLLOWER, LEADER, Dice, Raft
from .snapshot_transfer import Arrival, Transfers
from .timing import Timing

__all__ = ["COMMIT_NOTICE", "ROLE_NAMES", "Replica", "ReplicaListener", "RoleName", "Timing"]

RoleName = Literal["follower", "candidate", "leader"]
ROLE_NAMES: tuple[RoleName, RoleName, RoleName] = ("follower", "candidate", "leader")

COMMIT_NOTICE = 0.001
"""The time that a commit waits for the next entries to tell the followers of it, before a message is sent for it alone
(seconds).
"""

_TIMER_SLACK = 0.0005
"""PySyncObj compares deadlines with `<`: a timer set to the very deadline would fire just before it (seconds)."""


class Replica:
    """A replica: one `Raft` behind its `Guard`, driven by an asyncio loop (a real one or one on a virtual clock).

    Only a leader's replica hands commands to PySyncObj, so none is queued behind our back. Proposals that wait together
    go into one entry. Every method must be called on the loop; nothing blocks. If the journal has a snapshot, the
    replica begins frozen: its owner reads the snapshot first, and calls `thaw`.

    The members are those that the log names last. `peers` are the others of a new cluster, whose log names none yet; a
    node that `joins` a cluster begins without any, and does nothing of its own accord until the log names it.
    """

    def __init__(
        self,
        node: NodeId,
        peers: Iterable[NodeId],
        *,
        journal: MemoryJournal,
        loop: asyncio.AbstractEventLoop,
        dice: Dice,
        timing: Timing,
        send: Callable[[NodeId, Message], None],
        listener: ReplicaListener,
        compaction: Compaction,
        joins: bool = False,
        guarded: bool = True,
    ) -> None:
        self.node = node
        founders = () if joins else tuple(sorted((node, *peers)))
        # Invariant: those that the journal names, or, as long as it names none, the founders.
        self.members: tuple[NodeId, ...] = journal.members or founders
        self._peers = tuple(peer for peer in self.members if peer != node)
        self._journal = journal
        self._loop = loop
        self._timing = timing
        self._outbox = Outbox(journal, loop, send, listener.broke, self._stored)
        self._listener = listener
        self._role_changed = False
        self._waiting: deque[Proposal] = deque()
        self._flush_scheduled = False
        self._advance_scheduled = False
        self._claimed_term = 0
        self._sent_index = 0
        self._sent_commit = 0
        self._notice_at = float("inf")
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._frozen = journal.snapshot is not None
        self._closed = False
        self._in_tick = False
        self._arrival: Arrival | None = None
        self._transfers = Transfers(journal, send)
        self.compactor = Compactor(
            journal,
            compaction,
            loop=loop,
            needed_from=self._transfers.needed_from,
            compacted=self._compacted,
            broke=listener.broke,
        )
        self.raft = Raft(
            node,
            self._peers,
            journal=journal,
            applied=journal.snapshot_index,
            clock=loop.time,
            dice=dice,
            timing=timing,
            send=self._outgoing,
            apply=listener.committed,
            role_changed=self._on_role_changed,
        )
        self._changes = MemberChanges(node, journal, self.raft, loop, listener, self._let_go)
        self._guard = Guard(journal, self.raft, self._transfers, enabled=guarded)
        self.pre_voting = PreVoting(node, journal, self.raft, clock=loop.time, dice=dice, timing=timing, send=send)
        self.fast_path = FastPath(journal, self.raft, self._transfers, self.pre_voting, self._outbox)
        if not guarded:
            self.fast_path.choice = _never
        self._tell_members()
        self._arm()

    # --- what happens to it

    def connected(self, peer: NodeId) -> None:
        """Note that a link to `peer` is up."""
        self.raft.connected(peer)
        self.pre_voting.link_back(peer)
        self.advance()

    def disconnected(self, peer: NodeId) -> None:
        """Note that the link to `peer` is gone."""
        self.raft.disconnected(peer)
        self._transfers.end(peer)
        self.pre_voting.link_lost(peer)
        self._arm()

    def received(self, peer: NodeId, messages: Iterable[Message]) -> None:
        """Receive Raft messages of `peer`, in order."""
        if self._closed:
            return
        now = self._loop.time()
        self.raft.excuse_own_sleep(self._timing.heartbeat, now)
        guarded = False
        try:
            for message in messages:
                if not self.fast_path.take(peer, message, now):
                    guarded = True
                    self._receive(peer, message)
        except Exception as error:
            self._listener.broke(error)
            return
        if self._journal.members is not self.members:
            self._look_for_members()
        if not guarded and not self._frozen and (self.fast_path.choice is None or self.fast_path.choice()):
            self._fast_turn()
        elif self._frozen or self._has_work(peer):
            self.advance()
        else:
            self._listener.raft_changed()
            self._arm()
            self._outbox.settle()

    def _receive(self, peer: NodeId, message: Message) -> None:
        answer: Message | None
        match message:
            case PreVote():
                self.pre_voting.asked(peer, message)
                return
            case PreVoteGranted():
                self.pre_voting.granted(peer, message)
                return
            case AppendEntries():
                answer = self.pre_voting.heard(message) or self._guard.deliver(peer, message)
            case TimeoutNow() if self.node not in self.members:
                return
            case SnapshotPiece():
                answer = self._take_piece(peer, message)
            case SnapshotProgress():
                if self.raft.role == LEADER and message.term == self.raft.term:
                    self._transfers.progressed(peer, message)
                return
            case _:
                answer = self._guard.deliver(peer, message)
        if answer is not None:
            self._outbox.send(peer, answer)

    def _take_piece(self, peer: NodeId, message: SnapshotPiece) -> Message | None:
        raft, journal = self.raft, self._journal
        if message.term != raft.term or raft.role != FOLLOWER:
            return None
        have = message.index <= raft.commit_index or journal.term_at(message.index) == message.last_term
        if not have:
            if self._arrival is None or not self._arrival.belongs(peer, message):
                self._arrival = Arrival(peer, message)
            self._arrival.take(message)
            if not self._arrival.whole:
                return SnapshotProgress(message.term, message.index, self._arrival.expected)
            snapshot, state = self._arrival.taken()
            self.compactor.cancel()
            journal.install(snapshot)
            self.compactor.release()
            raft.skip_to(snapshot.index)
            self._listener.state_replaced(state)
        self._arrival = None
        return NextIndex(term=message.term, next_index=message.index + 1, success=True, reset=False)

    def _compacted(self) -> None:
        """Note that the log begins further up: PySyncObj must not look for what lies below."""
        if self.raft.role == LEADER:
            for peer in self._peers:
                if self.raft.next_index(peer) <= self._journal.first_index:
                    self.raft.set_next_index(peer, self._journal.first_index + 1)

    def submit(self, proposals: Iterable[Proposal]) -> bool:
        """Take proposals for the next entry. False, and nothing taken, unless this replica leads."""
        if self.raft.role != LEADER or self._frozen or self._closed:
            return False
        self._waiting.extend(self._changes.admitted(proposals))
        self._schedule_flush()
        return True

    def campaign(self) -> None:
        """Try to become the leader now instead of at the election timeout."""
        if self.raft.role != LEADER and self.node in self.members:
            self.raft.campaign_now()
            self.advance()

    def freeze(self) -> None:
        """Stop all timers, as a hung process would. What feeds it messages must stop as well."""
        self._frozen = True
        self._outbox.freeze()
        self._disarm()

    def thaw(self) -> None:
        """Undo `freeze`. No peer is to blame for the time slept: messages that waited come first, then timers."""
        self._frozen = False
        self.raft.excuse_own_sleep(self._timing.heartbeat, self._loop.time())
        self._arm()
        self._outbox.thaw()
        if self._waiting:
            self._schedule_flush()
        self._schedule_advance()

    def close(self) -> None:
        """Take it out of use for good; the journal stays."""
        if not self._closed:
            self._closed = True
            self._disarm()
            self._waiting.clear()
            self._changes.forget()
            self._outbox.close()
            self._arrival = None
            self._transfers.clear()
            self.compactor.cancel()
            self.raft.destroy()

    # --- what it is

    @property
    def role(self) -> RoleName:
        """The Raft role of this replica. More than one replica may believe to be leader; see `Member.acting_term`."""
        return ROLE_NAMES[self.raft.role]

    # --- inside

    def advance(self) -> None:
        """Do everything that can be done now, then set the timer for what comes next."""
        if self._closed or self._frozen or self._in_tick:
            return
        self._in_tick = True
        try:
            self._tick()
        except Exception as error:
            self._listener.broke(error)
            return
        finally:
            self._in_tick = False
        if self.raft.has_more:
            self._schedule_advance()  # a message at a time, and between them it is the turn of everybody else
        self._end_turn()

    def _fast_turn(self) -> None:
        """Commit and apply without PySyncObj: all that was done since its last turn was done on the fast path, and nothing is due."""
        raft = self.raft
        self._in_tick = True
        try:
            applied = self.fast_path.turn()
        except Exception as error:
            self._listener.broke(error)
            return
        finally:
            self._in_tick = False
        if raft.commit_index > raft.applied_index:
            self._schedule_advance()
        elif self._waiting and self._may_append():
            self._schedule_flush()
        if applied or raft.role == LEADER:
            self._end_turn()
            return
        # A follower that has only taken entries, or heard its leader: nothing has changed for its node.
        if raft.election_due < self._timer_at:
            # Each timeout is drawn anew, and this one may end earlier than the last. A timer set to the last would come so late
            # that this process seems to have slept (`Raft.excuse_own_sleep`), and another timeout would be waited for.
            self._arm()
        if not self._journal.safe or self._outbox.held:
            self._outbox.settle()

    def _stored(self) -> None:
        """Note that more of the journal is stored: a leader counts itself for that."""
        if self.raft.role == LEADER and not self._closed and not self._frozen and not self._in_tick:
            self._fast_turn()

    def _end_turn(self) -> None:
        """Tell what may have changed, set the timer, and have stored what was written."""
        if self.raft.role == LEADER and self.raft.commit_index > self._sent_commit and self.raft.reachable:
            self._notice_at = min(self._notice_at, self._loop.time() + COMMIT_NOTICE)
        self._listener.raft_changed()
        self._arm()
        if not self._journal.safe or self._outbox.held:
            self._outbox.settle()

    def _tick(self) -> None:
        raft = self.raft
        while True:
            if self._may_append():
                raft.append(self._next_entry())
            self.pre_voting.before_tick()
            raft.tick()
            self._look_for_members()
            if raft.role == LEADER and self._journal.last_index > self._sent_index and self._peers:
                # What was just appended leaves in the next tick (line 652), not with the next heartbeat.
                self._sent_index = self._journal.last_index
                raft.send_now()
                continue
            if self._role_changed:
                self._role_changed = False
                self._after_role_change()
            leads = raft.role == LEADER
            if leads and self._claimed_term != raft.term:
                # Never forwarded and never repeated: a claim is worth something in its own term only.
                self._claimed_term = raft.term
                claim = Takeover(node=self.node, term=raft.term)
                # The log must name the members, for those who join later; the first leader's does.
                naming = None if self._journal.members else self.members
                raft.append(encode_entry(Entry((Proposal(None, claim),), naming)))
                continue
            if raft.commit_index > raft.applied_index:
                # A long backlog (after a restart) is applied in pieces, and between them it is the turn of everybody else.
                self._schedule_advance()
                return
            if leads and not self._peers and self._in_flight():
                continue  # a single node commits in the tick after the one that appended
            if not self._may_append():
                return

    def _may_append(self) -> bool:
        """Return whether to append proposals.

        That is so if proposals wait, no more can join them in this turn of the loop, and there is room.
        """
        return bool(
            self._waiting
            and not self._flush_scheduled
            and self.raft.role == LEADER
            and self._in_flight() < MAX_ENTRIES_IN_FLIGHT
        )

    def _has_work(self, peer: NodeId) -> bool:
        """Return whether the last message of `peer` gives a tick anything to do.

        Most acknowledgements and heartbeats do not.
        """
        raft = self.raft
        if self._role_changed or raft.commit_index > raft.applied_index:
            return True
        if raft.role == LEADER:
            return raft.match_index(peer) > raft.commit_index or raft.heartbeat_due <= self._loop.time()
        return self.pre_voting.due()

    def _after_role_change(self) -> None:
        raft = self.raft
        self._sent_index = 0
        if raft.role == LEADER:
            return
        self._notice_at = float("inf")
        self._waiting.clear()
        self._changes.forget()
        self._transfers.clear()
        # PySyncObj leaves a deposed leader with a deadline long past: it would campaign at once against its successor.
        if raft.election_due < self._loop.time():
            raft.restart_election_timer()

    def _on_role_changed(self) -> None:
        self._role_changed = True

    def _in_flight(self) -> int:
        return self._journal.last_index - self.raft.commit_index

    def _schedule_flush(self) -> None:
        # Everything else that arrives in this turn of the loop joins the same entry.
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        if not self._waiting or self._closed or self._frozen:
            return
        # The process may have stalled since this was scheduled.
        self.raft.excuse_own_sleep(self._timing.heartbeat, self._loop.time())
        try:
            while self._waiting and self._may_append() and self.fast_path.ready():
                if isinstance(self._waiting[0].carried, ChangeMembers):
                    break
                self.fast_path.append(self._next_entry())
                self._sent_index, self._sent_commit = self._journal.last_index, self.raft.commit_index
                self._notice_at = float("inf")
        except Exception as error:
            self._listener.broke(error)
            return
        if self._waiting and self._may_append():
            self.advance()
        elif self._peers:
            self._end_turn()
        else:
            self._fast_turn()  # nobody else has to have it

    def _schedule_advance(self) -> None:
        if not self._advance_scheduled:
            self._advance_scheduled = True
            self._loop.call_soon(self._scheduled_advance)

    def _scheduled_advance(self) -> None:
        self._advance_scheduled = False
        self.raft.excuse_own_sleep(self._timing.heartbeat, self._loop.time())
        if self.raft.has_more:
            self.raft.has_more = False
            self.raft.send_now()
        self.advance()

    def _next_entry(self) -> bytes:
        """Take what waits, as much of it as an entry holds, and return that entry."""
        # A single one fits: its proposer has seen to that. More are looked at, which encodes each once more.
        batch = tuple(self._waiting) if len(self._waiting) == 1 else next(batches(self._waiting))
        members = None
        for position, proposal in enumerate(batch):
            if isinstance(proposal.carried, ChangeMembers):
                # In an entry of its own: from there on others count.
                batch = batch[: max(1, position)]
                members = self._changes.after(self.members, proposal.id, proposal.carried) if position == 0 else None
                break
        for _ in batch:
            self._waiting.popleft()
        return encode_entry(Entry(batch, members))

    # --- members

    def _let_go(self, proposals: Iterable[Proposal]) -> None:
        """Append what had to wait for a change of members."""
        self._waiting.extend(proposals)
        if not self._frozen:
            self._schedule_flush()

    def _look_for_members(self) -> None:
        """Look whether the log names other members: they vote from now on, committed or not."""
        named = self._journal.members
        if named and named != self.members:
            self.members = named
            self._peers = tuple(peer for peer in named if peer != self.node)
            for peer in self.raft.peers:
                if peer not in named:
                    self._transfers.end(peer)
            self._tell_members()

    def _tell_members(self) -> None:
        now = self._loop.time()
        self.raft.set_peers(self._peers, self._journal.last_index + 1, now)
        pre_voting = self.pre_voting
        pre_voting.peers, pre_voting.member = self._peers, self.node in self.members
        if pre_voting.member and self.raft.election_timer_stopped:
            self.raft.restart_election_timer()

    def _outgoing(self, peer: NodeId, message: dict[str, Any]) -> None:
        translated = self._guard.outgoing(peer, message)
        if isinstance(translated, AppendEntries):
            self._sent_commit = translated.commit_index
            self._notice_at = float("inf")
        if translated is not None:
            self._outbox.send(peer, translated)

    # --- the timer

    def _next_deadline(self) -> float:
        raft = self.raft
        if raft.role == LEADER:
            return min(raft.heartbeat_due, self._notice_at)
        if self._peers and not raft.reachable:
            return float("inf")
        return raft.election_due

    def _arm(self) -> None:
        # A timer that is early looks again and is set anew: cheaper than moving it with every message.
        deadline = self._next_deadline() + _TIMER_SLACK
        if self._closed or self._frozen or deadline >= self._timer_at:
            return
        self._disarm()
        if deadline != float("inf"):
            self._timer_at = deadline
            self._timer = self._loop.call_at(deadline, self._on_timer)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, float("inf")

    def _on_timer(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        self.raft.excuse_own_sleep(self._timing.heartbeat, self._loop.time())
        if self._notice_at <= self._loop.time():
            self._notice_at = float("inf")
            self.raft.send_now()
        if self._next_deadline() <= self._loop.time():
            self.advance()
        else:
            self._arm()


def _never() -> bool:
    return False


class ReplicaListener(ChangesListener, Protocol):
    """The calls that a replica makes to the node it belongs to.

    Called on the consensus loop; must not raise or call back.
    """

    def committed(self, index: int, data: bytes) -> None:
        """Apply a committed entry. Called once per entry and incarnation, in order."""
        ...

    def state_replaced(self, state: State) -> None:
        """Note that a snapshot was installed.

        The entries up to its index are in `state`, and will not come through `committed`.
        """
        ...

    def raft_changed(self) -> None:
        """Note that role, term, leader or applied index may have changed."""
        ...

    def broke(self, error: BaseException) -> None:
        """Note that something was raised that never should be: this replica must not continue."""
        ...
