"""A node's consensus side: its replica, its copy of the replicated state, and the proposer of its commands."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from ..core.apply import Applied, apply_entry, recorded_answer
from ..core.blob_refs import REFERENCE_START, BlobRef
from ..core.command_values import references
from ..core.commands import ChangeMembers, Command, Committed, Outcome, Proposal, WithBlobs
from ..core.entry_codec import batches, decode_entry
from ..core.events import BlobsDropped
from ..core.records import NodeId, ProposalId
from ..core.retention import refs_of, side_refs
from ..core.run_record import Run
from ..core.snapshot import Reader
from ..core.state import ClientSession, State
from ..errors import ProtocolError, StorageError
from ..limits import MAX_RELEASED
from ..transport.messages import BlobHeld, BlobOffer, BlobPiece, BlobWant, Forward, Message, Refuse, TimeoutNow
from ..transport.network import Endpoint, Network
from .blob_exchange import BlobExchange, BlobTicket
from .compaction import DEFAULT_COMPACTION, Compaction
from .journal import MemoryJournal, Snapshot
from .proposer import Proposer, Ticket
from .pysyncobj_driver import FOLLOWER, LEADER, Dice
from .replica import Replica, RoleName, Timing

logger = logging.getLogger(__name__)

CURRENT_SECONDS = 5.0
"""The time for which a follower that heard of no leader is still taken to know what is committed (seconds)."""

MAX_FORWARDS_AT_ONCE = 4
"""Frames of proposals that a node sends a leader in one go; a link whose peer does not keep up would be reset."""


class MemberListener(Protocol):
    """The calls that a member makes to its node, in this order and on the consensus loop.

    They must only pass on what they are told, and must not raise.
    """

    def applied(self, index: int, applied: Sequence[Applied]) -> None:
        """Note that an entry was applied to the state."""
        ...

    def state_replaced(self, old: State, new: State) -> None:
        """Note that a snapshot took the place of the state; `new` is further in the same history."""
        ...

    def acting_changed(self, term: int | None) -> None:
        """Note that this node may act in `term` from here on; None: it may not any more.

        Comes after the records before it.
        """
        ...

    def role_changed(self, role: RoleName, term: int) -> None:
        """Note that the Raft role or term changed."""
        ...

    def link_changed(self, peer: NodeId, up: bool) -> None:
        """Note that a link to another node is up, or gone."""
        ...

    def failed(self, error: BaseException) -> None:
        """Note that the replica broke and was taken out of use.

        `StorageError` if its disk did, else a bug or an invariant that failed.
        """
        ...


class Member:
    """One incarnation of one node on the consensus loop. Every method must be called there."""

    def __init__(
        self,
        node: NodeId,
        nodes: Sequence[NodeId],
        *,
        journal: MemoryJournal,
        loop: asyncio.AbstractEventLoop,
        dice: Dice,
        timing: Timing,
        listener: MemberListener,
        compaction: Compaction = DEFAULT_COMPACTION,
        joins: bool = False,
        first: bool = False,
        guarded: bool = True,
    ) -> None:
        """`first`: ask for votes as soon as a majority is reached, instead of waiting an election timeout for a leader to be heard.

        For one of several nodes that start together, if all members are among them: then there is no leader to wait for.
        """
        self.node = node
        self.state = State()
        self._loop = loop
        self._listener = listener
        self._dice = dice
        self._endpoint: Endpoint | None = None
        self._acting: int | None = None
        self._yielding_term = 0
        self._yielding_to: NodeId | None = None
        self._told_role = (FOLLOWER, 0)
        self._told_leader: NodeId | None = None
        # Somebody has to begin: in a new cluster the first node does, as soon as it reaches a majority.
        self._begun_term = journal.getCurrentTerm()
        self._eager = first or (self._begun_term == 0 and node == min(nodes) and not joins)
        self._closed = False
        self._loading = journal.snapshot is not None
        self.paused = False
        self.replica = Replica(
            node,
            [peer for peer in nodes if peer != node],
            journal=journal,
            loop=loop,
            dice=dice,
            timing=timing,
            send=self._send,
            listener=self,
            compaction=compaction,
            joins=joins,
            guarded=guarded,
        )
        self._journal = journal
        self.last_with_blobs = 0
        """The index of the last entry with references to blobs that was applied here, if it did not come with a snapshot."""
        self._proposer = Proposer(
            loop,
            client=self._new_client(),
            renew=self._new_client,
            retry=timing.retry,
            leader=self._known_leader,
            hand_over=self._hand_over,
        )
        self.blobs = BlobExchange(node, journal.blobs, loop, timing.retry, self)

    async def join(self, network: Network) -> None:
        """Read the snapshot, if there is one, and attach to the network; links to the other nodes come up from now on.

        Raises `PortInUseError`, and `SnapshotError` for a snapshot that cannot be read.
        """
        if self._journal.snapshot is not None:
            await self._load(self._journal.snapshot)
            if self._closed:
                return
        self._endpoint = await network.attach(self.node, self)
        self._begin()

    async def _load(self, snapshot: Snapshot) -> None:
        reader = Reader()
        for piece in snapshot.pieces:
            reader.feed(piece)
            await asyncio.sleep(0)  # the other nodes' turn
            if self._closed:
                return
        self.state_replaced(reader.state())
        self._loading = False
        if not self.paused:
            self.replica.thaw()

    # --- the network's side (Receiver)

    def connected(self, peer: NodeId) -> None:
        """Note that a link to `peer` is up."""
        self.replica.connected(peer)
        self._listener.link_changed(peer, True)
        self.blobs.connected(peer)
        self._begin()
        if peer == self._known_leader():
            self._proposer.leader_changed()

    def disconnected(self, peer: NodeId) -> None:
        """Note that the link to `peer` is gone."""
        self.replica.disconnected(peer)
        self._listener.link_changed(peer, False)
        self.blobs.disconnected(peer)
        self._proposer.lost(peer)

    def received(self, peer: NodeId, messages: Sequence[Message]) -> None:
        """Receive messages of `peer` that came together, in order."""
        raft_messages = []
        for message in messages:
            match message:
                case Forward():
                    # A claim to lead is made on one's own log only: whatever else travels has an id.
                    proposals = [proposal for proposal in message.proposals if proposal.id is not None]
                    if not self.replica.submit(proposals):
                        ids = tuple(proposal.id for proposal in proposals if proposal.id is not None)
                        self._send(peer, Refuse(ids, self.replica.raft.leader, self.replica.raft.term))
                case Refuse():
                    self._proposer.refused(message)
                case BlobOffer() | BlobHeld() | BlobWant() | BlobPiece():
                    self.blobs.received(peer, message)
                case _:
                    raft_messages.append(message)
        if raft_messages:
            self.replica.received(peer, raft_messages)

    # --- the replica's side (ReplicaListener)

    def committed(self, index: int, data: bytes) -> None:
        """Apply a committed entry and tell everybody."""
        try:
            entry = decode_entry(data)
        except ProtocolError:
            # The same bytes are skipped by every node alike.
            logger.exception("entry %d is not one of ours and was skipped", index)
            return
        if self._acting is not None and self.acting_term is None:
            self._tell_acting()  # before records of another node: a deposed leader must not act a moment longer
        had_blobs = bool(self.state.blob_runs)
        applied = apply_entry(self.state, index, entry)
        if REFERENCE_START in data:
            self.last_with_blobs = index
            done = [one for one in applied if isinstance(one.answer, Committed)]
            self.blobs.referred([ref for one in done for ref in references(one.proposal.command)])
        self._listener.applied(index, applied)
        if had_blobs:
            for event in (event for one in applied for event in one.events if type(event) is BlobsDropped):
                self.blobs.dropped(event.digests)
        self._proposer.applied(applied)
        self.replica.compactor.applied(self.state, len(data))

    def was_member(self, node: NodeId) -> bool:
        """Return whether a node of that number, or of a higher one, has been a member before."""
        return node <= self.state.highest_member

    def refers_to_blobs(self) -> bool:
        """Return whether the state refers to any blob. Looks at every run."""
        return bool(refs_of(self.state))

    def was_answered(self, proposal: ProposalId) -> bool:
        """Return whether a proposal of that id was applied, and what became of it is known."""
        return recorded_answer(self.state, proposal) is not None

    def state_replaced(self, state: State) -> None:
        """Tell everybody what is different now that a snapshot was installed."""
        old, self.state = self.state, state
        self._listener.state_replaced(old, state)
        self._proposer.state_replaced(state)
        self.blobs.referred(refs_of(state))
        self.blobs.dropped([digest for digest in old.blob_runs if digest not in state.blob_runs])
        self._let_go([*old.runs.values(), *old.sessions.values()])

    def _let_go(self, parts: list[Run | ClientSession]) -> None:
        """Free a state a few parts in each turn of the loop; nothing refers to it as a whole any more."""
        left = MAX_RELEASED
        while parts and left > 0:
            part = parts.pop()
            left -= 1 + len(part.steps if isinstance(part, Run) else part.answers)
        if parts:
            self._loop.call_soon(self._let_go, parts)

    def broke(self, error: BaseException) -> None:
        """Take this node out of use, as its replica must not continue.

        The cluster has one node less, and keeps every promise.
        """
        if isinstance(error, StorageError):
            logger.error("node %d: its disk failed, and it was stopped: %s", self.node, error)
        else:
            logger.error("node %d: its replica broke and was stopped", self.node, exc_info=error)
        self.close()
        self._listener.failed(error)

    def raft_changed(self) -> None:
        """Look at what may have changed, and tell it: first the role, then the right to act, then the proposer."""
        raft = self.replica.raft
        role = (raft.role, raft.term)
        if role != self._told_role:
            self._told_role = role
            self._listener.role_changed(self.replica.role, raft.term)
        self._tell_acting()
        if self._yielding_term:
            self._yield()
        if raft.leader != self._told_leader:
            self._told_leader = raft.leader
            self._proposer.leader_changed()

    # --- the node's side

    def propose(self, command: Command, timeout: float, done: Callable[[Outcome], None]) -> Ticket | BlobTicket:
        """Propose a command; `done(outcome)` is called once on the loop, within `timeout` seconds.

        If it refers to large values, which are brought to a majority first, it may take longer (`SLOWEST_BYTES_A_SECOND`).
        """
        refs = references(command)
        if refs:
            return self.blobs.propose(command, refs, timeout, done)
        if type(command) is ChangeMembers:
            return self.blobs.propose_change(command, timeout, done)
        return self._proposer.propose(command, timeout, done)

    async def ask(self, command: Command, timeout: float) -> Outcome:
        """Propose a command and wait for its outcome, as of `propose`."""
        future: asyncio.Future[Outcome] = self._loop.create_future()

        def done(outcome: Outcome) -> None:
            if not future.done():
                future.set_result(outcome)

        ticket = self.propose(command, timeout, done)
        try:
            return await future
        finally:
            ticket.cancel()

    # --- what blobs need (blob_exchange.ExchangeEnv)

    def propose_now(self, command: Command | WithBlobs, timeout: float, done: Callable[[Outcome], None]) -> Ticket:
        """Propose a command whose blobs a majority has."""
        return self._proposer.propose(command, timeout, done)

    @property
    def applied_index(self) -> int:
        """The index up to which the log is applied to the state."""
        return self.state.index

    def live_refs(self) -> Collection[BlobRef]:
        """Return references to all blobs that the state refers to, each once. Looks at every run."""
        return refs_of(self.state)

    @property
    def voting(self) -> Sequence[NodeId]:
        """The voting members, by this node's log."""
        return self.replica.members

    @property
    def current(self) -> bool:
        """Whether all that is committed is applied here, as far as can be known: it hears a majority, and its log is applied."""
        raft = self.replica.raft
        if self.paused or self._closed or self._loading or raft.applied_index < self._journal.last_index:
            return False
        if raft.role == LEADER:
            return self.acting_term is not None and 2 * (self.reachable + 1) > len(self.replica.members)
        silence = self.silence
        return raft.leader in self.connected_peers and (silence is None or silence < CURRENT_SECONDS)

    @property
    def max_value_bytes(self) -> int:
        """The largest value that the cluster keeps, in bytes. From any thread."""
        return self.state.max_value_bytes

    def live_blobs(self) -> Collection[str]:
        """Return the digests of the blobs that runs of the state refer to."""
        return self.state.blob_runs

    def side_blobs(self) -> Collection[str]:
        """Return the digests of the blobs that saved states of steps and the cache refer to."""
        return {ref.digest for ref in side_refs(self.state)}

    def send(self, peer: NodeId, message: Message) -> None:
        """Send a message, if there is a connection."""
        self._send(peer, message)

    def campaign(self) -> None:
        """Try to become the leader now."""
        self.replica.campaign()

    def yield_leadership(self, target: NodeId | None = None) -> None:
        """Hand leadership to a follower (`target`, or any), as soon as it has everything. Nothing on one that does not lead.

        Not promised: that the follower wins, or that it is not this node again.
        """
        if self.replica.raft.role == LEADER:
            self._yielding_term = self.replica.raft.term
            self._yielding_to = target
            self._yield()

    def pause(self) -> None:
        """Freeze: no timer runs, no message is processed, nothing is sent."""
        if not self.paused:
            self.paused = True
            self.replica.freeze()
            self._proposer.freeze()
            self.blobs.freeze()
            if self._endpoint is not None:
                self._endpoint.pause()

    def resume(self) -> None:
        """Continue: what waited is processed before overdue timers."""
        if self.paused:
            self.paused = False
            if not self._loading:
                self.replica.thaw()
            if self._endpoint is not None:
                self._endpoint.resume()
            self._proposer.thaw()
            self.blobs.thaw()

    def close(self) -> None:
        """End this incarnation, as abruptly as a killed process: nothing is sent, links break. The journal stays."""
        if self._closed:
            return
        self._closed = True
        self.replica.close()
        if self._endpoint is not None:
            self._endpoint.close()
        self.blobs.close()
        self._proposer.close()
        if self._acting is not None:
            self._acting = None
            self._listener.acting_changed(None)

    @property
    def acting_term(self) -> int | None:
        """The term in which this node may act: the applied epoch is its own, and Raft still reports it leader in it."""
        raft = self.replica.raft
        epoch = self.state.epoch
        if not self._closed and raft.role == LEADER and epoch.node == self.node and epoch.term == raft.term:
            return raft.term
        return None

    @property
    def reachable(self) -> int:
        """The number of other nodes that are connected."""
        return self.replica.raft.reachable

    @property
    def connected_peers(self) -> frozenset[NodeId]:
        """The nodes to which a connection stands."""
        return frozenset() if self._endpoint is None else self._endpoint.connected_peers

    def heard_of(self, node: NodeId) -> float:
        """Return when it last heard of a node as its leader (seconds of the loop's clock), put off by what it has slept itself since.

        Of no meaning while it does not lead.
        """
        return self.replica.raft.heard_of(node)

    @property
    def settled(self) -> bool:
        """True if nothing is under way here.

        That is, all of the log is applied, and no proposal of this node waits for an answer.
        """
        return self.replica.raft.applied_index == self._journal.last_index and self._proposer.idle

    @property
    def silence(self) -> float | None:
        """Seconds since it last heard from a leader; None if it leads, is paused, or knows of none."""
        return None if self.paused or self._closed else self.replica.pre_voting.silence

    @property
    def election_timer(self) -> float | None:
        """Seconds until it asks for votes if it continues to hear nothing; None while it waits for no such time."""
        return None if self.paused or self._closed else self.replica.pre_voting.timer

    @property
    def log_length(self) -> int:
        """Entries of the log, with those that a snapshot stands for."""
        return self._journal.last_index

    # --- inside

    def _tell_acting(self) -> None:
        acting = self.acting_term
        if acting != self._acting:
            self._acting = acting
            self._listener.acting_changed(acting)

    def _yield(self) -> None:
        raft = self.replica.raft
        if raft.role != LEADER or raft.term != self._yielding_term:
            self._yielding_term = 0
            return
        assert self._endpoint is not None
        level = [
            peer
            for peer in raft.peers
            if peer in self._endpoint.connected_peers
            and raft.match_index(peer) == self._journal.last_index
            and self._yielding_to in (None, peer)
        ]
        if level:
            self._yielding_term = 0
            self._send(level[int(self._dice.random() * len(level))], TimeoutNow(raft.term))

    def _begin(self) -> None:
        replica = self.replica
        if not self._eager or 2 * (self.reachable + 1) <= len(replica.members):
            return
        self._eager = False
        raft = replica.raft
        if raft.term == 0:
            replica.campaign()
        elif raft.term == self._begun_term and raft.leader is None:
            # It asks before it campaigns, as at any timeout: if a leader lives after all, nobody promises a vote.
            raft.campaign_within(0.0)
            replica.advance()

    def _new_client(self) -> str:
        # The birth lets the state refuse a client that it may have known and forgotten; see `state`.
        return f"{self.state.index}.{self.node}.{int(self._dice.random() * 2**48):012x}"

    def _known_leader(self) -> NodeId | None:
        return self.replica.raft.leader

    def _hand_over(self, leader: NodeId, proposals: Sequence[Proposal]) -> bool:
        if self._closed or self.paused:
            return False
        if leader == self.node:
            return self.replica.submit(proposals)
        if self._endpoint is None or leader not in self._endpoint.connected_peers:
            return False
        # What is beyond is forwarded again, with all that is still unanswered then.
        for batch in itertools.islice(batches(proposals), MAX_FORWARDS_AT_ONCE):
            self._send(leader, Forward(batch))
        return True

    def _send(self, peer: NodeId, message: Message) -> None:
        if self._endpoint is not None and not self._closed:
            self._endpoint.send(peer, message)
