"""Blobs that a node fetches: each from one node that has it, a few at a time, and from another one if that hangs or does not have it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from typing import Final, Protocol

from ..core.records import NodeId
from ..transport.messages import BlobHeld, BlobPiece, BlobWant, Message
from . import blob_pieces
from .blob_store import Arriving, BlobStore

logger = logging.getLogger(__name__)

PIECES_ASKED_FOR: Final = 4
"""Pieces of one blob that are asked for before the first of them has come."""

ARRIVALS_AT_ONCE: Final = 4
"""Blobs that a node receives at the same time; others wait for their turn."""


class ArrivalEnv(Protocol):
    """What arrivals need of their exchange."""

    @property
    def connected_peers(self) -> Collection[NodeId]:
        """The nodes to which a connection stands."""
        ...

    def send(self, peer: NodeId, message: Message) -> None:
        """Send a message, if there is a connection."""
        ...


class _Arrival:
    """A blob that is fetched."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.sources: dict[NodeId, None] = {}
        """Nodes that may have it, the one that is asked first."""
        self.into: Arriving | None = None
        self.came = 0
        self.asked = 0
        self.finishing = False
        self.idle = False
        """True if nothing came since it was looked at last."""
        self.nowhere = False
        """True if, when it was last to be asked for, no node was connected that may have it."""
        self.lacking: set[NodeId] = set()
        """Nodes that said that they do not have it, since they were all asked last."""
        self.adopting = True
        """True while it is looked for beside this node."""
        self.ready: list[Callable[[], None]] = []


class BlobArrivals:
    """The blobs that are fetched. On the consensus loop."""

    def __init__(self, node: NodeId, store: BlobStore, around: ArrivalEnv, told: Callable[[str], object]) -> None:
        """`told(digest)` is called when one has arrived, before those who wait for it are told."""
        self._node = node
        self._store = store
        self._around = around
        self._told = told
        self._arrivals: dict[str, _Arrival] = {}
        # Invariant: those that pieces were asked for of a node that may have them; at most ARRIVALS_AT_ONCE.
        self._asked: set[str] = set()
        self._closed = False

    def __contains__(self, digest: str) -> bool:
        return digest in self._arrivals

    def __bool__(self) -> bool:
        return bool(self._arrivals)

    def offered(self, digest: str, size: int, peer: NodeId) -> None:
        """Fetch a blob that a node offers, and ask that node for it."""
        if digest not in self._arrivals:
            self.fetch(digest, size, _nothing)
        arrival = self._arrivals.get(digest)
        if arrival is not None:
            arrival.sources.setdefault(peer)
            self._ask(digest, arrival)

    def connected(self) -> None:
        """Note that there is another node that can be asked."""
        for digest, arrival in tuple(self._arrivals.items()):
            self._ask(digest, arrival)

    def disconnected(self, peer: NodeId) -> None:
        """Note that what was asked of a node is lost."""
        for digest, arrival in tuple(self._arrivals.items()):
            if next(iter(arrival.sources), None) == peer:
                arrival.sources.pop(peer)
                arrival.asked = arrival.came
                self._ask(digest, arrival)
        self._ask_next()

    def retry(self) -> None:
        """Ask again for what did not come since the last time, of another node if there is one."""
        for digest, arrival in tuple(self._arrivals.items()):
            if arrival.idle and not arrival.finishing:
                arrival.asked = arrival.came
                arrival.lacking.clear()
                slow = next(iter(arrival.sources), None)
                if slow is not None and digest in self._asked and len(self._around.connected_peers) > 1:
                    del arrival.sources[slow]  # it hangs, perhaps: another is asked first
                    arrival.lacking.add(slow)
                self._ask(digest, arrival)
            arrival.idle = True
        self._ask_next()

    def nowhere(self) -> list[str]:
        """Return the blobs that no node has which can be reached."""
        return [digest for digest, arrival in self._arrivals.items() if arrival.nowhere and not arrival.finishing]

    def forget(self, digests: Iterable[str]) -> None:
        """Fetch these no more, as nothing refers to them. Whoever waits for one finds that it is not here."""
        for digest in digests:
            arrival = self._arrivals.get(digest)
            if arrival is not None and not arrival.finishing:
                self._forget(digest)
        self._ask_next()

    def close(self) -> None:
        """End: nobody is told of anything."""
        self._closed = True
        for arrival in self._arrivals.values():
            if arrival.into is not None and not arrival.finishing:
                arrival.into.abandon()
        self._arrivals.clear()

    def fetch(self, digest: str, size: int, ready: Callable[[], None]) -> None:
        """Have a blob fetched from whoever has it, as soon as one of them can be reached; `ready()` is called when it is here."""
        if self._store.holds(digest):
            ready()
            return
        arrival = self._arrivals.get(digest)
        if arrival is None:
            arrival = self._arrivals[digest] = _Arrival(size)
        arrival.ready.append(ready)
        if arrival.into is None:
            self._adopt(digest, arrival)

    def _adopt(self, digest: str, arrival: _Arrival) -> None:
        def adopted(here: bool) -> None:
            arrival.adopting = False
            if self._closed or self._arrivals.get(digest) is not arrival:
                return
            if here:
                self._arrived(digest)
            else:
                self._ask(digest, arrival)

        self._store.adopt(digest, adopted)

    def _ask(self, digest: str, arrival: _Arrival) -> None:
        """Ask for the pieces that come next, of one node that may have it."""
        if arrival.finishing or arrival.adopting:
            return
        connected = self._around.connected_peers
        likely = (*arrival.sources, *sorted(connected))
        source = next((node for node in likely if node in connected and node not in arrival.lacking), None)
        arrival.nowhere = source is None
        if source is None:
            self._asked.discard(digest)  # what came is kept; it is another's turn
            return
        if digest not in self._asked:
            if len(self._asked) >= ARRIVALS_AT_ONCE:
                return
            self._asked.add(digest)
            arrival.asked, arrival.idle = arrival.came, False
        if arrival.into is None:
            arrival.into = self._store.arrive(digest, arrival.size)
        arrival.sources = {source: None, **arrival.sources}
        while (
            arrival.asked < arrival.size and arrival.asked < arrival.came + PIECES_ASKED_FOR * blob_pieces.PIECE_BYTES
        ):
            self._around.send(source, BlobWant(digest, arrival.asked))
            arrival.asked += blob_pieces.PIECE_BYTES

    def piece(self, peer: NodeId, message: BlobPiece) -> None:
        """Take a piece of a blob, or that a node does not have it."""
        digest = message.digest
        arrival = self._arrivals.get(digest)
        if arrival is None or arrival.into is None or arrival.finishing:
            return
        if not message.data:
            arrival.lacking.add(peer)
            arrival.sources.pop(peer, None)
            arrival.asked = arrival.came
            self._ask(digest, arrival)
            self._ask_next()
            return
        if message.offset != arrival.came or arrival.came + len(message.data) > arrival.size:
            return  # of an earlier asking
        arrival.idle = False
        arrival.into.add(message.data)
        arrival.came += len(message.data)
        if arrival.came < arrival.size:
            self._ask(digest, arrival)
            return
        arrival.finishing = True
        arrival.into.finish(lambda error: self._finished(digest, arrival, error))

    def _finished(self, digest: str, arrival: _Arrival, error: BaseException | None) -> None:
        if self._closed:
            return
        if error is None:
            self._arrived(digest)
            return
        logger.warning("node %d: a value's bytes were fetched in vain, and are fetched again: %s", self._node, error)
        arrival.into, arrival.came, arrival.asked, arrival.finishing = None, 0, 0, False
        self._asked.discard(digest)
        self._ask_next()
        arrival.sources = {}  # asked again at the next retry

    def _arrived(self, digest: str) -> None:
        arrival = self._arrivals.pop(digest)
        self._asked.discard(digest)
        self._told(digest)
        for peer in arrival.sources:
            self._around.send(peer, BlobHeld(digest))
        for ready in arrival.ready:
            ready()
        self._ask_next()

    def _ask_next(self) -> None:
        """Ask for those whose turn it is now."""
        if len(self._asked) < ARRIVALS_AT_ONCE:
            for digest, arrival in tuple(self._arrivals.items()):
                if digest not in self._asked and self._arrivals.get(digest) is arrival:
                    self._ask(digest, arrival)
                    if len(self._asked) >= ARRIVALS_AT_ONCE:
                        return

    def _forget(self, digest: str) -> None:
        """Fetch no more what nothing refers to. Whoever waits for it finds that it is not here."""
        arrival = self._arrivals.pop(digest)
        self._asked.discard(digest)
        if arrival.into is not None:
            arrival.into.abandon()
        for ready in arrival.ready:
            ready()


def _nothing() -> None:
    pass
