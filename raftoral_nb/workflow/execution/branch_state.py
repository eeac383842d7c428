"""The branches of an execution: what belongs to one task of a workflow, for as long as that runs."""

from __future__ import annotations

import threading
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ...core.step_ids import Branch
from ...errors import WrongTaskError
from ...threads import user_code
from .running_step import STEP

if TYPE_CHECKING:
    import random

    from ...core.records import RunId
    from ..loop.run_loop import RunLoop, RunTask


_get_ident: Final = threading.get_ident


class Call(NamedTuple):
    """An operation that was called, as it is named to people."""

    coroutine: CoroutineType[Any, Any, Any]
    name: str
    file: str
    line: int

    @property
    def waits(self) -> bool:
        """True if nothing has begun to await it."""
        coroutine = self.coroutine
        return not (coroutine.cr_running or coroutine.cr_suspended or coroutine.cr_frame is None)

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


def task_here(loop: RunLoop) -> RunTask | None:
    """Return the task of that loop which runs here, on this thread; None if what runs is no task of it."""
    return loop.current if _get_ident() == loop.thread else None


def branch_of(task: RunTask) -> BranchState:
    """Return the branch of a task, made when it is first asked for."""
    state = task.state
    if state is None:
        state = task.state = BranchState(task.path)
    found: BranchState = state
    return found


def outside_of_tasks(run_id: RunId, what: str) -> WrongTaskError:
    """Return the error of the operation `what`, which was called where no task of the run is."""
    running = STEP.get()
    if running is not None and running.run_id == run_id:
        return WrongTaskError(
            f"ctx: {what} was called inside the step {running.step_id!r}. A step is recorded as a whole: return its value, "
            "and call the next operation after it (a function that is itself a @step is called as what it is). Only "
            "ctx.progress(...), current_step().signal(...) and current_step().cancel(...) are for the inside of a step."
        )
    return WrongTaskError(
        f"ctx: {what} was called outside of the run's own tasks (in a thread, in a callback, in a query, or after the "
        "workflow has ended): call it in the workflow's function, or in a task that the workflow made"
    )
