"""A receiver that writes down what it is told, and lets a test wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from raftoral_nb.core.records import NodeId
from raftoral_nb.transport.messages import Message, ResponseVote

PATIENCE = 20.0
"""Seconds after which a test that waits for an event gives up. Nothing is measured with it."""

Fact = tuple[str, NodeId, int]
"""("up", peer, 0), ("down", peer, 0) or ("got", peer, the number in the message)."""


def numbered(number: int) -> Message:
    """A small message that carries a number."""
    return ResponseVote(number)


class Recorder:
    """Keeps every call as facts, in order; `batches` keeps how many messages each `received` brought."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self.batches: list[int] = []
        self.messages: list[Message] = []
        self.on_fact: Callable[[Fact], None] | None = None
        self._waiting: asyncio.Future[None] | None = None

    def connected(self, peer: NodeId) -> None:
        self._note(("up", peer, 0))

    def disconnected(self, peer: NodeId) -> None:
        self._note(("down", peer, 0))

    def received(self, peer: NodeId, messages: Sequence[Message]) -> None:
        self.batches.append(len(messages))
        self.messages.extend(messages)
        for message in messages:
            self._note(("got", peer, message.term if isinstance(message, ResponseVote) else -1))

    def numbers(self, peer: NodeId) -> list[int]:
        """The numbers of the messages that came from a peer, in order."""
        return [number for kind, source, number in self.facts if kind == "got" and source == peer]

    def _note(self, fact: Fact) -> None:
        self.facts.append(fact)
        if self.on_fact is not None:
            self.on_fact(fact)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def until(self, true: Callable[[], bool]) -> None:
        """Waits until something holds, looking again after every fact."""
        async with asyncio.timeout(PATIENCE):
            while not true():
                self._waiting = asyncio.get_running_loop().create_future()
                await self._waiting

    async def until_fact(self, fact: Fact, times: int = 1) -> None:
        """Waits until a fact was noted that many times."""
        await self.until(lambda: self.facts.count(fact) >= times)


async def turns(count: int = 10) -> None:
    """Lets the loop go round a few times: whatever was to happen at once has happened."""
    for _ in range(count):
        await asyncio.sleep(0)
