"""The branches of an execution: what belongs to one task of a workflow, for as long as that runs."""

from __future__ import annotations

import inspect
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NamedTuple

from ...core.step_ids import Branch
from ...threads import user_code

if TYPE_CHECKING:
    import random


class Call(NamedTuple):
    """An operation that was called, as it is named to people."""

    coroutine: CoroutineType[Any, Any, Any]
    name: str
    file: str
    line: int

    @property
    def waits(self) -> bool:
        """True if nothing has begun to await it."""
        return inspect.getcoroutinestate(self.coroutine) == inspect.CORO_CREATED

    def __str__(self) -> str:
        return f"{self.name} at {user_code.short_file_name(self.file)}:{self.line}" if self.file else self.name


class BranchState:
    """What one task of a workflow has of its own: names for its steps, and random numbers."""

    __slots__ = ("branch", "dice", "sleeps_until")

    def __init__(self, path: str) -> None:
        self.branch = Branch(path)
        self.dice: random.Random | None = None
        self.sleeps_until: float | None = None
        """Unix seconds of the run's time, while it is in `ctx.sleep`. To be shown."""
