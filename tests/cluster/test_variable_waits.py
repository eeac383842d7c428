"""Waiting, from outside, for a value of a replicated variable; and the progress of a sweep in branches."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from raftoral_nb import (
    BlockingCallError,
    Cluster,
    ClusterError,
    CompletionTimeoutError,
    RunEndedError,
    RunNotFoundError,
    StepKeyError,
    WorkflowContext,
    WorkflowFailedError,
    current_cluster,
)
from raftoral_nb.testing import workflow_test
from tests.cluster.helpers import PATIENCE, in_thread


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(3, network="memory") as one:
        yield one


async def order(ctx: WorkflowContext, states: list[str]) -> str:
    status = await ctx.var("status", "new")
    while states:
        await ctx.receive("go")
        await status.set(states.pop(0))
        await status.set(states.pop(0))
    return status.value


def test_a_value_that_is_there_already_is_returned_at_once_and_one_to_come_is_waited_for(cluster: Cluster) -> None:
    run = cluster.start_workflow(order, ["packed", "sent"])
    assert run.wait_for_value("status", "new", timeout=PATIENCE) == "new"
    waits = in_thread(lambda: run.wait_for_value("status", lambda status: status == "sent", timeout=PATIENCE))
    run.signal("go")
    assert waits() == "sent"
    assert run.wait_for_completion(PATIENCE) == "sent"
    assert run.wait_for_value("status", "sent") == "sent"  # after the end, too


def test_a_value_that_lasts_for_a_moment_is_not_missed(cluster: Cluster) -> None:
    run = cluster.start_workflow(order, ["packed", "sent"])
    assert run.wait_for_value("status", "new", timeout=PATIENCE) == "new"
    looked = threading.Event()

    def packed(status: str) -> bool:
        looked.set()
        return status == "packed"

    waits = in_thread(lambda: run.wait_for_value("status", packed, timeout=PATIENCE))
    assert looked.wait(PATIENCE)
    run.signal("go")
    assert waits() == "packed"
    assert run.wait_for_completion(PATIENCE) == "sent"


def test_one_that_never_comes_ends_with_the_timeout_or_with_the_run(cluster: Cluster) -> None:
    run = cluster.start_workflow(order, ["packed", "sent"])
    with pytest.raises(CompletionTimeoutError, match=r"waited 0\.2 s .* never was what was waited for: it is 'new'"):
        run.wait_for_value("status", "lost", timeout=0.2)
    waits = in_thread(lambda: run.wait_for_value("status", "lost", timeout=PATIENCE))
    run.signal("go")
    with pytest.raises(RunEndedError, match=r"has ended \(completed\), and its variable 'status' .* it is 'sent'"):
        waits()
    with pytest.raises(RunEndedError, match="was never recorded"):
        run.wait_for_value("other", 1)


def test_what_is_no_variable_no_run_or_no_cluster_says_so(cluster: Cluster) -> None:
    run = cluster.start_workflow(order, ["packed", "sent"])
    with pytest.raises(StepKeyError):
        run.wait_for_value("", 1)
    with pytest.raises(ZeroDivisionError):
        run.wait_for_value("status", lambda _: 1 / 0, timeout=PATIENCE)
    with pytest.raises(RunNotFoundError):
        cluster.run("nobody").wait_for_value("status", 1)
    looked = threading.Event()
    waits = in_thread(lambda: run.wait_for_value("status", lambda _: looked.set(), timeout=PATIENCE))
    assert looked.wait(PATIENCE)
    cluster.stop()
    with pytest.raises(ClusterError, match="stopped"):
        waits()


def test_it_goes_on_across_the_death_of_the_leader(cluster: Cluster) -> None:
    run = cluster.start_workflow(order, ["packed", "sent"])
    assert run.wait_for_value("status", "new", timeout=PATIENCE) == "new"
    waits = in_thread(lambda: run.wait_for_value("status", "sent", timeout=PATIENCE))
    cluster.kill("leader")
    run.signal("go")
    assert waits() == "sent"


def test_it_can_be_awaited_on_a_loop_which_runs_meanwhile(cluster: Cluster) -> None:
    async def main() -> list[Any]:
        run = cluster.start_workflow(order, ["packed", "sent", "back", "lost"])
        waits = [asyncio.ensure_future(run.wait_for("status", to, timeout=PATIENCE)) for to in ("new", "packed")]
        found = [await waits[0]]
        with pytest.raises(CompletionTimeoutError):
            await run.wait_for("status", "sent", timeout=0.05)
        await asyncio.to_thread(run.signal, "go")
        found.append(await waits[1])
        found.append(await run.wait_for("status", lambda status: status == "sent", timeout=PATIENCE))
        return found

    assert asyncio.run(main()) == ["new", "packed", "sent"]


def test_in_a_workflow_it_is_refused_and_names_what_there_is(cluster: Cluster) -> None:
    async def peeks(ctx: WorkflowContext, _: None) -> Any:
        return await current_cluster().run("other").wait_for("status", 1)  # type: ignore[union-attr]

    other = cluster.start_workflow(order, ["packed", "sent"], run_id="other")
    with pytest.raises(WorkflowFailedError, match="send this one a signal") as caught:
        cluster.start_workflow(peeks).wait_for_completion(PATIENCE)
    assert isinstance(caught.value.__cause__, BlockingCallError)
    other.terminate()


def test_on_a_virtual_clock_time_passes_up_to_the_value_and_no_further() -> None:
    async def slow(ctx: WorkflowContext, _: None) -> None:
        done = await ctx.var("done", 0)
        while True:
            await ctx.sleep(3600)
            await done.update(lambda number: number + 1)

    with workflow_test() as test:
        run = test.start(slow)
        began = test.now
        assert run.wait_for_value("done", lambda done: done >= 3) == 3
        assert (test.now - began).total_seconds() == pytest.approx(3 * 3600, abs=1)
        run.terminate()


def test_the_progress_of_a_sweep_follows_a_counter_that_its_branches_update() -> None:
    async def sweep(ctx: WorkflowContext, count: int) -> int:
        done = await ctx.var("done", 0)

        async def one(ctx: WorkflowContext, item: int) -> None:
            await ctx.sleep(60 * (item + 1))
            await done.update(lambda number: number + 1)

        await ctx.map(one, range(count))
        return done.value

    with workflow_test() as test:
        run = test.start(sweep, 4, run_id="sweep-1")
        test.settle()
        told = []
        for _ in range(5):
            told.append(str(run.progress("done", total=4)))
            test.advance(60)
        assert test.finish(run) == 4
    assert told == [
        "sweep-1 done ░░░░░░░░░░░░░░░░░░░░ 0 of 4",
        "sweep-1 done █████░░░░░░░░░░░░░░░ 1 of 4",
        "sweep-1 done ██████████░░░░░░░░░░ 2 of 4",
        "sweep-1 done ███████████████░░░░░ 3 of 4",
        "sweep-1 done ████████████████████ 4 of 4",
    ]
