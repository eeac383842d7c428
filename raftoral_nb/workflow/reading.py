"""Reading what is recorded of a run, on a node that may lack what it takes: then its execution ends, and says why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ValueNotShippableError
from . import divergence, values

if TYPE_CHECKING:
    from .execution import Execution


def read(execution: Execution, data: bytes, what: str) -> Any:
    """A value that is recorded. One that does not unpickle here ends the execution, which cannot do what the others do.

    Raises:
        ValueNotShippableError: for that case, so that the workflow's code goes no further.
    """
    try:
        return values.decode(data, what=what, view=execution.classes)
    except ValueNotShippableError as error:
        give_up(execution, str(error))
        raise


def give_up(execution: Execution, reason: str) -> None:
    """End the execution, and not the run: this node cannot read the run's code, or something that is recorded of it."""
    execution.difference = divergence.unreadable(reason)
    execution.stop("unreadable", reason)
