"""The right of this node to do the steps of a run: as the leader, as the run's owner, or as the node that a step is bound to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ...core.commands import BindStep
from ...core.labels import label_words
from .acting import propose

if TYPE_CHECKING:
    from ...core.records import RunId, StepId
    from .acting import OpenStep, StepPlace
    from .environment import ExecutionEnv
    from .inbox import StepGiven
    from .recording import RecordingExecution


class RightsExecution(Protocol):
    """The part of an `Execution` that asks for its rights."""

    rights: Rights


class Rights:
    """What this node may do of one run. Each right has a number, which records name: a term, or that of an assignment."""

    def __init__(self, run_id: RunId, around: ExecutionEnv) -> None:
        self._run_id = run_id
        self._around = around
        # Invariant: the number of this node's assignment; 0 if the run has no owner, None if another node is that.
        self.assigned: int | None = 0
        self.bound: dict[StepId, int | None] = {}
        """Of the open steps that are bound to a label, the number if they are bound to this node, None if to another or to none."""
        # Invariant: open steps of which the run's log says that they wait for a label.
        self._told: set[StepId] = set()
        # Invariant: what this node has proposed to bind, and in which epoch.
        self._binding: dict[StepId, int] = {}

    def now(self, step_id: StepId | None = None) -> int | None:
        """Return the number under which this node does the steps of the run, or that step of it; None if it does not."""
        if self.bound and step_id in self.bound:
            return self.bound[step_id]
        return self._around.acting if self.assigned == 0 else self.assigned

    def assign(self, number: int | None) -> bool:
        """Note which node owns the run, as `OwnerChanged` says; return whether that is new."""
        before, self.assigned = self.assigned, number
        return before != number

    def moved(self) -> Rights:
        """Return the rights of the execution that takes the place of this one, with other code: what that asks for is bound anew."""
        rights = Rights(self._run_id, self._around)
        rights.assigned = self.assigned
        return rights

    @property
    def bound_here(self) -> frozenset[StepId]:
        """The steps that are bound to this node."""
        return frozenset(step_id for step_id, number in self.bound.items() if number is not None)

    def to_begin(self, execution: RecordingExecution, ask: OpenStep, place: StepPlace, epoch: int | None) -> int | None:
        """Return the number under which to begin a step that names a label here now; None if it is not to be begun.

        `epoch` is the run's right. Whoever has that has the step bound first.
        """
        if ask.step_id in self.bound:
            return self.bound[ask.step_id]
        if epoch is not None and self._binding.get(ask.step_id) != epoch:
            self._binding.update(dict.fromkeys(place.group, epoch))
            self._bind(execution, ask.step_id, place, epoch)
        return None

    def _bind(self, execution: RecordingExecution, step_id: StepId, place: StepPlace, epoch: int) -> None:
        around = self._around
        version, generation = execution.definition.version, execution.generation
        at = around.alarms.clock()
        command = BindStep(self._run_id, place.group, place.label, around.node, epoch, version, generation, at)

        def wanted() -> bool:
            return self._binding.get(step_id) == epoch == self.now()

        def broken(reason: str) -> None:
            around.say(self._run_id, f"step {step_id!r} cannot be bound to {place.label!r}: {reason}")

        propose(around, command, wanted, broken)

    def given(self, note: StepGiven) -> bool:
        """Note what a step is bound to; return whether that is new."""
        known = note.step_id in self.bound and self.bound[note.step_id] == note.number
        self.bound[note.step_id] = note.number
        self._binding.pop(note.step_id, None)
        if note.node:
            self._told.discard(note.step_id)
        elif note.step_id not in self._told and self.now() is not None:
            self._told.add(note.step_id)
            self._around.say(self._run_id, f"step {note.step_id!r} waits for {label_words(note.where)}")
        return not known
