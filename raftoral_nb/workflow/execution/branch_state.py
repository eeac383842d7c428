"""A branch of an execution, and the one task that may use it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio

from ...core.records import Step, StepId
from ...core.replay import Branch, Replay
from ...errors import WrongTaskError
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
    """A branch of an execution and the one task that may use it."""

    def __init__(self, branch: Branch, scopes: Iterable[Scope] = ()) -> None:
        self.branch = branch
        self.task_id = anyio.get_current_task().id
        self.inside: StepId | None = None
        """The step whose function is running now."""
        self.scopes = list(scopes)
        """The scopes that may interrupt this branch, outermost first."""
        self.delivered: set[Scope] = set()
        """Those whose interruption it was given."""
        self.shielded = 0
        """Above zero while nothing interrupts it."""
        self.dice: random.Random | None = None
        self.called: list[Call] = []
        """The operations that were called and not awaited yet."""


def check_task(state: BranchState, what: str) -> None:
    """Refuse an operation from a task that is not the branch's own, or from within a step."""
    try:
        task_id = anyio.get_current_task().id
    except RuntimeError:  # on a thread without a loop
        task_id = -1
    if task_id != state.task_id:
        raise WrongTaskError(
            f"ctx: {what} was called from another task than the workflow's own (asyncio.gather, create_task, a task "
            "group). The order of such calls is not the same on every node. Await operations one after another, run "
            "branches with `await ctx.gather(branch_a, branch_b)`, or do the parallel work inside one ctx.compute step."
        )
    if state.inside is not None:
        raise WrongTaskError(
            f"ctx: {what} was called inside the step {state.inside!r}. A step is recorded as a whole: return its value, "
            "and call the next operation after it (a function that is itself a @step is called as what it is)."
        )


def _nobody(_: Step) -> bool:
    return False


class Scope:
    """One scope as one branch sees it. `position` is where its decision is recorded, if it ever is.

    `outer` are the scopes that the branch which decides is in: a decision recorded behind one of theirs is void.
    `spares` says whether a decision leaves this branch alone.
    """

    __slots__ = ("outer", "position", "reason", "spares")

    def __init__(
        self,
        position: str,
        reason: str,
        outer: tuple[Scope, ...] = (),
        spares: Callable[[Step], bool] = _nobody,
    ) -> None:
        self.position = position
        self.reason = reason
        self.outer = outer
        self.spares = spares

    def interrupts_from(self, replay: Replay) -> int | None:
        """Return the place in the run's records of the decision that ends this scope; None if there is none (yet)."""
        found = replay.recorded_at(self.position)
        if found is None or found[1].cancelled or self.spares(found[1]):
            return None  # a decision that the run's cancellation came before decides nothing
        for scope in self.outer:
            before = scope.interrupts_from(replay)
            if before is not None and before < found[0]:
                return None
        return found[0]
