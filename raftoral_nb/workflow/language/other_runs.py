"""What a workflow tells other runs, as recorded steps: signals, and requests to end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...core.step_ids import check_key
from ...errors import ExecutionDropped
from ..execution import telling
from ..execution.execution import Execution
from ..execution.products import Made, Product, Told

if TYPE_CHECKING:
    from ...core.records import Operation, RunId, StepId


async def signal(execution: Execution, target: object, name: str, value: Any) -> None:
    """See `WorkflowContext.signal`."""
    run_id = telling.checked_run_id(target)
    check_key(name)

    def produce(step_id: StepId) -> Product:
        data, failure = execution.product(step_id, value)
        if data is None:
            return None, failure
        sent_as = telling.signal_id(execution.run_id, execution.generation, step_id)
        return Made(*execution.product(step_id, run_id), told=Told(run_id, sent_as, name, data))

    await _tell(execution, name, "signal", run_id, produce, f"the signal {name!r} to run {run_id!r}")


async def cancel(execution: Execution, target: object, reason: str) -> None:
    """See `WorkflowContext.cancel`."""
    run_id, text = telling.checked_run_id(target), telling.checked_reason(reason)

    def produce(step_id: StepId) -> Product:
        return Made(*execution.product(step_id, run_id), told=Told(run_id, "-", text))

    await _tell(execution, run_id, "cancel", run_id, produce, f"cancelling run {run_id!r}")


async def _tell(execution: Execution, key: str, operation: Operation, run_id: RunId, produce: Any, what: str) -> None:
    step = await execution.step(key, operation, produce)
    failure = step.failure
    if failure is not None and failure.type_name in telling.FINAL:
        raise telling.refusal(failure.type_name, what, failure.message)
    told = execution.decode(step)
    if told != run_id:
        execution.differ(
            f"it tells run {run_id!r} something, where run {told!r} is recorded to have been told",
            asked=f"{operation} {key!r} to run {run_id!r}",
            recorded=f"{operation} {key!r} to run {told!r}",
        )
        raise ExecutionDropped
