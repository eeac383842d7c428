"""Parallel branches: gather, map, race and task groups. A branch has a context of its own, and step ids of its own.

Step ids come from a branch's place in the call, never from timing, and what timing decides (who won a race, that a task group
failed) is recorded, so that every node goes the same way.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast, overload

import anyio

from ...core.records import Step, StepId
from ...core.replay import Branch
from ...errors import BadArgumentError, ClusterError, InternalError, WorkflowDefinitionError
from ..execution.branch_state import BranchState, Scope, check_task
from ..execution.products import Product
from ..execution.running_step import CONTEXT
from ..execution.scopes import inherited, raise_together, without
from .forms import Branch as BranchFunction
from .forms import as_branch
from .identity import ContextIdentity
from .unawaited import hand_up

T = TypeVar("T")


class _Line:
    """One branch while it runs, and what came of it."""

    def __init__(self, parent: ContextIdentity, branch: Branch, scopes: tuple[Scope, ...]) -> None:
        self._parent = parent
        self._branch = branch
        self._scopes = scopes
        self.state: BranchState | None = None
        self.result: Any = None
        self.error: BaseException | None = None
        self.ended = False

    async def run(self, fn: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """Run `fn(ctx, *args)` in this task."""
        ctx = self._parent._child(self._branch, self._scopes)
        self.state = ctx._state
        token = CONTEXT.set(ctx)
        running = ctx._execution.branches
        try:
            running[self._branch.path] = awaited = fn(ctx, *args)
            self.result = await awaited
        except BaseException as error:
            # What ends the task itself (the node stops, the execution diverged) is no outcome of the branch.
            if not self._parent._execution.is_outcome(error):
                raise
            self.error = error
        finally:
            running.pop(self._branch.path, None)
            CONTEXT.reset(token)
            hand_up(ctx._state, self._parent._state)
        self.ended = True


def _join(state: BranchState, lines: Iterable[_Line]) -> None:
    """Mark the branch's interruption as one of its parent too: its cleanup must not be interrupted by it again."""
    for line in lines:
        if line.state is not None:
            state.delivered.update(line.state.delivered.intersection(state.scopes))


def _begin(ctx: ContextIdentity, what: str) -> tuple[StepId, str]:
    """Take the next ordinal for a parallel operation: its step id and its position."""
    step_id = ctx._execution.next_id(ctx._state, what, what)
    return step_id, step_id.partition("/")[0]


def _branches(ctx: ContextIdentity, what: str, given: Sequence[object]) -> list[BranchFunction]:
    try:
        return [as_branch(what, ctx._state, one, 0) for one in given]
    except WorkflowDefinitionError:
        for one in given:
            if inspect.iscoroutine(one):
                one.close()  # or Python would complain of each of them
        raise


async def gather(ctx: ContextIdentity, given: Sequence[object]) -> list[Any]:
    """See `WorkflowContext.gather`."""
    branches = _branches(ctx, "ctx.gather", given)
    _begin(ctx, "gather")
    scopes = inherited(ctx._state)
    lines = [_Line(ctx, ctx._state.branch.child(index), scopes) for index in range(len(branches))]
    async with anyio.create_task_group() as tasks:
        for line, branch in zip(lines, branches, strict=True):
            tasks.start_soon(line.run, branch)
    return _results(ctx, "branches of ctx.gather failed", lines)


async def map_(
    ctx: ContextIdentity,
    fn: object,
    items: Iterable[object],
    limit: int | None,
) -> list[Any]:
    """See `WorkflowContext.map`."""
    if limit is not None and (type(limit) is not int or limit < 1):
        raise BadArgumentError(f"the limit of ctx.map is a whole number from 1 on, or None for no limit; not {limit!r}")
    branch = as_branch("ctx.map", ctx._state, fn, 1)
    _begin(ctx, "map")
    given = list(items)
    scopes = inherited(ctx._state)
    lines = [_Line(ctx, ctx._state.branch.child(index), scopes) for index in range(len(given))]
    # In the order of the items, so that the branches that have begun are the first ones, on every node: whichever of them
    # the acting node is in, the others get there.
    waiting = iter(zip(lines, given, strict=True))

    async def work() -> None:
        for line, item in waiting:
            await line.run(branch, item)

    async with anyio.create_task_group() as tasks:
        for _ in range(len(given) if limit is None else min(limit, len(given))):
            tasks.start_soon(work)
    return _results(ctx, "branches of ctx.map failed", lines)


def _results(ctx: ContextIdentity, message: str, lines: list[_Line]) -> list[Any]:
    _join(ctx._state, lines)
    raise_together(message, [line.error for line in lines if line.error is not None])
    return [line.result for line in lines]


# --- the first one decides


async def race(ctx: ContextIdentity, given: Sequence[object]) -> Any:
    """See `WorkflowContext.race`."""
    if not given:
        raise BadArgumentError("ctx.race takes at least one branch: without any, nobody can win")
    branches = _branches(ctx, "ctx.race", given)
    execution, state = ctx._execution, ctx._state
    step_id, position = _begin(ctx, "race")
    outer = inherited(state)
    winners: dict[bytes | None, int] = {}

    def winner(step: Step) -> int:
        if step.value not in winners:
            winners[step.value] = execution.decode(step)
        return winners[step.value]

    def scope(index: int) -> Scope:
        return Scope(position, "another branch won the race", outer, lambda step: winner(step) == index)

    scopes = [scope(index) for index in range(len(branches))]
    lines = [_Line(ctx, state.branch.child(index), (*outer, own)) for index, own in enumerate(scopes)]
    first: list[int] = []
    ended = anyio.Event()

    async def run(index: int) -> None:
        await lines[index].run(branches[index])
        # Only what ended of its own accord can win.
        error = lines[index].error
        if error is None or without(error, None)[1] is not None:
            first.append(index)
            ended.set()

    async def produce(step_id: StepId) -> Product:
        await ended.wait()
        return execution.product(step_id, first[0])

    decided: Step | None = None
    stopped: BaseException | None = None
    async with anyio.create_task_group() as tasks:
        for index in range(len(branches)):
            tasks.start_soon(run, index)
        try:
            decided = await execution.at(state, step_id, "race", produce)
        except BaseException as error:
            if not execution.is_outcome(error):
                raise
            stopped = error  # an outer scope ended: the branches are interrupted by the same, and clean up
    _join(state, lines)
    found = [] if stopped is None else [stopped]
    won = None if decided is None else winner(decided)
    for index, line in enumerate(lines):
        if line.error is None:
            continue
        left = without(line.error, scopes[index])[1]
        # A loser's failure is ignored, unless its cleanup failed: nothing else reports that.
        if left is not None and (won in (None, index) or _was_interrupted(line, scopes[index])):
            found.append(left)
    if won is not None and len(found) == 1 and lines[won].error is found[0]:
        raise found[0]
    raise_together("branches of ctx.race failed", found)
    if won is None:
        raise InternalError("a race ended without a winner")
    return lines[won].result


def _was_interrupted(line: _Line, scope: Scope) -> bool:
    """Return whether the branch had lost before it ended."""
    return line.state is not None and scope in line.state.delivered


# --- task groups


class BranchTask(Generic[T]):
    """A branch that was started in a task group."""

    def __init__(self, line: _Line) -> None:
        self._line = line

    @property
    def result(self) -> T:
        """The result of the branch.

        To be read after the group's block; raises `ClusterError` before, and if it failed.
        """
        if not self._line.ended or self._line.error is not None:
            raise ClusterError(
                "this branch has no result (yet): read it after the block of its task group, which raises if a branch failed"
            )
        return cast("T", self._line.result)


class TaskGroup:
    """See `WorkflowContext.task_group`."""

    def __init__(self, ctx: ContextIdentity) -> None:
        self._ctx = ctx
        self._lines: list[_Line] = []
        self._open = False
        self._failed = False

    @overload
    def start(self, branch: Callable[..., Awaitable[T]], *args: Any) -> BranchTask[T]: ...
    @overload
    def start(self, branch: Callable[..., T], *args: Any) -> BranchTask[T]: ...
    def start(self, branch: Callable[..., Any], *args: Any) -> BranchTask[Any]:
        """Start `branch(ctx, *args)` with a context of its own, or a function of `args` alone as a step (see `ctx.map`).

        Its result is there after the block.

        To be called in the block of the group, by the branch that opened it; raises `WrongTaskError` elsewhere and
        `ClusterError` after the block has ended.
        """
        state = self._ctx._state
        check_task(state, "task_group.start")
        if not self._open:
            raise ClusterError(
                "this task group is not open: start branches inside `async with ctx.task_group() as group:`"
            )
        run = as_branch("group.start", state, branch, len(args))
        line = _Line(self._ctx, Branch(f"{self._position}.{len(self._lines)}."), self._scopes)
        self._lines.append(line)
        self._tasks.start_soon(self._run, line, run, *args)
        return BranchTask(line)

    async def _run(self, line: _Line, branch: Callable[..., Awaitable[Any]], *args: Any) -> None:
        await line.run(branch, *args)
        if line.error is not None and without(line.error, None)[1] is not None:
            self._fail()

    def _fail(self) -> None:
        """Have it decided that this group has failed: every node finds the same failure, and asks for the same record."""
        if not self._failed:
            self._failed = True
            self._tasks.start_soon(self._decide)

    async def _decide(self) -> None:
        execution = self._ctx._execution
        state = BranchState(Branch(f"{self._position}."), self._scope.outer)

        async def produce(step_id: StepId) -> Product:
            return execution.product(step_id, None)

        try:
            await execution.at(state, self._step_id, "group", produce)
        except BaseException as error:
            if not execution.is_outcome(error):
                raise
            # Interrupted by an outer scope, and so are the branches.

    async def __aenter__(self) -> Self:
        self._step_id, self._position = _begin(self._ctx, "group")
        state = self._ctx._state
        outer = inherited(state)
        self._scope = Scope(self._position, "another branch of the task group failed", outer)
        self._scopes = (*outer, self._scope)
        if not state.shielded:
            state.scopes.append(self._scope)
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        state = self._ctx._state
        if error is not None and not self._ctx._execution.is_outcome(error):
            return await self._tasks.__aexit__(kind, error, traceback)
        if error is not None and without(error, None)[1] is not None:
            self._fail()
        self._open = False
        await self._tasks.__aexit__(None, None, None)
        _join(state, self._lines)
        if self._scope in state.scopes:
            state.scopes.remove(self._scope)
        ends = [error, *(line.error for line in self._lines)]
        left = [without(one, self._scope)[1] for one in ends if one is not None]
        raise_together("branches of ctx.task_group failed", [one for one in left if one is not None])
        return True
