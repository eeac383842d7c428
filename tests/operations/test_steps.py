"""Steps with retries, timeouts, progress and at-most-once, also while leaders die."""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftoral_nb import (
    BadArgumentError,
    Cluster,
    EffectStarted,
    OutcomeUnknown,
    Retry,
    StepKeyError,
    StepProgress,
    StepRetrying,
    StepTimeoutError,
    WorkflowCancelledError,
    WorkflowContext,
    WorkflowDefinitionError,
    WorkflowFailedError,
    WrongTaskError,
    current_step,
    step,
)
from raftoral_nb.limits import MAX_CANCEL_SECONDS
from raftoral_nb.testing import workflow_test
from tests.cluster.helpers import PATIENCE, Watch, gate, note, notes

SOON = Retry(attempts=4, first_wait=0.001, max_wait=0.002)


class Declined(Exception):  # noqa: N818
    """What a service says for good."""


def flaky(failures: int, error: type[Exception] = ConnectionError) -> int:
    note("called")
    if notes().count("called") <= failures:
        raise error("not now")
    return notes().count("called")


def results(cluster: Cluster, run_id: str) -> list[Any]:
    return [node.result(run_id, timeout=PATIENCE) for node in cluster.nodes.values() if node.alive]


# --- retries


def test_a_step_is_tried_again_until_it_succeeds_and_every_attempt_is_told(cluster: Cluster) -> None:
    async def patient(ctx: WorkflowContext, _: None) -> int:
        return await ctx.compute("flaky", step(flaky, retry=SOON), 2)

    with Watch(cluster) as watch:
        run = cluster.start_workflow(patient)
        assert run.wait_for_completion(PATIENCE) == 3
        watch.until(StepRetrying, times=2)
        told = watch.of(StepRetrying)
    assert [(event.attempt, event.step_id, event.failure) for event in told] == [
        (1, "0/flaky", "ConnectionError: not now"),
        (2, "0/flaky", "ConnectionError: not now"),
    ]
    assert all(0.0 < event.seconds <= 0.002 for event in told)
    lines = [line.text for line in cluster.log(run.run_id) if line.stream == "engine"]
    assert len(lines) == 2
    assert "attempt 1 of 4 failed with ConnectionError: not now; again in" in lines[0]
    assert results(cluster, run.run_id) == [3, 3, 3]
    assert len(run.steps) == 1


def test_the_last_exception_is_raised_when_the_attempts_are_used_up(cluster: Cluster) -> None:
    async def hopeless(ctx: WorkflowContext, _: None) -> str:
        try:
            await ctx.compute("flaky", step(flaky, retry=SOON), 100)
        except ConnectionError as error:
            return f"{error} {error.__notes__}"
        return "no"

    run = cluster.start_workflow(hopeless)
    assert run.wait_for_completion(PATIENCE) == "not now [\"(step '0/flaky' was given up after attempt 4)\"]"
    assert notes() == ["called"] * 4


@pytest.mark.parametrize(
    "retry",
    [
        Retry(attempts=9, first_wait=0, final=(Declined,)),
        Retry(attempts=9, first_wait=0, on=(ConnectionError,)),
        Retry(attempts=1),
        None,
    ],
)
def test_a_final_exception_is_not_tried_again(cluster: Cluster, retry: Retry | None) -> None:
    async def declined(ctx: WorkflowContext, _: None) -> str:
        with pytest.raises(Declined):
            await ctx.compute("flaky", step(flaky, retry=retry), 100, Declined)
        return "declined"

    assert cluster.start_workflow(declined).wait_for_completion(PATIENCE) == "declined"
    assert notes() == ["called"]


def fails_at_gate(name: str) -> str:
    note(name)
    if gate(name).enter():
        raise ConnectionError("the first one fails")
    return "second"


@pytest.mark.parametrize("fault", ["kill", "pause"])
def test_a_new_leader_counts_attempts_from_one(cluster: Cluster, fault: str) -> None:
    async def tries(ctx: WorkflowContext, _: None) -> list[int]:
        def attempt() -> int:
            note(current_step().attempt)
            if len(notes()) == 2:
                gate("attempt").enter()
            if len(notes()) < 5:
                raise ConnectionError
            return current_step().attempt

        return [await ctx.compute("attempt", step(attempt, retry=SOON))]

    run = cluster.start_workflow(tries)
    gate("attempt").await_arrival()
    deposed = cluster.kill("leader") if fault == "kill" else cluster.pause("leader")
    assert run.wait_for_completion(PATIENCE) == [3]
    assert notes() == [1, 2, 1, 2, 3]
    gate("attempt").open()
    if fault == "pause":
        cluster.resume(deposed)
        assert cluster.nodes[deposed].result(run.run_id, timeout=PATIENCE) == [3]


@given(st.integers(1, 5000), st.floats(0, 1), st.floats(0, 10), st.floats(1, 10), st.floats(0, 100), st.floats(0, 1))
def test_waits_grow_up_to_the_longest_and_jitter_only_shortens_them(
    attempt: int, chance: float, first: float, factor: float, longest: float, jitter: float
) -> None:
    retry = Retry(first_wait=first, factor=factor, max_wait=longest, jitter=jitter)
    exact = Retry(first_wait=first, factor=factor, max_wait=longest, jitter=0)
    whole = exact.wait(attempt, chance)
    assert 0 <= retry.wait(attempt, chance) <= whole <= longest
    assert retry.wait(attempt, chance) >= whole * (1 - jitter) * (1 - 1e-9)
    assert exact.wait(attempt + 1, chance) >= whole


# --- timeouts


async def hangs() -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        note("cancelled")
        raise


def test_an_async_step_is_cancelled_when_its_timeout_passes(cluster: Cluster) -> None:
    async def hasty(ctx: WorkflowContext, _: None) -> str:
        try:
            await ctx.compute("hangs", step(hangs, timeout=0.02))
        except StepTimeoutError as error:
            return str(error)
        return "no"

    run = cluster.start_workflow(hasty)
    assert "step '0/hangs' took longer than its timeout of 0.02 s" in run.wait_for_completion(PATIENCE)
    assert notes() == ["cancelled"]
    assert len(set(results(cluster, run.run_id))) == 1


async def stubborn() -> None:
    while True:
        try:
            await asyncio.sleep(0.5)
        except asyncio.CancelledError:
            note("told")


def test_an_async_step_that_swallows_its_cancellation_is_told_once_abandoned_and_named_by_stop() -> None:
    async def patient(ctx: WorkflowContext, _: None) -> str:
        with pytest.raises(StepTimeoutError, match="it swallowed its cancellation and was abandoned"):
            await ctx.compute("hangs", step(stubborn, timeout=0.02))
        return await ctx.compute("next", str, "went on")

    with Cluster(1) as cluster:
        run = cluster.start_workflow(patient)
        assert run.wait_for_completion(PATIENCE) == "went on"
        began = time.monotonic()
        report = cluster.stop()
        assert time.monotonic() - began < MAX_CANCEL_SECONDS + 2
    assert any(f"{run.run_id}/0/hangs (a task, abandoned) at test_steps.py" in one for one in report.stuck)
    assert notes() == ["told"]


def test_a_run_whose_step_swallows_its_cancellation_can_be_cancelled() -> None:
    async def patient(ctx: WorkflowContext, _: None) -> None:
        await ctx.compute("hangs", stubborn)

    with Cluster(1) as cluster:
        with Watch(cluster) as watch:
            run = cluster.start_workflow(patient)
            watch.until(EffectStarted)
        run.cancel("enough")
        with pytest.raises(WorkflowCancelledError, match="enough"):
            run.wait_for_completion(PATIENCE)
        report = cluster.stop()
    assert any(f"{run.run_id}/0/hangs" in one for one in report.stuck)
    assert notes() == ["told"]


def test_on_a_virtual_clock_a_stubborn_step_is_abandoned_after_exactly_the_grace_period() -> None:
    async def patient(ctx: WorkflowContext, _: None) -> float:
        before = await ctx.now()
        with pytest.raises(StepTimeoutError):
            await ctx.compute("hangs", step(stubborn, timeout=10))
        return (await ctx.now() - before).total_seconds()

    with workflow_test() as test:
        assert test.finish(test.start(patient)) == 10 + MAX_CANCEL_SECONDS
        report = test.cluster.stop()
    assert any("/0/hangs (a task, abandoned)" in one for one in report.stuck)
    assert notes() == ["told"]


def test_a_synchronous_step_is_abandoned_when_its_timeout_passes_and_its_result_dropped() -> None:
    async def hasty(ctx: WorkflowContext, _: None) -> str:
        with pytest.raises(TimeoutError, match="its thread was abandoned"):
            await ctx.compute("hangs", step(fails_at_gate, timeout=0.02), "timeout")
        return await ctx.compute("next", str, "went on")

    with Cluster(1) as cluster:
        run = cluster.start_workflow(hasty)
        assert run.wait_for_completion(PATIENCE) == "went on"
        recorded = run.steps
        report = cluster.stop()
        assert any(f"{run.run_id}/0/hangs" in one and "abandoned" in one for one in report.stuck)
        assert [step.key for step in recorded] == ["hangs", "next"]
        gate("timeout").open()


def test_every_attempt_has_the_whole_timeout_and_one_that_took_too_long_is_tried_again(cluster: Cluster) -> None:
    async def second_time() -> str:
        note("called")
        if len(notes()) == 1:
            await asyncio.Event().wait()
        return "done"

    async def hasty(ctx: WorkflowContext, _: None) -> str:
        return await ctx.compute("slow", step(second_time, timeout=0.05, retry=SOON))

    with Watch(cluster) as watch:
        assert cluster.start_workflow(hasty).wait_for_completion(PATIENCE) == "done"
        assert "StepTimeoutError" in watch.until(StepRetrying).failure


# --- at most once


def counted(name: str) -> str:
    note(name)
    gate(name).enter()
    return f"{name} done"


async def once(ctx: WorkflowContext, name: str) -> str:
    try:
        return await ctx.compute("once", step(counted, at_most_once=True), name)
    except OutcomeUnknown as error:
        return f"unknown: {error.step_id} {error.idempotency_key}"


def test_a_step_at_most_once_records_its_intent_and_then_its_result(cluster: Cluster) -> None:
    gate("plain").open()
    run = cluster.start_workflow(once, "plain")
    assert run.wait_for_completion(PATIENCE) == "plain done"
    assert [(one.step_id, one.operation) for one in run.steps] == [("0.0.0/intent", "intent"), ("0/once", "compute")]
    assert results(cluster, run.run_id) == ["plain done"] * 3


@pytest.mark.parametrize("fault", ["kill", "pause", "kill all"])
def test_a_step_at_most_once_is_not_run_again_when_its_node_is_lost_and_all_nodes_are_told(
    cluster: Cluster, fault: str
) -> None:
    run = cluster.start_workflow(once, "lost")
    gate("lost").await_arrival()
    if fault == "kill all":
        lost = 1
        for number in cluster.nodes:
            cluster.kill(number)
        for number in cluster.nodes:
            cluster.restart(number)
    else:
        lost = cluster.kill("leader") if fault == "kill" else cluster.pause("leader")
    expected = f"unknown: 0/once {run.run_id}/0/once"
    assert run.wait_for_completion(PATIENCE) == expected
    gate("lost").open()
    if fault == "kill":
        cluster.restart(lost)
    if fault == "pause":
        cluster.resume(lost)
    assert results(cluster, run.run_id) == [expected] * 3
    assert notes() == ["lost"]


def test_a_step_at_most_once_that_raises_has_failed_and_is_not_unknown(cluster: Cluster) -> None:
    async def raising(ctx: WorkflowContext, _: None) -> str:
        with pytest.raises(Declined):
            await ctx.compute("once", step(flaky, at_most_once=True), 5, Declined)
        return "declined"

    assert cluster.start_workflow(raising).wait_for_completion(PATIENCE) == "declined"


# --- progress


@pytest.mark.parametrize("asynchronous", [True, False])
def test_progress_is_shown_live_in_events_and_statistics_and_is_not_recorded(
    cluster: Cluster, asynchronous: bool
) -> None:
    async def fits(ctx: WorkflowContext, asynchronous: bool) -> str:
        def fit() -> str:
            for epoch in range(1, 2001):
                ctx.progress(epoch / 4000, f"epoch {epoch}")
            gate("half").enter()
            current_step().progress(1)
            return current_step().idempotency_key

        async def afit() -> str:
            current_step().progress(0.5, "epoch 2000")
            await asyncio.to_thread(gate("half").enter)
            return fit()

        return await ctx.compute("fit", afit if asynchronous else fit)

    with Watch(cluster) as watch:
        run = cluster.start_workflow(fits, asynchronous)
        gate("half").await_arrival()
        leader = cluster.wait_for_leader()
        (activity,) = cluster.nodes[leader].statistics().runs[run.run_id].activities
        assert (activity.step_id, activity.attempt, activity.fraction, activity.text) == ("0/fit", 1, 0.5, "epoch 2000")
        gate("half").open()
        assert run.wait_for_completion(PATIENCE) == f"{run.run_id}/0/fit"
        last = watch.until(StepProgress, lambda event: event.fraction == 1)
        assert (last.node, last.run_id, last.step_id, last.text) == (leader, run.run_id, "0/fit", "")
        assert watch.of(StepProgress)[0].text in ("epoch 1", "epoch 2000")
        assert len(watch.of(StepProgress)) < 1000
    assert len(run.steps) == 1
    assert cluster.nodes[leader].statistics().runs[run.run_id].activities == ()


def test_progress_outside_of_a_step_and_of_the_wrong_kind_is_refused(cluster: Cluster) -> None:
    async def misuse(ctx: WorkflowContext, _: None) -> list[str]:
        with pytest.raises(WrongTaskError, match="no step is running here"):
            ctx.progress(0.5)

        def bad() -> list[str]:
            said = []
            for arguments in ((2,), (-0.1,), ("half",), (float("nan"),), (None,), (0.5, 7)):
                try:
                    ctx.progress(*arguments)
                except BadArgumentError as error:
                    said.append(str(error))
            return said

        return await ctx.compute("bad", bad)

    said = cluster.start_workflow(misuse).wait_for_completion(PATIENCE)
    assert len(said) == 6
    assert "got 'half'" in said[2]
    with pytest.raises(WrongTaskError):
        current_step()


# --- the decorator


@step
async def add(left: int, right: int = 1) -> int:
    note(("add", left, right))
    return left + right


@step(key="times two", retry=SOON, timeout=30)
def double(number: int) -> int:
    """Twice as much."""
    return 2 * number


def test_a_decorated_function_reads_like_a_call_and_is_a_step(cluster: Cluster) -> None:
    async def calculates(ctx: WorkflowContext, start: int) -> list[int]:
        async def branch(ctx: WorkflowContext) -> int:
            return await add(start, right=10)

        first = await add(start)
        second = await double(first)
        third = await ctx.compute("by name", add, second, 5)
        return [first, second, third, *await ctx.gather(branch, branch)]

    run = cluster.start_workflow(calculates, 1)
    assert run.wait_for_completion(PATIENCE) == [2, 4, 9, 11, 11]
    assert sorted(one.step_id for one in run.steps) == [
        "0/add",
        "1/times two",
        "2/by name",
        "3.0.0/add",
        "3.1.0/add",
    ]
    assert results(cluster, run.run_id) == [[2, 4, 9, 11, 11]] * 3
    assert sorted(notes()) == [("add", 1, 1), ("add", 1, 10), ("add", 1, 10), ("add", 4, 5)]


def test_outside_of_a_workflow_a_decorated_function_is_just_called() -> None:
    assert asyncio.run(add(1, 2)) == 3
    value: object = double(4)
    assert value == 8
    assert double.fn(5) == 10
    impatient: object = double.with_options(timeout=0)(6)
    assert impatient == 12
    assert (double.__name__, double.__doc__, double.key) == ("double", "Twice as much.", "times two")
    assert pickle.loads(pickle.dumps(add)) is add


def test_options_of_a_step_can_be_changed_where_it_is_called(cluster: Cluster) -> None:
    async def changes(ctx: WorkflowContext, _: None) -> int:
        return await double.with_options(key="again", timeout=None)(21)

    run = cluster.start_workflow(changes)
    assert run.wait_for_completion(PATIENCE) == 42
    assert [one.key for one in run.steps] == ["again"]
    changed = double.with_options(timeout=3)
    assert (changed.key, changed.options.timeout, changed.options.retry) == ("times two", 3, SOON)


@pytest.mark.filterwarnings("ignore::raftoral_nb.NonDeterminismWarning")
def test_a_step_called_inside_a_step_is_the_function_and_in_another_task_of_the_workflow_a_step_of_that(
    cluster: Cluster,
) -> None:
    @step
    async def outer() -> list[object]:
        return [await add(1), double(2)]

    @step
    def threaded() -> list[object]:
        return [asyncio.run(add(3)), double(4)]

    async def nests(ctx: WorkflowContext, _: None) -> list[list[object]]:
        return [[await asyncio.create_task(add(1))], await outer(), await threaded()]

    run = cluster.start_workflow(nests)
    assert run.wait_for_completion(PATIENCE) == [[2], [2, 4], [4, 8]]
    assert [one.step_id for one in run.steps] == ["t1.0/add", "0/outer", "1/threaded"]


def test_a_step_of_the_notebook_travels_with_the_workflow_and_counts_when_it_is_changed() -> None:
    def make(version: str) -> Callable[..., Any]:
        @step(timeout=20)
        async def local(text: str) -> str:
            return text + version

        async def travels(ctx: WorkflowContext, text: str) -> str:
            return await local(text)

        return travels

    with Cluster(1, network="memory") as cluster:
        first = cluster.register_workflow("travels", make("!"))
        assert [(one.name, one.kind) for one in first.captured] == [("local", "step")]
        assert not cluster.register_workflow("travels", make("!")).changed
        assert cluster.start_workflow("travels", "hi").wait_for_completion(PATIENCE) == "hi!"
        assert cluster.register_workflow("travels", make("?")).changed
        assert cluster.start_workflow("travels", "hi").wait_for_completion(PATIENCE) == "hi?"


# --- bad input


@pytest.mark.parametrize(
    "make",
    [
        lambda: Retry(attempts=0),
        lambda: Retry(attempts=1.5),  # type: ignore[arg-type]
        lambda: Retry(first_wait=-1),
        lambda: Retry(max_wait=float("nan")),
        lambda: Retry(factor=0.5),
        lambda: Retry(jitter=2),
        lambda: Retry(on=ValueError),  # type: ignore[arg-type]
        lambda: Retry(final=(KeyboardInterrupt,)),  # type: ignore[arg-type]
        lambda: step(retry=3),  # type: ignore[call-overload]
        lambda: step(timeout=-1),
        lambda: step(timeout="5"),  # type: ignore[call-overload]
        lambda: step(timeout=float("inf")),
        lambda: step(at_most_once=1),  # type: ignore[call-overload]
        lambda: step(at_most_once=True, retry=Retry()),
    ],
)
def test_options_that_make_no_sense_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(BadArgumentError):
        make()


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(WorkflowDefinitionError, match="made of a function"):
        step(5)  # type: ignore[call-overload]
    with pytest.raises(WorkflowDefinitionError, match="is a step already"):
        step(add)
    with pytest.raises(StepKeyError):
        step(key="")(len)


def test_an_unknown_outcome_that_nobody_catches_fails_the_run(cluster: Cluster) -> None:
    async def careless(ctx: WorkflowContext, _: None) -> str:
        return await ctx.compute("once", step(counted, at_most_once=True), "careless")

    run = cluster.start_workflow(careless)
    gate("careless").await_arrival()
    cluster.kill("leader")
    with pytest.raises(WorkflowFailedError, match="OutcomeUnknown"):
        run.wait_for_completion(PATIENCE)


def test_an_effect_is_counted_for_every_attempt(cluster: Cluster) -> None:
    async def patient(ctx: WorkflowContext, _: None) -> int:
        return await ctx.compute("flaky", step(flaky, retry=SOON), 2)

    with Watch(cluster) as watch:
        cluster.start_workflow(patient).wait_for_completion(PATIENCE)
        watch.until(EffectStarted, times=3)
    assert cluster.statistics().effects_run == 3
