"""Blobs that no run refers to: kept for a while, as a command that will may be on its way, then removed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import Final

from .blob_store import BlobStore

UNREFERENCED_SECONDS: Final = 600.0
"""The time for which a blob is kept that came here, or was offered, and that no run refers to yet."""

DROPPED_SECONDS: Final = 10.0
"""The time for which a blob is kept when its last run was dropped: handles of other processes may be about to read it."""


class UnreferencedBlobs:
    """Removes from a node's store what no run refers to any more. On the consensus loop."""

    def __init__(
        self,
        store: BlobStore,
        loop: asyncio.AbstractEventLoop,
        live: Callable[[], Collection[str]],
        aside: Callable[[], Collection[str]],
        is_used: Callable[[str], bool],
        is_current: Callable[[], bool],
    ) -> None:
        """`live()` are the digests that runs refer to, and that `dropped` tells of later; `aside()` those that are needed besides.

        `is_used(digest)` tells whether a blob is being brought to others.
        """
        self._store = store
        self._loop = loop
        self._live = live
        self._aside = aside
        self._is_used = is_used
        self._is_current = is_current
        # Invariant: blobs that somebody was about to refer to, or that were dropped, with the time until which they are kept. What a
        # run refers to meanwhile stays here: another command that does may be on its way, and outlive the run.
        self._kept: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._closed = False
        for digest in store.digests():  # of an earlier incarnation: the log has not been read yet
            self.keep(digest)

    def keep(self, digest: str, seconds: float = UNREFERENCED_SECONDS) -> None:
        """Keep a blob for so long at least, unless a run comes to refer to it."""
        until = self._loop.time() + seconds
        self._kept[digest] = max(until, self._kept.get(digest, until))
        self._arm(until)

    def renew(self, seconds: float = DROPPED_SECONDS) -> None:
        """Remove nothing for so long: this node was out of touch, and may have missed what refers to them."""
        until = self._loop.time() + seconds
        for digest, kept in self._kept.items():
            self._kept[digest] = max(kept, until)

    def dropped(self, digests: Iterable[str]) -> None:
        """Note that the last runs that referred to these were dropped."""
        for digest in digests:
            self.keep(digest, DROPPED_SECONDS)

    def close(self) -> None:
        """End."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, at: float) -> None:
        if self._closed or (self._timer is not None and self._timer_at <= at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        live, now = self._live(), self._loop.time()
        if not self._is_current():  # an entry that is not applied may refer to any of them
            self.renew(UNREFERENCED_SECONDS)
            self._arm(now + UNREFERENCED_SECONDS)
            return
        stored = frozenset(self._store.digests())
        for digest in [
            digest for digest, until in self._kept.items() if until <= now and (digest in live or digest not in stored)
        ]:
            del self._kept[digest]
        late = [digest for digest, until in self._kept.items() if until <= now]
        aside = self._aside() if late else ()
        gone = [digest for digest in late if digest not in aside and not self._is_used(digest)]
        for digest in late:
            # Nobody tells when what is needed besides is not needed any more: it is looked at again.
            self._kept[digest] = now + UNREFERENCED_SECONDS
        for digest in gone:
            del self._kept[digest]
        self._store.remove(gone)
        if self._kept:
            self._arm(max(now + 1.0, min(self._kept.values())))
