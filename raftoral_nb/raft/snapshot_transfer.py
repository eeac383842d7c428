"""Installation of a snapshot on a follower whose next entry is in no log any more.

The leader sends pieces, a few ahead of what was acknowledged, so that a frame is never large and heartbeats are not kept
waiting. The follower reads each piece as it comes. What PySyncObj knows of snapshots is not used: it would stop everything
while one is made, install older ones over newer logs, and commit what was never verified.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..core.records import NodeId
from ..core.snapshot import Reader
from ..core.state import State
from ..errors import SnapshotError
from ..transport.messages import Message, SnapshotPiece, SnapshotProgress
from .journal import MemoryJournal, Snapshot

PIECES_IN_FLIGHT: Final = 4
"""Pieces that a leader sends a follower before the first of them is acknowledged."""

PATIENCE: Final = 40
"""Heartbeats that a follower may answer without progress before the pieces it waits for are sent again."""


class _Transfer:
    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.acknowledged = 0
        self.sent = 0
        self.idle = 0


class Transfers:
    """The snapshots that a leader is sending, one per follower at most. Forgotten when it leads no more."""

    def __init__(self, journal: MemoryJournal, send: Callable[[NodeId, Message], None]) -> None:
        self._journal = journal
        self._send = send
        self.under_way: dict[NodeId, _Transfer] = {}
        """The transfers, by who gets the snapshot."""

    def to(self, peer: NodeId) -> Snapshot | None:
        """Return the snapshot that `peer` is being sent, if any."""
        transfer = self.under_way.get(peer)
        return None if transfer is None else transfer.snapshot

    def begin(self, peer: NodeId, term: int) -> None:
        """Send `peer` the snapshot there is, if there is one."""
        if self._journal.snapshot is not None:
            self.under_way[peer] = _Transfer(self._journal.snapshot)
            self._pump(peer, term)

    def progressed(self, peer: NodeId, message: SnapshotProgress) -> None:
        """Note that `peer` has what comes before the piece it expects."""
        transfer = self.under_way.get(peer)
        if transfer is None or message.index != transfer.snapshot.index:
            return
        expected = min(message.expected, len(transfer.snapshot.pieces) - 1)
        if expected > transfer.acknowledged:
            transfer.acknowledged = expected
            transfer.sent = max(transfer.sent, expected)
            transfer.idle = 0
        self._pump(peer, message.term)

    def waits(self, peer: NodeId, term: int) -> None:
        """Note that `peer` answered a heartbeat and has not got the snapshot yet."""
        transfer = self.under_way.get(peer)
        if transfer is not None:
            transfer.idle += 1
            if transfer.idle > PATIENCE:
                transfer.idle, transfer.sent = 0, transfer.acknowledged
                self._pump(peer, term)

    def end(self, peer: NodeId) -> None:
        """Forget the transfer to `peer`: it has the snapshot, or cannot be reached any more."""
        self.under_way.pop(peer, None)

    def clear(self) -> None:
        """Forget all transfers: this node leads no more."""
        self.under_way.clear()

    def needed_from(self) -> int | None:
        """Return the lowest index that a follower will have when its transfer ends; None if there is none."""
        return min((transfer.snapshot.index for transfer in self.under_way.values()), default=None)

    def _pump(self, peer: NodeId, term: int) -> None:
        transfer = self.under_way[peer]
        snapshot = transfer.snapshot
        last = len(snapshot.pieces) - 1
        while transfer.sent <= last and transfer.sent < transfer.acknowledged + PIECES_IN_FLIGHT:
            number = transfer.sent
            transfer.sent += 1
            data = snapshot.pieces[number]
            self._send(peer, SnapshotPiece(term, snapshot.index, snapshot.term, number, number == last, data))


class Arrival:
    """The snapshot that a follower is being sent. `whole` is set when its last piece came."""

    def __init__(self, peer: NodeId, message: SnapshotPiece) -> None:
        self._named = (peer, message.index, message.last_term)
        self._reader = Reader()
        self._pieces: list[bytes] = []
        self.whole = False

    def belongs(self, peer: NodeId, message: SnapshotPiece) -> bool:
        """Return whether a piece is one of this snapshot."""
        return self._named == (peer, message.index, message.last_term)

    def take(self, message: SnapshotPiece) -> None:
        """Take a piece if it is the next one. Raises `SnapshotError` for one that cannot be read."""
        if message.number == len(self._pieces) and not self.whole:
            self._reader.feed(message.data)
            self._pieces.append(message.data)
            self.whole = message.final

    @property
    def expected(self) -> int:
        """The number of the piece that comes next."""
        return len(self._pieces)

    def taken(self) -> tuple[Snapshot, State]:
        """Return the snapshot and the state in it. Raises `SnapshotError` if it is not complete."""
        _, index, term = self._named
        state = self._reader.state()
        if state.index > index:
            raise SnapshotError(f"a snapshot of the log up to {index} holds a state of entry {state.index}")
        return Snapshot(index, term, tuple(self._pieces), state.members), state
