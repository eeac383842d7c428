"""What the simulated workflows keep of what they see: a diary for each execution, which the checker reads after every turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .effects import effect, slow_effect

if TYPE_CHECKING:
    from ..workflow.language.context import WorkflowContext

DIARY: Final = "diary"
"""The name of the query under which a workflow's diary is found."""


class Diary:
    """What one execution of a workflow saw, in the order in which it saw it; part of its result, too.

    `seen` is only appended to, by any of the run's tasks, with values whose text is the same on every node.
    """

    def __init__(self, ctx: WorkflowContext) -> None:
        self.seen: list[Any] = []
        # Invariant: what was said by the signals and updates that the code got, each a text of its own, in this order.
        self.received: list[str] = []
        ctx.on_query(DIARY, lambda: self)

    def note(self, *what: Any) -> None:
        """Note what was seen."""
        self.seen.append(what)

    def got(self, said: str) -> str:
        """Note what a message said, in the very moment in which it was received; return it."""
        self.received.append(said)
        self.seen.append(said)
        return said


class Scene:
    """What the parts of a workflow work with: its `ctx`, its diary, and steps whose effects are named after the part."""

    def __init__(self, ctx: WorkflowContext, diary: Diary, name: str) -> None:
        self.ctx = ctx
        self.note = diary.note
        self.diary = diary
        self.name = name

    async def quick(self, key: str) -> int:
        """Take a synchronous step; its value is one that no other effect has."""
        return await self.ctx.compute(key, effect, f"{self.name} {key}")

    async def slow(self, key: str) -> int:
        """Take an asynchronous step, which takes its time."""
        return await self.ctx.compute(key, slow_effect, f"{self.name} {key}")
