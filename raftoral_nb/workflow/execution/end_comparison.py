"""Comparison of the end of one node's execution of a run with the end of the run itself."""

from __future__ import annotations

from ...core.records import Failure, RunId, StepId
from ...core.statistics import ExecutionStatus
from ..codec import values
from .inbox import RunContinued, RunEnded


def difference(
    run_id: RunId,
    result: bytes | None,
    failure: Failure | None,
    continued: bytes | None,
    recorded: RunEnded | RunContinued,
) -> str | None:
    """Return how an end here (a result, a failure, or an input to begin anew with) differs from the recorded one.

    None if it does not.

    Values of types without a canonical digest, and the texts of failures, are not compared.
    """
    if isinstance(recorded, RunContinued) or continued is not None:
        if not isinstance(recorded, RunContinued):
            return "it began anew, and the run ended"
        if continued is None:
            return "it ended, and the run began anew"
        same = _alike(run_id, continued, recorded.input)
        return None if same else "it began anew with another input than the recorded one"
    if (failure is None) != (recorded.failure is None):
        here = "a result" if failure is None else f"the failure {failure}"
        there = "a result" if recorded.failure is None else f"the failure {recorded.failure}"
        return f"it ended with {here}, the run with {there}"
    if failure is not None and recorded.failure is not None:
        if failure.type_name != recorded.failure.type_name:
            return f"it ended with the failure {failure}, the run with {recorded.failure}"
        return None
    if result is None or recorded.result is None or _alike(run_id, result, recorded.result):
        return None
    return f"its result differs from the recorded one: it is {_shown(run_id, result)}, and {_shown(run_id, recorded.result)} there"


def early(asked: StepId | None) -> str:
    """Return how an execution whose code has not ended, and asks for a step perhaps, differs from a run that has."""
    if asked is not None:
        return f"it asks for step {asked!r}, but the run ended without such a step"
    return "the run has ended, and the code still waits for something"


def status(continued: bytes | None, failure: Failure | None, *, cancelled: bool) -> ExecutionStatus:
    """Return the status of an execution that has come to the recorded end."""
    if continued is not None:
        return "continued"
    if failure is None:
        return "completed"
    return "cancelled" if cancelled else "failed"


def _shown(run_id: RunId, data: bytes) -> str:
    return values.preview(data, what=f"result of run {run_id!r}")


def _alike(run_id: RunId, mine: bytes, theirs: bytes) -> bool:
    """Return whether two encoded values are the same, as far as can be told."""
    if mine == theirs:
        return True
    what = f"result of run {run_id!r}"
    one, other = (values.digest(values.decode(data, what=what)) for data in (mine, theirs))
    return one is None or other is None or one == other
