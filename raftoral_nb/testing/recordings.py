"""What commands would record of runs, and what events say was recorded of them: the places at which a test may kill a node."""

from __future__ import annotations

from typing import Final

from ..core.commands import (
    CacheStep,
    CancelRun,
    Command,
    ContinueRun,
    EndRun,
    FireTimers,
    MoveRun,
    SendSignal,
    SetCheckpoint,
    StartChild,
    TellRun,
    TerminateRun,
)
from ..core.events import (
    CancelRequested,
    CheckpointSet,
    MessageSent,
    RunMoved,
    StateEvent,
    TimerFired,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowContinued,
    WorkflowFailed,
    WorkflowTerminated,
)
from ..core.records import CancelRecord, Message, MoveRecord, RunId, StepId, TimersFired
from ..core.state import State
from ..workflow.execution.divergence import described


def step_text(step_id: StepId) -> str:
    """Return a step as text."""
    return f"step {step_id!r}"


THE_END: Final = "the end of the run"
THE_BEGINNING: Final = "the run's new beginning"


def of_command(command: Command, state: State) -> list[tuple[RunId, StepId | None, str]]:
    """Return what a command would record: of which run, the step_id if it is a step, and what it is as text, as `of_event` does.

    The end of a run counts, too. `state` is as far as the leader knows. Exact but for commands that are refused.
    """
    match command:
        case (
            SetCheckpoint(run_id=run_id, step=step)
            | CacheStep(run_id=run_id, step=step)
            | StartChild(run_id=run_id, step=step)
        ):
            return [(run_id, step.step_id, step_text(step.step_id))]
        case TellRun(run_id=run_id, step=step, target=target):
            return [(run_id, step.step_id, step_text(step.step_id)), *_asked(target, "", state)]
        case SendSignal(run_id=run_id, signal_id=signal_id, name=name):
            return _asked(run_id, signal_id, state, f"the message {name!r}")
        case CancelRun(run_id=run_id):
            return _asked(run_id, "", state)
        case FireTimers(run_id=run_id, due=due, at=at, node=node):
            return [(run_id, None, described(TimersFired(due, at, node, 0)))]
        case MoveRun(run_id=run_id, version=version):
            return [(run_id, None, described(MoveRecord(version, 0.0)))]
        case ContinueRun(run_id=run_id):
            return [(run_id, None, THE_BEGINNING)]
        case EndRun(run_id=run_id) | TerminateRun(run_id=run_id):
            run = state.runs.get(run_id)
            if run is None or not run.unfinished:
                return []
            end = described(Message("", "child", run_id, None))
            return [(run_id, None, THE_END), *((watcher, None, end) for watcher in run.watchers)]
        case _:
            return []


def _asked(run_id: RunId, signal_id: str, state: State, text: str = "") -> list[tuple[RunId, StepId | None, str]]:
    """Return the record of a message, or of a request to cancel, unless there is one already."""
    run = state.runs.get(run_id)
    if (
        run is None
        or not run.unfinished
        or (signal_id in run.signal_ids if signal_id else run.cancel_reason is not None)
    ):
        return []
    return [(run_id, None, text or described(CancelRecord("", 0.0)))]


def of_event(event: StateEvent) -> tuple[RunId, StepId | None, str] | None:
    """Return the run of which something was recorded, the step_id if that is a step, and what it is as text; None for other events."""
    match event:
        case CheckpointSet(run_id=run_id, step=step):
            return run_id, step.step_id, step_text(step.step_id)
        case MessageSent(run_id=run_id, message=message):
            return run_id, None, described(message)
        case TimerFired(run_id=run_id, timers=timers):
            return run_id, None, described(timers)
        case CancelRequested(run_id=run_id, reason=reason, at=at):
            return run_id, None, described(CancelRecord(reason, at))
        case RunMoved(run_id=run_id, version=version):
            return run_id, None, described(MoveRecord(version, 0.0))
        case (
            WorkflowCompleted(run_id=run_id)
            | WorkflowFailed(run_id=run_id)
            | WorkflowCancelled(run_id=run_id)
            | WorkflowTerminated(run_id=run_id)
        ):
            return run_id, None, THE_END
        case WorkflowContinued(run_id=run_id):
            return run_id, None, THE_BEGINNING
        case _:
            return None
