"""What is shown of an execution that differs: both sides, the line, the likely cause; and runs that are held."""

from __future__ import annotations

import re
import time
from typing import Any

import anyio
import pytest

from raftoral_nb import ExecutionStopped, NonDeterminismError, RunHeld, WorkflowContext, WorkflowRun
from raftoral_nb.core.records import Difference
from raftoral_nb.testing import WorkflowTest, workflow_test

pytestmark = pytest.mark.filterwarnings("ignore::raftoral_nb.NonDeterminismWarning")

CODE: dict[str, Any] = {}
"""Stands for code that is another one than it was: what the workflows below read from it changes while they run."""


@pytest.fixture(autouse=True)
def fresh_code() -> None:
    CODE.clear()
    CODE.update(key="charge", ticks=iter(range(1000)), var=0, more=False)


async def hours(number: int) -> int:
    await anyio.sleep(number * 3600.0)
    return number


async def order(ctx: WorkflowContext, _: None) -> int:
    await ctx.compute(CODE["key"], lambda: 41)
    return await ctx.compute("wait", hours, 1)


async def ticking(ctx: WorkflowContext, _: None) -> float:
    now = time.time() + next(CODE["ticks"])
    seen = await ctx.var("now", now)
    return float(seen.value)


def restart_all(test: WorkflowTest, run: WorkflowRun[Any]) -> None:
    for number in list(test.cluster.nodes):
        test.kill(number)
        test.restart(number)
        test.settle()


def difference_of(test: WorkflowTest) -> Difference:
    found = [event for _, event in test.cluster.history() if isinstance(event, ExecutionStopped)]
    assert found
    assert found[0].difference is not None
    return found[0].difference


def test_both_sides_the_line_and_the_likely_cause_are_shown() -> None:
    with workflow_test() as test:
        run = test.start(order, None)
        test.settle()
        CODE["key"] = "refund"
        follower = next(number for number in test.cluster.nodes if number != test.cluster.leader)
        test.kill(follower)
        test.restart(follower)
        test.settle()
        found = difference_of(test)
        assert found.recorded == "compute '0/charge' = 41"
        assert found.asked == "compute '0/refund'"
        assert found.where.startswith("test_divergence_shown.py:")
        assert found.where.endswith(" in order")
        assert found.line == 'await ctx.compute(CODE["key"], lambda: 41)'
        assert found.cause.startswith("nothing in the code that the check knows of")
        with pytest.raises(NonDeterminismError, match=r"recorded: +compute '0/charge' = 41") as caught:
            test.cluster.nodes[follower].result(run.run_id)
        assert caught.value.difference == found
        assert run.held is None


def test_the_cause_is_the_last_finding_before_the_line_that_asked() -> None:
    with workflow_test() as test:
        run = test.start(ticking, None)
        with pytest.raises(NonDeterminismError, match="likely cause") as caught:
            test.finish(run)
        found = difference_of(test)
        assert caught.value.difference == found
        assert found.asked.startswith("var 'now' = ")
        assert found.recorded.startswith("var 'now' = ")
        assert found.asked != found.recorded
        assert "time.time(): every node, and every replay, reads another time. Instead: await ctx.now()" in found.cause
        assert found.line == 'seen = await ctx.var("now", now)'


def test_a_run_from_which_every_node_diverged_is_held_and_shown_so() -> None:
    with workflow_test() as test:
        run = test.start(order, None)
        test.settle()
        CODE["key"] = "refund"
        restart_all(test, run)
        assert run.status == "running"
        assert run.held is not None
        assert run.held.asked == "compute '0/refund'"
        assert test.statistics().runs[run.run_id].held == run.held
        held = [event for _, event in test.cluster.history() if isinstance(event, RunHeld)]
        assert [one.run_id for one in held] == [run.run_id]
        with pytest.raises(NonDeterminismError, match="is held"):
            test.finish(run)


def test_a_held_run_goes_on_with_a_node_that_fits_again() -> None:
    with workflow_test() as test:
        run = test.start(order, None)
        test.settle()
        CODE["key"] = "refund"
        restart_all(test, run)
        assert run.held is not None
        CODE["key"] = "charge"
        test.kill("leader")
        test.restart(next(number for number, node in test.cluster.nodes.items() if not node.alive))
        test.settle()
        assert run.held is None


def test_results_that_differ_are_shown_both() -> None:
    async def tells_where(ctx: WorkflowContext, _: None) -> str:
        return f"node {vars(ctx)['_node']}"

    with workflow_test() as test:
        run = test.start(tells_where, None)
        with pytest.raises(NonDeterminismError) as caught:
            test.finish(run)
        assert re.search(r"it is 'node \d', and 'node \d' there", str(caught.value))
