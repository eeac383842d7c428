"""The proposal by which the acting node records the end of a run, or of its generation: one in each epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from .acting import ActingExecution
from .recording import end_command
from .rights import RightsExecution

if TYPE_CHECKING:
    from ...core.statistics import ExecutionStatus
    from .acting import ActingEffects


class EndingExecution(ActingExecution, RightsExecution, Protocol):
    """The part of an `Execution` whose end is recorded."""

    status: ExecutionStatus

    @property
    def run_ended(self) -> bool:
        """True if the end of the run, or of this generation, was handed over."""
        ...


class EndProposal:
    """The end of one execution, as this node has it recorded."""

    def __init__(self, execution: EndingExecution, effects: ActingEffects) -> None:
        self._execution = execution
        self._effects = effects
        # Invariant: the epoch in which it was proposed last, since that changed.
        self._proposed_in: int | None = None

    def propose(self, epoch: int | None, *, cancelled: bool) -> None:
        """Have the end recorded, unless that was proposed in this epoch, or this node may not (None)."""
        if epoch is None or self._proposed_in == epoch:
            return
        self._proposed_in = epoch
        execution = self._execution

        def wanted() -> bool:
            return execution.rights.now() == epoch and not execution.run_ended and execution.status == "running"

        self._effects.propose_end(end_command(execution, epoch, cancelled=cancelled), wanted)

    def forget(self) -> None:
        """Note that another epoch has begun: what was proposed may be refused."""
        self._proposed_in = None
