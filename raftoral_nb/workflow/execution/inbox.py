"""The inbox of a node's execution side, filled by its consensus side: one ordered stream, and nothing else.

Because records and epoch changes travel in one stream, an executor cannot learn that it may act before it has every
record that precedes its epoch: a new leader finishes its queue before it does anything new.
"""

from __future__ import annotations

import msgspec

from ...core.records import Definition, Failure, NodeId, Record, RunId, StepId
from ...core.run_record import RECORD_FORMAT


class RunStarted(msgspec.Struct, frozen=True, gc=False):
    """The note to begin to execute a run, or a generation of it."""

    run_id: RunId
    definition: Definition
    input: bytes
    generation: int = 1
    at: float = 0.0
    """The run's time when it began (Unix seconds)."""
    format: int = RECORD_FORMAT
    """The format of its records."""


class RecordAdded(msgspec.Struct, frozen=True, gc=False):
    """A record of a run was added to those before it."""

    run_id: RunId
    record: Record


class RecordsAdded(msgspec.Struct, frozen=True, gc=False):
    """Several records of a run were added, in this order (told when a snapshot stands for their entries)."""

    run_id: RunId
    records: tuple[Record, ...]


class PauseChanged(msgspec.Struct, frozen=True, gc=False):
    """No new step of the run may begin from here on, and no timer fire; or they may again."""

    run_id: RunId
    paused: bool


class RunEnded(msgspec.Struct, frozen=True, gc=False):
    """A run's result or failure was recorded. One that was `terminated` is not executed to its end."""

    run_id: RunId
    result: bytes | None
    failure: Failure | None
    terminated: bool = False


class RunContinued(msgspec.Struct, frozen=True, gc=False):
    """A run begins anew: its present execution comes to its end, and then another one begins."""

    run_id: RunId
    definition: Definition
    generation: int
    input: bytes
    at: float
    """The run's time then (Unix seconds)."""
    records: tuple[Record, ...]
    """What it begins with."""


class RunSwitched(msgspec.Struct, frozen=True, gc=False):
    """The note to execute the run from the top with other code; `records` is all that was recorded of it, the move included."""

    run_id: RunId
    definition: Definition
    input: bytes
    records: tuple[Record, ...]
    generation: int
    at: float
    """The run's time when it began, or began anew (Unix seconds)."""
    format: int


class OwnerChanged(msgspec.Struct, frozen=True, gc=False):
    """A run was given to a node. `number` is that of the assignment if it is this one; None if it is another; 0 if the leader does its steps."""

    run_id: RunId
    number: int | None


class StepGiven(msgspec.Struct, frozen=True, gc=False):
    """A step was bound to a node that has a label. `number` is that of the binding if it is this one; `node` is 0 if none has the label."""

    run_id: RunId
    step_id: StepId
    where: str
    node: NodeId
    number: int | None


class RunDropped(msgspec.Struct, frozen=True, gc=False):
    """A run's records are gone; a node that still executes it cannot finish."""

    run_id: RunId


class ValueLimitChanged(msgspec.Struct, frozen=True, gc=False):
    """Note that the cluster keeps larger values from here on, or only smaller ones."""


class ActingChanged(msgspec.Struct, frozen=True, gc=False):
    """Note that this node may act in `term` from here on; None: it may not any more."""

    term: int | None


HandedOver = (
    RunStarted
    | RecordAdded
    | RecordsAdded
    | PauseChanged
    | RunEnded
    | RunContinued
    | RunSwitched
    | OwnerChanged
    | StepGiven
    | RunDropped
    | ValueLimitChanged
    | ActingChanged
)
