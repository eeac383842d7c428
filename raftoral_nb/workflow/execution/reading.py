"""Decoding recorded values, on a node that may lack what that takes: then its execution of the run ends, and says why."""

from __future__ import annotations

from typing import Any, Protocol

from ...core.records import Difference, Step
from ...core.statistics import ExecutionStatus
from ...errors import BlobMissingError, DamagedBlobError, InternalError, ValueNotShippableError
from ..codec import failures, values
from ..codec.classes import View
from . import divergence


class ReadingExecution(Protocol):
    """The part of an `Execution` that is needed to read records."""

    classes: View
    difference: Difference | None

    def stop(self, status: ExecutionStatus, reason: str) -> None:
        """End the execution, though not the run."""
        ...


def read(execution: ReadingExecution, data: bytes, what: str) -> Any:
    """Return a value that is recorded.

    One that does not unpickle here ends the execution, which cannot do what the others do.

    Raises:
        ValueNotShippableError, BlobMissingError, DamagedBlobError: for that case, so that the workflow's code goes no further.
    """
    try:
        return values.decode(data, what=what, view=execution.classes)
    except (ValueNotShippableError, BlobMissingError, DamagedBlobError) as error:
        give_up(execution, str(error))
        raise


def read_step(execution: ReadingExecution, step: Step, what: str) -> Any:
    """Return the value of a recorded step as `read` does, or raise its failure."""
    if step.failure is not None:
        raise failures.rebuild(step.failure, step_id=step.step_id, view=execution.classes)
    if step.value is None:
        raise InternalError(f"{what} has neither value nor failure")
    return read(execution, step.value, what)


def give_up(execution: ReadingExecution, reason: str) -> None:
    """End the execution, and not the run: this node cannot read the run's code, or something that is recorded of it."""
    execution.difference = divergence.unreadable(reason)
    execution.stop("unreadable", reason)
