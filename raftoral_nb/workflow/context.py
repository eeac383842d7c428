"""What a workflow gets as `ctx`: the operations whose results are replicated."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

import anyio

from ..errors import WorkflowDefinitionError
from ..model import NodeId, RunId
from ..replay import Branch
from .execution import BranchState, Execution, Product, check_task

if TYPE_CHECKING:
    from ..model import StepId
    from .variables import ReplicatedVar

P = ParamSpec("P")
T = TypeVar("T")


class WorkflowContext:
    """The first argument of every workflow, one per node, run and branch.

    Every operation is a step: its result is recorded once by the acting node and replicated, and the other nodes, or a new
    leader, take the record instead of doing it again. Operations must be awaited one after another, in the workflow's own
    task; anything else raises `WrongTaskError`. A step's key names it in logs and views and must be a non-empty string.
    """

    def __init__(self, execution: Execution, node: NodeId, branch: Branch | None = None) -> None:
        self._execution = execution
        self._node = node
        self._state = BranchState(branch if branch is not None else Branch())

    @property
    def run_id(self) -> RunId:
        """Which run this is; the same on every node."""
        return self._execution.run_id

    @property
    def workflow(self) -> str:
        """The workflow's registered name."""
        return self._execution.definition.workflow

    @property
    def version(self) -> int:
        """The version this run started with, and keeps."""
        return self._execution.definition.version

    @property
    def node(self) -> NodeId:
        """The node that executes this. It differs from node to node: for display only, never to decide anything."""
        return self._node

    def idempotency_key(self, key: str) -> str:
        """`run_id/step_id` of the next step, if it gets `key`: the same however often that step's function runs.

        Give it to the service that a step calls, so that a repeated call is recognized. Records nothing.
        """
        return f"{self.run_id}/{self._state.branch.peek_id(key)}"

    @overload
    async def compute(self, key: str, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    async def compute(self, key: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    async def compute(self, key: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run `fn(*args, **kwargs)` on the acting node and record what it returns or raises.

        An async `fn` runs on the node's loop, a synchronous one on a worker thread. The result must survive pickling and is
        at most `MAX_VALUE_BYTES`; what is returned is the decoded record, on the acting node too. What `fn` raises is
        raised here, on every node. Does *not* promise that `fn` runs once: if the leader dies or is deposed before the
        record is committed, the next one runs it again. `ValueNotShippableError` if the result does not pickle.
        """
        given: object = fn  # a notebook's code is not type-checked
        if not callable(given):
            if inspect.iscoroutine(given):
                given.close()
            raise WorkflowDefinitionError(
                f"ctx.compute({key!r}, ...) takes a function and its arguments, got {type(given).__name__}: write "
                f"`await ctx.compute({key!r}, fn, argument)`, without calling fn yourself"
            )

        async def produce(step_id: StepId) -> Product:
            return await self._execution.call(step_id, fn, args, kwargs)

        step = await self._execution.step(self._state, key, "compute", produce)
        return self._execution.decode(step)

    async def var(self, key: str, value: T) -> ReplicatedVar[T]:
        """Make a replicated variable that starts with `value` (recorded as a step)."""
        from .variables import ReplicatedVar

        return await ReplicatedVar.with_value(key, self, value)

    async def create_replicated_var(self, key: str, value: T) -> ReplicatedVar[T]:
        """The same as `var`, under the original's name."""
        return await self.var(key, value)

    async def gather(self, *branches: Callable[[WorkflowContext], Awaitable[T]]) -> list[T]:
        """Run `branch(ctx)` for every branch in parallel, each with a context of its own; results in the order given.

        Step ids depend on a branch's place in the call, not on timing. If a branch raises, the others still run to their
        ends (cancelled, they would be at another step on each node); then the exceptions are raised as an ExceptionGroup.
        """
        check_task(self._state, "gather")
        parent = self._state.branch
        parent.next_id("gather")  # takes an ordinal, records nothing
        paths = [parent.child(index) for index in range(len(branches))]
        results: list[Any] = [None] * len(branches)
        errors: dict[int, BaseException] = {}

        async def run(index: int, branch: Callable[[WorkflowContext], Awaitable[T]]) -> None:
            try:
                results[index] = await branch(WorkflowContext(self._execution, self._node, paths[index]))
            except BaseException as error:
                if not self._execution.is_outcome(error):
                    raise
                errors[index] = error

        async with anyio.create_task_group() as group:
            for index, branch in enumerate(branches):
                group.start_soon(run, index, branch)
        if errors:
            raise BaseExceptionGroup("branches of ctx.gather failed", [errors[index] for index in sorted(errors)])
        return cast("list[T]", results)
