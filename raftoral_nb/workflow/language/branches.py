"""Parallel branches: gather, map, race and task groups. A branch is a task with a path, and so step ids, of its own.

Paths come from a branch's place in the call, never from timing. What timing decides (who won a race, which branch failed first) follows
from the order of the run's records, which is the same on every node.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast, overload

from ...core.step_ids import path_of, position_of
from ...errors import BadArgumentError, ClusterError, ExecutionDropped, WorkflowDefinitionError
from ...threads.loop_thread import unstarted
from ..execution.execution import Execution
from ..loop.run_loop import RunTask
from .endings import raise_together
from .forms import Branch as BranchFunction
from .forms import as_branch, name_of
from .identity import ContextIdentity

T = TypeVar("T")


class _Branches:
    """Branches that run in parallel, at most `limit` at the same time, and that one task waits for."""

    def __init__(
        self, execution: Execution, position: str, calls: Iterable[tuple[str, Callable[[], Awaitable[Any]]]]
    ) -> None:
        self._execution = execution
        self._position = position
        self._calls: Iterator[tuple[str, Callable[[], Awaitable[Any]]]] = iter(calls)
        self._done = execution.loop.create_future()
        self._stopped = False
        self._begun = 0
        # Invariant: begun, and not ended. A dict for its order.
        self._running: dict[int, RunTask] = {}
        self.results: dict[int, Any] = {}
        # Invariant: by index, in the order in which they ended.
        self.errors: dict[int, BaseException] = {}
        self.first: int | None = None
        """The branch that ended first of its own accord."""
        self.decides = False
        """Whether the first branch that ends cancels all others."""

    def begin(self, limit: int | None) -> None:
        """Begin the branches, up to the limit."""
        while (limit is None or len(self._running) < limit) and self._begin_next():
            pass
        self._look()

    def _begin_next(self) -> bool:
        if self._stopped or (call := next(self._calls, None)) is None:
            return False
        name, fn = call
        index, self._begun = self._begun, self._begun + 1
        loop = self._execution.loop
        self._running[index] = loop.create_branch(self._run(index, fn), path=path_of(self._position, index), name=name)
        return True

    async def _run(self, index: int, fn: Callable[[], Awaitable[Any]]) -> None:
        try:
            self.results[index] = await fn()
        except (GeneratorExit, ExecutionDropped):
            raise
        except BaseException as error:
            self.errors[index] = error
        self._end(index)

    def _end(self, index: int) -> None:
        """Note that a branch has ended; in its own task, before any other gets to run."""
        self._running.pop(index, None)
        if self.first is None and not isinstance(self.errors.get(index), asyncio.CancelledError):
            self.first = index
            if self.decides:
                self.cancel()
        self._begin_next()
        self._look()

    def _look(self) -> None:
        if not self._running and not self._done.done():
            self._done.set_result(None)

    def cancel(self) -> None:
        """Cancel all branches that run, and begin no others."""
        self._stopped = True
        for index, task in tuple(self._running.items()):
            task.cancel()
            if unstarted(task):  # it will never run, and so not note its own end
                self._running.pop(index)
                self.errors[index] = asyncio.CancelledError()
        self._look()

    async def wait(self) -> asyncio.CancelledError | None:
        """Wait for all of them. If this task is cancelled meanwhile, they are, and are waited for; return the cancellation."""
        cancelled: asyncio.CancelledError | None = None
        while not self._done.done():
            try:
                await asyncio.shield(self._done)
            except asyncio.CancelledError as error:
                if cancelled is None or not _is_again(error, cancelled):
                    self.cancel()
                cancelled = error
        return cancelled


def _is_again(error: asyncio.CancelledError, before: asyncio.CancelledError) -> bool:
    """Return whether anyio only says again, as it does in each cycle, what it said before: that a scope was cancelled."""
    return bool(error.args) and error.args == before.args


def _branches(ctx: ContextIdentity, what: str, given: Sequence[object]) -> list[BranchFunction]:
    try:
        return [as_branch(what, ctx._execution, one, 0) for one in given]
    except WorkflowDefinitionError:
        for one in given:
            if inspect.iscoroutine(one):
                one.close()  # or Python would complain of each of them
        raise


def _position(ctx: ContextIdentity, what: str) -> str:
    """Take the next ordinal for a parallel operation, and return its position."""
    return position_of(ctx._execution.next_id(what, what))


def _calls(
    ctx: ContextIdentity, given: Sequence[object], branches: Sequence[BranchFunction]
) -> Iterator[tuple[str, Callable[[], Awaitable[Any]]]]:
    for fn, branch in zip(given, branches, strict=True):
        yield name_of(fn), partial(branch, ctx)


async def gather(ctx: ContextIdentity, given: Sequence[object]) -> list[Any]:
    """See `WorkflowContext.gather`."""
    branches = _branches(ctx, "ctx.gather", given)
    running = _Branches(ctx._execution, _position(ctx, "gather"), _calls(ctx, given, branches))
    running.begin(None)
    return await _all(running, "branches of ctx.gather failed")


async def map_(
    ctx: ContextIdentity,
    fn: object,
    items: Iterable[object],
    limit: int | None,
) -> list[Any]:
    """See `WorkflowContext.map`."""
    if limit is not None and (type(limit) is not int or limit < 1):
        raise BadArgumentError(f"the limit of ctx.map is a whole number from 1 on, or None for no limit; not {limit!r}")
    branch = as_branch("ctx.map", ctx._execution, fn, 1)
    position, name = _position(ctx, "map"), name_of(fn)
    calls = [(name, partial(branch, ctx, item)) for item in items]
    running = _Branches(ctx._execution, position, calls)
    running.begin(limit)
    return await _all(running, "branches of ctx.map failed")


async def _all(running: _Branches, message: str) -> list[Any]:
    cancelled = await running.wait()
    raise_together(message, [running.errors[index] for index in sorted(running.errors)])
    if cancelled is not None:
        raise cancelled
    return [running.results[index] for index in sorted(running.results)]


# --- the first one decides


async def race(ctx: ContextIdentity, given: Sequence[object]) -> Any:
    """See `WorkflowContext.race`."""
    if not given:
        raise BadArgumentError("ctx.race takes at least one branch: without any, nobody can win")
    branches = _branches(ctx, "ctx.race", given)
    running = _Branches(ctx._execution, _position(ctx, "race"), _calls(ctx, given, branches))
    # At once, in the very step in which the first one ends: one that has not run by then can do nothing more, not even take a message.
    running.decides = True
    running.begin(None)
    cancelled = await running.wait()
    won = running.first
    errors = running.errors
    # A loser's failure is ignored, unless its cleanup failed: nothing else reports that.
    failed = [errors[index] for index in sorted(errors) if not isinstance(errors[index], asyncio.CancelledError)]
    if won is not None and failed == [errors.get(won)]:
        raise failed[0]
    raise_together("branches of ctx.race failed", failed)
    if cancelled is not None:
        raise cancelled
    if won is None:
        raise asyncio.CancelledError("all branches of ctx.race were cancelled")
    return running.results[won]


# --- task groups


class BranchTask(Generic[T]):
    """A branch that was started in a task group."""

    def __init__(self, task: asyncio.Task[T]) -> None:
        self._task = task

    @property
    def result(self) -> T:
        """The result of the branch.

        To be read after the group's block; raises `ClusterError` before, and if it failed.
        """
        task = self._task
        if not task.done() or task.cancelled() or task.exception() is not None:
            raise ClusterError(
                "this branch has no result (yet): read it after the block of its task group, which raises if a branch failed"
            )
        return task.result()


class TaskGroup:
    """See `WorkflowContext.task_group`. An `asyncio.TaskGroup` whose tasks have paths and names of ours."""

    def __init__(self, ctx: ContextIdentity) -> None:
        self._ctx = ctx
        self._open = False
        self._started = 0

    @overload
    def start(self, branch: Callable[..., Awaitable[T]], *args: Any) -> BranchTask[T]: ...
    @overload
    def start(self, branch: Callable[..., T], *args: Any) -> BranchTask[T]: ...
    def start(self, branch: Callable[..., Any], *args: Any) -> BranchTask[Any]:
        """Start `branch(ctx, *args)` in a task of its own, or a function of `args` alone as a step (see `ctx.map`).

        Its result is there after the block.

        To be called while the group is open, in any of the run's tasks; raises `WrongTaskError` elsewhere and `ClusterError` after
        the block has ended.
        """
        ctx = self._ctx
        ctx._execution.here("task_group.start")
        if not self._open:
            raise ClusterError(
                "this task group is not open: start branches inside `async with ctx.task_group() as group:`"
            )
        run = as_branch("group.start", ctx._execution, branch, len(args))
        path = path_of(self._at, self._started)
        self._started += 1

        async def started() -> Any:
            return await run(ctx, *args)

        with ctx._execution.loop.naming(path):
            return BranchTask(self._tasks.create_task(started(), name=name_of(branch)))

    async def __aenter__(self) -> Self:
        self._at = _position(self._ctx, "group")
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        try:
            return cast("bool | None", await self._tasks.__aexit__(kind, error, traceback))
        except BaseExceptionGroup as group:
            raise_together("branches of ctx.task_group failed", group.exceptions)
            raise
        finally:
            self._open = False
