"""Large values between a handle and nodes of other processes: brought before the command that refers to them, and read when they are looked at."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from ...core.command_values import values_of, with_values
from ...core.commands import Command
from ...core.records import NodeId
from ...errors import ClusterError, DamagedBlobError, RaftoralError
from ...raft.blob_exchange import SLOWEST_BYTES_A_SECOND
from ...threads.loop_thread import LoopThread
from ...workflow.codec.blobs import Carried, Content, InMemory, add_shelf, digest_of, plain
from .messages import BringBlob, BringPiece, ReadBlob
from .rpc import Calls

PIECE_BYTES: Final = 512 * 1024
"""Bytes of a blob in one request or answer."""

READ_SECONDS: Final = 30.0
"""The time that a node may take for one piece; nobody waits longer for one that hangs."""


def seconds_for(commands: Iterable[Command]) -> float:
    """Return how much longer commands may take than others, as large values come with them (seconds)."""
    sizes = [value.ref.size for command in commands for value in values_of(command) if isinstance(value, Carried)]
    return sum(sizes) / SLOWEST_BYTES_A_SECOND


async def bring_all(calls: Calls, commands: Sequence[Command]) -> list[Command]:
    """Bring what commands carry to a node, and return them without it. Raises what the node raises, `NodeStateError`."""
    for command in commands:
        for value in values_of(command):
            await bring(calls, value)
    return [with_values(command, plain) for command in commands]


async def bring(calls: Calls, value: bytes) -> bytes:
    """Bring what a value carries to a node, unless it has that, and return the value without it. Raises as `bring_all` does."""
    if not isinstance(value, Carried):
        return value
    digest, size = value.ref.digest, value.ref.size
    # One at a time: pieces say what blob they are of, not who brings it.
    lock = _bringing.setdefault((id(calls), digest), asyncio.Lock())
    async with lock:
        async with asyncio.timeout(
            READ_SECONDS + size / SLOWEST_BYTES_A_SECOND
        ):  # a node that was stopped answers nothing
            held: bool = (await calls.ask(BringBlob(digest, size))).body
        if not held:
            offset = 0
            for part in value.content.pieces():
                for begin in range(0, part.nbytes, PIECE_BYTES):
                    data = bytes(part[begin : begin + PIECE_BYTES])
                    offset += len(data)
                    async with asyncio.timeout(READ_SECONDS):
                        await calls.ask(BringPiece(digest, data, offset == size))
    return plain(value)


_bringing: Final[weakref.WeakValueDictionary[tuple[int, str], asyncio.Lock]] = weakref.WeakValueDictionary()


class RemoteBlobsEnv(Protocol):
    """What is needed of the handle's backend."""

    @property
    def thread(self) -> LoopThread:
        """The thread on which nodes are asked."""
        ...

    def lines(self) -> Sequence[tuple[NodeId, Calls]]:
        """Return the lines to the nodes that can be asked, on that thread."""
        ...

    def data_folder(self) -> Path | None:
        """Return the folder in which the nodes keep their logs, if it may be on this machine."""
        ...


class RemoteBlobs:
    """The blobs of a cluster of other processes, as its handle reads them (a `Shelf`)."""

    def __init__(self, around: RemoteBlobsEnv) -> None:
        self._around = around
        self._read: weakref.WeakValueDictionary[str, InMemory] = weakref.WeakValueDictionary()
        add_shelf(self)

    def find(self, digest: str) -> Content | None:
        """See `Shelf`. Files of this machine are mapped; else nodes are asked, and waited for."""
        known = self._read.get(digest)
        if known is not None:
            return known
        found = self._beside(digest)
        if (
            found is not None
            or not self._around.thread.alive
            or self._around.thread.thread_ident == threading.get_ident()
        ):
            return found
        with contextlib.suppress(TimeoutError, ClusterError):
            read: InMemory | None = self._around.thread.run(self._ask, digest)
            if read is not None:
                self._read[digest] = read
            return read
        return None

    def _beside(self, digest: str) -> Content | None:
        folder = self._around.data_folder()
        if folder is None:
            return None
        from ...storage.content_files import Mapped
        from ...storage.directory_blobs import FOLDER

        for file in folder.glob(f"node-*/{FOLDER}/{digest}"):
            with contextlib.suppress(OSError):
                content = Mapped(file)
                if digest_of(content) == digest:
                    return content
        return None

    async def _ask(self, digest: str) -> InMemory | None:
        for _, calls in self._around.lines():
            data = bytearray()
            with contextlib.suppress(RaftoralError, TimeoutError):
                while True:
                    async with asyncio.timeout(READ_SECONDS):
                        piece: bytes = (await calls.ask(ReadBlob(digest, len(data), PIECE_BYTES))).body
                    data += piece
                    if len(piece) < PIECE_BYTES:
                        break
                content = InMemory(data)
                if data and digest_of(content) == digest:
                    return content
        return None


class BlobRequests:
    """What a client brings to, or reads of, a node's store: the node's side. On the consensus loop."""

    def __init__(self, store: Callable[[], Any], keep: Callable[[str], object]) -> None:
        """`keep(digest)` is called for a blob that a command will refer to which follows."""
        self._store = store
        self._keep = keep
        self._arriving: dict[str, Any] = {}

    async def begins(self, asked: BringBlob) -> bool:
        """Return whether the node has the blob; else its pieces may come."""
        store = self._store()
        self._keep(asked.digest)
        if store.holds(asked.digest):
            return True
        adopted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        store.adopt(asked.digest, lambda here: None if adopted.done() else adopted.set_result(here))
        if await adopted:
            return True
        self.abandon(asked.digest)
        self._arriving[asked.digest] = store.arrive(asked.digest, asked.size)
        return False

    async def comes(self, asked: BringPiece) -> None:
        """Take a piece; the last is answered when the whole is stored. Raises what keeps it from that, `ClusterError`."""
        arriving = self._arriving.get(asked.digest)
        if arriving is None:
            raise ClusterError(f"no blob {asked.digest} was announced")
        arriving.add(asked.data)
        if not asked.last:
            return
        del self._arriving[asked.digest]
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: BaseException | None) -> None:
            if not stored.done():
                stored.set_exception(error) if error is not None else stored.set_result(None)

        arriving.finish(done)
        try:
            await stored
        except OSError as error:
            raise DamagedBlobError(f"blob {asked.digest} could not be stored: {error}") from error
        self._keep(asked.digest)

    async def read(self, asked: ReadBlob) -> bytes:
        """Return a piece of a blob; nothing if the node does not have it."""
        read: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._store().read(
            asked.digest,
            asked.offset,
            min(asked.length, PIECE_BYTES),
            lambda data: None if read.done() else read.set_result(data),
        )
        return await read or b""

    def abandon(self, digest: str | None = None) -> None:
        """Drop what came of a blob, or of all of them: the client has left."""
        for one in (digest,) if digest is not None else tuple(self._arriving):
            arriving = self._arriving.pop(one, None)
            if arriving is not None:
                arriving.abandon()
