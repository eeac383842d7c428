"""Blobs that a node brings to others: stored here first, then offered to whoever is connected, and counted as they say that they have them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping
from typing import Final, Protocol

from ..core.records import NodeId
from ..transport.messages import BlobOffer, Message
from ..workflow.codec.blobs import Carried, Content
from .blob_store import BlobStore
from .unreferenced_blobs import UNREFERENCED_SECONDS

HELD_SECONDS: Final = 0.75 * UNREFERENCED_SECONDS
"""The time for which a node counts that said that it has a blob (seconds). It keeps it for longer, though nothing refers to it."""


class SpreadEnv(Protocol):
    """What spreads need of their exchange."""

    @property
    def connected_peers(self) -> Collection[NodeId]:
        """The nodes to which a connection stands."""
        ...

    def send(self, peer: NodeId, message: Message) -> None:
        """Send a message, if there is a connection."""
        ...

    def fetch(self, digest: str, size: int, ready: Callable[[], None]) -> None:
        """Have a blob fetched from whoever has it; `ready()` is called when it is here."""
        ...


class _Spread:
    """A blob that is brought to others."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.content: Content | None = None
        self.storing = False
        self.offered = False
        """Whether others are to have it."""
        # Invariant: nodes that said that they have stored it, this one too if it has, and when (seconds of the loop's clock).
        self.held: dict[NodeId, float] = {}


class BlobSpreads:
    """The blobs that are brought to others. On the consensus loop."""

    def __init__(
        self,
        node: NodeId,
        store: BlobStore,
        around: SpreadEnv,
        *,
        clock: Callable[[], float],
        spread: Callable[[], object],
        stored: Callable[[str, BaseException | None], object],
    ) -> None:
        """`spread()` is called when one more node has one of them; `stored(digest, error)` when this node has stored one, or failed to."""
        self._node = node
        self._store = store
        self._around = around
        self._clock = clock
        self._told_spread = spread
        self._told_stored = stored
        self._spreads: dict[str, _Spread] = {}

    def __contains__(self, digest: str) -> bool:
        return digest in self._spreads

    def carry(self, value: Carried) -> None:
        """Take the bytes of a blob that is to be stored here."""
        ref = value.ref
        spread = self._spreads.setdefault(ref.digest, _Spread(ref.size))
        if spread.content is None:
            spread.content = value.content

    def bring(self, refs: Mapping[str, int], *, offered: bool) -> None:
        """Have blobs stored here (their sizes by digest), and if they are `offered` by others. What is not carried is fetched."""
        for digest, size in refs.items():
            spread = self._spreads.setdefault(digest, _Spread(size))
            spread.offered = spread.offered or offered
        self._hold_all(refs)  # all of them are spreads before the first is looked at

    def retry(self) -> None:
        """Store, offer and fetch once more what did not get where it is to be."""
        self._hold_all(tuple(self._spreads))

    def held(self, digest: str, node: NodeId) -> None:
        """Note that a node has stored a blob."""
        spread = self._spreads.get(digest)
        if spread is None:
            return
        known = self._counts(spread, node)
        spread.held[node] = self._clock()
        if not known:
            if node == self._node:
                spread.content = None  # it is in the store
            self._told_spread()

    def _counts(self, spread: _Spread, node: NodeId) -> bool:
        """Return whether what a node said holds still. This node keeps what it brings to others."""
        said = spread.held.get(node)
        return said is not None and (node == self._node or self._clock() - said < HELD_SECONDS)

    def arrived(self, digest: str) -> None:
        """Note that a blob was fetched: it is here now."""
        spread = self._spreads.get(digest)
        if spread is not None:
            self.held(digest, self._node)
            self._offer(digest, spread)

    def connected(self, peer: NodeId) -> None:
        """Offer a node what it is not known to have."""
        for digest, spread in self._spreads.items():
            if spread.offered and self._node in spread.held and self._is_to_say(spread, peer):
                self._around.send(peer, BlobOffer(digest, spread.size))

    def held_here(self, digests: Iterable[str]) -> bool:
        """Return whether this node has stored all of these, each of which is brought to others."""
        return all(self._node in self._spreads[digest].held for digest in digests)

    def held_by_majority(self, digests: Iterable[str], voting: Collection[NodeId]) -> bool:
        """Return whether of each of these, which are brought to others, a majority of `voting` has the bytes."""
        return all(
            2 * sum(self._counts(self._spreads[digest], node) for node in voting) > len(voting) for digest in digests
        )

    def keep_only(self, needed: Container[str]) -> None:
        """Bring no others than these to anybody. What is being stored just now stays until it is."""
        for digest in [digest for digest in self._spreads if digest not in needed]:
            spread = self._spreads[digest]
            if self._node in spread.held or not spread.storing:
                del self._spreads[digest]

    def close(self) -> None:
        """End: nobody is told of anything."""
        self._spreads.clear()

    def _hold_all(self, digests: Iterable[str]) -> None:
        for digest in digests:
            if digest in self._spreads:
                self._hold(digest, self._spreads[digest])

    def _hold(self, digest: str, spread: _Spread) -> None:
        """Have a blob here, and then with the others."""
        if self._store.holds(digest):
            self.held(digest, self._node)
            self._offer(digest, spread)
        elif spread.content is None:
            self._around.fetch(digest, spread.size, _nothing)
        elif not spread.storing:
            spread.storing = True
            self._store.put(digest, spread.content, lambda error: self._stored(digest, error))

    def _stored(self, digest: str, error: BaseException | None) -> None:
        spread = self._spreads.get(digest)
        if spread is None:
            return
        spread.storing = False
        self._told_stored(digest, error)
        if error is None:  # else once more at the next retry
            self.held(digest, self._node)
            self._offer(digest, spread)

    def _offer(self, digest: str, spread: _Spread) -> None:
        for peer in self._around.connected_peers if spread.offered else ():
            if self._is_to_say(spread, peer):
                self._around.send(peer, BlobOffer(digest, spread.size))

    def _is_to_say(self, spread: _Spread, peer: NodeId) -> bool:
        """Return whether a node is to be asked if it has a blob: it never said so, or long ago."""
        said = spread.held.get(peer)
        return said is None or self._clock() - said >= HELD_SECONDS / 2


def _nothing() -> None:
    pass
