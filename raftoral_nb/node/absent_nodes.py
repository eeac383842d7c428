"""The nodes that are gone, as the acting node sees it: what they do is given to others."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Protocol

from ..core.commands import WithdrawNode

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from ..core.commands import Command, Outcome
    from ..core.records import NodeId
    from ..core.state import State
    from ..raft.timing import Timing

SILENT_TIMEOUTS: Final = 10
"""For how many of the longest election timeouts a node may be silent whose link stands. A process that is gone breaks its links; one that does not answer
may only be busy, and to take its runs away would run their steps twice."""

WITHDRAW_SECONDS: Final = 5.0
"""The time that one proposal may take before it is made again."""


class Cancelled(Protocol):
    """A proposal that can be given up."""

    def cancel(self) -> None:
        """Forget it: it is not sent again, and its outcome is not told."""
        ...


class Observer(Protocol):
    """The node that looks: its member."""

    node: NodeId

    @property
    def state(self) -> State:
        """Its replicated state."""
        ...

    @property
    def acting_term(self) -> int | None:
        """The term in which it acts; None if it does not."""
        ...

    def heard_of(self, node: NodeId) -> float:
        """Return when it last heard of a node as its leader (seconds of the loop's clock), put off by what it has slept itself since."""
        ...

    @property
    def paused(self) -> bool:
        """Whether it is frozen."""
        ...

    def propose(self, command: Command, timeout: float, done: Callable[[Outcome], None]) -> Cancelled:
        """Propose a command; `done(outcome)` is called once, on the consensus loop."""
        ...


class AbsentNodes:
    """The watch of the acting node over those that offered themselves. On the consensus loop.

    One timer, for the first of them that would be gone if nothing were heard of it until then.
    """

    def __init__(
        self, member: Observer, loop: asyncio.AbstractEventLoop, timing: Timing, clock: Callable[[], float]
    ) -> None:
        self._member = member
        self._loop = loop
        self._link_seconds = timing.election_max
        self._silent_seconds = SILENT_TIMEOUTS * timing.election_max
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        # Invariant: since when there is no link to a node that was met, and when the link to it came up last.
        self._lost_at: dict[NodeId, float] = {}
        self._met_at: dict[NodeId, float] = {}
        self._began_at = loop.time()
        # Invariant: nodes that are being withdrawn; none while this node does not act.
        self._asking: dict[NodeId, Cancelled | None] = {}
        self._closed = False

    def link_changed(self, peer: NodeId, up: bool) -> None:
        """Note that the link to a node is up, or gone."""
        if up:
            self._met_at[peer] = self._loop.time()
            self._lost_at.pop(peer, None)
        else:
            self._lost_at[peer] = self._loop.time()
            self.look()

    def look(self) -> None:
        """Have those withdrawn that are gone, and look again when the next one may be."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        member = self._member
        if member.acting_term is None:
            self._forget()
        if self._closed or member.acting_term is None or member.paused:
            return
        now, next_at = self._loop.time(), math.inf
        for node, offer in member.state.offers.items():
            if node == member.node or node in self._asking:
                continue
            gone_at = self._gone_at(node)
            if gone_at <= now:
                self._withdraw(node, offer.token)
            else:
                next_at = min(next_at, gone_at)
        if next_at < math.inf:
            self._timer = self._loop.call_at(next_at, self.look)

    def close(self) -> None:
        """Look no more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _gone_at(self, node: NodeId) -> float:
        heard_at = max(self._member.heard_of(node), self._met_at.get(node, self._began_at))
        silent_at = heard_at + self._silent_seconds
        lost_at = self._lost_at.get(node)
        # One that was not met yet may be about to start, as this one was.
        return silent_at if lost_at is None else min(silent_at, lost_at + self._link_seconds)

    def _withdraw(self, node: NodeId, token: str) -> None:
        # The answer may come before `propose` returns.
        self._asking[node] = None

        def done(_: Outcome) -> None:
            self._asking.pop(node, None)
            self.look()

        ticket = self._member.propose(WithdrawNode(node, token, self._clock()), WITHDRAW_SECONDS, done)
        if node in self._asking:
            self._asking[node] = ticket

    def _forget(self) -> None:
        """Ask for nothing any more: what this node took for gone may be well, and would be withdrawn by way of the next leader."""
        asking, self._asking = self._asking, {}
        for ticket in asking.values():
            if ticket is not None:
                ticket.cancel()
