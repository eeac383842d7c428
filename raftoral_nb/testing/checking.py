"""`check_determinism`: a workflow run again and again on the virtual clock, with a leader that dies at every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from ..errors import FaultPlanError, NonDeterminismError, StalledError, WorkflowFailedError
from ..model import StepId
from ..replaying import replay_run
from .workflow_tests import When, WorkflowTest

MAX_CHECKED_STEPS: Final = 100
"""Steps at which the leader is killed in one check; those of a longer run are taken at even distances."""

_WHENS: Final[tuple[When, ...]] = ("before", "after")


class Checked(msgspec.Struct, frozen=True):
    """What a check did that found no difference."""

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
    """Run a workflow with a failover at every step, on the virtual clock, and raise the first difference that shows.

    Once without a fault; then for each recorded step once with the leader killed just before the record, and once just
    after; it comes back each time, and replays. Each run is also replayed from its record as a whole. Steps have their
    effects every time: give functions without effects to put in their place, by key or step_id, as `replace`. Raises
    `NonDeterminismError` with both sides, the line and the likely cause, and `StalledError` if a run waits for what never
    comes. Not found: what differs only from process to process (the order of a set) or in months.

    >>> async def order(ctx, item):
    ...     return await ctx.compute("charge", lambda: f"{item} paid")
    >>> print(check_determinism(order, "A1"))
    order: no difference in 3 runs of 1 steps, in 2 of which the leader was killed
    """
    given = dict(replace or {})
    name, steps = _once(workflow, input, nodes, given, None)
    chosen = steps[:: 1 + (len(steps) - 1) // MAX_CHECKED_STEPS] if steps else ()
    failovers = 0
    for step in chosen:
        for when in _WHENS:
            try:
                _once(workflow, input, nodes, given, (step, when))
            except FaultPlanError:
                continue  # with other values of its steps the workflow took another way
            failovers += 1
    return Checked(name, len(steps), failovers)


def _once(
    workflow: Any,
    value: Any,
    nodes: int,
    given: Mapping[str, Callable[..., Any]],
    kill: tuple[StepId, When] | None,
) -> tuple[str, tuple[StepId, ...]]:
    with WorkflowTest(nodes) as test:
        run = test.start(workflow, value)
        for step, function in given.items():
            test.replace(step, function)
        if kill is not None:
            test.kill_leader_at(kill[0], when=kill[1], restart=True)
        try:
            test.finish(run)
        except WorkflowFailedError:
            test.settle()  # a failure is an end like any other
            test.raise_divergence(run)
        except (NonDeterminismError, StalledError) as error:
            if kill is not None:
                error.add_note(f"The leader was killed just {kill[1]} the record of step {kill[0]!r}.")
            raise
        replay_run(test.cluster.host.run_record(run.run_id))
        return run.workflow, tuple(step.step_id for step in run.steps)
