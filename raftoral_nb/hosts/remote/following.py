"""The log of a cluster whose nodes are in other processes, read from one of them and applied to a copy of the state."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from ...core.apply import Applied, apply_entry
from ...core.entry_codec import decode_entry
from ...core.records import NodeId
from ...core.snapshot import Reader
from ...core.state import State
from ...errors import ProtocolError, RaftoralError
from .background import Changes
from .messages import Hello, LogAnswer, ReadLog, ReadPiece, SnapshotOffer
from .remote_node import RemoteLife
from .rpc import Calls


class LogEnv(Protocol):
    """The part of the handle that a `LogFollower` needs."""

    def source(self) -> RemoteLife | None:
        """Return the node from which the log is to be read now; None while there is none."""
        ...

    def entry_applied(self, index: int, applied: Sequence[Applied]) -> None:
        """Note that an entry was applied, as it happened."""
        ...

    def entry_recalled(self, index: int) -> None:
        """Note that an entry was applied that is from before: nobody is told what happened by it."""
        ...

    def state_replaced_up_to(self, index: int, state: State) -> None:
        """Note that a state came in place of the entries up to an index."""
        ...


class LogFollower:
    """A reader of the log, which applies it. Belongs to the loop of the handle; `state` may be read from any thread.

    The source may change at any time: `source_changed` says so.
    """

    def __init__(self, env: LogEnv, failed: Callable[[NodeId, Calls, RaftoralError], Awaitable[None]]) -> None:
        self.state = State()
        self.index = 0
        """The index up to which the log is applied to the state (an invariant)."""
        self.changes = Changes()
        self._env = env
        self._failed = failed
        self._source_changed = asyncio.Event()
        self._ended = False

    async def follow(self) -> None:
        """Read the log from whichever node is the source, and never end by itself."""
        while True:
            source = self._env.source()
            if source is None:
                self._source_changed.clear()
                await self._source_changed.wait()
                continue
            reading = asyncio.ensure_future(self._read_some(source))
            try:
                while not reading.done() and self._env.source() is source:
                    self._source_changed.clear()
                    changed = asyncio.ensure_future(self._source_changed.wait())
                    try:
                        await asyncio.wait({reading, changed}, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        changed.cancel()
                if reading.done():
                    reading.result()
            finally:
                reading.cancel()

    async def catch_up(self) -> None:
        """Learn the whole past of a cluster that was found running, without reporting it as new."""
        source = self._env.source()
        if source is not None:
            upto = (await source.calls.ask(Hello())).body.applied
            while self.index < upto:
                answer: LogAnswer = (await source.calls.ask(ReadLog(self.index))).body
                await self._take(source, answer, recalled=True)

    async def on_reached(self, index: int) -> None:
        """Wait until the log is applied here up to an index."""
        await self.changes.until(lambda: self.index >= index)

    def source_changed(self) -> None:
        """Note that the source may be another one than before."""
        self._source_changed.set()

    def end(self) -> None:
        """Stop applying: the end is told, and nothing comes after it."""
        self._ended = True

    async def _read_some(self, source: RemoteLife) -> None:
        try:
            answer: LogAnswer = (await source.calls.ask(ReadLog(self.index))).body
            if not self._ended:
                await self._take(source, answer, recalled=False)
        except RaftoralError as error:
            await self._failed(source.node, source.calls, error)

    async def _take(self, source: RemoteLife, answer: LogAnswer, *, recalled: bool) -> None:
        before = self.index
        if answer.snapshot is not None:
            await self._take_snapshot(source, answer.snapshot)
        elif answer.entries is not None:
            # All or nothing: what was applied must not be asked for again.
            for index, entry in [(index, decode_entry(data)) for index, data in answer.entries.entries]:
                applied = apply_entry(self.state, index, entry)
                if recalled:
                    self._env.entry_recalled(index)
                else:
                    self._env.entry_applied(index, applied)
            self.index = max(self.index, answer.entries.upto)
        if self.index <= before:
            raise ProtocolError(f"it was asked for its log after entry {before}, and sent nothing of that")
        self.changes.wake()

    async def _take_snapshot(self, source: RemoteLife, offer: SnapshotOffer) -> None:
        reader = Reader()
        for number in range(offer.pieces):
            reader.feed((await source.calls.ask(ReadPiece(number))).body)
        state = reader.state()
        if offer.index > self.index:
            self.state = state
            self.index = offer.index
            self._env.state_replaced_up_to(offer.index, state)
