"""A branch of an execution, and the one task that may use it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import anyio

from ..errors import WrongTaskError
from ..model import StepId
from ..replay import Branch

if TYPE_CHECKING:
    import random

    from .scopes import Scope
    from .unawaited import Call


class BranchState:
    """A branch of an execution and the one task that may use it."""

    def __init__(self, branch: Branch, scopes: Iterable[Scope] = ()) -> None:
        self.branch = branch
        self.task_id = anyio.get_current_task().id
        self.inside: StepId | None = None
        """The step whose function is running now."""
        self.scopes = list(scopes)
        """What may interrupt this branch, outermost first."""
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
