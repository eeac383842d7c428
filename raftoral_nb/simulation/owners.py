"""Who may record for a run, as the checker holds it: an account of assignments that does not ask the engine's rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from ..core.events import (
    CheckpointSet,
    RunAssigned,
    RunMoved,
    StateEvent,
    StepBound,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowContinued,
    WorkflowFailed,
    WorkflowStarted,
    WorkflowTerminated,
)
from ..core.records import NodeId, RunId, StepId

NUMBERED_ONCE: Final = "assignments are numbered once"
OWN_ASSIGNMENT: Final = "effects need an assignment of this start of the node"


class Assignment(NamedTuple):
    """An assignment of a run, or of a step that is bound to a label."""

    node: NodeId
    number: int
    token: str
    """Of the start of the node that was meant."""
    at: int
    """The index of the entry that made it."""
    records: int
    """The records of all runs that were made before."""


class Owners:
    """The assignments that the log made. `violated(invariant, text)` notes what is wrong."""

    def __init__(self, violated: Callable[[str, str], object]) -> None:
        self._violated = violated
        self._by_number: dict[int, Assignment] = {}
        self._runs: dict[RunId, Assignment] = {}
        self._steps: dict[tuple[RunId, StepId], Assignment] = {}
        self._bound_of: dict[RunId, set[StepId]] = {}

    @property
    def count(self) -> int:
        """The number of assignments to nodes."""
        return sum(given.node > 0 for given in self._by_number.values())

    def author(self, run_id: RunId, step_id: StepId | None) -> tuple[NodeId, int] | None:
        """Return who records for a run, or that step of it, and under which number; None if the leader does."""
        bound = None if step_id is None else self._steps.get((run_id, step_id))
        given = bound or self._runs.get(run_id)
        if given is None or (bound is None and not given.node):
            return None
        return given.node, given.number

    def given(self, number: int) -> Assignment | None:
        """Return an assignment by its number."""
        return self._by_number.get(number)

    def happened(self, index: int, records: int, event: StateEvent) -> None:
        """Take down what an entry did, the first time it is applied; `records` were made before by all runs."""
        match event:
            case WorkflowStarted(run_id=run_id):
                self._runs.pop(run_id, None)
                self._unbind(run_id)
            case RunAssigned(run_id=run_id, node=node, number=number, token=token):
                self._runs[run_id] = self._number(Assignment(node, number, token, index, records))
            case StepBound(run_id=run_id, step_id=step_id, node=node, number=number, token=token):
                self._steps[run_id, step_id] = self._number(Assignment(node, number, token, index, records))
                self._bound_of.setdefault(run_id, set()).add(step_id)
            case CheckpointSet(run_id=run_id, step=step):
                self._steps.pop((run_id, step.step_id), None)
            case (
                WorkflowContinued(run_id=run_id)
                | RunMoved(run_id=run_id)
                | WorkflowCompleted(run_id=run_id)
                | WorkflowFailed(run_id=run_id)
                | WorkflowCancelled(run_id=run_id)
                | WorkflowTerminated(run_id=run_id)
            ):
                self._unbind(run_id)
            case _:
                pass

    def _number(self, given: Assignment) -> Assignment:
        # An intent and its step go together.
        if given.number >= 0 or self._by_number.get(given.number, given) != given:
            self._violated(NUMBERED_ONCE, f"entry {given.at} made assignment {given.number}, which there is already")
        self._by_number[given.number] = given
        return given

    def _unbind(self, run_id: RunId) -> None:
        for step_id in self._bound_of.pop(run_id, ()):
            self._steps.pop((run_id, step_id), None)
