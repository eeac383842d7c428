"""How long a step may take in all, whoever runs it, and steps that say themselves when they are to be tried again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from raftoral_nb import (
    BadArgumentError,
    Cluster,
    OutcomeUnknown,
    Retry,
    RetryAfter,
    StepRetrying,
    StepTimeoutError,
    WorkflowContext,
    WrongTaskError,
    current_step,
    step,
)
from raftoral_nb.testing import workflow_test
from tests.cluster.helpers import PATIENCE, Watch, gate, note, notes

SOON = Retry(attempts=1000, first_wait=0.001, max_wait=0.002)
EXACT = Retry(attempts=1000, first_wait=1, factor=1, jitter=0)


class Busy(Exception):  # noqa: N818
    """What a service says for now."""


# --- the time of all attempts


async def fails_after(seconds: float) -> None:
    note(current_step().attempt)
    await asyncio.sleep(seconds)
    raise Busy


async def told(ctx: WorkflowContext, seconds: float, **options: Any) -> list[Any]:
    """Takes a step that must end with a timeout: what that says, and how long it took (seconds of the run's time)."""
    before = await ctx.now()
    with pytest.raises(StepTimeoutError) as raised:
        await ctx.compute("slow", step(fails_after, **options), seconds)
    return [str(raised.value), (await ctx.now() - before).total_seconds()]


def test_attempts_and_waits_together_take_no_longer_than_the_total_timeout() -> None:
    async def hasty(ctx: WorkflowContext, _: None) -> Any:
        return await told(ctx, 2, retry=EXACT, total_timeout=timedelta(seconds=10.5))

    with workflow_test() as test:
        text, took = test.finish(test.start(hasty))
    assert "step '0/slow' took longer than its total_timeout of 10.5 s" in text
    assert "attempt 4 was running" in text
    assert took == pytest.approx(10.5, abs=0.1)
    assert notes() == [1, 2, 3, 4]


def test_an_attempt_that_could_only_begin_too_late_is_not_waited_for() -> None:
    async def hasty(ctx: WorkflowContext, _: None) -> Any:
        return await told(ctx, 2, retry=EXACT, total_timeout=8.9)

    with workflow_test() as test:
        text, took = test.finish(test.start(hasty))
    assert "attempt 3 failed with" in text
    assert "Busy, and the next attempt may begin only in 1 s" in text
    assert "cannot be done within its total_timeout of 8.9 s" in text
    assert took == pytest.approx(8, abs=0.1)


def test_the_timeout_of_an_attempt_ends_it_and_the_total_one_ends_the_step_and_each_says_which_it_is() -> None:
    async def hasty(ctx: WorkflowContext, _: None) -> Any:
        return [
            (await told(ctx, 99, timeout=3, total_timeout=100))[0],
            (await told(ctx, 99, timeout=100, total_timeout=3))[0],
            (await told(ctx, 99, timeout=3, total_timeout=7, retry=EXACT))[0],
        ]

    with workflow_test() as test:
        first, second, third = test.finish(test.start(hasty))
    assert "its timeout of 3 s (attempt 1)" in first
    assert "its total_timeout of 3 s" in second
    assert "its total_timeout of 7 s" in third
    assert "attempt 2 failed with" in third or "attempt 2 was running" in third
    assert notes() == [1, 1, 1, 2]


def test_a_step_that_is_quick_enough_has_its_result() -> None:
    async def fine(ctx: WorkflowContext, _: None) -> Any:
        return await ctx.compute("quick", step(str, total_timeout=5), "done")

    with workflow_test() as test:
        assert test.finish(test.start(fine)) == "done"


def test_another_leader_counts_the_same_time() -> None:
    async def hasty(ctx: WorkflowContext, _: None) -> Any:
        return await told(ctx, 2, retry=EXACT, total_timeout=30)

    with workflow_test() as test:
        run = test.start(hasty)
        test.advance(20)
        test.kill("leader")
        _, took = test.finish(run)
    assert 28 <= took <= 30.5


def test_the_time_in_which_the_whole_cluster_was_stopped_counts_and_then_no_attempt_begins(tmp_path: Path) -> None:
    async def hasty(ctx: WorkflowContext, _: None) -> str:
        def slow() -> None:
            note("called")
            gate("slow").enter()

        try:
            await ctx.compute("slow", step(slow, total_timeout=2))
        except StepTimeoutError as error:
            return str(error)
        return "no"

    with Cluster(1, data_dir=tmp_path / "data") as cluster:
        run = cluster.start_workflow(hasty)
        gate("slow").await_arrival()
        begun = datetime.now(UTC)
        cluster.stop()
    gate("slow").open()
    while datetime.now(UTC) < begun + timedelta(seconds=2):  # the time itself is what passes here
        gate("nobody comes").arrived.wait(0.1)
    with Cluster(1, data_dir=tmp_path / "data") as cluster:
        text = cluster.run(run.run_id).wait_for_completion(PATIENCE)
    assert "total_timeout of 2 s" in text
    assert "it was over before an attempt began here" in text
    assert notes() == ["called"]


@pytest.mark.parametrize("wrong", [-1, float("inf"), "soon", True])
def test_a_total_timeout_that_makes_no_sense_is_refused(wrong: Any) -> None:
    with pytest.raises(BadArgumentError, match="total_timeout is a number of seconds from 0 on, or a timedelta, not"):
        step(str, total_timeout=wrong)


def test_a_mistake_in_the_code_is_not_tried_again() -> None:
    def wrong() -> None:
        note("called")
        raise WrongTaskError("as current_step().checkpoint() does on an executor")

    async def hasty(ctx: WorkflowContext, _: None) -> str:
        with pytest.raises(WrongTaskError):
            await ctx.compute("wrong", step(wrong, retry=EXACT))
        return "told"

    with workflow_test() as test:
        assert test.finish(test.start(hasty)) == "told"
    assert notes() == ["called"]


# --- steps that say when to try again


def busy_once(when: Any, cause: bool = False) -> int:
    note(current_step().attempt)
    if current_step().attempt == 1:
        raise RetryAfter(when, cause=Busy("try later") if cause else None)
    return current_step().attempt


@pytest.mark.parametrize(
    ("retry", "attempts"), [(None, 3), (Retry(attempts=7, first_wait=99, on=(KeyError,)), 7), (EXACT, 1000)]
)
@pytest.mark.parametrize("when", [30, 30.0, timedelta(seconds=30)])
def test_a_step_is_tried_again_when_it_says(retry: Retry | None, attempts: int, when: Any) -> None:
    async def polite(ctx: WorkflowContext, when: Any) -> Any:
        before = await ctx.now()
        assert await ctx.compute("busy", step(busy_once, retry=retry), when, cause=True) == 2
        return (await ctx.now() - before).total_seconds()

    with workflow_test() as test:
        run = test.start(polite, when)
        assert test.finish(run) == pytest.approx(30, abs=0.1)
        lines = [line.text for line in test.cluster.log(run.run_id) if line.stream == "engine"]
    assert [
        f"attempt 1 of {attempts} failed with" in line and "Busy: try later; again in 30 s" in line for line in lines
    ] == [True]


def test_a_time_of_day_is_waited_for_and_one_that_is_past_is_now() -> None:
    async def polite(ctx: WorkflowContext, _: None) -> Any:
        begun = await ctx.now()
        await ctx.compute("busy", step(busy_once), begun + timedelta(hours=2))
        await ctx.compute("busy", step(busy_once), begun)
        await ctx.compute("busy", step(busy_once), 0)
        return (await ctx.now() - begun).total_seconds()

    with workflow_test() as test:
        assert test.finish(test.start(polite)) == pytest.approx(7200, abs=0.5)
    assert notes() == [1, 2] * 3


class Gone(Exception):  # noqa: N818
    """What a service says for good."""


def always(cause: type[Exception] | None) -> None:
    note(current_step().attempt)
    raise RetryAfter(0) from (None if cause is None else cause("really"))


@pytest.mark.parametrize(
    ("options", "cause", "expected", "calls"),
    [
        ({}, Busy, Busy, 3),
        ({}, None, RetryAfter, 3),
        ({"retry": Retry(attempts=2)}, Busy, Busy, 2),
        ({"retry": Retry(attempts=5, final=(Gone,))}, Gone, Gone, 1),
        ({"at_most_once": True}, Busy, Busy, 1),
    ],
)
def test_when_no_attempt_is_left_the_step_has_failed_with_the_cause_if_there_is_one(
    options: dict[str, Any], cause: type[Exception] | None, expected: type[Exception], calls: int
) -> None:
    async def polite(ctx: WorkflowContext, _: None) -> str:
        try:
            await ctx.compute("always", step(always, **options), cause)
        except expected as error:
            return f"{type(error).__name__}: {error}"
        except OutcomeUnknown:
            pass
        return "no"

    with workflow_test() as test:
        said = test.finish(test.start(polite))
    assert said == ("RetryAfter: to be tried again after 0 s" if cause is None else f"{cause.__name__}: really")
    assert notes() == list(range(1, calls + 1))


def test_a_step_that_would_be_tried_again_too_late_is_not_waited_for() -> None:
    async def hasty(ctx: WorkflowContext, _: None) -> Any:
        before = await ctx.now()
        with pytest.raises(StepTimeoutError, match="Busy: try later, and the next attempt may begin only in 30 s"):
            await ctx.compute("busy", step(busy_once, total_timeout=20), 30, cause=True)
        return (await ctx.now() - before).total_seconds()

    with workflow_test() as test:
        assert test.finish(test.start(hasty)) < 1


def test_the_wait_that_a_step_asks_for_is_told(cluster: Cluster) -> None:
    async def polite(ctx: WorkflowContext, _: None) -> Any:
        return await ctx.compute("busy", step(busy_once), 0.01)

    with Watch(cluster) as watch:
        assert cluster.start_workflow(polite).wait_for_completion(PATIENCE) == 2
        assert watch.until(StepRetrying).seconds == pytest.approx(0.01)


@pytest.mark.parametrize(
    "wrong",
    ["soon", None, True, float("nan"), float("inf"), -1, timedelta(-1), datetime(2030, 1, 1)],  # noqa: DTZ001
)
def test_a_wait_that_is_none_is_refused_where_it_is_raised(wrong: Any) -> None:
    with pytest.raises(BadArgumentError, match="RetryAfter takes a number of seconds"):
        RetryAfter(wrong)


def test_outside_of_workflows_it_is_an_exception_like_any_other() -> None:
    error = RetryAfter(timedelta(minutes=1), cause=Busy())
    assert str(error) == "to be tried again after 0:01:00"
    assert isinstance(error.__cause__, Busy)
