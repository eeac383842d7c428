"""Values that a node holds back: results that are larger than the cluster keeps, so that nobody need compute them again.

Such a value is a blob like any other, in the store of the node that made it; a note beside the blobs says which step's it is. It goes to nobody,
and the log does not refer to it. Notes are as durable as the store: a node that is restarted, and acts again, finds them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from hashlib import blake2b
from typing import Final

import msgspec

from ..core.blob_refs import reference
from ..core.held_keys import HeldKey
from ..core.records import RunId
from .blob_store import BlobStore


class _Note(msgspec.Struct, frozen=True, array_like=True):
    """A note, as it is stored."""

    key: HeldKey
    value: bytes
    """The reference to the blob."""


_decoder: Final = msgspec.msgpack.Decoder(_Note)


class HeldValues:
    """The values that one node holds back. On the consensus loop, but for `by_key`."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        # Invariant: by its key, the reference, as it is noted in the store. Read on any thread.
        self._held: dict[HeldKey, bytes] = {}
        for note in store.notes().values():
            try:
                found = _decoder.decode(note)
            except msgspec.DecodeError:
                continue  # damaged: the step runs again
            self._held[found.key] = found.value

    def __contains__(self, digest: str) -> bool:
        """Tell whether a blob is one of them."""
        return any(ref.digest == digest for value in self._held.values() if (ref := reference(value)) is not None)

    @property
    def by_key(self) -> Mapping[HeldKey, bytes]:
        """References to what is held. Not a copy; may be looked into on any thread."""
        return self._held

    def hold(self, key: HeldKey, value: bytes) -> None:
        """Hold a value, whose blob is stored."""
        if self._held.get(key) != value:
            self._held[key] = value
            self._store.set_note(_name(key), msgspec.msgpack.encode(_Note(key, value)))

    def drop(self, key: HeldKey) -> None:
        """Hold it no more: it is recorded, or not needed. Nothing if nothing is held."""
        if self._held.pop(key, None) is not None:
            self._store.set_note(_name(key), None)

    def drop_run(self, run_id: RunId) -> None:
        """Hold nothing of a run any more."""
        for key in [key for key in self._held if key.run_id == run_id]:
            self.drop(key)

    def keep_only(self, runs: Collection[tuple[RunId, int, int]]) -> None:
        """Hold nothing of any run, generation and version but these."""
        for key in [key for key in self._held if (key.run_id, key.generation, key.version) not in runs]:
            self.drop(key)


def _name(key: HeldKey) -> str:
    return blake2b(msgspec.msgpack.encode(key), digest_size=16).hexdigest()
