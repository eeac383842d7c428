"""Members that come and go in a simulation: a new node, one that leaves, one whose disk is gone and that another replaces.

One at a time, as a careful operator would: a disk may be lost only when all members hold what they should, or more than a
minority of the copies of a committed entry would be gone, which no protocol survives.
"""

from __future__ import annotations

import asyncio
from typing import Literal

from ..core.commands import ChangeMembers, Committed
from ..core.records import NodeId
from ..limits import MAX_NODES
from .invariants import Checker
from .simulated_nodes import SimulatedNodes

ASK_SECONDS = 3.0
"""The time one node is asked to make a change before another one is asked (seconds)."""


class Joining:
    """The changes of members of one simulation. `begin` returns False for one that cannot be made now."""

    def __init__(self, nodes: SimulatedNodes, checker: Checker) -> None:
        self._nodes = nodes
        self._checker = checker
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """True if a change is being made."""
        return self._task is not None and not self._task.done()

    def begin(self, kind: str, number: NodeId) -> bool:
        """Have a node join, leave, or be replaced after its disk was lost. False, and nothing done, if that makes no sense."""
        count = len(self._nodes.numbers)
        if self.busy or (kind == "join" and count >= MAX_NODES - 2) or (kind != "join" and count < 3):
            return False
        if kind != "join" and number not in self._nodes.numbers:
            return False
        self._task = self._nodes.loop.create_task(self._change(kind, number))
        return True

    async def done(self) -> None:
        """Wait for the change that is being made."""
        if self._task is not None:
            await self._task

    async def _change(self, kind: str, number: NodeId) -> None:
        nodes = self._nodes
        if kind == "replacement":
            if not await self._level(but=number):
                return  # somebody else has too little: this disk is needed
            nodes.lose_disk(number)
        if kind in ("replacement", "leave"):
            await self._ask(number, "remove")
            nodes.forget(number)
        if kind in ("replacement", "join"):
            new = nodes.add()
            await self._ask(new, "add")
            await self._level()

    async def _ask(self, number: NodeId, change: Literal["add", "remove"]) -> None:
        """Ask one node after the other until it is so; a leader that is to leave is asked to let another lead."""
        living = self._nodes.living
        turn = 0
        while True:
            able = [one for one, node in sorted(living.items()) if one != number and not node.member.paused]
            if not able:
                await asyncio.sleep(0.1)
                continue
            member = living[able[turn % len(able)]].member
            turn += 1
            if change == "remove" and number in living:
                living[number].member.yield_leadership()
            asking = self._nodes.loop.create_task(member.ask(ChangeMembers(number, change), ASK_SECONDS))
            # The clock of a paused node stands still, and so does its deadline.
            await asyncio.wait([asking], timeout=2 * ASK_SECONDS)
            if asking.done() and isinstance(asking.result(), Committed):
                return
            asking.cancel()
            await asyncio.sleep(0.1)

    async def _level(self, but: NodeId | None = None) -> bool:
        """Wait until every member holds what is committed now. With `but`: whether all the others do, without waiting."""
        checker = self._checker
        index = checker.last_committed
        while True:
            late = [
                number
                for number in self._nodes.numbers
                if number != but and checker.journals[number].last_index < index
            ]
            if not late or but is not None:
                return not late
            await asyncio.sleep(0.1)
