"""Steps change nothing behind the log's back: they work on copies, and a change that is lost is named."""

from __future__ import annotations

import asyncio
import functools
import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest

from raftoral_nb import (
    LostChangeError,
    NonDeterminismError,
    Retry,
    WorkflowContext,
    WorkflowFailedError,
    check_determinism,
    step,
)
from raftoral_nb.testing import workflow_test


class Model:
    def __init__(self) -> None:
        self.mean: float | None = None

    def fit(self, data: list[float]) -> None:
        self.mean = sum(data) / len(data)

    def fitted(self, data: list[float]) -> Model:
        self.fit(data)
        return self

    def predict(self, x: float) -> float:
        assert self.mean is not None
        return x - self.mean


class Caller:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        return self.calls


class Lazy:
    def __init__(self) -> None:
        self.items = [1, 2]

    @functools.cached_property
    def total(self) -> int:
        return sum(self.items)


def outcomes(workflow: Callable[..., Any], value: Any = None) -> Any:
    """The result of a workflow, which is the same without a fault, on every node, and with the leader killed at each step."""
    check_determinism(workflow, value)
    with workflow_test() as test:
        run = test.start(workflow, value)
        result = test.finish(run)
        assert [node.result(run.run_id, 1) for node in test.cluster.nodes.values()] == [result] * 3
    return result


def refused(workflow: Callable[..., Any], value: Any = None) -> str:
    """What the failure of a workflow says whose step lost a change; the check says it, too."""
    with workflow_test() as test:
        run = test.start(workflow, value)
        with pytest.raises(WorkflowFailedError) as caught:
            test.finish(run)
        cause = caught.value.__cause__
        assert isinstance(cause, LostChangeError)
    with pytest.raises(NonDeterminismError) as checked:
        check_determinism(workflow, value)
    assert str(cause) in str(checked.value)
    with workflow_test() as test:
        run = test.start(workflow, value)
        test.kill_leader_at(0, when="after")
        with pytest.raises(WorkflowFailedError) as killed:
            test.finish(run)
    assert str(killed.value) == str(caught.value)
    return str(cause)


# --- what is lost is named


def test_a_method_that_changes_its_object_is_named() -> None:
    async def learn(ctx: WorkflowContext, data: list[float]) -> float:
        model = Model()
        await ctx.compute("fit", model.fit, data)
        return await ctx.compute("predict", model.predict, 5)

    text = refused(learn, [1, 2, 6])
    assert "step 'fit' changed the tests.testing.test_changed_arguments.Model whose method it is" in text
    assert "changed = await ctx.compute('fit', ...)" in text


@pytest.mark.parametrize(
    ("make", "method", "argument"),
    [
        (list, "append", (1,)),
        (dict, "update", ({"a": 1},)),
        (set, "add", (1,)),
        (bytearray, "append", (1,)),
        (lambda: [1, 2], "pop", ()),
        (lambda: {"a": 1}, "popitem", ()),
        (lambda: {"a": 1}, "__setitem__", ("a", 2)),
        (lambda: random.Random(1), "random", ()),
        (lambda: np.random.default_rng(1), "integers", (6,)),
    ],
    ids=("append", "update", "add", "append to bytes", "pop", "popitem", "setitem", "random", "integers"),
)
def test_a_method_of_a_container_or_source_of_chance_is_named(
    make: Callable[[], Any], method: str, argument: tuple[Any, ...]
) -> None:
    async def mistaken(ctx: WorkflowContext, _: None) -> Any:
        value = make()
        await ctx.compute("do", getattr(value, method), *argument)
        return value

    assert "whose method it is" in refused(mistaken)


def test_an_argument_that_is_changed_and_not_returned_is_named() -> None:
    def sort(_ctx: int, rows: list[int], *, more: dict[str, int]) -> None:
        rows.sort()
        more["a"] = 1

    async def mistaken(ctx: WorkflowContext, _: None) -> Any:
        rows = [3, 1, 2]
        await ctx.compute("sort", sort, 1, rows, more={})
        return rows

    text = refused(mistaken)
    assert "step 'sort' changed its argument 'rows' and its argument 'more', and did not return it" in text


def test_of_several_arguments_only_those_that_were_changed_are_named() -> None:
    async def mistaken(ctx: WorkflowContext, _: None) -> None:
        shared = [1]
        await ctx.compute("add", list.append, [shared], shared)

    assert "its argument 'object'" not in refused(mistaken)


def test_arrays_and_tables_that_are_changed_are_named() -> None:
    def zero(array: Any, table: pd.DataFrame) -> None:
        array[0] = 1
        table["b"] = 1

    async def mistaken(ctx: WorkflowContext, _: None) -> None:
        await ctx.compute("zero", zero, np.zeros(1000), pd.DataFrame({"a": [1.0]}))

    text = refused(mistaken)
    assert "'array'" in text
    assert "'table'" in text


def test_a_variable_of_the_workflow_that_a_function_in_it_changes_or_binds_anew_is_named() -> None:
    async def appends(ctx: WorkflowContext, _: None) -> list[int]:
        items: list[int] = []
        await ctx.compute("add", lambda: items.append(1))
        return items

    async def binds(ctx: WorkflowContext, _: None) -> int:
        total = 0

        def add() -> int:
            nonlocal total
            total += 1
            return total

        return await ctx.compute("add", add) + total

    async def in_a_task(ctx: WorkflowContext, _: None) -> list[int]:
        items: list[int] = []

        async def add() -> None:
            items.append(1)

        await ctx.compute("add", step(add))
        return items

    assert "the variable 'items' of the code around it" in refused(appends)
    assert "the variable 'total' of the code around it" in refused(binds)
    assert "the variable 'items' of the code around it" in refused(in_a_task)


def test_an_iterator_that_is_read_is_named() -> None:
    async def mistaken(ctx: WorkflowContext, _: None) -> list[int]:
        numbers = iter([1, 2])
        return [await ctx.compute("next", next, numbers), await ctx.compute("next", next, numbers)]

    assert "argument number 1" in refused(mistaken)


def test_an_object_that_is_called_and_changes_is_named() -> None:
    async def mistaken(ctx: WorkflowContext, _: None) -> int:
        return await ctx.compute("call", Caller())

    assert "the tests.testing.test_changed_arguments.Caller that is called" in refused(mistaken)


CELL = """
counter = 0
found = []
cache = {}

def count():
    global counter
    counter += 1
    return counter

def find():
    found.append(1)

def marked():
    marked.seen = True

def cached(x):
    cache[x] = x
    return x

async def counts(ctx, _):
    await ctx.compute("count", count)
    return counter

async def finds(ctx, _):
    await ctx.compute("find", find)
    return found

async def marks(ctx, _):
    await ctx.compute("mark", marked)
    return hasattr(marked, "seen")

async def caches(ctx, _):
    return [await ctx.compute("one", cached, 1), await ctx.compute("two", count)]
"""


@pytest.mark.parametrize(("name", "variable"), [("counts", "counter"), ("finds", "found"), ("marks", "marked")])
def test_a_global_that_a_step_changes_and_the_workflow_reads_is_named(name: str, variable: str) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(CELL, namespace)
    assert f"the global variable {variable!r}, which the workflow reads" in refused(namespace[name])


def test_a_global_that_only_steps_use_is_theirs() -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(CELL, namespace)
    with workflow_test() as test:
        run = test.start(namespace["caches"], None)
        assert test.finish(run) == [1, 1]
        assert not [line for line in test.log(run) if line.stream == "engine"]


# --- what is returned, or copied, is right everywhere


def test_what_is_returned_may_be_changed_and_the_workflows_own_stays_as_it_was() -> None:
    async def learn(ctx: WorkflowContext, data: list[float]) -> Any:
        model = Model()
        fitted = await ctx.compute("fit", model.fitted, data)
        again = await ctx.compute("again", functools.partial(Model.fitted, model), data)
        in_a_list: Any
        in_a_list, _ = await ctx.compute("list", lambda: [model.fitted(data), 1])
        return model.mean, fitted.mean, again.mean, in_a_list.mean, await ctx.compute("predict", fitted.predict, 5)

    assert outcomes(learn, [1, 2, 6]) == (None, 3.0, 3.0, 3.0, 2.0)


def test_a_step_that_changes_its_argument_on_the_way_to_something_else_is_right_and_that_is_said_once() -> None:
    def total(rows: list[int]) -> int:
        rows.append(0)
        return sum(rows)

    async def sums(ctx: WorkflowContext, _: None) -> Any:
        rows = [1, 2]
        return [await ctx.compute("total", total, rows) for _ in range(2)], rows

    assert outcomes(sums) == ([3, 3], [1, 2])
    with workflow_test() as test:
        run = test.start(sums, None)
        test.finish(run)
        said = [line.text for line in test.log(run) if line.stream == "engine"]
    assert len(said) == 1
    assert "step 'total' changed its argument 'rows'" in said[0]


def test_what_a_failed_attempt_changed_is_gone_in_the_next_and_in_the_workflow() -> None:
    def flaky(rows: list[int]) -> list[int]:
        rows.append(len(rows))
        if len(rows) < 2:
            return rows
        raise ValueError(rows)

    async def tries(ctx: WorkflowContext, _: None) -> Any:
        rows = [7]
        try:
            await ctx.compute("flaky", step(flaky, retry=Retry(attempts=3)), rows)
        except ValueError as error:
            return rows, error.args

    assert outcomes(tries) == ([7], ([7, 1],))


def test_functions_that_refer_to_themselves_and_to_each_other_are_copied() -> None:
    async def recursive(ctx: WorkflowContext, _: None) -> Any:
        limits = {"deep": 5}

        def even(n: int) -> bool:
            return n == 0 or odd(n - 1)

        def odd(n: int) -> bool:
            return n > limits["deep"] or (n != 0 and even(n - 1))

        return await ctx.compute("even", even, 4), await ctx.compute("odd", odd, 3)

    assert outcomes(recursive) == (True, True)


def test_reading_changes_nothing() -> None:
    def read(lazy: Any, table: pd.DataFrame, names: set[str]) -> None:
        assert lazy.total == 3
        assert table.describe() is not None
        assert table.to_numpy().sum() > 0
        assert names

    async def reads(ctx: WorkflowContext, _: None) -> str:
        table = pd.DataFrame({"a": [1.0, 2.0]})
        table["b"] = 2.0
        table["c"] = "x"
        await ctx.compute("read", read, Lazy(), table[["a", "b"]], {"one", "two", "three"})
        return "read"

    assert outcomes(reads) == "read"


def test_a_method_may_fill_a_cached_property_of_an_object_that_has_nothing_else() -> None:
    class Client:
        @functools.cached_property
        def session(self) -> str:
            return "open"

        def get(self, item: str) -> str:
            return f"{self.session}: {item}"

    async def asks(ctx: WorkflowContext, _: None) -> str:
        return await ctx.compute("ask", Client().get, "a")

    assert outcomes(asks) == "open: a"


def test_what_another_branch_changes_meanwhile_is_not_laid_to_the_step() -> None:
    async def both(ctx: WorkflowContext, _: None) -> dict[str, int]:
        state: dict[str, int] = {}

        async def left(ctx: WorkflowContext) -> None:
            await ctx.compute("left", lambda given: None, state)
            state["left"] = 1

        async def right(ctx: WorkflowContext) -> None:
            state["right"] = await ctx.compute("right", lambda: 2)

        await ctx.gather(left, right)
        return state

    with workflow_test() as test:
        assert test.finish(test.start(both, None)) == {"left": 1, "right": 2}


def test_methods_of_objects_that_a_module_keeps_for_all_are_not_copied() -> None:
    async def dice(ctx: WorkflowContext, _: None) -> bool:
        return await ctx.compute("one", random.random) != await ctx.compute("two", random.random)

    with workflow_test() as test:
        assert test.finish(test.start(dice, None)) is True


def test_what_does_not_pickle_is_passed_on_as_it_is_beside_copies_of_the_rest() -> None:
    async def locked(ctx: WorkflowContext, _: None) -> Any:
        lock, rows = threading.Lock(), [1]
        held = [lock]

        def use(given: list[Any]) -> Any:
            with lock:
                rows.append(2)
                return given[0] is lock, rows

        return await ctx.compute("use", use, held), rows

    assert outcomes(locked) == ((True, [1, 2]), [1])


def test_an_object_that_holds_something_of_its_process_is_not_copied() -> None:
    async def uses(ctx: WorkflowContext, _: None) -> bool:
        connected: Any = Model()
        connected.lock = asyncio.Lock()
        return await ctx.compute("use", lambda given: given is connected, connected)

    assert outcomes(uses) is True


# --- the check


def test_the_check_finds_what_a_step_changed_in_an_object_that_cannot_be_copied() -> None:
    async def learn(ctx: WorkflowContext, data: list[float]) -> float:
        model: Any = Model()
        model.lock = threading.Lock()
        await ctx.compute("fit", model.fit, data)
        return await ctx.compute("predict", lambda: model.predict(5))

    with pytest.raises(NonDeterminismError) as caught:
        check_determinism(learn, [1, 2, 6])
    text = str(caught.value)
    assert "with the leader killed just after the record of step '0/fit', step '1/predict' differs" in text
    assert "2.0" in text
    assert "AssertionError" in text


def test_the_check_finds_an_end_that_differs_after_the_same_steps() -> None:
    async def ends(ctx: WorkflowContext, _: None) -> str:
        kept: Any = [threading.Lock()]
        await ctx.compute("put", kept.append, 1)
        return "two" if len(kept) == 2 else "one"

    with pytest.raises(NonDeterminismError):
        check_determinism(ends)


def test_the_check_does_not_mind_steps_that_differ_by_themselves_or_by_the_time() -> None:
    calls: list[int] = []

    def counted() -> int:
        calls.append(1)
        return len(calls)

    async def counts(ctx: WorkflowContext, _: None) -> Any:
        number = await ctx.compute("number", counted)
        await ctx.sleep(5)
        return number, await ctx.now(), await ctx.compute("double", lambda: 2 * number)

    assert check_determinism(counts, replace={"number": counted}).failovers == 6
