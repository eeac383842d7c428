"""The rules of runs: how one starts, what is recorded of it, what it is sent, how it is stopped, how it ends.

Part of `apply`, and as pure: every handler gets a well-formed command, decides first and changes the state last. What is
asked from outside (signals, cancelling, pausing) is a command like any other. All that a run's code is told stands in one list,
`Run.records`, and an execution gets them one at a time, in that order:

* A message is a record of the run it is sent to: its turn puts it into the mailbox of every execution. What is taken out follows from the
  code, the same on every node, so no record says it. When the run begins anew, the command names what was left.
* So is a request to cancel: its turn cancels the workflow's main task.
* A pause is only noted. Steps that had begun are still recorded; nodes begin no others, and fire no timers.

`_append` sets a record's time so that it is not before that of the one before: executions take the run's time from there. What is otherwise
for runs that an earlier version recorded is in `first_format`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from ..limits import MAX_RUN_CHANGES_KEPT
from . import first_format, ownership, retention
from .blob_refs import REFERENCE_MARK
from .commands import (
    CancelRun,
    ContinueRun,
    DeleteRun,
    EndRun,
    FireTimers,
    MoveRun,
    NoteTaken,
    PauseRun,
    ResumeRun,
    SendSignal,
    SetCheckpoint,
    SetRetention,
    StartChild,
    StartRun,
    TellRun,
    TerminateRun,
)
from .events import (
    CancelRequested,
    CheckpointSet,
    CommandRefused,
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
from .records import CancelRecord, Failure, Message, MoveRecord, NodeId, Record, RunId, Step, StepId, TimersFired
from .run_record import Change, Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from .state import State

TERMINATED: Final = "raftoral_nb.errors.WorkflowTerminatedError"
"""The `type_name` of the failure of a run that was terminated."""

Events = tuple[StateEvent, ...]


def _refused(code: str, reason: str) -> Events:
    return (CommandRefused(code, reason),)


# --- starting


def start(state: State, command: StartRun, index: int) -> Events:
    """Start a run, once per run_id."""
    run = _started(state, command, index, None)
    if isinstance(run, CommandRefused):
        return (run,)
    if run is None:
        return ()  # started at an earlier entry: a repetition says nothing
    return (WorkflowStarted(run.run_id, command.workflow, command.version), *ownership.started(state, run))


def _started(
    state: State, command: StartRun, index: int, parent: RunId | None, *, again: bool = False
) -> Run | CommandRefused | None:
    """Return the new run; None if it is there already. `again`: one that was evicted is started again."""
    run_id, workflow, version = command.run_id, command.workflow, command.version
    run = state.runs.get(run_id)
    if run is not None and command.start_id:
        # Whoever did not give the id wants a run of its own. The same start comes again when another node repeats it.
        repeated = run.start_id == command.start_id
        return None if repeated else CommandRefused("run_id_taken", f"another start has taken the id {run_id!r}")
    if run is not None:
        # Not about the code, which may have been replaced since: to start a run again is to ask for the same run. A run that
        # has begun anew has another input by now, and is taken for the one it was.
        differs = run.differs_from(command)
        return None if differs is None else CommandRefused("run_conflict", f"run {run_id!r} was started with {differs}")
    if run_id in state.evicted and not again:
        return CommandRefused("run_evicted", retention.gone(state, run_id))
    definition = state.definitions.get((workflow, version))
    if definition is None:
        return CommandRefused("unknown_workflow", f"no workflow {workflow!r} version {version} is registered")
    generation = retention.take_id(state, run_id)
    run = state.runs[run_id] = Run(
        run_id,
        definition,
        command.input,
        index,
        generation=generation,
        first_generation=generation,
        start_time=command.at,
        time=command.at,
        begun_at=command.at,
        parent=parent,
        digest=command.digest,
        start_id=command.start_id,
        format=command.format,
    )
    retention.count(state, run, run.input, None)
    return run


def start_child(state: State, command: StartChild, index: int) -> Events:
    """Record a step and start the run that it stands for; if that cannot be started, the step says why."""
    parent = _find_lacking(state, command.run_id, command.step, command.parent_version, command.generation)
    if isinstance(parent, CommandRefused):
        return (parent,)
    version = command.version if command.version is not None else state.latest_version(command.workflow)
    problem: CommandRefused
    if len(parent.children) >= state.limits.children:
        problem = CommandRefused(
            "too_many_children", f"run {parent.run_id!r} has {len(parent.children)} unfinished children"
        )
    elif (
        command.child_id == parent.run_id
        or command.child_id in parent.children
        or first_format.waits(parent, _end_id(command.child_id))
    ):
        reason = f"run {parent.run_id!r} is, or has started, {command.child_id!r}"
        reason += " and not waited for it yet" if parent.format == 1 else ", which has not ended"
        problem = CommandRefused("run_conflict", reason)
    elif version is None:
        problem = CommandRefused("unknown_workflow", f"no workflow {command.workflow!r} is registered")
    else:
        at = command.step.at if parent.format == 1 else max(command.step.at, parent.time)
        asked = StartRun(command.child_id, command.workflow, version, command.input, at, command.digest, command.format)
        child = _started(state, asked, index, parent.run_id, again=command.again)
        if isinstance(child, CommandRefused):
            problem = child
        else:
            recorded = _record(state, parent, command.step, command.taken)
            return (recorded, *_link(state, parent, command, child))
    failure = Failure(problem.code, problem.reason)
    return (_record(state, parent, msgspec.structs.replace(command.step, value=None, failure=failure), command.taken),)


def _link(state: State, parent: Run, command: StartChild, child: Run | None) -> list[StateEvent]:
    """Have the parent know its child, new or there already, and told of its end unless it is detached."""
    events: list[StateEvent] = []
    if child is not None:
        workflow = child.definition.workflow
        events.append(WorkflowStarted(child.run_id, workflow, child.definition.version, parent.run_id))
        events += ownership.started(state, child)
    known = state.runs[command.child_id]
    if command.again:
        retention.used(state, known)
    if command.detached:
        return events
    if not known.unfinished:
        events.append(_deliver(state, parent, _end_message(known)))
    else:
        # Whoever only met a run that others started has no right to end it.
        parent.children[known.run_id] = known.parent == parent.run_id
        known.watchers[parent.run_id] = parent.generation
    return events


# --- steps


def set_checkpoint(state: State, command: SetCheckpoint, _index: int) -> Events:
    """Record a step; the first record wins."""
    step = command.step
    run = _find_lacking(state, command.run_id, step, command.version, command.generation)
    if isinstance(run, CommandRefused):
        return (run,)
    if run.format == 1:
        taking = first_format.taking(run, step)
        if taking is None:
            return _refused("no_such_message", f"no message {step.message_id!r} waits for run {run.run_id!r}")
        step = taking
    elif step.operation in first_format.OPERATIONS:
        return _refused("bad_command", f"{step.operation!r} is recorded of runs of the first format alone")
    return (_record(state, run, step, command.taken),)


def _append(run: Run, record: Any) -> Any:
    """Append a record to those of a run, its time not before that of the last one; return it."""
    if run.format == 1:
        return first_format.append(run, record)
    assert isinstance(run.records, list)  # it is unfinished
    if record.at < run.time:
        record = msgspec.structs.replace(record, at=run.time)
    else:
        run.time = record.at
    run.records.append(record)
    return record


def _record(state: State, run: Run, step: Step, taken: int) -> StateEvent:
    step = run.by_id[step.step_id] = _append(run, step)
    value = step.value
    if (
        value is not None and value[:1] != REFERENCE_MARK and run.format > 1
    ):  # without a call: every node does this for every step
        run.kept_bytes += len(value)
    else:
        retention.count(state, run, value, step.failure)
    if run.step_states:
        run.step_states.pop(step.step_id, None)
    if run.bound:
        run.bound.pop(step.step_id, None)
    _note_taken(run, taken)
    state.checkpoints += 1
    return CheckpointSet(run.run_id, step)


def _note_taken(run: Run, taken: int) -> None:
    run.taken = max(run.taken, min(taken, run.received))


def fire_timers(state: State, command: FireTimers, _index: int) -> Events:
    """Fire all timers of a run that are due by a time."""
    run = find_running(state, command.run_id, command.node, command.epoch, command.version, command.generation)
    if isinstance(run, CommandRefused):
        return (run,)
    if command.due <= run.fired_until:
        # Whatever an execution sets is due after its run's time, so what is due up to then was set before, and has fired.
        return _refused("already_recorded", f"the timers of run {run.run_id!r} have fired up to {run.fired_until}")
    fired = _append(run, TimersFired(command.due, command.at, command.node, command.epoch))
    run.fired_until = fired.at
    _note_taken(run, command.taken)
    return (TimerFired(run.run_id, fired),)


def note_taken(state: State, command: NoteTaken, _index: int) -> Events:
    """Note how many messages a run has taken."""
    run = find_running(state, command.run_id, command.node, command.epoch, command.version, command.generation)
    if isinstance(run, CommandRefused):
        return (run,)
    _note_taken(run, command.taken)
    return ()


def tell_run(state: State, command: TellRun, index: int) -> Events:
    """Record a step of a run, and send the signal or the request to end that it stands for to another run."""
    step = command.step
    run = _find_lacking(state, command.run_id, step, command.version, command.generation)
    if isinstance(run, CommandRefused):
        return (run,)
    at = max(step.at, run.time)
    target = state.runs.get(command.target)
    events: Events = ()
    problem: CommandRefused | None = None
    if step.operation == "signal":
        problem = _undeliverable(state, command.target)
        if problem is None:
            asked = SendSignal(command.target, command.signal_id, command.name, command.value, at=at)
            recorded = _record(state, run, step, command.taken)
            return (recorded, *send_signal(state, asked, index))
    else:
        found = _find_unfinished(state, command.target)
        problem = found if isinstance(found, CommandRefused) else None
    if problem is not None:
        step = msgspec.structs.replace(step, value=None, failure=Failure(problem.code, problem.reason))
    recorded = _record(state, run, step, command.taken)
    if problem is None and target is not None:
        events = tuple(_cancelled(state, [target], command.name, at))
    return (recorded, *events)


def _undeliverable(state: State, run_id: RunId) -> CommandRefused | None:
    """Return why no signal can be sent to a run now; None if one can."""
    run = _find_unfinished(state, run_id)
    if isinstance(run, CommandRefused):
        return run
    if run.waiting >= state.limits.unreceived_signals:
        reason = f"run {run_id!r} has not received {run.waiting} signals that were sent before; no more can wait"
        return CommandRefused("too_many_signals", reason)
    return None


def _find_lacking(state: State, run_id: RunId, step: Step, version: int, generation: int) -> Run | CommandRefused:
    """Return the run as `find_running` does, for the author of a step that it does not have yet."""
    run = find_running(state, run_id, step.node, step.epoch, version, generation, step.step_id)
    if isinstance(run, Run) and step.step_id in run.by_id:
        return CommandRefused("already_recorded", f"step {step.step_id!r} of run {run_id!r} is recorded already")
    return run


def find_running(
    state: State, run_id: RunId, node: NodeId, epoch: int, version: int, generation: int, step_id: StepId | None = None
) -> Run | CommandRefused:
    """Return the run if `node` may record (that step) for it in an epoch, and it executes that version (0: any) and generation.

    It must be unfinished.
    """
    run = _find_unfinished(state, run_id)
    if isinstance(run, CommandRefused):
        return run
    # Without a call where the leader does the steps: every node does this for every step.
    if run.owner or run.bound or epoch != state.epoch.term or node != state.epoch.node:
        problem = ownership.author_problem(state, run, node, epoch, step_id)
        if problem is not None:
            return problem
    if version not in (0, run.definition.version):
        return CommandRefused("stale_version", f"run {run_id!r} was moved to version {run.definition.version}")
    if generation != run.generation:
        # A record that was late, and would be taken for one of the steps that have the same names now.
        now = f"run {run_id!r} has begun anew since: it is in generation {run.generation}"
        return CommandRefused("stale_generation", f"generation {generation} is over; {now}")
    return run


def _find_unfinished(state: State, run_id: RunId) -> Run | CommandRefused:
    run = state.runs.get(run_id)
    if run is None:
        return CommandRefused("unknown_run", retention.gone(state, run_id))
    if not run.unfinished:
        return CommandRefused("run_ended", f"run {run_id!r} has ended ({run.status})")
    return run


# --- what is asked from outside


def send_signal(state: State, command: SendSignal, _index: int) -> Events:
    """Have a message wait for a run, once per signal_id."""
    run = _find_unfinished(state, command.run_id)
    if isinstance(run, CommandRefused):
        known = state.runs.get(command.run_id)
        return () if known is not None and command.signal_id in known.signal_ids else (run,)
    if command.signal_id in run.signal_ids or first_format.waits(run, command.signal_id):
        return ()
    problem = _undeliverable(state, command.run_id)
    if problem is not None:
        return (problem,)
    run.signal_ids[command.signal_id] = None
    if len(run.signal_ids) > state.limits.signal_ids:
        del run.signal_ids[next(iter(run.signal_ids))]
    kind: Literal["update", "signal"] = "update" if command.update else "signal"
    run.received += 1
    return (_deliver(state, run, Message(command.signal_id, kind, command.name, command.value, None, command.at)),)


def _deliver(state: State, run: Run, message: Message) -> StateEvent:
    message = _append(run, message)
    retention.count(state, run, message.value, message.failure)
    return MessageSent(run.run_id, message)


def cancel(state: State, command: CancelRun, _index: int) -> Events:
    """Note that a run, with its attached children, is to end.

    A paused one continues, as it could not clean up otherwise.
    """
    run = _find_unfinished(state, command.run_id)
    return (run,) if isinstance(run, CommandRefused) else tuple(_cancelled(state, [run], command.reason, command.at))


def _cancelled(state: State, asked: list[Run], reason: str, at: float) -> list[StateEvent]:
    events: list[StateEvent] = []
    while asked:
        run = asked.pop(0)
        if run.cancel_reason is None:
            if run.status == "paused":
                run.status = "running"
                _note(run, Change(at, "resumed"))
                events.append(RunResumed(run.run_id))
            run.cancel_reason = reason
            _note(run, Change(at, "asked to end", reason))
            record = _append(run, CancelRecord(reason, at))
            events.append(CancelRequested(run.run_id, reason, record.at))
            asked += _attached(state, run)
    return events


def pause(state: State, command: PauseRun, _index: int) -> Events:
    """Let no new step of a run begin."""
    run = _find_unfinished(state, command.run_id)
    if isinstance(run, CommandRefused):
        return (run,)
    if run.cancel_reason is not None:
        return _refused("run_cancelling", f"run {run.run_id!r} was asked to end, and is doing so")
    if run.status == "paused":
        return ()
    run.status = "paused"
    _note(run, Change(command.at, "paused"))
    return (RunPaused(run.run_id),)


def resume(state: State, command: ResumeRun, _index: int) -> Events:
    """End a pause."""
    run = _find_unfinished(state, command.run_id)
    if isinstance(run, CommandRefused):
        return (run,)
    if run.status != "paused":
        return ()
    run.status = "running"
    _note(run, Change(command.at, "resumed"))
    return (RunResumed(run.run_id),)


def _note(run: Run, change: Change) -> None:
    run.changes.append(change)
    if len(run.changes) > MAX_RUN_CHANGES_KEPT:
        run.changes.pop(0)


def move(state: State, command: MoveRun, _index: int) -> Events:
    """Continue an unfinished run with another version, if its records are still those that were replayed."""
    run = _find_unfinished(state, command.run_id)
    if isinstance(run, CommandRefused):
        return (run,)
    definition = state.definitions.get((run.definition.workflow, command.version))
    if definition is None:
        return _refused("unknown_workflow", f"{run.definition.workflow!r} has no version {command.version}")
    if definition is run.definition:
        return ()
    had, what = (len(run.by_id), "steps") if run.format == 1 else (len(run.records), "records")
    if (had, run.generation) != (command.steps, command.generation):
        return _refused("run_went_on", f"run {run.run_id!r} has {had} {what} by now, not {command.steps}")
    run.definition = definition
    run.bound.clear()  # the other code may name another label for a step, or none: it has bound what it asks for
    _append(run, MoveRecord(command.version, run.time))
    return (RunMoved(run.run_id, command.version, command.steps),)


def _attached(state: State, run: Run) -> list[Run]:
    return [state.runs[child] for child, attached in run.children.items() if attached and child in state.runs]


def terminate(state: State, command: TerminateRun, _index: int) -> Events:
    """End a run, and its attached children, at once."""
    run = _find_unfinished(state, command.run_id)
    if isinstance(run, CommandRefused):
        return (run,)
    events: list[StateEvent] = []
    asked = [run]
    failure = Failure(TERMINATED, command.reason)
    while asked:
        run = asked.pop(0)
        if run.unfinished:
            asked += _attached(state, run)
            run.status, run.failure = "terminated", failure
            events += [WorkflowTerminated(run.run_id, failure), *_close(state, run, command.at)]
    return (*events, *retention.evict(state))


# --- the end


def end(state: State, command: EndRun, _index: int) -> Events:
    """Record a run's own end; the first wins."""
    run = find_running(state, command.run_id, command.node, command.epoch, command.version, command.generation)
    if isinstance(run, CommandRefused):
        return (run,)
    ended: StateEvent
    if command.failure is None:
        assert command.result is not None  # it is well formed: exactly one is set
        run.status, run.result = "completed", command.result
        ended = WorkflowCompleted(run.run_id, command.result)
    elif command.cancelled and run.cancel_reason is not None:
        run.status, run.failure = "cancelled", command.failure
        ended = WorkflowCancelled(run.run_id, command.failure)
    else:
        run.status, run.failure = "failed", command.failure
        ended = WorkflowFailed(run.run_id, command.failure)
    return (ended, *_close(state, run, command.at), *retention.evict(state))


def _close(state: State, run: Run, at: float) -> list[StateEvent]:
    """Do what follows from a run's end: tell those who watch it, and ask the children that end with it to end."""
    run.end_time = at
    if run.format == 1:
        first_format.close(run)
    run.records = tuple(run.records)
    ownership.ended(state, run)
    retention.count(state, run, run.result, run.failure)
    run.step_states.clear()
    message = _end_message(run)
    events: list[StateEvent] = []
    for watcher_id, generation in run.watchers.items():
        watcher = state.runs.get(watcher_id)
        if watcher is None:
            continue
        watcher.children.pop(run.run_id, None)
        if watcher.unfinished and watcher.generation == generation:
            events.append(_deliver(state, watcher, message))
    run.watchers.clear()
    events += _cancelled(state, _orphaned(state, run), f"its parent {run.run_id!r} has ended", at)
    retention.ended(state, run)
    return events


def _orphaned(state: State, run: Run) -> list[Run]:
    """Return the children that must not outlive the run's present generation; it forgets all it has."""
    attached = [child for child in _attached(state, run) if child.unfinished]
    for child_id in run.children:
        child = state.runs.get(child_id)
        if child is not None:
            child.watchers.pop(run.run_id, None)
    run.children.clear()
    return attached


def _end_id(run_id: RunId) -> str:
    # No signal has such an id: see `validation`.
    return f"\n{run_id}"


def _end_message(run: Run) -> Message:
    at = run.end_time or 0.0
    return Message(_end_id(run.run_id), "child", run.run_id, run.result, run.failure, at)


def continue_run(state: State, command: ContinueRun, _index: int) -> Events:
    """Begin a run anew: no steps, another input, the same identity. What waits for it still does; children do not."""
    run = find_running(state, command.run_id, command.node, command.epoch, command.version, command.generation)
    if isinstance(run, CommandRefused):
        return (run,)
    orphans = _orphaned(state, run)
    carried = _carried(run, command)
    run.records, run.by_id = list(carried), {}
    run.step_states.clear()
    run.bound.clear()
    run.received, run.taken = sum(isinstance(record, Message) for record in carried), 0
    run.input = command.input
    run.generation += 1
    if run.format > 1:
        run.time = run.begun_at = max(run.time, command.at)
        if command.cancelled:
            # The code was told, and began anew: it may be asked again.
            run.cancel_reason = None
    _note(run, Change(command.at, "began anew", f"generation {run.generation}"))
    dropped = retention.count_anew(state, run)
    continued = WorkflowContinued(run.run_id, run.generation, command.input, run.begun_at, len(carried))
    return (continued, *dropped, *_cancelled(state, orphans, f"its parent {run.run_id!r} has begun anew", command.at))


def _carried(run: Run, command: ContinueRun) -> tuple[Record, ...]:
    """Return what the next generation begins with: messages that nobody took, and a request to cancel that the code did not get."""
    left = frozenset(command.left)
    carried: list[Record] = []
    number = 0
    for record in run.records:
        if isinstance(record, CancelRecord):
            if not command.cancelled:
                carried.append(record)
        elif isinstance(record, Message) and record.kind != "child":
            number += 1
            if number > command.had or number in left:
                carried.append(record)
    return tuple(carried)


HANDLERS: Final[dict[type[Any], Callable[[State, Any, int], Events]]] = {
    StartRun: start,
    SetCheckpoint: set_checkpoint,
    FireTimers: fire_timers,
    NoteTaken: note_taken,
    TellRun: tell_run,
    StartChild: start_child,
    EndRun: end,
    ContinueRun: continue_run,
    SendSignal: send_signal,
    CancelRun: cancel,
    PauseRun: pause,
    ResumeRun: resume,
    TerminateRun: terminate,
    MoveRun: move,
    **ownership.OWNER_HANDLERS,
    DeleteRun: retention.delete,
    SetRetention: retention.set_retention,
}
"""The rule for each command about a run."""
