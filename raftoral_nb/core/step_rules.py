"""The rules of what steps leave behind beside their records: saved states, and a cache of results. Part of `apply`, and as pure.

A step that takes long saves its state while it runs, so that the next attempt at it, on whichever node, continues from there. That
is no record: no execution waits for it, and none replays it. It is dropped with the step's record, the run's end or new beginning.

The cache holds results of steps of all runs, by a key that the acting node made of code and inputs. That node looks into it, and has the step
recorded with the value it found: what an execution gets is the record, whatever becomes of the cache meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from . import ownership
from .blob_refs import kept_bytes
from .commands import BindStep, CacheStep, ClearCache, SaveStepState, SetCheckpoint
from .events import CacheCleared, CheckpointSet, CommandRefused, StepStateSaved
from .records import CachedStep, StepSource, StepState
from .run_rules import Events, find_running, set_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from .state import State


def _refused(code: str, reason: str) -> Events:
    return (CommandRefused(code, reason),)


def save_step_state(state: State, command: SaveStepState, _index: int) -> Events:
    """Save the state of an open step; what is newer stays."""
    step_id = command.step_id
    run = find_running(state, command.run_id, command.node, command.epoch, command.version, command.generation, step_id)
    if isinstance(run, CommandRefused):
        return (run,)
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


def cache_step(state: State, command: CacheStep, index: int) -> Events:
    """Record a step, and put its value into the cache, or count that it came from there."""
    plain = SetCheckpoint(command.run_id, command.step, command.version, command.generation, command.taken)
    events = set_checkpoint(state, plain, index)
    recorded = events[0]
    if isinstance(recorded, CheckpointSet) and recorded.step.value is not None:
        known = state.cache.get(command.key)
        if recorded.step.cached_from is None:
            source = StepSource(recorded.run_id, recorded.step.step_id)
            hits = 0 if known is None else known.hits
            value, at = recorded.step.value, recorded.step.at
            _keep(state, CachedStep(command.key, command.name, command.inputs, value, source, at, hits))
        elif known is not None:
            state.cache[command.key] = msgspec.structs.replace(known, hits=known.hits + 1)
            state.cache.move_to_end(command.key)
    return events


def _keep(state: State, cached: CachedStep) -> None:
    """Put a result into the cache, as the one that was used last; drop from the other end what there is no room for."""
    limits, cache = state.limits, state.cache
    cache.pop(cached.key, None)
    held, kept = len(cached.value), kept_bytes(cached.value)
    if held > limits.cache_bytes or kept > limits.cache_blob_bytes:
        return
    held += sum(len(one.value) for one in cache.values())
    kept += sum(kept_bytes(one.value) for one in cache.values())
    while cache and (len(cache) >= limits.cached_steps or held > limits.cache_bytes or kept > limits.cache_blob_bytes):
        _, dropped = cache.popitem(last=False)
        held -= len(dropped.value)
        kept -= kept_bytes(dropped.value)
    cache[cached.key] = cached


def clear_cache(state: State, command: ClearCache, _index: int) -> Events:
    """Drop what is in the cache."""
    dropped = [key for key, one in state.cache.items() if command.name in (None, one.name)]
    for key in dropped:
        del state.cache[key]
    return (CacheCleared(command.name, len(dropped)),)


def bind_step(state: State, command: BindStep, _index: int) -> Events:
    """Bind an open step to a node that has a label."""
    run = find_running(state, command.run_id, command.node, command.epoch, command.version, command.generation)
    return (run,) if isinstance(run, CommandRefused) else ownership.bind(state, run, command)


STEP_HANDLERS: Final[dict[type[Any], Callable[[State, Any, int], Events]]] = {
    SaveStepState: save_step_state,
    CacheStep: cache_step,
    ClearCache: clear_cache,
    BindStep: bind_step,
}
"""The rule for each command about what steps leave behind."""
