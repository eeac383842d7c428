"""Keeping a node's log short: when to make a snapshot of its state, and what of the log to keep behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import msgspec

from ..core.snapshot import PIECE_BYTES, Frozen
from ..core.state import State
from ..errors import ClusterError
from ..limits import LOG_KEPT_BYTES, SNAPSHOT_LOG_BYTES
from .journal import ENTRY_OVERHEAD, MemoryJournal, Snapshot

KEPT_FOR_TRANSFERS = 4
"""The most that is kept of the log while a follower installs a snapshot, in sizes of log or snapshot; past it, the
follower gets a newer snapshot.
"""


class Compaction(msgspec.Struct, frozen=True, kw_only=True):
    """The threshold, in bytes, at which a node makes a snapshot.

    It does when the entries applied since the last one amount to `log_bytes`, or to the size of that snapshot if this is
    more: so that, however large the state grows, a byte that is logged causes about one byte of snapshot. Behind the
    snapshot `kept_bytes` of log are kept, for followers that are a little late. Invariant: all are more than 0.
    """

    log_bytes: int = SNAPSHOT_LOG_BYTES
    kept_bytes: int = LOG_KEPT_BYTES
    piece_bytes: int = PIECE_BYTES

    def __post_init__(self) -> None:
        if min(self.log_bytes, self.kept_bytes, self.piece_bytes) <= 0:
            raise ClusterError(f"{self!r}: every number of bytes must be more than 0")


DEFAULT_COMPACTION = Compaction()


class Compactor:
    """The maker of the snapshots of one node, on the consensus loop, a piece per turn of the loop.

    It also compacts its journal.

    `needed_from()` is an index from which on a follower that is being sent a snapshot will need the log, or None.
    `compacted()` is called when the log begins further up than before.
    """

    def __init__(
        self,
        journal: MemoryJournal,
        compaction: Compaction,
        *,
        loop: asyncio.AbstractEventLoop,
        needed_from: Callable[[], int | None],
        compacted: Callable[[], None],
        broke: Callable[[BaseException], None],
    ) -> None:
        self._journal = journal
        self._compaction = compaction
        self._loop = loop
        self._needed_from = needed_from
        self._compacted = compacted
        self._broke = broke
        self._grown = 0
        self._size = 0 if journal.snapshot is None else journal.snapshot.size
        self._making: tuple[Snapshot, Iterator[bytes], list[bytes]] | None = None
        self._turn: asyncio.Handle | None = None
        self._releasing: asyncio.Handle | None = None

    def applied(self, state: State, size: int) -> None:
        """Note an applied entry with `size` bytes of data; begin a snapshot if it is time."""
        self._grown += size + ENTRY_OVERHEAD
        if self._making is None and self._grown >= max(self._compaction.log_bytes, self._size):
            self.begin(state)

    def begin(self, state: State) -> None:
        """Begin a snapshot of the state as it is now, unless one is being made or nothing has been applied since the last."""
        term = self._journal.term_at(state.index)
        known = self._journal.snapshot_index
        if self._making is not None or term is None or state.index <= known:
            return
        self._grown = 0
        pieces = Frozen(state).pieces(self._compaction.piece_bytes)
        self._making = (Snapshot(state.index, term, (), state.members), pieces, [])
        self._turn = self._loop.call_soon(self._go_on)

    def cancel(self) -> None:
        """Leave off: the node ends, or its state was replaced."""
        self._making = None
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def release(self) -> None:
        """Let go of what the journal dropped, a part in each turn of the loop, to the end (also after `cancel`)."""
        if self._releasing is None:
            self._releasing = self._loop.call_soon(self._release)

    def _release(self) -> None:
        self._releasing = self._loop.call_soon(self._release) if self._journal.release() else None

    def _go_on(self) -> None:
        self._turn = None
        if self._making is None:
            return
        empty, pieces, made = self._making
        try:
            piece = next(pieces, None)
            if piece is not None:
                made.append(piece)
                self._turn = self._loop.call_soon(self._go_on)
                return
            self._making = None
            snapshot = msgspec.structs.replace(empty, pieces=tuple(made))
            self._size = snapshot.size
            self._journal.keep(snapshot)
            self._compact(snapshot.index)
        except Exception as error:
            self._making = None
            self._broke(error)

    def _compact(self, index: int) -> None:
        journal = self._journal
        first = journal.first_before(index, self._compaction.kept_bytes)
        needed = self._needed_from()
        if needed is not None:
            most = KEPT_FOR_TRANSFERS * max(self._compaction.log_bytes, self._size)
            first = min(first, max(needed, journal.first_before(index, most)))
        if first > journal.first_index:
            journal.compact(first)
            self.release()
            self._compacted()
