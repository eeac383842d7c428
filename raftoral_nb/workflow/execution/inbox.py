"""The inbox of a node's execution side, filled by its consensus side: one ordered stream, and nothing else.

Because records and epoch changes travel in one stream, an executor cannot learn that it may act before it has every
record that precedes its epoch: a new leader finishes its queue before it does anything new.
"""

from __future__ import annotations

import msgspec

from ...core.records import Definition, Failure, Message, RunId, Step


class RunStarted(msgspec.Struct, frozen=True, gc=False):
    """The note to begin to execute a run."""

    run_id: RunId
    definition: Definition
    input: bytes
    generation: int = 1


class StepRecorded(msgspec.Struct, frozen=True, gc=False):
    """A step of a run was recorded."""

    run_id: RunId
    step: Step


class StepsRecorded(msgspec.Struct, frozen=True, gc=False):
    """Several steps of a run were recorded, in this order (told when a snapshot stands for their entries)."""

    run_id: RunId
    steps: tuple[Step, ...]


class MessageArrived(msgspec.Struct, frozen=True, gc=False):
    """A message waits for a run."""

    run_id: RunId
    message: Message


class CancelAsked(msgspec.Struct, frozen=True, gc=False):
    """A run is to end; what it waits for is to be interrupted."""

    run_id: RunId
    reason: str


class PauseChanged(msgspec.Struct, frozen=True, gc=False):
    """No new step of the run may begin from here on; or it may again."""

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


class RunSwitched(msgspec.Struct, frozen=True, gc=False):
    """The note to execute the run from the top with other code; `steps` is all that was recorded of it before."""

    run_id: RunId
    definition: Definition
    input: bytes
    steps: tuple[Step, ...]
    generation: int = 1


class RunDropped(msgspec.Struct, frozen=True, gc=False):
    """A run's records are gone; a node that still executes it cannot finish."""

    run_id: RunId


class ActingChanged(msgspec.Struct, frozen=True, gc=False):
    """Note that this node may act in `term` from here on; None: it may not any more."""

    term: int | None


HandedOver = (
    RunStarted
    | StepRecorded
    | StepsRecorded
    | MessageArrived
    | CancelAsked
    | PauseChanged
    | RunEnded
    | RunContinued
    | RunSwitched
    | RunDropped
    | ActingChanged
)
