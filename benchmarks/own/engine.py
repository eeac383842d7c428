"""A command proposed and applied on one node, in the loop alone: no threads, no network, no workflow."""

from __future__ import annotations

import asyncio
import gc
import random
import time

from benchmarks.measuring import Found, Task
from raftoral_nb.core.commands import Committed, Outcome, RegisterWorkflow, SetCheckpoint, StartRun
from raftoral_nb.core.records import Definition, Step
from raftoral_nb.raft.journal import MemoryJournal
from raftoral_nb.raft.member import Member
from raftoral_nb.raft.replica import Timing
from raftoral_nb.transport.memory_network import MemoryNetwork

WARM_UP = 50


class Listener:
    """A member's listener that only notes when its member may act."""

    def __init__(self) -> None:
        self.term: int | None = None
        self.acts = asyncio.Event()

    def applied(self, index: int, applied: object) -> None:
        """Do nothing."""

    def acting_changed(self, term: int | None) -> None:
        """Keep the term."""
        self.term = term
        if term is not None:
            self.acts.set()

    def state_replaced(self, old: object, new: object) -> None:
        """Do nothing."""

    def role_changed(self, role: str, term: int) -> None:
        """Do nothing."""

    def link_changed(self, peer: int, up: bool) -> None:
        """Do nothing."""

    def failed(self, *error: object) -> None:
        """Raise: it must not happen."""
        raise RuntimeError(f"a member broke: {error}")


class Commands:
    """Commands to the leading member, some of them under way at a time."""

    def __init__(self, member: Member, term: int) -> None:
        self._member, self._term = member, term
        self._loop = asyncio.get_running_loop()
        self._number = 0

    async def take(self, count: int, at_once: int) -> list[float]:
        """Propose so many, and return how long each took until it was applied."""
        latencies: list[float] = []
        finished: asyncio.Future[None] = self._loop.create_future()
        left = count

        def propose() -> None:
            nonlocal left
            left -= 1
            self._number += 1
            step = Step(f"{self._number}/step", "var", b"\x80\x05K\x01.", None, self._member.node, self._term)
            begun = time.perf_counter()

            def done(outcome: Outcome) -> None:
                latencies.append(time.perf_counter() - begun)
                if not isinstance(outcome, Committed):
                    finished.set_exception(RuntimeError(f"not committed: {outcome}"))
                elif left:
                    self._loop.call_soon(propose)
                elif len(latencies) == count:
                    finished.set_result(None)

            self._member.propose(SetCheckpoint("run", step), 30, done)

        for _ in range(at_once):
            propose()
        await finished
        return latencies


async def _measure(count: int) -> Found:
    loop = asyncio.get_running_loop()
    network, listener = MemoryNetwork(loop), Listener()
    member = Member(
        1, [1], journal=MemoryJournal(), loop=loop, dice=random.Random(1), timing=Timing(), listener=listener
    )
    await member.join(network)
    await asyncio.wait_for(listener.acts.wait(), 60)
    for command in (
        RegisterWorkflow(Definition("nothing", 1, "fingerprint", "digest", b"code", {})),
        StartRun("run", "nothing", 1, b"input"),
    ):
        outcome = await member.ask(command, 30)
        if not isinstance(outcome, Committed):
            raise RuntimeError(f"not committed: {outcome}")  # noqa: TRY004 - it is not about types
    commands = Commands(member, listener.term or 0)
    await commands.take(WARM_UP, 1)
    gc.collect()
    alone = await commands.take(count, 1)
    gc.collect()
    begun = time.perf_counter()
    await commands.take(count, 50)
    amortised = (time.perf_counter() - begun) / count
    done = len(member.state.runs["run"].steps) - WARM_UP
    member.close()
    await network.close()
    return Found(done, {"command": alone}, {"amortised": amortised})


def command(task: Task) -> Found:
    """Measure commands one after another, and with 50 under way."""
    return asyncio.run(_measure(task.numbers["commands"]))
