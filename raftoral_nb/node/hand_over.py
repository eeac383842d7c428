"""The notes that an executor gets: of an event, and when a snapshot took the place of its node's state."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from ..core import events
from ..core.events import (
    CancelRequested,
    CheckpointSet,
    MessageSent,
    RunAssigned,
    RunDeleted,
    RunEvicted,
    RunPaused,
    RunResumed,
    StateEvent,
    StepBound,
    TimerFired,
    ValueLimitSet,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowContinued,
    WorkflowFailed,
    WorkflowStarted,
    WorkflowTerminated,
)
from ..core.records import CancelRecord, MoveRecord
from ..workflow.execution.inbox import (
    HandedOver,
    OwnerChanged,
    PauseChanged,
    RecordAdded,
    RecordsAdded,
    RunContinued,
    RunDropped,
    RunEnded,
    RunStarted,
    RunSwitched,
    StepGiven,
    ValueLimitChanged,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..core.records import NodeId
    from ..core.run_record import Run
    from ..core.state import State


def handed_over(event: StateEvent, state: State, token: str = "") -> HandedOver | None:
    """Return the note that an executor gets of an event; None if the event does not concern it.

    `state` is that after the event's entry. Of a run that was evicted in it no beginning is told. What is given to the node is given
    to its start of that `token`: assignments of before come again when it replays its log, and are not its own.
    """
    match event:
        case CheckpointSet(run_id=run_id, step=step):
            return RecordAdded(run_id, step)
        case WorkflowStarted() | WorkflowContinued() | events.RunMoved() if event.run_id not in state.runs:
            return None
        case WorkflowStarted(run_id=run_id):
            return _started(state.runs[run_id])
        case WorkflowCompleted(run_id=run_id, result=result):
            return RunEnded(run_id, result, None)
        case WorkflowFailed(run_id=run_id, failure=failure) | WorkflowCancelled(run_id=run_id, failure=failure):
            return RunEnded(run_id, None, failure)
        case WorkflowTerminated(run_id=run_id, failure=failure):
            return RunEnded(run_id, None, failure, terminated=True)
        case WorkflowContinued(run_id=run_id, generation=generation, input=next_input, at=at, carried=count):
            run = state.runs[run_id]
            # Another generation can only begin after this one was executed, and so not in the same entry.
            return RunContinued(run_id, run.definition, generation, next_input, at, tuple(run.records[:count]))
        case events.RunMoved(run_id=run_id, steps=count):
            return _switched(state.runs[run_id], count + 1)
        case MessageSent(run_id=run_id, message=message):
            return RecordAdded(run_id, message)
        case TimerFired(run_id=run_id, timers=timers):
            return RecordAdded(run_id, timers)
        case CancelRequested(run_id=run_id, reason=reason, at=at):
            return RecordAdded(run_id, CancelRecord(reason, at))
        case RunAssigned(run_id=run_id, node=node, number=number):
            return OwnerChanged(run_id, _own(node, number, event.token == token))
        case StepBound(run_id=run_id, step_id=step_id, where=where, node=node, number=number):
            return StepGiven(run_id, step_id, where, node, number if node and event.token == token else None)
        case RunPaused(run_id=run_id):
            return PauseChanged(run_id, True)
        case RunResumed(run_id=run_id):
            return PauseChanged(run_id, False)
        case RunEvicted(run_id=run_id) | RunDeleted(run_id=run_id):
            return RunDropped(run_id)
        case ValueLimitSet():
            return ValueLimitChanged()
    return None


def _own(node: NodeId, number: int, own: bool) -> int | None:
    if not node:
        return 0
    return number if own else None


def _started(run: Run) -> RunStarted:
    return RunStarted(run.run_id, run.definition, run.input, run.generation, run.begun_at, run.format)


def _switched(run: Run, count: int) -> RunSwitched:
    records = tuple(run.records[:count])
    return RunSwitched(run.run_id, run.definition, run.input, records, run.generation, run.begun_at, run.format)


def _moved(run: Run, begin: int) -> bool:
    """Return whether a run was moved by a record from there on: there and back, perhaps, with other bound steps."""
    return any(isinstance(record, MoveRecord) for record in itertools.islice(run.records, begin, None))


def difference(old: State, new: State, token: str = "") -> Iterator[HandedOver]:
    """Return the notes for what happened between two states of one history, as if it had been applied entry by entry.

    `token` is as of `handed_over`.

    Runs that began and were evicted in between are not mentioned. A run that has begun anew, or is another one under
    the same id, is dropped and started: what its earlier generation still had to do is gone.
    """
    for run_id in old.runs:
        if run_id not in new.runs:
            yield RunDropped(run_id)
    for run_id, run in new.runs.items():
        known = old.runs.get(run_id)
        if known is not None and (known.started_at, known.generation) != (run.started_at, run.generation):
            yield RunDropped(run_id)
            known = None
        if known is None:
            yield _started(run)
        elif known.definition.version != run.definition.version or _moved(run, len(known.records)):
            yield _switched(run, len(known.records))
        yield from _since(run, known)
        if run.unfinished:
            yield from _given(run, known, new, token)


def _given(run: Run, known: Run | None, state: State, token: str) -> Iterator[HandedOver]:
    """Return who does the steps of a run from here on, as far as that has changed."""

    def own(node: NodeId) -> bool:
        return node in state.offers and state.offers[node].token == token

    before = (0, 0) if known is None else (known.owner, known.assigned)
    if before != (run.owner, run.assigned):
        yield OwnerChanged(run.run_id, _own(run.owner, run.assigned, own(run.owner)))
    for step_id, binding in run.bound.items():
        if known is not None and known.bound.get(step_id) == binding:
            continue
        number = binding.number if own(binding.node) else None
        yield StepGiven(run.run_id, step_id, binding.where, binding.node, number)


def _since(run: Run, known: Run | None) -> Iterator[HandedOver]:
    begin = 0 if known is None else len(known.records)
    if len(run.records) > begin:
        yield RecordsAdded(run.run_id, tuple(run.records[begin:] if begin else run.records))
    paused = run.status == "paused"
    if paused != (known is not None and known.status == "paused"):
        yield PauseChanged(run.run_id, paused)
    if not run.unfinished and (known is None or known.unfinished):
        yield RunEnded(run.run_id, run.result, run.failure, terminated=run.status == "terminated")
