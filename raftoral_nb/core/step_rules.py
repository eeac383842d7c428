"""The rules of what steps leave behind beside their records. Part of `apply`, and as pure.

A step that takes long saves its state while it runs, so that the next attempt at it, on whichever node, continues from there. That
is no record: no execution waits for it, and none replays it. It is dropped with the step's record, the run's end or new beginning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .blob_refs import kept_bytes
from .commands import SaveStepState
from .events import CommandRefused, StepStateSaved
from .records import StepState
from .run_rules import Events, find_running

if TYPE_CHECKING:
    from collections.abc import Callable

    from .state import State


def _refused(code: str, reason: str) -> Events:
    return (CommandRefused(code, reason),)


def save_step_state(state: State, command: SaveStepState, _index: int) -> Events:
    """Save the state of an open step; what is newer stays."""
    run = find_running(state, command.run_id, command.node, command.epoch, command.version, command.generation)
    if isinstance(run, CommandRefused):
        return (run,)
    step_id = command.step_id
    if step_id in run.by_id:
        return _refused("already_recorded", f"step {step_id!r} of run {run.run_id!r} is recorded already")
    known = run.step_states.get(step_id)
    if known is None and len(run.step_states) >= state.limits.step_states:
        reason = f"{len(run.step_states)} open steps of run {run.run_id!r} have saved a state: no more can"
        return _refused("too_many_step_states", reason)
    if known is not None and known.number >= command.number:
        if known.number == command.number:
            return ()  # said twice, as its author did not hear of the first
        reason = f"number {known.number} of step {step_id!r} of run {run.run_id!r} is saved, which is newer"
        return _refused("older_step_state", reason)
    run.step_states[step_id] = StepState(step_id, command.number, command.value, command.at)
    return (StepStateSaved(run.run_id, step_id, command.number, kept_bytes(command.value)),)


STEP_HANDLERS: Final[dict[type[Any], Callable[[State, Any, int], Events]]] = {SaveStepState: save_step_state}
"""The rule for each command about what steps leave behind."""
