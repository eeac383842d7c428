"""The history of one run: everything that is recorded of it, as events with their times, and as a table."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ..core.events import (
    CancelRequested,
    CheckpointSet,
    MessageSent,
    RunMoved,
    RunPaused,
    RunResumed,
    StateEvent,
    TimerFired,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowContinued,
    WorkflowFailed,
    WorkflowStarted,
    WorkflowTerminated,
)
from ..core.records import CancelRecord, Failure, Message, MoveRecord, Record, Step, TimersFired
from ..errors import RaftoralError
from ..workflow.codec import values

if TYPE_CHECKING:
    from ..core.run_record import Change, Run

MAX_FAILURE_CHARS: Final = 200
"""The most characters of a failure's message in a row of a table."""
COLUMNS = ("time", "event", "step_id", "operation", "node", "epoch", "value", "failure")
"""The columns of `WorkflowRun.to_frame()`."""


def history(run: Run) -> tuple[tuple[float, StateEvent], ...]:
    """See `WorkflowRun.history`."""
    workflow, version = run.definition.workflow, run.definition.version
    begun: tuple[float, StateEvent] = (run.start_time, WorkflowStarted(run.run_id, workflow, version, run.parent))
    records = tuple(run.records)
    asked = any(isinstance(record, CancelRecord) for record in records)
    found: list[tuple[float, StateEvent]] = [
        *(
            (change.at, _changed(run, change))
            for change in tuple(run.changes)
            # It is a record too, with its place in the order of the log; but of a generation that is over only this is left.
            if not (asked and change.change == "asked to end")
        ),
        *((record.at, _recorded(run, record, place)) for place, record in enumerate(records)),
    ]
    # Sorting keeps the order of the log among equal times. Clocks of nodes may disagree: then it is theirs that is shown.
    found.sort(key=lambda one: one[0])
    ended = _ended(run)
    return (begun, *found) if ended is None else (begun, *found, (run.end_time or 0.0, ended))


def _recorded(run: Run, record: Record, before: int) -> StateEvent:
    """Return the event of a record that so many others came before."""
    match record:
        case Step():
            return CheckpointSet(run.run_id, record)
        case Message():
            return MessageSent(run.run_id, record)
        case TimersFired():
            return TimerFired(run.run_id, record)
        case MoveRecord():
            return RunMoved(run.run_id, record.version, before)
        case CancelRecord():
            return CancelRequested(run.run_id, record.reason, record.at)


def _changed(run: Run, change: Change) -> StateEvent:
    match change.change:
        case "asked to end":
            return CancelRequested(run.run_id, change.reason, change.at)
        case "paused":
            return RunPaused(run.run_id)
        case "resumed":
            return RunResumed(run.run_id)
        case "began anew":
            # Inputs of generations that are over are gone with their steps.
            generation = int(change.reason.rpartition(" ")[2])
            return WorkflowContinued(run.run_id, generation, run.input if generation == run.generation else b"")


def _ended(run: Run) -> StateEvent | None:
    if run.result is not None:
        return WorkflowCompleted(run.run_id, run.result)
    if run.failure is None:
        return None
    if run.status == "cancelled":
        return WorkflowCancelled(run.run_id, run.failure)
    if run.status == "terminated":
        return WorkflowTerminated(run.run_id, run.failure)
    return WorkflowFailed(run.run_id, run.failure)


def frame(run: Run) -> Any:
    """See `WorkflowRun.to_frame`."""
    try:
        import pandas as pd  # type: ignore[import-untyped]
    except ImportError:
        raise RaftoralError(
            "to_frame() needs pandas, which is not installed; history() gives the same as a tuple"
        ) from None
    rows = [_row(time, event) for time, event in history(run)]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(
        {"time": "datetime64[us, UTC]", "node": "Int64", "epoch": "Int64"}
    )


def _row(time: float, event: StateEvent) -> tuple[Any, ...]:
    at = datetime.fromtimestamp(time, UTC)
    name = type(event).__name__
    match event:
        case CheckpointSet(step=step):
            outcome = (_shown(step.value), None if step.failure is None else _told(step.failure))
            return (at, name, step.step_id, step.operation, step.node, step.epoch, *outcome)
        case MessageSent(message=message):
            return (at, name, message.name, message.kind, None, None, _shown(message.value), None)
        case WorkflowCompleted(result=data) | WorkflowContinued(input=data):
            return (at, name, None, None, None, None, _shown(data), None)
        case WorkflowFailed(failure=failure) | WorkflowCancelled(failure=failure) | WorkflowTerminated(failure=failure):
            return (at, name, None, None, None, None, None, _told(failure))
        case TimerFired(timers=timers):
            return (at, name, None, None, timers.node, timers.epoch, None, None)
        case RunMoved(version=version):
            return (at, name, None, None, None, None, f"version {version}", None)
        case CancelRequested(reason=reason):
            return (at, name, None, None, None, None, reason or None, None)
        case _:
            return (at, name, None, None, None, None, None, None)


def _told(failure: Failure) -> str:
    return values.shorten_text(str(failure), MAX_FAILURE_CHARS)


def shown_value(record: Step | Message, width: int) -> str:
    """See `WorkflowRun.shown_value`."""
    if record.failure is not None:
        return values.shorten_text(f"failed: {record.failure}", width)
    return _shown(record.value, width) or "nothing"


def _shown(data: bytes | None, width: int = 60) -> str | None:
    """Return a value as a short text, whatever it is and whatever its class does."""
    if not data:
        return None
    try:
        return values.preview(data, width, what="a recorded value")
    except (
        Exception,
        SystemExit,
    ) as error:  # a class that is gone, or whose own methods raise: the rest is shown all the same
        return f"<not shown: {type(error).__name__}>"
