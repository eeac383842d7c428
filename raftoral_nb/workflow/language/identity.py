"""The identity of a context: which run, which workflow, which node. Part of `context`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...core.records import NodeId, RunId
    from ..execution.execution import Execution


class ContextIdentity:
    """The identity of a context, the same for all its operations.

    It names the run and the node that it belongs to. It is the same one in all tasks of the run: an operation finds out by itself
    which task it is called in.
    """

    def __init__(self, execution: Execution, node: NodeId) -> None:
        self._execution = execution
        self._node = node

    @property
    def run_id(self) -> RunId:
        """The id of this run; the same on every node.

        >>> async def name(ctx, _):
        ...     return ctx.run_id
        >>> cluster.start_workflow(name, run_id="name-7").wait_for_completion()
        'name-7'
        """
        return self._execution.run_id

    @property
    def workflow(self) -> str:
        """The workflow's registered name.

        >>> async def order(ctx, _):
        ...     return ctx.workflow
        >>> run(order)
        'order'
        """
        return self._execution.definition.workflow

    @property
    def version(self) -> int:
        """The version this run executes: the one it started with, unless it was moved since.

        >>> async def first(ctx, _):
        ...     return ctx.version
        >>> run(first)
        1
        """
        return self._execution.definition.version

    @property
    def node(self) -> NodeId:
        """The node that executes this. It differs from node to node: for display only, never to decide anything.

        >>> async def greet(ctx, name):
        ...     print("node", ctx.node, "greets", name)
        >>> run(greet, "Ada")
        >>> sorted({line.text for line in cluster.log() if "greets" in line.text})
        ['node 1 greets Ada', 'node 2 greets Ada', 'node 3 greets Ada']
        """
        return self._node

    @property
    def cancel_reason(self) -> str | None:
        """The reason that `run.cancel(reason)` gave, once that had its turn; None before. The same on every node.

        >>> import asyncio
        >>> async def polite(ctx, _):
        ...     try:
        ...         await ctx.receive("never")
        ...     except asyncio.CancelledError:
        ...         return f"ends, as {ctx.cancel_reason}"
        >>> ending = cluster.start_workflow(polite)
        >>> ending.cancel("it is late")
        >>> ending.wait_for_completion()
        'ends, as it is late'
        """
        return self._execution.cancel_reason

    def idempotency_key(self, key: str) -> str:
        """Return `run_id/step_id` of this task's next step, if it gets `key`: the same however often that step's function runs.

        Give it to the service that a step calls, so that a repeated call is recognized. Records nothing.

        >>> async def order(ctx, item):
        ...     return await ctx.compute("pay", "{1} under {0}".format, ctx.idempotency_key("pay"), item)
        >>> cluster.start_workflow(order, "tea", run_id="order-7").wait_for_completion()
        'tea under order-7/0/pay'
        """
        return f"{self.run_id}/{self._execution.here('idempotency_key').branch.peek_id(key)}"
