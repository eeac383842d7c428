"""What an executor must hear when a snapshot took the place of its node's state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .workflow.handover import HandedOver, RunDropped, RunEnded, RunMoved, RunStarted, StepsRecorded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .state import Run, State


def difference(old: State, new: State) -> Iterator[HandedOver]:
    """What happened between two states of one history, as it would have been handed over entry by entry.

    Runs that began and were evicted in between are not mentioned: nobody needs to hear of them.
    """
    for run_id in old.runs:
        if run_id not in new.runs:
            yield RunDropped(run_id)
    for run_id, run in new.runs.items():
        known = old.runs.get(run_id)
        if known is None:
            yield RunStarted(run_id, run.definition, run.input)
        elif known.definition.version != run.definition.version:
            yield RunMoved(run_id, run.definition, run.input, tuple(run.steps[: len(known.steps)]))
        yield from _since(run, known)


def _since(run: Run, known: Run | None) -> Iterator[HandedOver]:
    begin = 0 if known is None else len(known.steps)
    if len(run.steps) > begin:
        yield StepsRecorded(run.run_id, tuple(run.steps[begin:] if begin else run.steps))
    if run.status != "running" and (known is None or known.status == "running"):
        yield RunEnded(run.run_id, run.result, run.failure)
