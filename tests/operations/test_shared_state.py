"""State that branches share: lists, dicts, counters, locks and variables, changed between their steps, and the same on every node."""

from __future__ import annotations

import asyncio
from typing import Any

from raftoral_nb import WorkflowContext, WorkflowRun
from raftoral_nb.testing import WorkflowTest, workflow_test
from tests.operations.durable import check, count, echo, journal


def test_branches_that_wake_in_another_order_than_they_began_are_replayed_in_that_order() -> None:
    async def w(ctx: WorkflowContext, _: None) -> Any:
        woke = journal(ctx)

        async def one(c: WorkflowContext, seconds: int) -> None:
            await c.sleep(seconds)
            woke.append(seconds)

        await ctx.map(one, [2, 1])
        return woke[0]

    assert check(w)[0] == 1


def test_fetch_then_store_in_a_gather_loses_the_same_on_every_node() -> None:
    async def loses(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        shared: dict[str, Any] = {}

        async def branch(name: str) -> Any:
            async def one(c: WorkflowContext) -> None:
                await count(c, shared, name)
                await c.sleep(0.5)
                await count(c, shared, name)

            return one

        await ctx.gather(await branch("a"), await branch("b"))
        seen += shared["order"]
        return sorted(name for name, _ in shared["order"])

    assert check(loses)[0] == ["a", "a", "b", "b"]


def test_a_list_and_a_dict_of_all_branches_have_the_order_of_the_records() -> None:
    async def collects(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        by_name: dict[str, int] = {}

        async def one(c: WorkflowContext, name: str) -> None:
            for number in range(2):
                by_name[f"{name}{await c.compute(name, echo, number)}"] = len(seen)
                seen.append(tuple(by_name))

        async with ctx.task_group() as group:
            for name in "ab":
                group.start(one, name)
        return sorted(by_name)

    assert check(collects)[0] == ["a0", "a1", "b0", "b1"]


def test_a_variable_of_the_whole_run_is_updated_in_branches_and_none_is_lost() -> None:
    async def updates(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        total = await ctx.var("total", 0)

        async def one(c: WorkflowContext, number: int) -> None:
            await c.sleep(number % 2)
            seen.append((number, await total.update(lambda before: before + number)))

        await ctx.map(one, [1, 2, 3])
        return total.value

    assert check(updates)[0] == 6


def test_an_update_is_answered_in_a_branch_from_state_that_another_branch_changes() -> None:
    async def answers(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        shared = {"count": 0}

        async def counts(c: WorkflowContext) -> None:
            for _ in range(2):
                shared["count"] = await c.compute("count", echo, shared["count"] + 1)

        async def serves(c: WorkflowContext) -> None:
            update = await c.receive_update("add")
            shared["added"] = update.value
            await update.answer(update.value)
            seen.append(update.value)

        await ctx.gather(counts, serves)
        return sorted(shared.items())

    def ask(run: WorkflowRun[Any], test: WorkflowTest) -> None:
        assert run.update("add", 5, update_id="one") == 5

    assert check(answers, ask)[0] == [("added", 5), ("count", 2)]


def test_a_lock_makes_fetch_then_store_safe() -> None:
    async def safe(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        lock, total = asyncio.Lock(), 0

        async def one(c: WorkflowContext, number: int) -> None:
            nonlocal total
            async with lock:
                before = total
                await c.sleep(0.5)
                total = before + await c.compute("number", echo, number)
                seen.append(total)

        await ctx.map(one, [1, 2, 3], limit=2)
        return total

    assert check(safe)[0] == 6


def test_a_variable_has_the_value_that_is_recorded_though_whoever_changed_it_was_cancelled_meanwhile() -> None:
    async def loses(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        first, second = await ctx.var("first", 0), await ctx.var("second", 0)

        async def wins(c: WorkflowContext) -> None:
            await first.set(1)

        async def is_cancelled(c: WorkflowContext) -> None:
            try:
                await second.update(lambda before: before + 1)
            finally:
                seen.append(second.value)

        await ctx.race(wins, is_cancelled)
        seen.append(second.value)
        return await second.update(lambda before: before + 10)

    result, seen, _ = check(loses)
    assert result == 11
    assert seen == [1, 1]

    with workflow_test() as test:
        run = test.start(loses, None)
        test.finish(run)
        assert run.variables() == {"first": 1, "second": 11}


def test_the_lock_of_a_variable_is_free_once_whoever_changed_it_was_cancelled() -> None:
    async def cancels(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        total = await ctx.var("total", 0)
        tasks = [asyncio.create_task(total.update(lambda before: before + 1)) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()  # one that is under way, and two that wait for the lock
        await asyncio.wait(tasks)
        seen.append(total.value)
        return await total.set(total.value + 5)

    result, seen, _ = check(cancels)
    assert (result, seen) == (6, [1])
