"""Queries to a node's own execution of a run. Runs on the node's thread, in the process of the node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ..core.records import Difference, Failure, RunId
from ..core.statistics import ExecutionStatus
from ..errors import QueryFailedError
from ..workflow.execution.products import Encoded

if TYPE_CHECKING:
    from ..workflow.execution.products import Encoded
    from .executor import Executor


async def answer(executor: Executor, run_id: RunId, name: str, args: bytes) -> Encoded:
    """Return the workflow's answer to a query, as soon as the execution has come to its `ctx.on_query`.

    The arguments are encoded. Raises `QueryFailedError`.
    """
    while True:
        execution = await executor.await_execution(run_id)
        if name in (known := execution.queries.functions):
            return executor.query(execution, name, args)
        if known or execution.status not in ("running", "continued"):
            names = ", ".join(map(repr, known)) or "none"
            raise QueryFailedError(
                f"run {run_id!r} answers no query {name!r} on node {executor.node}; it answers: {names}"
            )
        # It has hardly begun there: it is not known yet what it will answer.
        await execution.queries.changed.wait()


async def objection(executor: Executor, run_id: RunId, name: str, value: bytes) -> Failure | None:
    """Return what the validator of an update says against its encoded value; None if nothing, or if this node is not to ask it."""
    return executor.objection(run_id, name, value)


async def end(executor: Executor, run_id: RunId) -> ExecutionEnd:
    """Wait for the end of the execution of a run, and return it."""
    while True:
        execution = await executor.await_execution(run_id)
        await execution.done.wait()
        if executor.execution(run_id) in (execution, None):  # else it was moved, or began anew
            return ExecutionEnd(
                execution.status, execution.result, execution.failure, execution.reason, execution.difference
            )


class ExecutionEnd(msgspec.Struct, frozen=True):
    """The end of a node's own execution of a run."""

    status: ExecutionStatus
    result: bytes | None
    failure: Failure | None
    reason: str
    difference: Difference | None
