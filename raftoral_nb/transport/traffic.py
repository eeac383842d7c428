"""Counts of the messages of each kind over each direction of each link, for views.

Bounded, however long a cluster runs.
"""

from __future__ import annotations

from typing import Final

from ..core.records import NodeId
from .messages import (
    AppendEntries,
    BlobHeld,
    BlobOffer,
    BlobPiece,
    BlobWant,
    Forward,
    Message,
    NextIndex,
    Outdated,
    PreVote,
    PreVoteGranted,
    Refuse,
    RequestVote,
    ResponseVote,
    SnapshotPiece,
    SnapshotProgress,
    TimeoutNow,
)

HEARTBEAT: Final = "heartbeat"
"""An `AppendEntries` without entries."""

KINDS: Final[dict[type, str]] = {
    RequestVote: "ask vote",
    ResponseVote: "vote",
    TimeoutNow: "hand over",
    AppendEntries: "append",
    NextIndex: "acknowledge",
    Forward: "propose",
    Refuse: "refuse",
    PreVote: "ask pre-vote",
    PreVoteGranted: "pre-vote",
    Outdated: "outdated",
    SnapshotPiece: "snapshot",
    SnapshotProgress: "snapshot taken",
    BlobOffer: "offer blob",
    BlobHeld: "blob stored",
    BlobWant: "want blob",
    BlobPiece: "blob",
}
"""The name of each message where messages are counted; `HEARTBEAT` is the one kind besides."""


class Traffic:
    """Counts of what is sent. Called on the consensus loop only."""

    def __init__(self) -> None:
        # Invariant: between nodes that are attached; so as many numbers as directions of links, times the kinds of messages.
        self._sent: dict[tuple[NodeId, NodeId], dict[str, int]] = {}

    def lane(self, source: NodeId, target: NodeId) -> dict[str, int]:
        """Return the counts of one direction, by kind, for the end that counts there: `note(lane, message)`."""
        return self._sent.setdefault((source, target), {})

    def sent(self, source: NodeId, target: NodeId) -> dict[str, int]:
        """Return a copy of the counts of messages by kind, sent since the later of the two nodes came.

        Messages that a cut dropped are included.
        """
        return dict(self._sent.get((source, target), ()))

    def forget(self, node: NodeId) -> None:
        """Forget a node that left the network: its links are counted anew when it is back.

        Else nodes that come and go would add up.
        """
        for lane in [lane for lane in self._sent if node in lane]:
            del self._sent[lane]


def note(lane: dict[str, int], message: Message) -> None:
    """Count a message that is sent."""
    kind = HEARTBEAT if type(message) is AppendEntries and not message.entries else KINDS[type(message)]
    lane[kind] = lane.get(kind, 0) + 1
