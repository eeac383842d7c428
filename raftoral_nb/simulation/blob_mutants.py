"""Large values with one safeguard taken out; part of `mutants`."""

from __future__ import annotations

from typing import Any

from ..raft.blob_arrivals import BlobArrivals
from ..raft.blob_exchange import BlobExchange
from ..raft.blob_spreads import BlobSpreads
from ..transport.messages import BlobHeld, BlobOffer

Patch = tuple[Any, str, Any]


def one_copy() -> list[Patch]:
    """A command is proposed when its own node has the bytes."""
    return [(BlobSpreads, "held_by_majority", lambda self, digests, voting: self.held_here(digests))]


def held_when_offered() -> list[Patch]:
    """A node says that it has stored what it was only offered."""
    original = BlobExchange.received

    def received(self: BlobExchange, peer: int, message: Any) -> None:
        if isinstance(message, BlobOffer):
            self.send(peer, BlobHeld(message.digest))
        original(self, peer, message)

    return [(BlobExchange, "received", received)]


def never_fetched() -> list[Patch]:
    """A node that lacks what its log refers to does not ask for it."""
    return [(BlobArrivals, "fetch", lambda self, digest, size, ready: None)]
