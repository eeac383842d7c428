"""Parallel branches: what is decided by timing is recorded, and every node goes the same way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import accumulate
from typing import Any

import anyio
import pytest

from raftoral_nb import (
    BadArgumentError,
    Cluster,
    ClusterError,
    TaskGroup,
    WorkflowContext,
    WorkflowDefinitionError,
    WorkflowFailedError,
)
from tests.cluster.helpers import PATIENCE, followers, gate, note, notes

Branch = Callable[[WorkflowContext], Awaitable[Any]]


def results(cluster: Cluster, run_id: str) -> list[Any]:
    return [node.result(run_id, timeout=PATIENCE) for node in cluster.nodes.values() if node.alive]


def settled(cluster: Cluster, run_id: str) -> bool:
    """Every node's catch-up queue of the run is empty."""
    return all(node.statistics().runs[run_id].catch_up_queue == 0 for node in cluster.nodes.values())


async def hang(name: str = "hang") -> None:
    gate(name).arrived.set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        note(f"{name} cancelled")
        raise


def passes(name: str) -> str:
    gate(name).enter()
    return name


# --- map


async def square(number: int) -> int:
    note(1)
    await anyio.sleep(0.01)
    note(-1)
    return number * number


def test_map_keeps_the_order_of_the_items_and_runs_no_more_than_its_limit_at_once(cluster: Cluster) -> None:
    async def maps(ctx: WorkflowContext, count: int) -> list[int]:
        async def one(ctx: WorkflowContext, number: int) -> int:
            return await ctx.compute("square", square, number)

        return await ctx.map(one, range(count), limit=3)

    run = cluster.start_workflow(maps, 10)
    expected = [number * number for number in range(10)]
    assert run.wait_for_completion(PATIENCE) == expected
    assert max(accumulate(notes())) == 3
    assert {one.step_id for one in run.steps} == {f"0.{number}.0/square" for number in range(10)}
    assert results(cluster, run.run_id) == [expected] * 3


def test_map_of_nothing_is_nothing_and_bad_limits_are_refused(cluster: Cluster) -> None:
    async def maps(ctx: WorkflowContext, _: None) -> list[Any]:
        async def one(ctx: WorkflowContext, item: Any) -> Any:
            return item

        for limit in (0, -1, 1.5, "3", True):
            with pytest.raises(BadArgumentError, match="the limit of"):
                await ctx.map(one, [1], limit=limit)  # type: ignore[arg-type]
        with pytest.raises(WorkflowDefinitionError, match="takes functions"):
            await ctx.map(5, [1])  # type: ignore[call-overload]
        with pytest.raises(TypeError):
            await ctx.map(one, 5)  # type: ignore[call-overload]
        return await ctx.map(one, [])

    assert cluster.start_workflow(maps).wait_for_completion(PATIENCE) == []


@pytest.mark.parametrize("fault", ["kill", "pause"])
def test_a_map_whose_leader_is_lost_repeats_only_what_was_not_recorded(cluster: Cluster, fault: str) -> None:
    async def maps(ctx: WorkflowContext, count: int) -> list[str]:
        async def one(ctx: WorkflowContext, number: int) -> str:
            return await ctx.compute("pass", passes, f"item {number}")

        return await ctx.map(one, range(count), limit=2)

    for number in (0, 1, 2, 4, 5):
        gate(f"item {number}").open()
    run = cluster.start_workflow(maps, 6)
    gate("item 3").await_arrival()
    lost = cluster.kill("leader") if fault == "kill" else cluster.pause("leader")
    expected = [f"item {number}" for number in range(6)]
    assert run.wait_for_completion(PATIENCE) == expected
    gate("item 3").open()
    cluster.restart(lost) if fault == "kill" else cluster.resume(lost)
    assert results(cluster, run.run_id) == [expected] * 3


def test_every_failure_of_a_map_is_in_its_group(cluster: Cluster) -> None:
    async def maps(ctx: WorkflowContext, _: None) -> list[str]:
        async def one(ctx: WorkflowContext, number: int) -> int:
            return await ctx.compute("divide", lambda: 12 // (number % 2))

        try:
            await ctx.map(one, range(4))
        except ExceptionGroup as group:
            return [str(error) for error in group.exceptions]
        return []

    run = cluster.start_workflow(maps)
    assert len(run.wait_for_completion(PATIENCE)) == 2
    assert len(run.steps) == 4


# --- race


async def fast_and_slow(ctx: WorkflowContext, name: str) -> list[str]:
    """The first branch wins; the second is interrupted while its step runs, and cleans up."""
    seen: list[str] = []

    async def fast(ctx: WorkflowContext) -> str:
        await ctx.compute("first", passes, f"{name} first")
        return await ctx.compute("second", passes, f"{name} second")

    async def slow(ctx: WorkflowContext) -> str:
        await ctx.compute("quick", lambda: "quick")
        try:
            await ctx.compute("hang", hang, name)
        finally:
            seen.append(await ctx.compute("clean up", lambda: "cleaned up"))
        return "never"

    winner = await ctx.race(fast, slow)
    return [winner, *seen, await ctx.compute("after", lambda: "after")]


def raced(name: str) -> list[str]:
    return [f"{name} second", "cleaned up", "after"]


def test_the_first_to_end_wins_and_the_loser_is_cancelled_and_cleans_up(cluster: Cluster) -> None:
    gate("plain first").open()
    run = cluster.start_workflow(fast_and_slow, "plain")
    gate("plain").await_arrival()
    gate("plain second").open()
    assert run.wait_for_completion(PATIENCE) == raced("plain")
    assert results(cluster, run.run_id) == [raced("plain")] * 3
    assert notes() == ["plain cancelled"]
    assert {one.step_id for one in run.steps} == {
        "0.0.0/first",
        "0.0.1/second",
        "0.1.0/quick",
        "0.1.2/clean up",
        "1/after",
    }
    assert settled(cluster, run.run_id)


@pytest.mark.parametrize("fault", ["kill", "pause", "restart all"])
@pytest.mark.parametrize("moment", ["first", "second"])
def test_a_race_goes_on_under_the_next_leader(cluster: Cluster, fault: str, moment: str) -> None:
    other = "second" if moment == "first" else "first"
    gate(f"r {other}").open()
    run = cluster.start_workflow(fast_and_slow, "r")
    gate("r").await_arrival()
    gate(f"r {moment}").await_arrival()
    lost = None
    if fault == "restart all":
        for number in cluster.nodes:
            cluster.kill(number)
        for number in cluster.nodes:
            cluster.restart(number)
    else:
        lost = cluster.kill("leader") if fault == "kill" else cluster.pause("leader")
    assert run.wait_for_completion(PATIENCE) == raced("r")
    gate(f"r {moment}").open()
    if lost is not None:
        cluster.restart(lost) if fault == "kill" else cluster.resume(lost)
    assert results(cluster, run.run_id) == [raced("r")] * 3


def test_a_node_that_lags_interrupts_the_losers_where_the_others_did(cluster: Cluster) -> None:
    async def loses_late(ctx: WorkflowContext, _: None) -> list[int]:
        done: list[int] = []

        async def winner(ctx: WorkflowContext) -> str:
            return await ctx.compute("win", passes, "win")

        async def loser(ctx: WorkflowContext) -> str:
            for number in range(5):
                done.append(await ctx.compute("count", int, number))  # noqa: PERF401
            await ctx.compute("hang", hang)
            done.append(99)
            return "never"

        await ctx.race(winner, loser)
        return done

    lagging = followers(cluster)[0]
    cluster.hold(lagging)
    run = cluster.start_workflow(loses_late)
    gate("hang").await_arrival()
    gate("win").open()
    assert run.wait_for_completion(PATIENCE) == [0, 1, 2, 3, 4]
    cluster.release(lagging)
    assert results(cluster, run.run_id) == [[0, 1, 2, 3, 4]] * 3
    assert settled(cluster, run.run_id)


def test_an_exception_may_win_a_race_and_a_losers_failing_cleanup_is_not_hidden(cluster: Cluster) -> None:
    async def fails(ctx: WorkflowContext) -> str:
        return await ctx.compute("fail", lambda: str(1 / 0))

    async def hangs(ctx: WorkflowContext) -> str:
        await ctx.sleep(3600)
        return "never"

    async def cleans_up_badly(ctx: WorkflowContext) -> str:
        try:
            await ctx.sleep(3600)
        finally:
            raise ValueError("cleanup")

    async def returns(ctx: WorkflowContext) -> str:
        return await ctx.compute("return", lambda: "returned")

    async def races(ctx: WorkflowContext, _: None) -> list[str]:
        seen = []
        try:
            await ctx.race(fails, hangs)
        except ZeroDivisionError:
            seen.append("plain")
        try:
            await ctx.race(returns, cleans_up_badly)
        except ExceptionGroup as group:
            seen.append(repr(list(group.exceptions)))
        try:
            await ctx.race(fails, cleans_up_badly)
        except ExceptionGroup as group:
            seen.append(repr([type(error).__name__ for error in group.exceptions]))
        return seen

    run = cluster.start_workflow(races)
    expected = ["plain", "[ValueError('cleanup')]", "['ZeroDivisionError', 'ValueError']"]
    assert run.wait_for_completion(PATIENCE) == expected
    assert results(cluster, run.run_id) == [expected] * 3


def test_a_loser_that_ignores_its_interruption_is_waited_for_and_still_loses(cluster: Cluster) -> None:
    async def races(ctx: WorkflowContext, _: None) -> list[Any]:
        async def stubborn(ctx: WorkflowContext) -> str:
            try:
                await ctx.sleep(3600)
            except asyncio.CancelledError:
                seen.append("cancelled")
            seen.append(await ctx.compute("goes on", lambda: "goes on"))
            return "late"

        async def wins(ctx: WorkflowContext) -> str:
            return await ctx.compute("win", lambda: "won")

        seen: list[Any] = []
        return [await ctx.race(stubborn, wins), *seen]

    run = cluster.start_workflow(races)
    assert run.wait_for_completion(PATIENCE) == ["won", "cancelled", "goes on"]
    assert results(cluster, run.run_id) == [["won", "cancelled", "goes on"]] * 3


def test_races_within_races_and_the_losers_parallel_branches_end_too(cluster: Cluster) -> None:
    async def races(ctx: WorkflowContext, _: None) -> list[str]:
        seen: list[str] = []

        async def leaf(ctx: WorkflowContext) -> str:
            try:
                await ctx.sleep(3600)
            finally:
                seen.append(await ctx.compute("leaf", lambda: "leaf"))
            return "never"

        async def inner_race(ctx: WorkflowContext) -> str:
            try:
                return await ctx.race(leaf, leaf)
            finally:
                seen.append(await ctx.compute("inner", lambda: "inner"))

        async def inner_gather(ctx: WorkflowContext) -> str:
            try:
                await ctx.gather(leaf, leaf)
            finally:
                seen.append(await ctx.compute("gather", lambda: "gather"))
            return "never"

        async def wins(ctx: WorkflowContext) -> str:
            return await ctx.compute("win", lambda: "won")

        winner = await ctx.race(inner_race, inner_gather, wins)
        return [winner, *sorted(seen)]

    run = cluster.start_workflow(races)
    expected = ["won", "gather", "inner", "leaf", "leaf", "leaf", "leaf"]
    assert run.wait_for_completion(PATIENCE) == expected
    assert results(cluster, run.run_id) == [expected] * 3
    assert settled(cluster, run.run_id)


def test_a_race_without_branches_or_with_what_is_none_is_refused(cluster: Cluster) -> None:
    async def races(ctx: WorkflowContext, _: None) -> str:
        with pytest.raises(BadArgumentError, match="at least one"):
            await ctx.race()
        with pytest.raises(WorkflowDefinitionError, match="takes functions"):
            await ctx.race("branch")  # type: ignore[call-overload]
        return "refused"

    assert cluster.start_workflow(races).wait_for_completion(PATIENCE) == "refused"


# --- task groups


def test_a_task_group_waits_for_its_branches_and_has_their_results(cluster: Cluster) -> None:
    async def groups(ctx: WorkflowContext, count: int) -> list[int]:
        async def square(ctx: WorkflowContext, number: int) -> int:
            return await ctx.compute("square", lambda: number * number)

        async with ctx.task_group() as group:
            tasks = [group.start(square, number) for number in range(count)]
            inside = await ctx.compute("inside", lambda: -1)
        return [*(task.result for task in tasks), inside, await ctx.compute("after", lambda: -2)]

    run = cluster.start_workflow(groups, 3)
    assert run.wait_for_completion(PATIENCE) == [0, 1, 4, -1, -2]
    assert sorted(one.step_id for one in run.steps) == [
        "0.0.0/square",
        "0.1.0/square",
        "0.2.0/square",
        "1/inside",
        "2/after",
    ]
    assert results(cluster, run.run_id) == [[0, 1, 4, -1, -2]] * 3


async def failing_group(ctx: WorkflowContext, where: str) -> list[str]:
    """One branch fails while the others hang; they, and the block, are interrupted and clean up."""
    seen: list[str] = []

    async def fails(ctx: WorkflowContext) -> None:
        if where == "branch":
            await ctx.compute("fail", lambda: passes("fail") and 1 / 0)
        else:
            await ctx.sleep(3600)

    async def hangs(ctx: WorkflowContext) -> None:
        try:
            await ctx.compute("hang", hang)
        finally:
            seen.append(await ctx.compute("clean up", lambda: "cleaned up"))

    try:
        async with ctx.task_group() as group:
            group.start(fails)
            group.start(hangs)
            try:
                await ctx.compute("block", lambda: passes("fail") and 1 / 0 if where == "block" else passes("fail"))
                await ctx.sleep(3600)
            finally:
                seen.append("block")
    except ExceptionGroup as group_error:
        seen.append(repr(group_error.exceptions))
    return [*sorted(seen), await ctx.compute("after", lambda: "after")]


FAILED_GROUP = ["(ZeroDivisionError('division by zero'),)", "block", "cleaned up", "after"]


@pytest.mark.parametrize("where", ["branch", "block"])
@pytest.mark.parametrize("fault", [None, "kill", "pause", "restart all"])
def test_a_failure_in_a_task_group_interrupts_the_others(cluster: Cluster, where: str, fault: str | None) -> None:
    run = cluster.start_workflow(failing_group, where)
    gate("hang").await_arrival()
    gate("fail").await_arrival()
    lost = None
    if fault == "restart all":
        for number in cluster.nodes:
            cluster.kill(number)
        for number in cluster.nodes:
            cluster.restart(number)
    elif fault is not None:
        lost = cluster.kill("leader") if fault == "kill" else cluster.pause("leader")
    gate("fail").open()
    assert run.wait_for_completion(PATIENCE) == FAILED_GROUP
    if lost is not None:
        cluster.restart(lost) if fault == "kill" else cluster.resume(lost)
    assert results(cluster, run.run_id) == [FAILED_GROUP] * 3
    assert settled(cluster, run.run_id)


def test_two_failures_of_a_task_group_are_both_told(cluster: Cluster) -> None:
    async def groups(ctx: WorkflowContext, _: None) -> list[str]:
        async def fails(ctx: WorkflowContext) -> None:
            await ctx.compute("fail", lambda: 1 / 0)

        async def fails_cleaning_up(ctx: WorkflowContext) -> None:
            try:
                await ctx.sleep(3600)
            finally:
                raise ValueError("cleanup")

        try:
            async with ctx.task_group() as group:
                group.start(fails)
                group.start(fails_cleaning_up)
        except ExceptionGroup as error:
            return [type(one).__name__ for one in error.exceptions]
        return []

    run = cluster.start_workflow(groups)
    assert run.wait_for_completion(PATIENCE) == ["ZeroDivisionError", "ValueError"]


def test_misuse_of_a_task_group_is_refused(cluster: Cluster) -> None:
    async def groups(ctx: WorkflowContext, _: None) -> str:
        async def fine(ctx: WorkflowContext) -> int:
            return await ctx.compute("fine", lambda: 1)

        async def starts_another(ctx: WorkflowContext, group: TaskGroup) -> None:
            group.start(fine)

        async with ctx.task_group() as group:
            task = group.start(fine)
            with pytest.raises(ClusterError, match="no result"):
                print(task.result)
            with pytest.raises(WorkflowDefinitionError, match=r"group\.start takes functions"):
                group.start(5)  # type: ignore[call-overload]
            group.start(starts_another, group)
        with pytest.raises(ClusterError, match="not open"):
            group.start(fine)
        return f"result {task.result}"

    assert cluster.start_workflow(groups).wait_for_completion(PATIENCE) == "result 1"


def test_a_deadline_around_a_task_group_ends_all_of_it(cluster: Cluster) -> None:
    async def groups(ctx: WorkflowContext, _: None) -> list[str]:
        seen = []

        async def waits(ctx: WorkflowContext) -> None:
            try:
                await ctx.sleep(3600)
            finally:
                seen.append(await ctx.compute("clean", lambda: "clean"))

        try:
            async with ctx.deadline(0.05), ctx.task_group() as group:
                group.start(waits)
                group.start(waits)
        except TimeoutError:
            seen.append("timeout")
        return seen

    run = cluster.start_workflow(groups)
    assert run.wait_for_completion(PATIENCE) == ["clean", "clean", "timeout"]


def test_an_interruption_that_leaves_the_workflow_is_not_possible_but_a_group_of_failures_fails_the_run(
    cluster: Cluster,
) -> None:
    async def fails(ctx: WorkflowContext) -> None:
        await ctx.compute("fail", lambda: 1 / 0)

    async def groups(ctx: WorkflowContext, _: None) -> None:
        async with ctx.task_group() as group:
            group.start(fails)

    with pytest.raises(WorkflowFailedError, match="ExceptionGroup: branches of"):
        cluster.start_workflow(groups).wait_for_completion(PATIENCE)
