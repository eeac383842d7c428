"""Gives every command an outcome by its deadline: committed, rejected, or unknown."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from ..core.apply import Applied, recorded_answer
from ..core.commands import Command, Committed, Outcome, Proposal, Rejected, Unknown, WithBlobs
from ..core.entry_codec import size_of
from ..core.records import NodeId, ProposalId
from ..core.state import State
from ..errors import ProtocolError
from ..limits import MAX_ENTRY_BYTES, MAX_OUTSTANDING_PROPOSALS
from ..transport.messages import Refuse


class Ticket:
    """One proposal on its way. `cancel()` forgets it: it is not retried, and its outcome is not reported."""

    __slots__ = ("_proposer", "attempts", "command", "deadline", "done", "id")

    def __init__(
        self, proposer: Proposer, command: Command | WithBlobs, deadline: float, done: Callable[[Outcome], None]
    ) -> None:
        self._proposer = proposer
        self.command = command
        self.deadline = deadline
        self.done = done
        self.id: ProposalId | None = None
        self.attempts = 0

    def cancel(self) -> None:
        """Forget the proposal. It may still commit."""
        self._proposer.forget(self)


class Proposer:
    """The proposer of one node's commands, which forwards them to the leader.

    It repeats them under the same id until they are answered or their time is up.

    The answer is read from this node's own log, so a committed command has been applied here when its outcome is told.
    `hand_over(leader, proposals)` passes proposals to the leader (this node's own replica, or a frame to another) and
    returns False if it certainly did not. Lives on the consensus loop; every method must be called there.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        client: str,
        renew: Callable[[], str],
        retry: float,
        leader: Callable[[], NodeId | None],
        hand_over: Callable[[NodeId, Sequence[Proposal]], bool],
    ) -> None:
        self._loop = loop
        self._client = client
        self._renew = renew
        self._retry = retry
        self._leader = leader
        self._hand_over = hand_over
        self._number = 0
        # Invariant: at most MAX_OUTSTANDING_PROPOSALS, fewer than the answers kept: an answer is still there for a retry.
        self._outstanding: dict[ProposalId, Ticket] = {}
        self._queue: deque[Ticket] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._retry_at = float("inf")
        self._told: NodeId | None = None
        self._frozen = False
        self._closed = False

    # --- proposing

    def propose(self, command: Command | WithBlobs, timeout: float, done: Callable[[Outcome], None]) -> Ticket:
        """Propose `command`; `done(outcome)` is called once, on the loop, within `timeout` seconds."""
        ticket = Ticket(self, command, self._loop.time() + timeout, done)
        if self._closed:
            self._loop.call_soon(done, Rejected("the node has stopped", "stopped"))
            return ticket
        problem = _problem(command)
        if problem is not None:
            # In the log it would break every leader: it could be neither written nor sent.
            self._loop.call_soon(done, Rejected(problem, "bad_command"))
            return ticket
        if self._queue or len(self._outstanding) >= MAX_OUTSTANDING_PROPOSALS:
            self._queue.append(ticket)
        else:
            self._admit(ticket)
            self._send([ticket])
        self._arm(ticket.deadline)
        return ticket

    @property
    def idle(self) -> bool:
        """True if no proposal waits for its answer."""
        return not self._outstanding and not self._queue

    def forget(self, ticket: Ticket) -> None:
        """Stop caring about a proposal."""
        if ticket.id is None:
            if ticket in self._queue:
                self._queue.remove(ticket)
        elif self._outstanding.pop(ticket.id, None) is not None:
            self._fill()

    # --- what happens

    def applied(self, applied: Sequence[Applied]) -> None:
        """Tell the outcomes of our own proposals in an entry that this node applied."""
        for one in applied:
            named = one.proposal.id
            ticket = None if named is None else self._outstanding.pop(named, None)
            if ticket is not None:
                self._answered(ticket, one.answer)
        self._fill()

    def state_replaced(self, state: State) -> None:
        """Look up what became of proposals that may have been in entries which were applied, but not shown here."""
        for id_, ticket in tuple(self._outstanding.items()):
            answer = recorded_answer(state, id_)
            if answer is not None:
                del self._outstanding[id_]
                self._answered(ticket, answer)
        if not self._outstanding and not self._number:
            self._client = self._renew()  # one that was born before the state was read is older than it need be
        self._fill()

    def leader_changed(self) -> None:
        """Forward everything outstanding to a leader that is newly known, or reachable again."""
        leader = self._leader()
        if leader is None or self._frozen:
            self._told = None
            return
        if leader != self._told and self._outstanding:
            self._send(list(self._outstanding.values()))
        self._told = leader

    def lost(self, peer: NodeId) -> None:
        """Note that the link to `peer` broke, and with it perhaps what was on its way to it."""
        if peer == self._told:
            self._told = None

    def refused(self, message: Refuse) -> None:
        """Note that a node is not the leader as was assumed: try again when another is known, or at the retry time."""
        self._told = None
        if message.leader is not None and message.leader == self._leader():
            self.leader_changed()

    def freeze(self) -> None:
        """Stop the clock: nothing is sent or given up while frozen."""
        self._frozen = True
        self._disarm()

    def thaw(self) -> None:
        """Undo `freeze`."""
        self._frozen = False
        self._told = None
        self._give_up_late()  # before they are sent: what was counted for them may be so no more
        self.leader_changed()
        self._arm_all()

    def close(self) -> None:
        """End: everything outstanding becomes `Unknown` or, if it was never sent, `Rejected`."""
        self._closed = True
        self._disarm()
        tickets = [*self._outstanding.values(), *self._queue]
        self._outstanding.clear()
        self._queue.clear()
        for ticket in tickets:
            ticket.done(_given_up(ticket, "the node has stopped"))

    # --- inside

    def _answered(self, ticket: Ticket, answer: Committed | Rejected) -> None:
        expired = isinstance(answer, Rejected) and answer.code in ("session_expired", "too_old")
        if expired and ticket.attempts > 1:
            # This arrival was refused; an earlier one may have been applied, before its answer was forgotten.
            ticket.done(Unknown("its answer was forgotten while it was being retried"))
        elif expired:
            self._start_again(ticket)
        else:
            ticket.done(answer)

    def _admit(self, ticket: Ticket) -> None:
        self._number += 1
        ticket.id = ProposalId(self._client, self._number)
        self._outstanding[ticket.id] = ticket

    def _fill(self) -> None:
        admitted = []
        while self._queue and len(self._outstanding) < MAX_OUTSTANDING_PROPOSALS:
            ticket = self._queue.popleft()
            self._admit(ticket)
            admitted.append(ticket)
        if admitted:
            self._send(admitted)

    def _start_again(self, ticket: Ticket) -> None:
        """Continue under a new session: the old one is gone, and nothing was applied."""
        if ticket.id is not None and ticket.id.client == self._client:
            self._client = self._renew()
            self._number = 0
        ticket.attempts = 0
        self._admit(ticket)
        self._send([ticket])

    def _send(self, tickets: list[Ticket]) -> None:
        if self._frozen:
            return
        leader = self._leader()
        if self._retry_at == float("inf"):
            self._retry_at = self._loop.time() + self._retry
            self._arm(self._retry_at)
        if leader is None:
            return
        proposals = [Proposal(ticket.id, ticket.command) for ticket in tickets]
        # Counted before: proposing to the own replica may apply, and so answer, before it returns.
        for ticket in tickets:
            ticket.attempts += 1
        if self._hand_over(leader, proposals):
            self._told = leader
        else:
            for ticket in tickets:
                ticket.attempts -= 1

    # --- the timer: the next deadline or retry, whichever comes first

    def _arm(self, at: float) -> None:
        if at < self._timer_at and not self._closed and not self._frozen:
            self._disarm()
            self._timer_at = at
            self._timer = self._loop.call_at(at, self._on_timer)

    def _arm_all(self) -> None:
        deadlines = [ticket.deadline for ticket in (*self._outstanding.values(), *self._queue)]
        if deadlines:
            self._arm(min(*deadlines, self._retry_at))

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._timer_at = float("inf")

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_at = float("inf")
        self._give_up_late()
        if self._retry_at <= self._loop.time():
            self._retry_at = float("inf")
            if self._outstanding:
                self._send(list(self._outstanding.values()))
        self._arm_all()

    def _give_up_late(self) -> None:
        now = self._loop.time()
        late = [ticket for ticket in [*self._outstanding.values(), *self._queue] if ticket.deadline <= now]
        for ticket in late:
            self.forget(ticket)
            ticket.done(_given_up(ticket, "no majority acknowledged it in time"))


def _problem(command: Command | WithBlobs) -> str | None:
    try:
        size = size_of(command)
    except ProtocolError as error:
        return str(error)
    if size > MAX_ENTRY_BYTES:
        kind = type(command.command if isinstance(command, WithBlobs) else command)
        return f"a {kind.__name__} of {size:,} bytes; at most MAX_ENTRY_BYTES ({MAX_ENTRY_BYTES:,}) may be"
    return None


def _given_up(ticket: Ticket, why: str) -> Outcome:
    if ticket.attempts == 0:
        return Rejected(f"{why}: there was no leader to take it", "no_leader")
    return Unknown(why)
