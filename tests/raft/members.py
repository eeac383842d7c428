"""A cluster of members (no executors) on a virtual clock: what tests of consensus drive."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from raftoral_nb.core.apply import Applied
from raftoral_nb.core.commands import Committed, Outcome, Proposal, RegisterWorkflow
from raftoral_nb.core.records import Definition, NodeId
from raftoral_nb.core.state import State
from raftoral_nb.raft.compaction import DEFAULT_COMPACTION, Compaction
from raftoral_nb.raft.journal import Journals
from raftoral_nb.raft.member import Member
from raftoral_nb.raft.replica import Timing
from raftoral_nb.transport.memory_network import MemoryNetwork


def registration(number: int, size: int = 10) -> RegisterWorkflow:
    """A command that is unlike every other one of another number."""
    return RegisterWorkflow(Definition(f"workflow-{number}", 1, str(number), "", bytes(size), {}))


class Watcher:
    """Writes down what a member tells its node."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.entries: list[tuple[int, tuple[Proposal, ...]]] = []
        self.facts: list[object] = []
        self.broke = False
        self._wake = wake

    def applied(self, index: int, applied: Sequence[Applied]) -> None:
        self.entries.append((index, tuple(one.proposal for one in applied)))
        self.facts.append(index)
        self._wake()

    def state_replaced(self, old: State, new: State) -> None:
        self.facts.append(("replaced", old.index, new.index))
        self._wake()

    def acting_changed(self, term: int | None) -> None:
        self.facts.append(("acting", term))
        self._wake()

    def role_changed(self, role: str, term: int) -> None:
        self._wake()

    def link_changed(self, peer: int, up: bool) -> None:
        self._wake()

    def failed(self, error: BaseException) -> None:
        self.broke = True
        self._wake()


class Members:
    """Nodes 1 to `count` on a memory network with `latency` seconds per message."""

    def __init__(
        self,
        count: int,
        *,
        latency: float = 0.01,
        guarded: bool = True,
        seed: int = 1,
        compaction: Compaction = DEFAULT_COMPACTION,
    ) -> None:
        self._compaction = compaction
        self._joining: set[NodeId] = set()
        self.loop = asyncio.get_running_loop()
        self.network = MemoryNetwork(self.loop, lambda source, target: latency)
        self.journals = Journals()
        self.numbers = tuple(range(1, count + 1))
        self.members: dict[NodeId, Member] = {}
        self.watchers: dict[NodeId, Watcher] = {}
        self._guarded = guarded
        self._dice = random.Random(seed)
        self._changed = asyncio.Event()

    async def join(self, *numbers: NodeId) -> None:
        """Start nodes that are no members yet."""
        self._joining.update(numbers)
        await self.start(*numbers)

    async def start(self, *numbers: NodeId, first: NodeId | None = None) -> None:
        for number in numbers or self.numbers:
            self.watchers[number] = Watcher(self._changed.set)
            self.members[number] = Member(
                number,
                self.numbers,
                journal=self.journals.of(number),
                loop=self.loop,
                dice=self._dice,
                timing=Timing(),
                listener=self.watchers[number],
                guarded=self._guarded,
                compaction=self._compaction,
                joins=number in self._joining,
                first=number == first,
            )
            await self.members[number].join(self.network)

    async def restart_all(self, *, first: NodeId | None = None) -> float:
        """Kills everybody, starts everybody again, and waits for a leader; how long that took (virtual seconds)."""
        for number in tuple(self.members):
            self.kill(number)
        began = self.loop.time()
        await self.start(first=first)
        await self.leader()
        return self.loop.time() - began

    def kill(self, number: NodeId) -> None:
        self.members.pop(number).close()

    async def until(self, true: Callable[[], bool], seconds: float = 60.0) -> None:
        """Waits (virtual seconds) until something holds, looking after every event."""
        async with asyncio.timeout(seconds):
            while not true():
                self._changed.clear()
                await self._changed.wait()

    def acting(self) -> NodeId | None:
        found = [(member.acting_term, number) for number, member in self.members.items() if member.acting_term]
        return max(found)[1] if found else None

    async def leader(self, *, other_than: NodeId | None = None) -> Member:
        await self.until(lambda: self.acting() not in (None, other_than))
        number = self.acting()
        assert number is not None
        return self.members[number]

    async def commit(self, number: int, *, by: Member | None = None, size: int = 10) -> Outcome:
        member = by or await self.leader()
        return await member.ask(registration(number, size), 20.0)

    async def level(self) -> None:
        """Waits until every living member has applied the same index."""
        await self.until(lambda: len({m.replica.raft.applied_index for m in self.members.values()}) == 1)

    def applied(self, number: NodeId) -> list[str]:
        """The names of the workflows that a node has registered, in order."""
        return [name for name, _ in self.members[number].state.definitions]

    async def close(self) -> None:
        for member in self.members.values():
            member.close()
        await self.network.close()


def committed(outcome: Outcome) -> bool:
    return isinstance(outcome, Committed)
