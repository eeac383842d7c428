"""One real server between others that a test plays, and whole clusters: what tests of the Raft paper drive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from raftoral_nb.core.commands import Command, Proposal
from raftoral_nb.core.records import NodeId, ProposalId
from raftoral_nb.raft.compaction import DEFAULT_COMPACTION, Compaction
from raftoral_nb.raft.journal import MemoryJournal
from raftoral_nb.transport.messages import Message, NextIndex, ResponseVote
from raftoral_nb.virtual_time.clock import run

from .members import Members
from .test_guard import Bench, append, entries


class Server(Bench):
    """Server 1 of `of`; the test plays the others."""

    def __init__(self, of: int = 3, journal: MemoryJournal | None = None) -> None:
        super().__init__(guarded=True, peers=tuple(range(2, of + 1)), journal=journal)

    @property
    def term(self) -> int:
        return self.replica.raft.term

    @property
    def vote(self) -> str | None:
        """Who has its vote in the present term."""
        return self.journal.getVotedForNodeId()

    @property
    def commit_index(self) -> int:
        return self.replica.raft.commit_index

    def become(self, role: str) -> None:
        if role != "follower":
            self.replica.campaign()
        if role == "leader":
            for peer in self.replica.raft.peers[: len(self.replica.members) // 2]:
                self.receive(peer, ResponseVote(self.term))
        assert self.replica.role == role

    def to(self, peer: NodeId, kind: type[Message]) -> list[Any]:
        """What it sent to a peer since it last received something."""
        return [message for target, message in self.sent if target == peer and isinstance(message, kind)]

    async def propose(self, command: Command) -> int:
        """Have the leader append a command; its index."""
        self.sent.clear()
        assert self.replica.submit([Proposal(ProposalId("0.9.a", self.journal.last_index), command)])
        await asyncio.sleep(0)
        return self.journal.last_index

    def holds(self, *terms: int, term: int = 1) -> None:
        """Have it store entries 2, 3, ... of these terms, from a leader of `term`."""
        self.receive(2, append(term, 1, 0, entries(2, *terms)))
        assert self.terms() == list(terms)

    def acknowledge(self, peer: NodeId, index: int) -> None:
        self.receive(peer, NextIndex(self.term, index + 1, success=True, reset=False))


def on_server(test: Callable[[Server], Coroutine[Any, Any, None]], of: int = 3) -> None:
    async def main() -> None:
        server = Server(of)
        try:
            await test(server)
            assert server.error is None
        finally:
            server.replica.close()

    run(main)


def on_members(
    test: Callable[[Members], Coroutine[Any, Any, None]], of: int = 3, *, compaction: Compaction = DEFAULT_COMPACTION
) -> None:
    async def main() -> None:
        members = Members(of, compaction=compaction)
        await members.start()
        try:
            await test(members)
            assert not any(watcher.broke for watcher in members.watchers.values())
        finally:
            await members.close()

    run(main)
