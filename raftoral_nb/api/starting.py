"""The methods of a cluster that start runs, with what they take and give for type checkers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar, overload

from ..hosts.backend_parts import RunsBackend
from ..workflow.language.context import WorkflowContext
from ..workflow.shipping.definitions import Workflow
from .access import ClusterAccess
from .registry import Registry
from .run import WorkflowRun
from .starts import StartAsked, Starter

I = TypeVar("I")  # noqa: E741 - input and output are I and O everywhere
O = TypeVar("O")  # noqa: E741


class StartsRuns:
    """The part of `Cluster` that starts runs. A method that ends in `_async` does the same as that without, and is awaited.

    It may be awaited on any event loop but the cluster's own, under asyncio and trio, and never blocks it.
    """

    _access: ClusterAccess[RunsBackend]

    def _starts(self, registry: Registry) -> None:
        self._starter = Starter(self._access.host, registry)

    @overload
    def start_workflow(
        self, workflow: Workflow[I, O], input: I, /, *, version: int | None = None, run_id: str | None = None
    ) -> WorkflowRun[O]: ...
    @overload
    def start_workflow(
        self, workflow: str, version: int, input: Any, /, *, run_id: str | None = None
    ) -> WorkflowRun[Any]: ...
    @overload
    def start_workflow(
        self, workflow: str, input: Any = None, /, *, version: int | None = None, run_id: str | None = None
    ) -> WorkflowRun[Any]: ...
    @overload
    def start_workflow(
        self,
        workflow: Callable[[WorkflowContext, I], Awaitable[O]],
        input: I,
        /,
        *,
        version: int | None = None,
        run_id: str | None = None,
    ) -> WorkflowRun[O]: ...
    @overload
    def start_workflow(
        self,
        workflow: Callable[[WorkflowContext, None], Awaitable[O]],
        /,
        *,
        version: int | None = None,
        run_id: str | None = None,
    ) -> WorkflowRun[O]: ...
    def start_workflow(
        self, workflow: Any, *args: Any, version: int | None = None, run_id: str | None = None, **named: Any
    ) -> WorkflowRun[Any]:
        """Start a run and return its handle as soon as a majority has recorded it.

        `workflow` is a registered name, a `Workflow` or a function (registered first if need be); then the input, or version
        and input. With a `run_id`, starting the same run again returns it. Raises `WorkflowNotFoundError`, `InputTypeError`,
        `ValueNotShippableError`, `RunConflictError` and `NotAcknowledgedError`.
        """
        self._access.check_running()
        return self._starter.start(StartAsked.given(workflow, args, named, version=version, run_id=run_id))

    @overload
    async def start_workflow_async(
        self, workflow: Workflow[I, O], input: I, /, *, version: int | None = None, run_id: str | None = None
    ) -> WorkflowRun[O]: ...
    @overload
    async def start_workflow_async(
        self, workflow: str, version: int, input: Any, /, *, run_id: str | None = None
    ) -> WorkflowRun[Any]: ...
    @overload
    async def start_workflow_async(
        self, workflow: str, input: Any = None, /, *, version: int | None = None, run_id: str | None = None
    ) -> WorkflowRun[Any]: ...
    @overload
    async def start_workflow_async(
        self,
        workflow: Callable[[WorkflowContext, I], Awaitable[O]],
        input: I,
        /,
        *,
        version: int | None = None,
        run_id: str | None = None,
    ) -> WorkflowRun[O]: ...
    @overload
    async def start_workflow_async(
        self,
        workflow: Callable[[WorkflowContext, None], Awaitable[O]],
        /,
        *,
        version: int | None = None,
        run_id: str | None = None,
    ) -> WorkflowRun[O]: ...
    async def start_workflow_async(
        self, workflow: Any, *args: Any, version: int | None = None, run_id: str | None = None, **named: Any
    ) -> WorkflowRun[Any]:
        """Do as `start_workflow`, and let the caller's loop run meanwhile: `run = await cluster.start_workflow_async(order, "tea")`.

        Starts that are awaited at the same time are recorded together. Raises the same, and `BlockingCallError` on one of the
        cluster's own threads. One that is cancelled while it waits may have been started; with a `run_id` it can be asked for again.
        """
        self._access.check_running()
        return await self._starter.start_async(StartAsked.given(workflow, args, named, version=version, run_id=run_id))

    @overload
    def start_many(
        self,
        workflow: Workflow[I, O],
        inputs: Iterable[I],
        /,
        *,
        version: int | None = None,
        run_ids: Iterable[str] | None = None,
    ) -> tuple[WorkflowRun[O], ...]: ...
    @overload
    def start_many(
        self,
        workflow: str,
        inputs: Iterable[Any],
        /,
        *,
        version: int | None = None,
        run_ids: Iterable[str] | None = None,
    ) -> tuple[WorkflowRun[Any], ...]: ...
    @overload
    def start_many(
        self,
        workflow: Callable[[WorkflowContext, I], Awaitable[O]],
        inputs: Iterable[I],
        /,
        *,
        version: int | None = None,
        run_ids: Iterable[str] | None = None,
    ) -> tuple[WorkflowRun[O], ...]: ...
    def start_many(
        self,
        workflow: Any,
        inputs: Iterable[Any],
        /,
        *,
        version: int | None = None,
        run_ids: Iterable[str] | None = None,
    ) -> tuple[WorkflowRun[Any], ...]:
        """Start a run for each input, together, and return their handles in that order: `cluster.start_many(order, ["tea", "coffee"])`.

        Takes hardly longer than one start. Each is as `start_workflow` would start it, with the `run_ids` at the same positions, if
        there are any; a hundred thousand inputs are in memory all at once. If some cannot be started the others are, and
        `NotAllStartedError` has both: handles in `runs`, reasons in `refusals`. Raises `WorkflowNotFoundError` and `BadArgumentError`, and
        starts nothing, for what all have in common. An interrupt ends the wait; starts that are on their way go on.

        >>> from raftoral_nb.testing import workflow_test
        >>> async def order(ctx, item):
        ...     return await ctx.compute("make", str.upper, item)
        >>> with workflow_test() as test:
        ...     runs = test.cluster.start_many(order, ["tea", "coffee"])
        ...     [run.run_id for run in runs], [run.wait_for_completion() for run in runs]
        (['order-1', 'order-2'], ['TEA', 'COFFEE'])
        """
        self._access.check_running()
        return self._starter.start_many(workflow, inputs, version, run_ids)

    @overload
    async def start_many_async(
        self,
        workflow: Workflow[I, O],
        inputs: Iterable[I],
        /,
        *,
        version: int | None = None,
        run_ids: Iterable[str] | None = None,
    ) -> tuple[WorkflowRun[O], ...]: ...
    @overload
    async def start_many_async(
        self,
        workflow: str,
        inputs: Iterable[Any],
        /,
        *,
        version: int | None = None,
        run_ids: Iterable[str] | None = None,
    ) -> tuple[WorkflowRun[Any], ...]: ...
    @overload
    async def start_many_async(
        self,
        workflow: Callable[[WorkflowContext, I], Awaitable[O]],
        inputs: Iterable[I],
        /,
        *,
        version: int | None = None,
        run_ids: Iterable[str] | None = None,
    ) -> tuple[WorkflowRun[O], ...]: ...
    async def start_many_async(
        self,
        workflow: Any,
        inputs: Iterable[Any],
        /,
        *,
        version: int | None = None,
        run_ids: Iterable[str] | None = None,
    ) -> tuple[WorkflowRun[Any], ...]:
        """Do as `start_many`, and let the caller's loop run meanwhile. `inputs` is read on another thread.

        Raises the same, and `BlockingCallError` on one of the cluster's own threads. When it is cancelled some may have been started.
        """
        self._access.check_running()
        return await self._starter.start_many_async(workflow, inputs, version, run_ids)
