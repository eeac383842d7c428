"""`check_determinism`: a workflow run again and again on the virtual clock, with a leader that dies at every record."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from ..core.records import Difference, RunId, Step, StepId
from ..errors import FaultPlanError, LostChangeError, NonDeterminismError, StalledError, WorkflowFailedError
from ..node.replay_run import replay_run
from ..workflow.codec import values
from ..workflow.execution.divergence import described
from .recordings import step_text
from .virtual_cluster import DEFAULT_START
from .workflow_tests import When, WorkflowTest

MAX_CHECKED_RECORDS: Final = 100
"""Records at which the leader is killed in one check; those of a longer run are taken at even distances."""

_WHENS: Final[tuple[When, ...]] = ("before", "after")

_LATER: Final = DEFAULT_START + dt.timedelta(days=3, hours=5, minutes=7)
"""The time at which a second run without a fault begins: what follows from the time of day differs in it."""


class Checked(msgspec.Struct, frozen=True):
    """The report of a check that found no difference."""

    workflow: str
    steps: int
    """Steps that the workflow recorded when nothing was killed."""
    failovers: int
    """Runs in which the leader was killed, just before or just after a record."""

    def __str__(self) -> str:
        return (
            f"{self.workflow}: no difference in {self.failovers + 1} runs of {self.steps} steps, in {self.failovers} of which "
            "the leader was killed"
        )


def check_determinism(
    workflow: Any,
    input: Any = None,  # noqa: A002
    *,
    nodes: int = 3,
    replace: Mapping[str, Callable[..., Any]] | None = None,
) -> Checked:
    """Run a workflow with a failover at every record, on the virtual clock, and raise the first difference that shows.

    Once without a fault; then for each record (of a step, of timers that fire, of a child's end ...) once with the leader killed just
    before it, and once just after; it comes back each time, and replays. Each run is also replayed from its record as a whole, and its steps and its
    end are compared with those of the run without a fault: with equal steps before it, a step or an end that is always the
    same without a fault must be the same with one. Steps have their effects every time: give functions without effects to
    put in their place, by key or step_id, as `replace`. Raises `NonDeterminismError` with both sides, the line and the likely
    cause (also of a step that changed what it was given and did not return it), and `StalledError` if a run waits for what
    never comes. Not found: what differs only from process to process (the order of a set) or in months.

    >>> async def order(ctx, item):
    ...     return await ctx.compute("charge", lambda: f"{item} paid")
    >>> print(check_determinism(order, "A1"))
    order: no difference in 3 runs of 1 steps, in 2 of which the leader was killed
    """
    given = dict(replace or {})
    first = _once(workflow, input, nodes, given, None)
    places = range(len(first.records))
    failovers = 0
    second: _Ended | None = None
    for place in places[:: 1 + (len(places) - 1) // MAX_CHECKED_RECORDS] if places else ():
        for when in _WHENS:
            try:
                ended = _once(workflow, input, nodes, given, (place, when, first.records[place]))
            except FaultPlanError:
                continue  # with other values of its steps the workflow took another way
            failovers += 1
            differs = _difference(first, ended)
            if differs is None:
                continue
            second = second or _once(workflow, input, nodes, given, None, _LATER)
            # What also differs without a fault (chance, the clock, a counter) says nothing.
            if _alike(first, second, differs):
                raise _explained(first, ended, differs, first.records[place], when)
    return Checked(first.workflow, len(first.steps), failovers)


def _once(
    workflow: Any,
    value: Any,
    nodes: int,
    given: Mapping[str, Callable[..., Any]],
    kill: tuple[int, When, str] | None,
    start: dt.datetime = DEFAULT_START,
) -> _Ended:
    with WorkflowTest(nodes, start=start) as test:
        run = test.start(workflow, value)
        for step, function in given.items():
            test.replace(step, function)
        if kill is not None:
            test.kill_leader_at(kill[0], when=kill[1], run=run, restart=True)
        end: tuple[str, str | None] | None = None
        shown = ""
        try:
            result = test.finish(run)
            end, shown = _known("value", values.digest(result)), f"the result {values.shorten(result)}"
        except WorkflowFailedError as error:
            end, shown = ("failure", error.failure.type_name), f"the failure {error.failure}"
            test.settle()  # a failure is an end like any other
            test.raise_divergence(run)
        except (NonDeterminismError, StalledError) as error:
            if kill is not None:
                error.add_note(f"The leader was killed just {kill[1]} the record of {kill[2]}.")
            raise
        replay_run(test.cluster.host.run_record(run.run_id))
        steps = {step.step_id: step for step in run.steps}
        for one in steps.values():
            _check_nothing_lost(one)
        # The end is the last of what was recorded.
        records = test.recorded_of(run)[:-1]
        return _Ended(run.workflow, steps, records, _asked_for_time(test, run.run_id), end, shown)


def _asked_for_time(test: WorkflowTest, run_id: RunId) -> bool:
    """Return whether the workflow was told the time, which is another after each failover."""
    incarnations = (test.cluster.host.incarnation(number) for number in test.cluster.host.numbers)
    executions = (None if one is None else one.executor.execution(run_id) for one in incarnations)
    return any(one is not None and one.asked_for_time for one in executions)


def _check_nothing_lost(step: Step) -> None:
    failure = step.failure
    if failure is not None and failure.type_name == values.type_name(LostChangeError):
        raise NonDeterminismError(failure.message)


# --- comparing


class _Ended(msgspec.Struct, frozen=True):
    """The record of a run that has ended. `end` is None if there is nothing to compare."""

    workflow: str
    steps: dict[StepId, Step]
    records: tuple[str, ...]
    """What was recorded of it, in the order of the log."""
    asked_for_time: bool
    end: tuple[str, str | None] | None
    shown: str


_END: Final = "the end"
"""A placeholder for a step_id."""


def _difference(first: _Ended, other: _Ended) -> StepId | None:
    """Return the first step that differs though all that was before it is equal, or `_END`; None if there is none, or none is to be told.

    Only steps of both that are functions count, and only if nothing else that the workflow was told (the time, the order in which its
    branches went on) differs: then much may differ.
    """
    if first.asked_for_time or other.asked_for_time:
        return None
    pairs = enumerate(zip(first.records, other.records, strict=False))
    alike = next((place for place, (here, there) in pairs if here != there), len(first.records))
    same = frozenset(first.records[:alike])
    for step_id, step in first.steps.items():
        if step_text(step_id) in same and not _alike(first, other, step_id):
            return step_id if step.operation == "compute" else None
    return None if first.records != other.records or _alike(first, other, _END) else _END


def _alike(one: _Ended, other: _Ended, step_id: StepId) -> bool:
    """Tell whether two runs have the same at a step, or at their end, as far as can be told."""
    here, there = _place(one, step_id), _place(other, step_id)
    return here is None or there is None or here == there


def _place(ended: _Ended, step_id: StepId) -> tuple[str, str | None] | None:
    """Return what a run has at a step, or its end, to compare; None if it has nothing that can be compared."""
    if step_id == _END:
        return ended.end
    step = ended.steps.get(step_id)
    if step is None:
        return None
    if step.failure is not None:
        return "failure", step.failure.type_name
    return _known("value", values.digest(values.decode(step.value or b"", what=f"step {step_id!r}")))


def _known(kind: str, digest: str | None) -> tuple[str, str | None] | None:
    return None if digest is None else (kind, digest)


def _explained(first: _Ended, other: _Ended, differs: StepId, record: str, when: When) -> NonDeterminismError:
    if differs == _END:
        here, there = first.shown, other.shown
    else:
        here, there = described(first.steps[differs]), described(other.steps[differs])
    reason = (
        f"with the leader killed just {when} the record of {record}, {differs if differs == _END else step_text(differs)} "
        "differs from that without a fault, after the same steps"
    )
    cause = (
        "something that a step changed on its own node, and that is not in its result: an object that does not pickle, a global "
        "variable, an attribute of a class, a file. Return it from the step, or keep it where all nodes find it"
    )
    return NonDeterminismError(f"workflow {first.workflow!r}", Difference(reason, here, there, "", "", cause))
