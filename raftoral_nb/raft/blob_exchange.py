"""Blobs between nodes: brought to a majority before the log refers to them, and fetched by whoever does not have them.

A command that refers to blobs is proposed when a majority of the voting members has stored them. So a record is acknowledged only when its
value is as durable as the record: of any majority that is left one node has both. A node that comes late, or was not in that majority, fetches
what its log refers to from any that has it; its executions wait for that, and nobody waits for them.

Who has a blob offers it; who lacks it asks for its pieces one after the other, a few at a time, and says when it has stored the whole. So a slow
receiver is never sent more than it asked for. What gets lost with a link is asked for, and offered, again.

When the voting members change, a majority of the new ones is to have what a majority of the old ones had. So a command says which members were
counted (`WithBlobs`), and is refused, and counted again, if they are others where it stands in the log. A change is proposed when a majority after
it has all that the state refers to; it says who they are, and up to which entry that is (`ChangeMembers`), and its leader refuses it if there would be
others, or if a later entry refers to blobs. Then it is counted again, and the leader appends nothing that refers to blobs for a while
(`membership.BLOBS_WAIT`): what came meanwhile is little.

Who has no use for a blob removes it after a while (`UNREFERENCED_SECONDS`). So what a node said of a blob counts for some time only
(`blob_spreads`), and a command is under way for less (`MOST_UNDER_WAY`).

What is larger than the cluster keeps (`max_value_bytes`) is offered to nobody. If a run's own code came to it, it is stored here all the same, and
held (`held_values`): raising the limit costs no work.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, Protocol

import msgspec

from ..core.blob_refs import BlobRef, kept_bytes, reference
from ..core.command_values import values_of, with_values
from ..core.commands import ChangeMembers, Command, Outcome, Rejected, WithBlobs
from ..core.held_keys import HeldKey, held_key
from ..core.records import NodeId
from ..core.sizes import size_words
from ..transport.messages import BlobHeld, BlobOffer, BlobPiece, BlobWant, Message
from ..workflow.codec.blobs import Carried, plain
from . import blob_pieces
from .blob_arrivals import BlobArrivals
from .blob_spreads import BlobSpreads
from .blob_store import BlobStore
from .held_values import HeldValues
from .membership import changed_members
from .proposer import Ticket
from .unreferenced_blobs import UNREFERENCED_SECONDS, UnreferencedBlobs

logger = logging.getLogger(__name__)

SLOWEST_BYTES_A_SECOND: Final = 5_000_000
"""The rate at which a blob is brought to a majority at least, else its command is given up (bytes a second)."""

MOST_UNDER_WAY: Final = UNREFERENCED_SECONDS / 4
"""The time for which a command with blobs is under way at most, before it is counted again or its outcome is unknown (seconds)."""

_LEAST_LEFT: Final = 0.001
"""The time for which nothing is tried once more (seconds)."""

BlobMessage = BlobOffer | BlobHeld | BlobWant | BlobPiece


class ExchangeEnv(Protocol):
    """What an exchange needs of its member."""

    @property
    def voting(self) -> Collection[NodeId]:
        """The voting members."""
        ...

    @property
    def connected_peers(self) -> Collection[NodeId]:
        """The nodes to which a connection stands."""
        ...

    def send(self, peer: NodeId, message: Message) -> None:
        """Send a message, if there is a connection."""
        ...

    def propose_now(self, command: Command | WithBlobs, timeout: float, done: Callable[[Outcome], None]) -> Ticket:
        """Propose a command whose blobs a majority has."""
        ...

    @property
    def applied_index(self) -> int:
        """The index up to which the log is applied to the state."""
        ...

    @property
    def last_with_blobs(self) -> int:
        """The index of the last entry with references to blobs that was applied here, if it did not come with a snapshot."""
        ...

    def live_refs(self) -> Collection[BlobRef]:
        """Return references to all blobs that the state refers to, each once."""
        ...

    @property
    def current(self) -> bool:
        """Whether all that is committed is applied here, as far as can be known: it hears a majority, and its log is applied."""
        ...

    @property
    def max_value_bytes(self) -> int:
        """The largest value that the cluster keeps, in bytes."""
        ...

    def live_blobs(self) -> Collection[str]:
        """Return the digests that runs of the state refer to."""
        ...

    def side_blobs(self) -> Collection[str]:
        """Return the digests that the state refers to besides: saved states of steps, and the cache."""
        ...


class BlobTicket:
    """A command on its way that refers to blobs. `cancel()` forgets it."""

    def __init__(self, command: Command, refs: dict[str, int], timeout: float, done: Callable[[Outcome], None]) -> None:
        self.command = command
        self.refs = refs
        """The blobs that a majority is to have, with their sizes."""
        self.timeout = timeout
        self.done = done
        self.deadline = 0.0
        self.voting: tuple[NodeId, ...] | None = None
        """The members after a change, of whom a majority is to have them; None for any other command."""
        self.counted_to = 0
        """The index up to which a change counted what the log refers to."""
        self.held_as: HeldKey | None = None
        """What its value is of, if that is larger than the cluster keeps: it is to be stored here, and then refused."""
        self.over = False
        self.problem = ""
        self.proposed: Ticket | None = None

    def cancel(self) -> None:
        """Forget the command. It may still commit."""
        self.over = True
        if self.proposed is not None:
            self.proposed.cancel()


class BlobExchange:
    """The part of a member that deals with blobs. Every method must be called on the consensus loop."""

    def __init__(
        self, node: NodeId, store: BlobStore, loop: asyncio.AbstractEventLoop, retry: float, around: ExchangeEnv
    ) -> None:
        self._node = node
        self._store = store
        self._loop = loop
        self._retry = retry
        self._around = around
        # Invariant: not over, in the order in which they were asked.
        self._tickets: list[BlobTicket] = []
        self.held = HeldValues(store)
        """What this node holds back."""
        self._spreads = BlobSpreads(node, store, self, clock=loop.time, spread=self._look_soon, stored=self._stored)
        self._arrivals = BlobArrivals(node, store, self, self._arrived)
        self._unreferenced = UnreferencedBlobs(
            store, loop, around.live_blobs, around.side_blobs, self._is_used, lambda: around.current
        )
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._retry_at: float | None = None
        self._frozen = False
        self._looks = False
        self._closed = False

    # --- commands that refer to blobs

    def propose(
        self, command: Command, refs: Iterable[BlobRef], timeout: float, done: Callable[[Outcome], None]
    ) -> BlobTicket:
        """Propose a command when a majority has what it refers to.

        `done(outcome)` is called once, within `timeout` seconds and what the blobs may take besides (`SLOWEST_BYTES_A_SECOND`). It is
        `value_too_large` if the cluster keeps no value of that size; if it is of a run's own code, this node holds it by then.
        """
        ticket = BlobTicket(with_values(command, plain), {ref.digest: ref.size for ref in refs}, timeout, done)
        if (size := self._too_large(ticket)) is not None:
            ticket.held_as = held_key(command)
            if ticket.held_as is None:
                self._loop.call_soon(_tell, ticket, self._refusal(size, held=False))
                return ticket
        for value in values_of(command):
            if isinstance(value, Carried) and not self._closed:
                self._spreads.carry(value)
        self._begin(ticket)
        return ticket

    def propose_change(self, command: ChangeMembers, timeout: float, done: Callable[[Outcome], None]) -> BlobTicket:
        """Propose a change of the voting members when a majority of those after it has what the state refers to.

        `done(outcome)` is called as by `propose`.
        """
        ticket = BlobTicket(command, {}, timeout, done)
        if self._closed:
            self._begin(ticket)
        else:
            ticket.deadline = self._loop.time() + timeout
            self._count(ticket, command)
        return ticket

    def _count(self, ticket: BlobTicket, change: ChangeMembers) -> None:
        """Have a change wait for what the state refers to now, and for nothing that comes later: so it does not wait for ever."""
        before = ticket.refs
        ticket.voting = changed_members(self._around.voting, change)
        ticket.counted_to = self._around.applied_index
        ticket.refs = {ref.digest: ref.size for ref in self._around.live_refs()}
        new = sum(size for digest, size in ticket.refs.items() if digest not in before)
        ticket.deadline += new / SLOWEST_BYTES_A_SECOND
        if ticket.refs:
            self._wait(ticket)
        else:
            self._propose(ticket)

    def _count_among_others(self) -> None:
        """Count changes anew that wait while other changes were made."""
        for ticket in [ticket for ticket in self._tickets if not ticket.over]:
            change = ticket.command
            if isinstance(change, ChangeMembers) and ticket.voting != changed_members(self._around.voting, change):
                self._tickets.remove(ticket)
                self._count(ticket, change)

    def bring_held(self, key: HeldKey, done: Callable[[bytes | None], None]) -> None:
        """Look whether what is held is there and whole; `done(its reference)`, or `done(None)` if it is not, and held no more."""
        value = self.held.by_key.get(key)
        ref = reference(value)
        if ref is None:
            done(None)
            return

        def adopted(here: bool) -> None:
            if not here:
                self.held.drop(key)
            done(value if here else None)

        self._store.adopt(ref.digest, adopted)

    def _too_large(self, ticket: BlobTicket) -> int | None:
        """Return the size of the largest value that the cluster does not keep; None if it keeps all. What it has already stays."""
        most, live = self._around.max_value_bytes, self._around.live_blobs()
        over = [digest for digest, size in ticket.refs.items() if size > most and digest not in live]
        if over:
            aside = self._around.side_blobs()
            over = [digest for digest in over if digest not in aside]
        return max((ticket.refs[digest] for digest in over), default=None)

    def _refusal(self, size: int, *, held: bool) -> Rejected:
        told = f"a value takes {size:,} bytes, more than max_value_bytes ({self._around.max_value_bytes:,})"
        raising = f'cluster.set_max_value_bytes("{size_words(size, coarse=True)}")'
        told += (
            f". Node {self._node} holds it: {raising} lets the run go on from there, and nothing is computed again; "
            "run.terminate() gives it up"
            if held
            else f"; {raising} raises the limit"
        )
        return Rejected(told, "value_too_large")

    def _is_used(self, digest: str) -> bool:
        return digest in self._spreads or digest in self.held

    def _begin(self, ticket: BlobTicket) -> None:
        if self._closed:
            self._loop.call_soon(ticket.done, Rejected("the node has stopped", "stopped"))
            return
        ticket.deadline = self._loop.time() + ticket.timeout + sum(ticket.refs.values()) / SLOWEST_BYTES_A_SECOND
        self._wait(ticket)

    def _wait(self, ticket: BlobTicket) -> None:
        """Have a command wait until its blobs are where they are to be."""
        self._tickets.append(ticket)
        self._bring(ticket.refs, offered=ticket.held_as is None)
        self._look_soon()
        self._arm()

    def _bring(self, refs: Mapping[str, int], *, offered: bool) -> None:
        for digest in refs:
            self._unreferenced.keep(digest)
        self._spreads.bring(refs, offered=offered)

    def _stored(self, digest: str, error: BaseException | None) -> None:
        for ticket in self._tickets:
            if digest in ticket.refs:
                ticket.problem = "" if error is None else str(error)
        if error is None and digest not in self._around.live_blobs():
            self._unreferenced.keep(digest)

    def _look_soon(self) -> None:
        """Look once for all that is told in this turn of the loop: it takes as long as there are tickets."""
        if not self._looks:
            self._looks = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        """Propose what can be proposed, and forget what nobody waits for."""
        self._looks = False
        if self._closed:
            return
        ready: list[BlobTicket] = []
        waiting: list[BlobTicket] = []
        self._count_among_others()
        for ticket in self._tickets:
            if not ticket.over:
                (ready if self._majority_has(ticket) else waiting).append(ticket)
        self._tickets = waiting
        self._spreads.keep_only({digest for ticket in waiting for digest in ticket.refs})
        for ticket in ready:
            if ticket.held_as is None:
                self._propose(ticket)
            else:
                self._hold_back(ticket, ticket.held_as)

    def _propose(self, ticket: BlobTicket) -> None:
        command: Command | WithBlobs
        left = max(0.0, ticket.deadline - self._loop.time())
        if isinstance(ticket.command, ChangeMembers):
            counted = ticket.voting or ()
            command = msgspec.structs.replace(ticket.command, blobs_to=ticket.counted_to, counted=counted)
        else:
            command = WithBlobs(ticket.command, tuple(self._around.voting))
        if ticket.refs:
            left = min(left, MOST_UNDER_WAY)
        ticket.proposed = self._around.propose_now(command, left, lambda outcome: self._answered(ticket, outcome))

    def _answered(self, ticket: BlobTicket, outcome: Outcome) -> None:
        if isinstance(outcome, Rejected) and not self._closed and self._loop.time() < ticket.deadline - _LEAST_LEFT:
            match outcome.code, ticket.command:
                case "members_unchanged", ChangeMembers() as change if self._around.last_with_blobs > ticket.counted_to:
                    self._count(ticket, change)
                    return
                case ("members_changed", _) | ("no_leader", _):  # other members count now, or it took too long
                    self._wait(ticket)
                    return
        ticket.over = True
        ticket.done(outcome)

    def _hold_back(self, ticket: BlobTicket, key: HeldKey) -> None:
        """Hold what this node has stored, and refuse its command; unless the limit was raised meanwhile."""
        size = self._too_large(ticket)
        if size is None:
            ticket.held_as = None
            self._begin(ticket)
            return
        ticket.over = True
        held = (
            value
            for value in values_of(ticket.command)
            if (ref := reference(value)) is not None and ref.digest in ticket.refs
        )
        self.held.hold(key, max(held, key=kept_bytes))
        _tell(ticket, self._refusal(size, held=True))

    def _majority_has(self, ticket: BlobTicket) -> bool:
        if ticket.held_as is not None:
            return self._spreads.held_here(ticket.refs)
        voting = self._around.voting if ticket.voting is None else ticket.voting
        return self._spreads.held_by_majority(ticket.refs, voting)

    # --- fetching

    def holds(self, digest: str) -> bool:
        """Return whether a blob is stored here."""
        return self._store.holds(digest)

    def fetch(self, digest: str, size: int, ready: Callable[[], None]) -> None:
        """Have a blob fetched from whoever has it, as soon as one of them can be reached; `ready()` is called when it is here."""
        self._arrivals.fetch(digest, size, ready)
        self._arm()

    def _arrived(self, digest: str) -> None:
        if digest not in self._around.live_blobs():
            self._unreferenced.keep(digest)
        self._spreads.arrived(digest)

    def keep(self, digest: str) -> None:
        """Keep a blob that a command is about to refer to which is on its way here."""
        self._unreferenced.keep(digest)

    # --- what comes from others

    def received(self, peer: NodeId, message: BlobMessage) -> None:
        """Receive a message about a blob."""
        if self._closed:
            return
        match message:
            case BlobOffer(digest=digest, size=size):
                self._unreferenced.keep(digest)
                if self._store.holds(digest):
                    self.send(peer, BlobHeld(digest))
                    return
                self._arrivals.offered(digest, size, peer)
                self._arm()
                if self._store.holds(digest) and digest not in self._arrivals:
                    self.send(peer, BlobHeld(digest))
            case BlobHeld(digest=digest):
                self._spreads.held(digest, peer)
            case BlobWant(digest=digest, offset=offset):
                self._give(peer, digest, offset)
            case BlobPiece():
                self._arrivals.piece(peer, message)

    def _give(self, peer: NodeId, digest: str, offset: int) -> None:
        def read(data: bytes | None) -> None:
            if not self._closed:
                self.send(peer, BlobPiece(digest, offset, data or b""))

        self._store.read(digest, offset, blob_pieces.PIECE_BYTES, read)

    def connected(self, peer: NodeId) -> None:
        """Note that a link to `peer` is up: it is offered, and asked for, what is under way."""
        if self._closed or self._frozen:
            return
        self._unreferenced.renew()  # it may have missed what refers to them
        self._spreads.connected(peer)
        self._arrivals.connected()

    def disconnected(self, peer: NodeId) -> None:
        """Note that the link to `peer` is gone, and with it what was asked of it."""
        self._arrivals.disconnected(peer)

    # --- what is not referred to any more

    def dropped(self, digests: Collection[str]) -> None:
        """Note that the state does not refer to these any more."""
        live = self._around.live_blobs()
        gone = [digest for digest in digests if digest not in live]  # else a later command of the entry refers to it
        self._unreferenced.dropped(gone)
        self._give_up([digest for digest in gone if digest in self._arrivals])

    def _give_up(self, digests: list[str]) -> None:
        """Fetch no more of these what nothing needs."""
        unused = [digest for digest in digests if digest not in self._spreads]
        if unused:
            aside = self._around.side_blobs()
            self._arrivals.forget([digest for digest in unused if digest not in aside])

    def referred(self, refs: Iterable[BlobRef]) -> None:
        """Note that the state refers to these: as long as it does they are kept, and what is not here is fetched."""
        live = self._around.live_blobs()
        for ref in refs:
            if ref.digest not in live:
                self._unreferenced.keep(ref.digest)
            if not self._store.holds(ref.digest) and ref.digest not in self._arrivals:
                self.fetch(ref.digest, ref.size, _nothing)

    # --- its life

    def freeze(self) -> None:
        """Stop the clock: nothing is sent or given up while frozen."""
        self._frozen = True
        self._disarm()

    def thaw(self) -> None:
        """Undo `freeze`."""
        self._frozen = False
        self._unreferenced.renew()
        for peer in self._around.connected_peers:
            self.connected(peer)
        self._arm()

    def close(self) -> None:
        """End: what waits is rejected."""
        self._closed = True
        self._disarm()
        self._unreferenced.close()
        self._arrivals.close()
        tickets, self._tickets = self._tickets, []
        for ticket in tickets:
            if not ticket.over:
                _tell(ticket, Rejected("the node has stopped", "stopped"))
        self._spreads.close()

    # --- inside

    @property
    def connected_peers(self) -> Collection[NodeId]:
        """The nodes to which a connection stands."""
        return self._around.connected_peers

    def send(self, peer: NodeId, message: Message) -> None:
        """Send a message, unless this node is frozen."""
        if not self._frozen:
            self._around.send(peer, message)

    def _arm(self) -> None:
        """Look again at the next retry, or at the deadline of a ticket if that comes before."""
        if self._closed or self._frozen or not (self._tickets or self._arrivals):
            return
        if self._retry_at is None:
            self._retry_at = self._loop.time() + self._retry
        at = min([self._retry_at, *(ticket.deadline for ticket in self._tickets if not ticket.over)])
        if self._timer is None or at < self._timer_at:
            self._disarm()
            self._timer_at = at
            self._timer = self._loop.call_at(at, self._again)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _again(self) -> None:
        """Give up what is late, and once in a while look for what got lost."""
        self._timer = None
        now = self._loop.time()
        late = [ticket for ticket in self._tickets if ticket.deadline <= now and not ticket.over]
        for ticket in late:
            ticket.over = True
        self._look()
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
            self._retry_all()
        self._arm()
        for ticket in late:
            _tell(ticket, _given_up(ticket))

    def _retry_all(self) -> None:
        """Offer, and ask for, what got lost."""
        changes = [ticket for ticket in self._tickets if ticket.voting is not None]
        if changes:  # what nothing refers to any more need not be anywhere
            needed = {ref.digest for ref in self._around.live_refs()}
            for ticket in changes:
                ticket.refs = {digest: size for digest, size in ticket.refs.items() if digest in needed}
            self._look_soon()
        self._spreads.retry()
        self._arrivals.retry()
        live = self._around.live_blobs()
        self._give_up([digest for digest in self._arrivals.nowhere() if digest not in live])


def _tell(ticket: BlobTicket, outcome: Outcome) -> None:
    """Tell an outcome; what its receiver raises must not keep others from being told theirs."""
    try:
        ticket.done(outcome)
    except Exception:
        logger.exception("whoever proposed a large value failed on its outcome")


def _given_up(ticket: BlobTicket) -> Rejected:
    size = sum(ticket.refs.values())
    if ticket.problem:
        return Rejected(f"a value of {size:,} bytes could not be stored: {ticket.problem}", "value_not_stored")
    if ticket.voting is not None:
        of = f"of nodes {', '.join(map(str, ticket.voting))}"
        return Rejected(f"no majority {of} has stored the {size:,} bytes of large values in time", "no_leader")
    return Rejected(f"no majority has stored the value's {size:,} bytes in time", "no_leader")


def _nothing() -> None:
    pass
