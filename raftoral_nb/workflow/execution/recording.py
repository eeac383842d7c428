"""The commands that an execution has its node propose: a step, an end, and how many messages it took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from ...core.commands import (
    CacheStep,
    Command,
    ContinueRun,
    EndRun,
    FireTimers,
    NoteTaken,
    SetCheckpoint,
    StartChild,
    TellRun,
)
from ...core.records import Step
from ...core.run_record import RECORD_FORMAT

if TYPE_CHECKING:
    from ...core.records import Definition, Failure, Operation, RunId, StepId
    from .environment import ExecutionEnv
    from .mailbox import Mailbox
    from .products import Made


class RecordingExecution(Protocol):
    """The part of an `Execution` that its commands are made of."""

    run_id: RunId
    generation: int
    definition: Definition
    mailbox: Mailbox
    told_to_end: bool
    result: bytes | None
    failure: Failure | None
    continued: bytes | None

    around: ExecutionEnv


def step_command(
    execution: RecordingExecution, step_id: StepId, operation: Operation, made: Made, term: int
) -> Command:
    """Return the command that records a step, and does what the step stands for."""
    around, taken = execution.around, execution.mailbox.taken
    step = Step(step_id, operation, made.value, made.failure, around.node, term, around.alarms.clock(), made.message_id)
    run_id, version, generation = execution.run_id, execution.definition.version, execution.generation
    if made.child is not None:
        child = made.child
        return StartChild(
            run_id,
            step,
            generation,
            child.run_id,
            child.workflow,
            child.version,
            child.input,
            child.detached,
            version,
            child.digest,
            RECORD_FORMAT,
            taken,
            again=not child.detached,
        )
    if made.told is not None:
        told = made.told
        return TellRun(run_id, step, told.run_id, told.signal_id, told.name, told.value, version, generation, taken)
    if made.cached is not None:
        cached = made.cached
        step = msgspec.structs.replace(step, cached_from=cached.source)
        return CacheStep(run_id, step, cached.key, cached.name, cached.inputs, version, generation, taken)
    return SetCheckpoint(run_id, step, version, generation, taken)


def timers_command(execution: RecordingExecution, due: float, term: int) -> FireTimers:
    """Return the command that fires the timers that are due now, the first of them at `due` (Unix seconds)."""
    around, version = execution.around, execution.definition.version
    at, taken = max(around.alarms.clock(), due), execution.mailbox.taken
    return FireTimers(execution.run_id, due, at, around.node, term, version, execution.generation, taken)


def taken_command(execution: RecordingExecution, term: int) -> NoteTaken:
    """Return the command that notes how many messages were taken."""
    taken, version = execution.mailbox.taken, execution.definition.version
    return NoteTaken(execution.run_id, taken, execution.around.node, term, version, execution.generation)


def end_command(execution: RecordingExecution, term: int, *, cancelled: bool) -> Command:
    """Return the command that records the end of the run, or of its generation."""
    around, version = execution.around, execution.definition.version
    run_id, node, at, generation = execution.run_id, around.node, around.alarms.clock(), execution.generation
    if execution.continued is not None:
        had, left, told = execution.mailbox.arrived, execution.mailbox.left, execution.told_to_end
        return ContinueRun(run_id, term, node, generation, execution.continued, at, version, had, left, told)
    return EndRun(run_id, term, node, execution.result, execution.failure, version, cancelled, generation, at)
