"""Sleeps, deadlines and the time of day: recorded, and none of it lost with a leader or by a restart."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from raftoral_nb import (
    BadArgumentError,
    CheckpointSet,
    Cluster,
    ClusterEvent,
    DeadlineExceededError,
    WorkflowContext,
    WorkflowFailedError,
    WrongTaskError,
    step,
)
from tests.cluster.helpers import PATIENCE, Watch, engine, gate, note, notes


def results(cluster: Cluster, run_id: str) -> list[Any]:
    return [node.result(run_id, timeout=PATIENCE) for node in cluster.nodes.values() if node.alive]


def keys(run: Any) -> list[str]:
    return [one.step_id for one in run.steps]


def test_a_sleep_is_of_the_runs_time_and_leaves_no_step(cluster: Cluster) -> None:
    async def sleeps(ctx: WorkflowContext, _: None) -> str:
        before = await ctx.now()
        await ctx.sleep(0.05)
        await ctx.sleep_until(before, key="past")
        after = await ctx.now()
        return f"{after - before >= timedelta(seconds=0.05)} {after.tzinfo}"

    run = cluster.start_workflow(sleeps)
    assert run.wait_for_completion(PATIENCE) == "True UTC"
    assert keys(run) == []
    assert results(cluster, run.run_id) == ["True UTC"] * 3


def test_the_present_stands_still_between_two_records_and_is_the_same_everywhere(cluster: Cluster) -> None:
    async def stamps(ctx: WorkflowContext, _: None) -> list[datetime]:
        stamps = [await ctx.now(), await ctx.now()]
        await ctx.compute("between", int)
        return [*stamps, await ctx.now()]

    before = datetime.now(UTC)
    run = cluster.start_workflow(stamps)
    first, second, third = run.wait_for_completion(PATIENCE)
    assert before <= first == second <= third <= datetime.now(UTC)
    assert results(cluster, run.run_id) == [[first, second, third]] * 3


@pytest.mark.parametrize("fault", ["kill", "pause", "restart all"])
def test_what_is_left_of_a_sleep_survives(cluster: Cluster, fault: str) -> None:
    async def sleeps(ctx: WorkflowContext, _: None) -> list[datetime]:
        await ctx.compute("begin", int)
        before = await ctx.now()
        await ctx.sleep(0.5)
        return [before, await ctx.now()]

    with Watch(cluster) as watch:
        run = cluster.start_workflow(sleeps)
        watch.until(CheckpointSet)
    if fault == "restart all":
        for number in cluster.nodes:
            cluster.kill(number)
        for number in cluster.nodes:
            cluster.restart(number)
    else:
        cluster.kill("leader") if fault == "kill" else cluster.pause("leader")
    before, after = run.wait_for_completion(PATIENCE)
    assert abs(before.timestamp() - run.steps[0].at) < 1e-5
    assert after - before >= timedelta(seconds=0.5)


def test_a_hundred_sleeping_runs_need_no_timer_each(cluster: Cluster) -> None:
    async def sleeps(ctx: WorkflowContext, days: int) -> None:
        await ctx.compute("begin", int)
        await ctx.sleep(86_400 * (2 + days))

    cluster.register_workflow("sleeps", sleeps)
    asleep = threading.Semaphore(0)

    def count(event: ClusterEvent) -> None:
        if isinstance(event, CheckpointSet):
            asleep.release()

    cluster.subscribe(count)
    runs = [cluster.start_workflow("sleeps", number) for number in range(100)]
    assert all(asleep.acquire(timeout=PATIENCE) for _ in runs)
    leader = cluster.wait_for_leader()
    assert all(run.status == "running" for run in runs)
    incarnation = engine(cluster).incarnation(leader)
    assert incarnation is not None

    def far_timers() -> int:
        loop = asyncio.get_running_loop()
        scheduled = [handle for handle in loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]
        return sum(handle.when() - loop.time() > 86_400 for handle in scheduled)

    # The last run's record was handed over before this call; it is on its way into its sleep.
    assert cluster._host.thread.call(far_timers) <= 1
    assert incarnation.thread.call(far_timers) == 0


@pytest.mark.parametrize(
    "seconds", ["soon", float("nan"), None, True, [1]], ids=["text", "nan", "none", "bool", "list"]
)
def test_what_is_no_number_of_seconds_is_refused(seconds: Any) -> None:
    async def sleeps(ctx: WorkflowContext, seconds: Any) -> str:
        with pytest.raises(BadArgumentError, match=r"ctx\.sleep takes a number of seconds"):
            await ctx.sleep(seconds)
        with pytest.raises(BadArgumentError, match=r"ctx\.deadline takes a number of seconds"):
            async with ctx.deadline(seconds):
                pass
        return "refused"

    with Cluster(1, network="memory") as cluster:
        assert cluster.start_workflow(sleeps, seconds).wait_for_completion(PATIENCE) == "refused"


def test_a_time_without_a_zone_is_refused_and_any_zone_is_understood() -> None:
    async def sleeps(ctx: WorkflowContext, _: None) -> str:
        with pytest.raises(BadArgumentError, match="with a time zone"):
            await ctx.sleep_until(datetime(2030, 1, 1))  # noqa: DTZ001
        with pytest.raises(BadArgumentError, match="with a time zone"):
            await ctx.sleep_until(1234567890)  # type: ignore[arg-type]
        await ctx.sleep_until(datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=5))))
        await ctx.sleep(-1)
        return "slept"

    with Cluster(1, network="memory") as cluster:
        run = cluster.start_workflow(sleeps)
        assert run.wait_for_completion(PATIENCE) == "slept"


def test_a_sleep_without_an_end_is_possible() -> None:
    async def sleeps(ctx: WorkflowContext, _: None) -> str:
        async with ctx.deadline(float("inf")):
            try:
                async with ctx.deadline(0.05):
                    await ctx.sleep(float("inf"))
            except DeadlineExceededError:
                return "woken"
        return "no"

    with Cluster(1, network="memory") as cluster:
        assert cluster.start_workflow(sleeps).wait_for_completion(PATIENCE) == "woken"


# --- deadlines


def test_what_is_done_in_time_is_not_interrupted_and_leaves_nothing(cluster: Cluster) -> None:
    async def quick(ctx: WorkflowContext, _: None) -> int:
        async with ctx.deadline(30):
            first = await ctx.compute("first", lambda: 1)
        return first + await ctx.compute("second", lambda: 2)

    run = cluster.start_workflow(quick)
    assert run.wait_for_completion(PATIENCE) == 3
    assert keys(run) == ["0/first", "1/second"]
    assert results(cluster, run.run_id) == [3] * 3


async def never() -> None:
    gate("never").arrived.set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        note("cancelled")
        raise


async def cleans_up(ctx: WorkflowContext, seconds: float) -> list[str]:
    """A deadline passes while a step runs; what cleans up are steps too."""
    seen = []
    try:
        async with ctx.deadline(seconds):
            try:
                await ctx.compute("never", never)
            except Exception:  # an interruption is none
                seen.append("wrong")
            finally:
                seen.append(await ctx.compute("clean up", lambda: "cleaned"))
    except DeadlineExceededError as error:
        seen.append(type(error).__name__)
    seen.append(await ctx.compute("after", lambda: "after"))
    return seen


CLEANED = ["cleaned", "DeadlineExceededError", "after"]


def test_a_deadline_interrupts_the_step_that_runs_and_lets_it_clean_up(cluster: Cluster) -> None:
    run = cluster.start_workflow(cleans_up, 0.05)
    assert run.wait_for_completion(PATIENCE) == CLEANED
    assert keys(run) == ["1/clean up", "2/after"]
    assert results(cluster, run.run_id) == [CLEANED] * 3
    assert notes() == ["cancelled"]
    assert all(node.statistics().runs[run.run_id].catch_up_queue == 0 for node in cluster.nodes.values())


@pytest.mark.parametrize("fault", ["kill", "pause", "restart all"])
def test_a_deadline_passes_under_the_next_leader_too(cluster: Cluster, fault: str) -> None:
    run = cluster.start_workflow(cleans_up, 2.0)
    gate("never").await_arrival()
    if fault == "restart all":
        for number in cluster.nodes:
            cluster.kill(number)
        for number in cluster.nodes:
            cluster.restart(number)
        lost = None
    else:
        lost = cluster.kill("leader") if fault == "kill" else cluster.pause("leader")
    assert run.wait_for_completion(PATIENCE) == CLEANED
    if lost is not None:
        cluster.restart(lost) if fault == "kill" else cluster.resume(lost)
    assert results(cluster, run.run_id) == [CLEANED] * 3


def test_a_node_that_lags_is_interrupted_at_the_same_operation(cluster: Cluster) -> None:
    async def steps_then_hangs(ctx: WorkflowContext, _: None) -> list[int]:
        done: list[int] = []
        try:
            async with ctx.deadline(0.3):
                done.append(await ctx.compute("zero", lambda: 0))
                done.append(await ctx.compute("one", lambda: 1))
                done.append(await ctx.compute("two", lambda: 2))
                await ctx.sleep(3600)
                done.append(99)
        except TimeoutError:
            done.append(-1)
        return done

    lagging = next(number for number in cluster.nodes if number != cluster.wait_for_leader())
    cluster.hold(lagging)
    run = cluster.start_workflow(steps_then_hangs)
    done = run.wait_for_completion(PATIENCE)
    assert done == [*range(len(done) - 1), -1]  # how far it comes in time is not promised
    cluster.release(lagging)
    assert results(cluster, run.run_id) == [done] * 3


def test_a_deadline_interrupts_parallel_branches_and_the_inner_of_two_leaves_the_outer_alone(cluster: Cluster) -> None:
    async def nested(ctx: WorkflowContext, _: None) -> list[str]:
        seen: list[str] = []

        async def waits(ctx: WorkflowContext) -> None:
            try:
                await ctx.sleep(3600)
            except asyncio.CancelledError:
                seen.append(await ctx.compute("noticed", lambda: "noticed"))
                raise

        async with ctx.deadline(3600):
            try:
                async with ctx.deadline(0.05):
                    await ctx.gather(waits, waits)
            except DeadlineExceededError:
                seen.append("inner")
            seen.append(await ctx.compute("goes on", lambda: "goes on"))
        return seen

    run = cluster.start_workflow(nested)
    assert run.wait_for_completion(PATIENCE) == ["noticed", "noticed", "inner", "goes on"]
    assert len(results(cluster, run.run_id)) == 3


def test_an_outer_deadline_ends_an_inner_one_and_a_failing_cleanup_is_not_hidden(cluster: Cluster) -> None:
    async def nested(ctx: WorkflowContext, _: None) -> str:
        async def fails_cleaning_up(ctx: WorkflowContext) -> None:
            try:
                await ctx.sleep(3600)
            finally:
                raise ValueError("cleanup failed")

        async def waits(ctx: WorkflowContext) -> None:
            await ctx.sleep(3600)

        try:
            async with ctx.deadline(0.05), ctx.deadline(3600):
                await ctx.gather(fails_cleaning_up, waits)
        except* DeadlineExceededError as group:
            first = str(group.exceptions[0])
        except* ValueError as group:
            second = repr(group.exceptions[0])
        return f"{'ctx.deadline(0.05)' in first} {second}"

    run = cluster.start_workflow(nested)
    result = run.wait_for_completion(PATIENCE)
    assert result.startswith("True")
    assert "cleanup failed" in result


def test_a_deadline_that_nobody_catches_fails_the_run_with_a_timeout(cluster: Cluster) -> None:
    async def hasty(ctx: WorkflowContext, _: None) -> None:
        async with ctx.deadline(0):
            await ctx.sleep(3600)

    with pytest.raises(WorkflowFailedError, match="DeadlineExceededError"):
        cluster.start_workflow(hasty).wait_for_completion(PATIENCE)


def test_a_step_that_waits_to_be_tried_again_is_interrupted_too(cluster: Cluster) -> None:
    from raftoral_nb import Retry

    async def hasty(ctx: WorkflowContext, _: None) -> str:
        def fails() -> None:
            raise ConnectionError

        try:
            async with ctx.deadline(0.05):
                await ctx.compute("fails", step(fails, retry=Retry(attempts=5, first_wait=3600, max_wait=3600)))
        except DeadlineExceededError:
            return "in time"
        return "no"

    assert cluster.start_workflow(hasty).wait_for_completion(PATIENCE) == "in time"


# --- randomness


def test_randomness_is_the_same_on_every_node_and_different_in_every_branch_and_run(cluster: Cluster) -> None:
    async def draws(ctx: WorkflowContext, _: None) -> list[Any]:
        async def branch(ctx: WorkflowContext) -> list[Any]:
            return [ctx.random(), str(ctx.uuid4()), ctx.rng.randrange(10**9)]

        return [*await branch(ctx), *await ctx.gather(branch, branch)]

    runs = [cluster.start_workflow(draws) for _ in range(2)]
    drawn = [run.wait_for_completion(PATIENCE) for run in runs]
    for run, result in zip(runs, drawn, strict=True):
        assert results(cluster, run.run_id) == [result] * 3
        assert run.steps == ()
    flat = [repr(one) for result in drawn for part in (result[:3], *result[3:]) for one in part]
    assert len(set(flat)) == len(flat) == 18


def test_randomness_is_refused_inside_a_step_and_in_other_tasks(cluster: Cluster) -> None:
    async def misuse(ctx: WorkflowContext, _: None) -> list[str]:
        def inside() -> str:
            try:
                ctx.random()
            except WrongTaskError as error:
                return str(error)
            return "no"

        async def ainside() -> str:
            return inside()

        return [await ctx.compute("a", inside), await ctx.compute("b", ainside)]

    thread, task = cluster.start_workflow(misuse).wait_for_completion(PATIENCE)
    assert "random" in thread
    assert "inside the step '1/b'" in task
