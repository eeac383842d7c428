"""Waits of an execution for large values that its node does not have yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ...core.blob_refs import BlobRef, reference
from ...core.records import Message, Record, Step
from .inbox import RunContinued, RunEnded


class BlobFetcher(Protocol):
    """What is needed of an execution's environment."""

    def holds_blob(self, digest: str) -> bool:
        """Return whether this node has stored a blob."""
        ...

    def fetch_blob(self, ref: BlobRef, ready: Callable[[], None]) -> None:
        """Have a blob fetched from another node; `ready()` is called on the node's loop when it is here."""
        ...


class BlobWaits:
    """The blobs that records of one execution refer to, and that are not here yet: a record whose value is one has no turn before."""

    __slots__ = ("_around", "_ready", "absent")

    def __init__(self, around: BlobFetcher, ready: Callable[[], None]) -> None:
        """`ready()` is called whenever one of them has come."""
        self._around = around
        self._ready = ready
        # Invariant: asked for, and not here.
        self.absent: set[str] = set()

    def needs(self, value: bytes | None) -> None:
        """Have fetched what a record's value refers to, if that is not here."""
        ref = reference(value)
        if ref is None or ref.digest in self.absent or self._around.holds_blob(ref.digest):
            return
        self.absent.add(ref.digest)
        self._around.fetch_blob(ref, lambda: self._came(ref.digest))

    def lacks(self, value: bytes | None) -> bool:
        """Return whether a value is one that is waited for."""
        if not self.absent:
            return False
        ref = reference(value)
        return ref is not None and ref.digest in self.absent

    def hold_up(
        self, begun: object, given: bytes, queue: Sequence[Record], ended: RunEnded | RunContinued | None
    ) -> bool:
        """Return whether what comes next is waited for: the input, the first record of the queue, or the recorded end behind them all."""
        if begun is None:
            return self.lacks(given)
        if queue:
            record = queue[0]
            return isinstance(record, Step | Message) and self.lacks(record.value)
        return ended is not None and self.lacks(end_value(ended))

    def _came(self, digest: str) -> None:
        self.absent.discard(digest)
        self._ready()


def end_value(ended: RunEnded | RunContinued) -> bytes | None:
    """Return the value with which a run ended, or began anew; None if it failed."""
    return ended.result if isinstance(ended, RunEnded) else ended.input
