"""What runs on Ray: an actor for each attempt at a step, under its key. It outlives whoever asked for it, and keeps the outcome until it is killed."""

from __future__ import annotations

import asyncio
from typing import Final

from .calling import run_work
from .step_work import (
    Answered,
    Checkpoint,
    Said,
    SavedValue,
    decoded_checkpoint_answer,
    encoded_answer,
    encoded_checkpoint,
    encoded_said,
    unpacked,
)
from .without_channel import MAX_SAID

SPACING: Final = 1.0
"""The least time between two checkpoints that an actor passes on, unless its step asks for less (seconds)."""


class StepActor:
    """One attempt. Its methods run on the actor's loop, the function on a thread."""

    def __init__(self) -> None:
        self._outcome: asyncio.Future[bytes] | None = None
        self._news = asyncio.Event()
        # Invariant: what was said last, and the number of the next.
        self._said: list[bytes] = []
        self._count = 0
        self._progress = b""
        self._heard = self._ended = False
        # Invariant: the latest checkpoint, its number, and who waits for its answer.
        self._saved = b""
        self._number = 0
        self._answered: Answered | None = None

    async def run(self, packed: bytes) -> bytes:
        """Run the attempt, or wait for it if it runs already, and return what became of it."""
        if self._outcome is None:
            channel = _ActorChannel(self, asyncio.get_running_loop())
            self._outcome = asyncio.ensure_future(asyncio.to_thread(_ran, packed, channel))
            self._outcome.add_done_callback(self._end)
        return await asyncio.shield(self._outcome)

    def _end(self, _: object) -> None:
        self._ended = True
        self._news.set()

    async def hear(self, since: int, saved: int) -> tuple[int, list[bytes], int, bytes, bool]:
        """Return what was said and saved since these numbers, with the next ones, when there is something, and whether that was all.

        `since` of -1 is for whoever has heard nothing yet: the first of them gets everything, who comes later the latest progress.
        """
        if since < 0 and not self._heard:
            since = 0
        while since == self._count and saved == self._number and not self._ended:
            self._news.clear()
            await self._news.wait()
        self._heard = True
        if since < 0:
            said = [self._progress] if self._progress else []
        else:
            missed = self._count - since
            said = self._said[-missed:] if missed else []
        return self._count, said, self._number, self._saved if saved != self._number else b"", self._ended

    async def answer(self, number: int, data: bytes) -> None:
        """Tell the function what became of a checkpoint."""
        if number == self._number and self._answered is not None:
            answered, self._answered = self._answered, None
            answered(decoded_checkpoint_answer(data))

    def add(self, data: bytes, *, progress: bool) -> None:
        """Take something that the function said. On the loop."""
        self._said.append(data)
        del self._said[:-MAX_SAID]
        self._count += 1
        if progress:
            self._progress = data
        self._news.set()

    def save(self, data: bytes, answered: Answered) -> None:
        """Take a checkpoint. On the loop; there is one at a time."""
        self._saved, self._answered = data, answered
        self._number += 1
        self._news.set()


class _ActorChannel:
    """The `Channel` of the attempt."""

    spacing = SPACING

    def __init__(self, actor: StepActor, loop: asyncio.AbstractEventLoop) -> None:
        self._actor = actor
        self._loop = loop

    def __call__(self, said: Said) -> None:
        """Tell whoever listens, now or later."""
        data, progress = encoded_said(said), said.kind == "progress"
        self._loop.call_soon_threadsafe(lambda: self._actor.add(data, progress=progress))

    def save(self, checkpoint: Checkpoint, answered: Answered) -> None:
        """Pass a checkpoint on."""
        self._loop.call_soon_threadsafe(self._actor.save, encoded_checkpoint(checkpoint), answered)

    def kept(self) -> SavedValue | None:
        """Nothing is kept: an actor that died is not started again."""
        return None


def _ran(packed: bytes, channel: _ActorChannel) -> bytes:
    return encoded_answer(run_work(unpacked(packed), channel))
