"""A node's offer to do steps: made anew each time it starts, taken back while it is held, made again if it was withdrawn by mistake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ..core.commands import Committed, OfferNode, Outcome, Rejected, WithdrawNode
from ..core.state import Offer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..core.commands import Command
    from ..core.records import NodeId
    from ..core.state import State

OFFER_SECONDS = 30.0
"""The time that one proposal of an offer may take before it is proposed again."""


class Offerer(Protocol):
    """The node that offers itself."""

    @property
    def state(self) -> State:
        """Its replicated state."""
        ...

    def propose(self, command: Command, timeout: float, done: Callable[[Outcome], None]) -> object:
        """Propose a command; `done(outcome)` is called once, on the consensus loop."""
        ...


class Offering:
    """What one start of a node offers. On the consensus loop.

    Nobody but a node says that it does steps, and it says so as often as that is not so by its own state. A leader may withdraw it, and be
    mistaken: it was only slow, or cut off.
    """

    def __init__(
        self, node: NodeId, token: str, runs: bool, labels: Sequence[str], member: Offerer, clock: Callable[[], float]
    ) -> None:
        self.token = token
        self._node = node
        self._offer = Offer(token, runs, tuple(labels)) if runs or labels else None
        self._member = member
        self._clock = clock
        self._held = False
        # Invariant: whether a proposal of it is under way; there is one at a time.
        self._asking = False
        self._closed = False

    def hold(self, held: bool) -> None:
        """Take the offer back, or make it again."""
        self._held = held
        self.look()

    def look(self) -> None:
        """Propose what is to be, if it is not so by the node's state."""
        known = self._member.state.offers.get(self._node)
        wanted = None if self._held else self._offer
        if self._asking or self._closed or known == wanted:
            return
        command: Command
        if wanted is not None:
            command = OfferNode(self._node, wanted.token, wanted.runs, wanted.labels, self._clock())
        else:
            assert known is not None
            command = WithdrawNode(self._node, known.token, self._clock())
        self._asking = True
        self._member.propose(command, OFFER_SECONDS, self._done)

    def close(self) -> None:
        """Propose nothing any more."""
        self._closed = True

    def _done(self, outcome: Outcome) -> None:
        self._asking = False
        match outcome:
            case Committed():
                self.look()
            case Rejected(code=code) if code != "no_leader":
                pass  # it is no member (any more, or yet), or it stops; a change of members has it looked at again
            case _:
                self.look()
