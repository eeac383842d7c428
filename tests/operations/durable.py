"""What tests of forms share: a run with faults at every record, whose nodes must all have seen the same, in the same order.

A workflow keeps a journal of what it saw, and answers the query "journal" with it. Where branches share state, what is in the journal may
depend on the order of the records, and that on the faults; it may not depend on the node, nor on whether a node replays.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from typing import Any, Final

from raftoral_nb import NonDeterminismWarning, WorkflowContext, WorkflowFailedError, WorkflowRun
from raftoral_nb.testing import WorkflowTest, workflow_test
from raftoral_nb.testing.workflow_tests import When

WHENS: Final[tuple[When, ...]] = ("before", "after")
MOMENTS: Final = 4
"""Times at which all nodes are killed and come back from their journals, a second of the workflows' clock apart."""

Meddle = Callable[[WorkflowRun[Any], WorkflowTest], None]


def nothing(run: WorkflowRun[Any], test: WorkflowTest) -> None:
    """Do nothing to a run from outside."""


def words(run: WorkflowRun[Any], test: WorkflowTest) -> None:
    """Send three signals."""
    for number in range(3):
        run.signal("word", number)


def journal(ctx: WorkflowContext) -> list[Any]:
    """Return an empty journal that the query "journal" shows."""
    seen: list[Any] = []
    ctx.on_query("journal", lambda: list(seen))
    return seen


async def echo(value: Any) -> Any:
    """A step that takes no time, and lets others run."""
    await asyncio.sleep(0)
    return value


async def count(ctx: WorkflowContext, shared: dict[str, Any], name: str) -> None:
    """Fetch, take a step, then store: what gets lost between branches is up to the order, and must be the same everywhere."""
    before = shared.get("count", 0)
    shared[name] = await ctx.compute(name, echo, name)
    shared["count"] = before + 1
    shared.setdefault("order", []).append((name, shared["count"]))


def same_everywhere(run: WorkflowRun[Any], test: WorkflowTest) -> list[Any]:
    """Return the journal, after checking that every node has it."""
    seen = {number: run.query("journal", node=number) for number, node in test.cluster.nodes.items() if node.alive}
    first = next(iter(seen.values()))
    assert all(one == first for one in seen.values()), seen
    assert len(seen) == 3
    return list(first)


def restart_all(test: WorkflowTest) -> None:
    """Kill all nodes at once, and start them again from their journals."""
    numbers = list(test.cluster.nodes)
    for number in numbers:
        test.kill(number)
    for number in numbers:
        test.restart(number)


def once(
    workflow: Any, meddle: Meddle, kill: tuple[int, When] | None = None, *, restarts: int = 0
) -> tuple[Any, list[Any], tuple[str, ...]]:
    """Run it, and return the result, the journal and the records."""
    with warnings.catch_warnings(), workflow_test() as test:
        # What the look at code says of such forms is tested elsewhere.
        warnings.simplefilter("ignore", NonDeterminismWarning)
        run = test.start(workflow, None, run_id="run")
        if kill is not None:
            test.kill_leader_at(kill[0], when=kill[1], run=run, restart=True)
        meddle(run, test)
        for _ in range(restarts):
            test.settle()
            before = run.query("journal")
            restart_all(test)
            test.advance(1.0)
            now = run.query("journal")
            assert now[: len(before)] == before
        result = ended(run, test)
        seen = same_everywhere(run, test)
        records = test.recorded_of(run)
        if kill is None:
            # What the first executions saw, replays see.
            restart_all(test)
            assert ended(run, test) == result
            assert same_everywhere(run, test) == seen
            assert test.recorded_of(run) == records
        return result, seen, records


def ended(run: WorkflowRun[Any], test: WorkflowTest) -> Any:
    """Let the run come to its end on every node; return its result, or the type of its failure."""
    try:
        return test.finish(run)
    except WorkflowFailedError as error:
        test.settle()
        test.raise_divergence(run)
        return error.failure.type_name


def check(workflow: Any, meddle: Meddle = nothing) -> tuple[Any, list[Any], tuple[str, ...]]:
    """Run a workflow without a fault, with all nodes restarted again and again, and with the leader killed before and after each record.

    Its result must be the same each time, and its journal the same on all nodes.
    """
    result, seen, records = once(workflow, meddle)
    assert once(workflow, meddle, restarts=MOMENTS)[0] == result
    for place, record in enumerate(records):
        for when in WHENS:
            assert once(workflow, meddle, (place, when))[0] == result, (record, when)
    return result, seen, records
