"""A forgotten `await` is asked about, with the operation and its line, and nothing is left for Python to warn of."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pytest

from raftoral_nb import (
    NotAwaitedError,
    ReplicatedVar,
    WorkflowContext,
    WorkflowDefinitionError,
    WorkflowFailedError,
    step,
)
from raftoral_nb.node import executor
from raftoral_nb.testing import WorkflowTest, workflow_test
from raftoral_nb.workflow.language import unawaited

Workflow = Callable[[WorkflowContext, Any], Awaitable[Any]]


@pytest.fixture
def test() -> Iterator[WorkflowTest]:
    with workflow_test() as made:
        yield made
    gc.collect()  # what was never awaited would be complained of now, and warnings are errors


@step
def charge(order: Any) -> Any:
    return order


async def fetch(what: Any) -> Any:
    return what


def message(test: WorkflowTest, workflow: Workflow) -> str:
    with pytest.raises(WorkflowFailedError) as caught:
        test.finish(test.start(workflow, None))
    test.raise_divergence(caught.value.run_id and test.cluster.run(caught.value.run_id))
    return f"{caught.value}\n{caught.value.failure.traceback}"


# mypy: disable-error-code="unused-coroutine,operator,attr-defined,arg-type,unused-awaitable,misc,truthy-bool,call-overload"


async def dropped(ctx: WorkflowContext, _: None) -> None:
    ctx.compute("pay", str, 1)


async def dropped_step(ctx: WorkflowContext, _: None) -> None:
    charge(5)


async def added_to(ctx: WorkflowContext, _: None) -> Any:
    return ctx.compute("pay", str, 1) + "!"


async def asked_for_an_attribute(ctx: WorkflowContext, _: None) -> Any:
    return ctx.var("pay", 1).value


async def iterated(ctx: WorkflowContext, _: None) -> Any:
    return [*ctx.map(len, ["a"])]


async def taken_for_true(ctx: WorkflowContext, _: None) -> str:
    return "paid" if ctx.receive("pay", timeout=5, default=False) else "not paid"


async def dropped_in_a_branch(ctx: WorkflowContext, _: None) -> Any:
    async def one(ctx: WorkflowContext, item: int) -> None:
        ctx.sleep(5)

    return await ctx.map(one, [1])


async def dropped_set(ctx: WorkflowContext, _: None) -> None:
    status = await ctx.var("status", 1)
    status.set(2)


async def dropped_variable(ctx: WorkflowContext, _: None) -> None:
    ReplicatedVar.with_value("status", ctx, 1)


async def dropped_child(ctx: WorkflowContext, _: None) -> None:
    ctx.start_child("dropped", None)


async def dropped_before_it_fails(ctx: WorkflowContext, _: None) -> None:
    ctx.compute("pay", str, 1)
    raise ValueError("something else")


async def argument(ctx: WorkflowContext, _: None) -> Any:
    price = ctx.compute("price", str, 1)
    return await ctx.compute("pay", print, price)


async def argument_by_name(ctx: WorkflowContext, _: None) -> Any:
    return await ctx.compute("pay", dict, price=fetch(1))


async def argument_of_a_step(ctx: WorkflowContext, _: None) -> Any:
    return await charge(charge(5))


async def result(ctx: WorkflowContext, _: None) -> Any:
    return fetch(5)


async def part_of_the_result(ctx: WorkflowContext, _: None) -> Any:
    return {"prices": [1, fetch(5)]}


async def value_of_a_variable(ctx: WorkflowContext, _: None) -> Any:
    await ctx.var("price", fetch(5))


async def what_a_step_returns(ctx: WorkflowContext, _: None) -> Any:
    return await ctx.compute("prices", lambda: [fetch(1), fetch(2)])


@pytest.mark.parametrize(
    ("workflow", "named"),
    [
        (dropped, "ctx.compute('pay', ...) at test_unawaited.py:"),
        (dropped_step, "charge(...) at test_unawaited.py:"),
        (added_to, "What came of it: TypeError: unsupported operand"),
        (asked_for_an_attribute, "ctx.var('pay', ...) at test_unawaited.py:"),
        (iterated, "ctx.map(...) at test_unawaited.py:"),
        (taken_for_true, "ctx.receive('pay', ...) at test_unawaited.py:"),
        (dropped_in_a_branch, "ctx.sleep(...) at test_unawaited.py:"),
        (dropped_set, "ReplicatedVar.set(...) at test_unawaited.py:"),
        (dropped_variable, "ReplicatedVar.with_value('status', ...) at test_unawaited.py:"),
        (dropped_child, "ctx.start_child('dropped', ...) at test_unawaited.py:"),
        (dropped_before_it_fails, "ValueError: something else"),
        (
            argument,
            "ctx.compute('pay', ...) was given no value as argument 1, but a coroutine: ctx.compute('price', ...) at",
        ),
        (argument_by_name, "was given no value as price, but a coroutine: fetch(...)"),
        (argument_of_a_step, "charge(...) at test_unawaited.py:"),
        (result, "the call fetch(...)"),
        (part_of_the_result, "the call fetch(...)"),
        (value_of_a_variable, "the call fetch(...)"),
        (what_a_step_returns, "the call fetch(...)"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_a_forgotten_await_is_asked_about(test: WorkflowTest, workflow: Workflow, named: str) -> None:
    told = message(test, workflow)
    assert "did you forget `await`?" in told
    assert named in told


def test_the_line_is_the_one_that_called(test: WorkflowTest) -> None:
    first = dropped.__code__.co_firstlineno
    assert f"test_unawaited.py:{first + 1} was called and not awaited" in message(test, dropped)


def test_what_is_awaited_later_or_not_begun_and_closed_is_not_asked_about(test: WorkflowTest) -> None:
    async def later(ctx: WorkflowContext, _: None) -> list[Any]:
        first, second, third = ctx.compute("a", str, 1), charge(2), ctx.compute("c", str, 3)
        third.close()
        return [await second, await first]

    assert test.finish(test.start(later, None)) == [2, "1"]


def test_what_was_given_to_a_task_that_has_yet_to_begin_is_not_asked_about(test: WorkflowTest) -> None:
    async def fails(ctx: WorkflowContext, _: None) -> None:
        task = asyncio.create_task(ctx.compute("a", str, 1))
        raise ValueError(f"no task has begun: {task.done()}")

    async def leaves(ctx: WorkflowContext, _: None) -> str:
        task = asyncio.create_task(ctx.compute("a", str, 1))
        return "left" if not task.done() else "done"

    told = message(test, fails)
    assert "ValueError: no task has begun: False" in told
    assert "did you forget" not in told
    assert test.finish(test.start(leaves, None)) == "left"


def test_what_a_query_or_a_step_forgets_is_theirs_and_no_node_differs(test: WorkflowTest) -> None:
    async def careless(ctx: WorkflowContext, _: None) -> Any:
        def known() -> int:
            ctx.compute("never", str, 1).close()
            return 1

        def in_a_step() -> int:
            ctx.compute("never", str, 1).close()
            return 2

        ctx.on_query("known", known)
        await ctx.receive("go")
        return await ctx.compute("step", in_a_step)

    run = test.start(careless, None)
    test.settle()
    assert run.query("known") == 1
    run.signal("go")
    assert test.finish(run) == 2


def test_awaiting_what_is_there_at_once_says_what_is_not_awaited(test: WorkflowTest) -> None:
    async def eager(ctx: WorkflowContext, _: None) -> None:
        await ctx.random()

    assert "Not everything is awaited: ctx.random()" in message(test, eager)


def test_calls_in_place_of_functions_are_told_how_to_be_given(test: WorkflowTest) -> None:
    async def as_with_asyncio(ctx: WorkflowContext, _: None) -> list[Any]:
        for act in (ctx.gather, ctx.race):
            with pytest.raises(WorkflowDefinitionError, match=r"the call charge\(\.\.\.\), where it takes functions"):
                await act(charge(1), charge(2))
        with pytest.raises(WorkflowDefinitionError, match=r"the call fetch\(\.\.\.\)"):
            await ctx.gather(fetch(1))
        async with ctx.task_group() as group:
            with pytest.raises(WorkflowDefinitionError, match=r"functools\.partial"):
                group.start(charge(1))
        return await ctx.gather(partial(charge, 1), partial(charge, 2))

    assert test.finish(test.start(as_with_asyncio, None)) == [1, 2]


def test_values_sent_to_a_run_are_asked_about_as_well(test: WorkflowTest) -> None:
    async def waits(ctx: WorkflowContext, _: Any) -> Any:
        return await ctx.receive("go")

    with pytest.raises(Exception, match="did you forget `await`"):
        test.start(waits, fetch(1))
    run = test.start(waits, None)
    with pytest.raises(Exception, match="did you forget `await`"):
        run.signal("go", fetch(1))


def test_little_is_remembered_of_many_operations(test: WorkflowTest) -> None:
    seen: list[int] = []
    kept: list[Any] = []

    async def many(ctx: WorkflowContext, _: None) -> None:
        for number in range(50):
            await ctx.compute("one", str, number)

    remember = unawaited.check_end

    def look(execution: Any) -> None:
        seen.append(len(execution.called))
        kept.append(execution)
        remember(execution)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor.unawaited, "check_end", look)
        test.finish(test.start(many, None))
    assert seen == [1, 1, 1]
    assert all(execution.called == [] for execution in kept)


def test_the_error_survives_being_recorded() -> None:
    assert str(NotAwaitedError("asked")) == "asked"
