"""Large values that a handle brings to a node of another process."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace
from typing import Any, cast

import pytest

from raftoral_nb.errors import ClusterError
from raftoral_nb.hosts.remote.messages import BringBlob, BringPiece, ReadBlob
from raftoral_nb.hosts.remote.remote_blobs import PIECE_BYTES, BlobRequests, bring
from raftoral_nb.raft.blob_store import MemoryBlobs
from raftoral_nb.workflow.codec.blobs import Carried, InMemory, digest_of


class Line:
    """A line to a node with a store of its own."""

    def __init__(self) -> None:
        self.store = MemoryBlobs(share=False)
        self.kept: list[str] = []
        self.pieces = 0
        self._requests = BlobRequests(lambda: self.store, self.kept.append)

    async def ask(self, asked: Any) -> Any:
        await asyncio.sleep(0)
        match asked:
            case BringBlob():
                return SimpleNamespace(body=await self._requests.begins(asked))
            case BringPiece():
                self.pieces += 1
                await self._requests.comes(asked)
                return SimpleNamespace(body=None)
            case ReadBlob():
                return SimpleNamespace(body=await self._requests.read(asked))


def carried(size: int = 4 * PIECE_BYTES + 3) -> Carried:
    content = InMemory(os.urandom(size))
    return Carried.of(content, digest_of(content), "")


def test_a_value_is_brought_in_pieces_and_only_once() -> None:
    async def body() -> None:
        line, value = Line(), carried()
        for _ in range(2):
            assert await bring(cast("Any", line), value) == bytes(value)
        assert line.pieces == 5  # none of them twice
        assert line.store.holds(value.ref.digest)
        assert set(line.kept) == {value.ref.digest}
        assert await bring(cast("Any", line), b"small") == b"small"

    asyncio.run(body())


def test_the_same_value_brought_twice_at_the_same_time_arrives() -> None:
    async def body() -> None:
        line, value = Line(), carried()
        assert await asyncio.gather(*(bring(cast("Any", line), value) for _ in range(3))) == [bytes(value)] * 3
        assert line.store.holds(value.ref.digest)

    asyncio.run(body())


def test_a_piece_that_was_not_announced_is_refused() -> None:
    async def body() -> None:
        with pytest.raises(ClusterError, match="announced"):
            await Line().ask(BringPiece("0" * 32, b"x", True))

    asyncio.run(body())
