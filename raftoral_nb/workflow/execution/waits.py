"""What an execution waits for, branch by branch: for people to look at. From any thread.

Whoever looks from another thread may see a turn half done: each answer was true at some moment, though not all of them at the same.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol

from ...core.statistics import MAX_WAITS_TOLD, BranchWait, ExecutionStatistics, ExecutionStatus, record_mark
from ...threads.user_code import awaiting_frames

if TYPE_CHECKING:
    from ...core.records import Record, StepId
    from ..loop.run_loop import RunLoop, RunTask
    from .acting import OpenStep
    from .child_ends import ChildEnds
    from .mailbox import Mailbox
    from .running_step import RunningSteps

MAX_LOOKED_AT: Final = 256
"""Timers, steps and children that are looked through for what a branch waits for: a look is cheap, however many there are."""

# Functions that wait for tasks by a future of their own.
_WAIT_FOR_TASKS: Final = frozenset({"_Branches.wait", "TaskGroup.__aexit__", "_wait", "wait_for", "shield"})


class Waiting(Protocol):
    """The part of an `Execution` that says what it waits for."""

    loop: RunLoop
    mailbox: Mailbox
    children: ChildEnds
    had: int

    @property
    def at_rest(self) -> bool:
        """Whether its code has begun, and does not run now."""
        ...

    @property
    def asks(self) -> Mapping[StepId, OpenStep]:
        """What it asked for and has not had, in the order of asking."""
        ...


class ShownExecution(Waiting, Protocol):
    """The part of an `Execution` that its statistics tell of."""

    status: ExecutionStatus
    reason: str
    steps_had: int
    last_step_id: StepId | None
    turn: Record | None
    steps_here: RunningSteps
    held_values: dict[StepId, str]
    """Why values of it are not recorded now."""

    @property
    def queue_length(self) -> int:
        """The length of the catch-up queue (records)."""
        ...

    @property
    def stuck(self) -> bool:
        """True if nothing but a request to cancel can wake it."""
        ...


class Waits:
    """What an execution's branches wait for. It is looked for once in a turn: between two of them nothing of it changes."""

    def __init__(self) -> None:
        # Invariant: found at rest, after that many records. One object, replaced as a whole.
        self._seen: tuple[int, tuple[tuple[BranchWait, ...], int]] | None = None

    def statistics(self, execution: ShownExecution, *, whole: bool) -> ExecutionStatistics:
        """Return the progress of an execution; the `whole` of it with what its branches wait for. From any thread."""
        running, turn = execution.status == "running", execution.turn
        found, more = self.of(execution) if whole and running else ((), 0)
        return ExecutionStatistics(
            status=execution.status,
            problem=execution.reason or None,
            step=execution.steps_had,
            last_step_id=execution.last_step_id,
            catch_up_queue=execution.queue_length,
            effects_run=execution.steps_here.begun,
            activities=execution.steps_here.activities(),
            had=execution.had,
            turn=None if turn is None else record_mark(turn),
            waits=found,
            more_waits=more,
            stuck=execution.stuck,
            held_value=next(iter(tuple(execution.held_values.values())), None),
            in_turn=running and not execution.at_rest,
        )

    def of(self, execution: Waiting) -> tuple[tuple[BranchWait, ...], int]:
        """Return what the first branches wait for, and how many branches there are besides. From any thread."""
        rests, had, seen = execution.at_rest, execution.had, self._seen
        if rests and seen is not None and seen[0] == had:
            return seen[1]
        found = _look(execution)
        if rests and execution.at_rest and execution.had == had:
            self._seen = (had, found)
        return found


def _look(execution: Waiting) -> tuple[tuple[BranchWait, ...], int]:
    loop = execution.loop
    tasks = loop.some_tasks(MAX_WAITS_TOLD)
    if not tasks:
        return (), 0
    reasons = _Reasons(execution)
    return tuple(reasons.of(task) for task in tasks), max(0, loop.task_count - len(tasks))


def in_words(execution: Waiting) -> str:
    """Return the first few things that an execution waits for, as text."""
    found = [f"{ask.operation} {ask.step_id!r}" for ask in execution.asks.values()]
    found += [f"{getter.kind} {' or '.join(map(repr, getter.names))}" for getter in execution.mailbox.getters]
    found += [f"the end of the child {run_id!r}" for run_id in execution.children.by_id]
    found += [] if execution.loop.next_due is None else ["a time to come"]
    return ", ".join(found[:5]) or "nothing"


def can_be_woken(execution: Waiting) -> bool:
    """Return whether a step, a message, the end of a child or a time is waited for. From any thread."""
    if execution.asks or execution.children.by_id or execution.loop.has_timers:
        return True
    mailbox = execution.mailbox
    return bool(mailbox.getters or (mailbox.handlers.open and mailbox.handlers.by_name))


class _Reasons:
    """What each future of an execution stands for, and each task's time limit."""

    def __init__(self, execution: Waiting) -> None:
        self._reasons: dict[object, tuple[Any, str, str]] = {}
        self._ends: dict[object, float] = {}
        self._limits: dict[object, float] = {}
        self._labels: dict[StepId, str] = {}
        for ask in tuple(islice(execution.asks.values(), MAX_LOOKED_AT)):
            if ask.place is not None:
                self._labels[ask.step_id] = ask.place.label
            self._reasons[ask.future] = reason = ("step", ask.step_id, ask.operation)
            self._reasons.update((waiter, reason) for waiter in _waiters(ask.future))
        for getter in execution.mailbox.getters[:MAX_LOOKED_AT]:
            self._reasons[getter.future] = (getter.kind, " or ".join(map(repr, getter.names)), "")
        for run_id, futures in tuple(islice(execution.children.by_id.items(), MAX_LOOKED_AT)):
            for future in tuple(futures):
                self._reasons[future] = ("child", run_id, "")
                self._reasons.update((waiter, ("child", run_id, "")) for waiter in _waiters(future))
        for timer in execution.loop.some_timers(MAX_LOOKED_AT):
            self._add_timer(timer.when(), timer._callback, tuple(timer._args))

    def _add_timer(self, due: float, callback: Any, args: tuple[Any, ...]) -> None:
        owner = getattr(callback, "__self__", None)
        # Of `asyncio.timeout`, and of a scope of anyio.
        task = getattr(owner, "_task", None) or getattr(owner, "_host_task", None)
        if task is not None:
            self._limits[task] = min(due, self._limits.get(task, due))
        elif args and isinstance(args[0], asyncio.Future):
            self._ends[args[0]] = due
            if getattr(callback, "__name__", "") != "_release_waiter":  # which is a timeout, of wait and wait_for
                self._reasons[args[0]] = ("time", "", "")

    def of(self, task: RunTask) -> BranchWait:
        """Return what a task waits for."""
        waiter: Any = getattr(task, "_fut_waiter", None)
        kind, what, operation = self._reasons.get(waiter) or (*_of_tasks(task, waiter), "")
        until = self._ends.get(waiter)
        if until is None or kind != "time":
            limit = self._limits.get(task)
            until = limit if until is None else until if limit is None else min(until, limit)
        name = task.get_name()
        shown = "" if name == task.path[:-1] or not task.path else name
        label = self._labels.get(what, "") if kind == "step" else ""
        return BranchWait(
            branch=task.path, name=shown, kind=kind, what=what, operation=operation, label=label, until=until
        )


def _waiters(future: asyncio.Future[Any]) -> list[object]:
    """Return the futures of those that wait for this one through `asyncio.wait`: its end sets theirs."""
    found: list[object] = []
    for callback, *_ in tuple(getattr(future, "_callbacks", None) or ()):
        for cell in getattr(callback, "__closure__", None) or ():
            with contextlib.suppress(ValueError):  # an empty cell
                if isinstance(cell.cell_contents, asyncio.Future):
                    found.append(cell.cell_contents)
    return found


def _of_tasks(task: RunTask, waiter: Any) -> tuple[Any, str]:
    """Return what a task waits for that no record brings about directly."""
    path = getattr(waiter, "path", None)
    if path is not None:
        return "tasks", path
    children = getattr(waiter, "_children", None)  # of asyncio.gather
    if children is not None:
        paths = [child.path for child in tuple(children) if not child.done() and hasattr(child, "path")]
        return "tasks", ", ".join(paths[:8]) + (", ..." if len(paths) > 8 else "")
    innermost = ""
    for frame in awaiting_frames(task.get_coro()):
        innermost = frame.f_code.co_qualname
        if innermost in _WAIT_FOR_TASKS:
            return "tasks", ""
    return "other", innermost
