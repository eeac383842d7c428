"""The test helper for users: time, faults and failures at chosen steps, on a virtual clock."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from raftoral_nb import (
    BlockingCallError,
    CompletionTimeoutError,
    FaultPlanError,
    NonDeterminismError,
    RaftoralError,
    StalledError,
    WorkflowContext,
    WorkflowFailedError,
    current_cluster,
)
from raftoral_nb.testing import WorkflowTest, workflow_test

DAY = 86_400.0


async def order(ctx: WorkflowContext, item: str) -> list[str]:
    price = await ctx.compute("price", lambda: "price")
    charge = await ctx.compute("charge", lambda: "charge")
    return [item, price, charge]


async def slow(days: float) -> float:
    await anyio.sleep(days * DAY)
    return days


async def sleeper(ctx: WorkflowContext, days: float) -> float:
    await ctx.compute("before", lambda: 1)
    slept = await ctx.compute("sleep", slow, days)
    await ctx.compute("after", lambda: 2)
    return slept


async def patient(ctx: WorkflowContext, tries: int) -> int:
    for number in range(tries):
        try:
            return await ctx.compute("try", abs, number)
        except ConnectionError:
            continue
    return -1


async def differs(ctx: WorkflowContext, odd: int) -> int:
    await ctx.compute("odd" if ctx.node == odd else "even", lambda: 1)
    return await ctx.compute("last", lambda: 2)


async def waits_for_ever(ctx: WorkflowContext, _: None) -> None:
    await ctx.compute("never", asyncio.Event().wait)


# --- runs and time


def test_a_workflow_begins_only_when_the_test_waits_for_it() -> None:
    with workflow_test() as test:
        run = test.start(order, "A1")
        assert run.steps == ()
        assert test.finish(run) == ["A1", "price", "charge"]
        assert test.effects("charge") == 1


@pytest.mark.skipif(
    sys.platform == "emscripten", reason="a loop of the browser's runs there, and asyncio.run() none beside it"
)
def test_runs_are_started_together_and_by_an_awaited_call_on_the_virtual_clock() -> None:
    with workflow_test() as test:
        first = test.cluster.start_many(order, ["tea", "coffee"], run_ids=["a", "b"])

        async def more() -> list[str]:
            one = await test.cluster.start_workflow_async(order, "milk")
            many = await test.cluster.start_many_async("order", ["rum", "gin"])
            return [run.run_id for run in (one, *many)]

        started = asyncio.run(more())
        assert started == ["order-1", "order-2", "order-3"]
        assert [run.wait_for_completion() for run in first] == [[item, "price", "charge"] for item in ("tea", "coffee")]
        assert [test.cluster.run(run_id).wait_for_completion()[0] for run_id in started] == ["milk", "rum", "gin"]


def test_thirty_days_pass_without_a_heartbeat_and_the_clock_shows_them() -> None:
    with workflow_test() as test:
        began = test.now
        assert test.finish(test.start(sleeper, 30.0)) == 30.0
        assert dt.timedelta(days=30) <= test.now - began < dt.timedelta(days=30, seconds=1)


def test_a_run_can_be_followed_through_time() -> None:
    with workflow_test() as test:
        run = test.start(sleeper, 2.0)
        test.settle()
        assert [step.key for step in run.steps] == ["before"]
        test.advance(dt.timedelta(days=1))
        assert [step.key for step in run.steps] == ["before"]
        test.advance(1.5 * DAY)
        assert run.status == "completed"
        assert test.finish(run) == 2.0


def test_the_clock_starts_where_the_test_says() -> None:
    start = dt.datetime(2031, 5, 1, 12, tzinfo=dt.UTC)
    with workflow_test(start=start) as test:
        assert dt.timedelta(0) <= test.now - start < dt.timedelta(seconds=1)
    with pytest.raises(RaftoralError, match="needs a time zone"):
        workflow_test(start=dt.datetime(2031, 5, 1))  # noqa: DTZ001


def test_what_can_never_end_is_said_at_once() -> None:
    with workflow_test() as test:
        run = test.start(waits_for_ever, None)
        with pytest.raises(StalledError, match="cannot end: nothing is left to wait for"):
            test.finish(run)
        assert run.status == "running"


def test_without_a_majority_it_is_said_that_nobody_leads() -> None:
    with workflow_test(nodes=5) as test:
        run = test.start(order, "A1")
        for number in (1, 2, 3):
            test.kill(number)
        with pytest.raises(StalledError, match="a majority of the nodes must run"):
            test.finish(run)
        test.restart(1)
        assert test.finish(run) == ["A1", "price", "charge"]


def test_a_call_that_waits_for_the_cluster_is_refused_inside_a_workflow() -> None:
    with workflow_test() as test:

        def inside(*_: Any) -> None:
            test.advance(1.0)

        run = test.start(order, "A1")
        test.replace("price", inside)
        with pytest.raises(WorkflowFailedError, match=BlockingCallError.__name__):
            test.finish(run)


# --- faults


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["charge", "1/charge", 1, "price"])
def test_the_leader_killed_at_a_step_costs_at_most_that_steps_effect(step: str | int, when: Any) -> None:
    with workflow_test() as test:
        run = test.start(order, "A1")
        test.kill_leader_at(step, when=when)
        leader = test.cluster.leader
        assert test.finish(run) == ["A1", "price", "charge"]
        assert leader is not None
        assert test.cluster.leader != leader
        assert not test.cluster.nodes[leader].alive
        assert test.effects(step) == (2 if when == "before" else 1)


def test_a_leader_killed_at_every_step_comes_back_each_time() -> None:
    with workflow_test() as test:
        run = test.start(order, "A1")
        for step in ("price", "charge"):
            test.kill_leader_at(step, restart=True)
            test.kill_leader_at(step, when="after", restart=True)
        assert test.finish(run) == ["A1", "price", "charge"]
        assert all(node.alive for node in test.cluster.nodes.values())
        assert test.cluster.statistics().leader_changes >= 4


def test_a_killed_leader_does_not_make_a_sleep_start_anew_for_who_sleeps_in_virtual_time() -> None:
    with workflow_test() as test:
        run = test.start(sleeper, 30.0)
        test.kill_leader_at("after")
        began = test.now
        test.finish(run)
        assert test.now - began < dt.timedelta(days=30, seconds=5)


def test_a_step_fails_as_often_as_the_test_says() -> None:
    with workflow_test() as test:
        run = test.start(patient, 3)
        test.fail("try", ConnectionError("away"), times=2)
        assert test.finish(run) == 2
        always = test.start(patient, 3)
        test.fail("try", ConnectionError, times=None, run=always)
        assert test.finish(always) == -1
        assert test.effects("try", always) == 3


def test_a_failure_that_the_workflow_does_not_handle_fails_the_run() -> None:
    with workflow_test() as test:
        run = test.start(order, "A1")
        test.fail("charge", ValueError("no money"))
        with pytest.raises(WorkflowFailedError, match="no money"):
            test.finish(run)


def test_a_replacement_gets_the_steps_arguments_and_may_close_over_the_tests_own_list() -> None:
    seen: list[Any] = []

    def instead(days: float) -> float:
        seen.append(days)
        return 7.0

    with workflow_test() as test:
        run = test.start(sleeper, 30.0)
        test.replace("sleep", instead)
        assert test.finish(run) == 7.0
    assert seen == [30.0]


def test_a_fault_that_never_came_is_an_error_of_the_test() -> None:
    test = workflow_test().__enter__()
    test.kill_leader_at("chrage")
    assert test.finish(test.start(order, "A1")) == ["A1", "price", "charge"]
    with pytest.raises(FaultPlanError, match="no run came to step 'chrage'"):
        test.__exit__(None, None, None)


def test_a_fault_at_a_step_that_is_recorded_already_is_refused() -> None:
    with workflow_test() as test:
        run = test.start(order, "A1")
        test.finish(run)
        for fault in (test.kill_leader_at, test.fail):
            with pytest.raises(FaultPlanError, match="is recorded already"):
                fault("charge", run=run)
        with pytest.raises(FaultPlanError, match="is 'before' or 'after'"):
            test.kill_leader_at("charge", when="during")  # type: ignore[arg-type]
        with pytest.raises(FaultPlanError, match="a step is named by"):
            test.kill_leader_at(1.5)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::raftoral_nb.NonDeterminismWarning")
def test_a_run_that_completed_though_a_node_diverged_fails_the_test() -> None:
    with workflow_test() as test:
        odd = next(number for number in test.cluster.nodes if number != test.cluster.leader)
        run = test.start(differs, odd)
        with pytest.raises(NonDeterminismError, match=f"node {odd} diverged"):
            test.finish(run)
        assert run.status == "completed"


def test_all_that_a_cluster_does_to_nodes_works_on_the_virtual_clock() -> None:
    with workflow_test() as test:
        run = test.start(order, "A1")
        held = next(number for number in test.cluster.nodes if number != test.cluster.leader)
        test.cluster.hold(held)
        assert test.finish(run) == ["A1", "price", "charge"]
        test.cluster.release(held)
        paused = test.cluster.pause("leader")
        assert test.cluster.wait_for_leader() != paused
        test.cluster.resume(paused)
        assert test.cluster.nodes[held].result(run.run_id) == ["A1", "price", "charge"]
        with pytest.raises(CompletionTimeoutError):
            test.cluster.nodes[held].result(test.start(sleeper, 30.0).run_id, timeout=60.0)


# --- how it runs


def trace() -> list[str]:
    with workflow_test(nodes=5, seed=3) as test:
        run = test.start(order, "A1")
        test.kill_leader_at("charge", restart=True)
        test.finish(run)
        times = test.now.isoformat()
        return [times, *(repr(event) for _, event in test.cluster.history())]


def test_the_same_test_does_the_same_every_time() -> None:
    assert trace() == trace()


def test_no_thread_is_started_and_no_cluster_becomes_the_current_one() -> None:
    before = threading.active_count()
    with workflow_test() as test:
        test.finish(test.start(order, "A1"))
        assert threading.active_count() == before
        assert current_cluster() is not test.cluster


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
def test_an_async_test_may_use_it_within_its_own_loop(anyio_backend: str) -> None:
    async def main() -> None:
        async with workflow_test() as test:
            run = test.start(sleeper, 30.0)
            test.kill_leader_at("after")
            assert await test.finished(run) == 30.0
            assert await run == 30.0
        await anyio.lowlevel.checkpoint()

    anyio.run(main, backend=anyio_backend)


def test_the_fixture_comes_with_the_plugin(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        textwrap.dedent(
            """
            async def greet(ctx, name):
                return await ctx.compute("greeting", str.upper, f"hello {name}")

            def test_it(workflow_test):
                workflow_test.kill_leader_at("greeting")
                assert workflow_test.finish(workflow_test.start(greet, "world")) == "HELLO WORLD"
            """
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "raftoral_nb.testing.plugin", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_the_package_does_not_import_pytest() -> None:
    code = "import sys, raftoral_nb.testing, raftoral_nb.api.cluster; assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_a_test_that_was_stopped_says_so() -> None:
    with workflow_test() as test:
        run = test.start(order, "A1")
    with pytest.raises(RaftoralError, match="stopped"):
        test.finish(run)
    assert isinstance(test, WorkflowTest)


def test_an_update_is_answered_without_the_clock_moving_to_the_end_of_the_run() -> None:
    async def counting(ctx: Any, number: int) -> int:
        async def add(value: int) -> int:
            nonlocal number
            number += await ctx.compute("checked", int, value)
            return number

        ctx.on_update("add", add)
        await ctx.receive("end", timeout=86_400, default=None)
        return number

    with workflow_test() as test:
        run = test.start(counting, 1)
        began = test.now
        assert [run.update("add", 2), run.update("add", 3)] == [3, 6]
        assert run.status == "running"
        assert test.now - began < dt.timedelta(seconds=1)
        assert test.finish(run) == 6
        assert test.now - began >= dt.timedelta(days=1)
