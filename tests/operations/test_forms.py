"""What parallel operations are given is a branch or a step, as its signature says; what fails first is named."""

from __future__ import annotations

import operator
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from raftoral_nb import Retry, WorkflowContext, WorkflowDefinitionError, WorkflowFailedError, step
from raftoral_nb.testing import WorkflowTest, workflow_test


@pytest.fixture
def test() -> Iterator[WorkflowTest]:
    with workflow_test() as made:
        yield made


def measure(item: str) -> int:
    return len(item)


async def measure_later(item: str) -> int:
    return len(item)


def measure_in(item: str, unit: str = "cm") -> str:
    return f"{len(item)} {unit}"


async def fetch(url: str, timeout: float = 5, *, retries: int = 0) -> str:
    return f"{url} within {timeout}"


@step(retry=Retry(attempts=2))
def weigh(item: str) -> int:
    return 10 * len(item)


@step(key="weighed later")
async def weigh_later(item: str, unit: str = "g") -> str:
    return f"{10 * len(item)} {unit}"


class Scale:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    def weigh(self, item: str) -> int:
        return self.factor * len(item)

    def __call__(self, item: str) -> int:
        return self.factor + len(item)


@dataclass
class Parcel:
    item: str


async def branch(ctx: WorkflowContext, item: str) -> int:
    return await ctx.compute("in a branch", len, item)


async def branch_with_a_default(ctx: WorkflowContext, item: str = "") -> int:
    return await ctx.compute("in a branch", len, item)


async def annotated_branch(here: WorkflowContext, item: str = "") -> int:
    return await here.compute("in a branch", len, item)


async def whatever_comes(*args: Any) -> int:
    ctx, item = args
    result: int = await ctx.compute("in a branch", len, item)
    return result


@pytest.mark.parametrize(
    ("fn", "key", "expected"),
    [
        (measure, "measure", [1, 2]),
        (measure_later, "measure_later", [1, 2]),
        (measure_in, "measure_in", ["1 cm", "2 cm"]),
        (fetch, "fetch", ["a within 5", "bc within 5"]),
        (partial(fetch, timeout=1), "fetch", ["a within 1", "bc within 1"]),
        (weigh, "weigh", [10, 20]),
        (weigh_later, "weighed later", ["10 g", "20 g"]),
        (partial(weigh_later, unit="kg"), "weighed later", ["10 kg", "20 kg"]),
        (Scale(3).weigh, "weigh", [3, 6]),
        (Scale(3), "Scale", [4, 5]),
        (Parcel, "Parcel", [Parcel("a"), Parcel("bc")]),
        (len, "len", [1, 2]),
        (str.upper, "upper", ["A", "BC"]),
        (str, "str", ["a", "bc"]),
        (operator.itemgetter(0), "itemgetter", ["a", "b"]),
        (lambda item: item * 2, "<lambda>", ["aa", "bcbc"]),
        (branch, "in a branch", [1, 2]),
        (branch_with_a_default, "in a branch", [1, 2]),
        (annotated_branch, "in a branch", [1, 2]),
        (whatever_comes, "in a branch", [1, 2]),
        (lambda ctx, item: ctx.compute("in a branch", len, item), "in a branch", [1, 2]),
    ],
    ids=lambda one: getattr(one, "__name__", None) or "-",
)
def test_map_tells_a_step_from_a_branch_by_its_signature(
    test: WorkflowTest, fn: Callable[..., Any], key: str, expected: list[Any]
) -> None:
    async def maps(ctx: WorkflowContext, items: list[str]) -> Any:
        return await ctx.map(fn, items, limit=2)

    run = test.start(maps, ["a", "bc"])
    assert test.finish(run) == expected
    assert sorted(one.step_id for one in run.steps) == [f"0.0.0/{key}", f"0.1.0/{key}"]


def test_the_options_of_a_step_count_in_a_map(test: WorkflowTest) -> None:
    async def maps(ctx: WorkflowContext, items: list[str]) -> list[int]:
        return await ctx.map(weigh, items)

    run = test.start(maps, ["a"])
    test.fail("weigh", OSError("once"), times=1)
    assert test.finish(run) == [10]
    assert test.effects("weigh") == 2


def one_side() -> str:
    return "one"


@step
async def other_side() -> str:
    return "other"


async def third_side(ctx: WorkflowContext) -> str:
    return await ctx.compute("third", str, "third")


def test_gather_race_and_task_groups_take_steps_too(test: WorkflowTest) -> None:
    async def all_of_them(ctx: WorkflowContext, _: None) -> list[Any]:
        both: list[Any] = await ctx.gather(one_side, other_side, third_side, partial(weigh, "abc"))  # type: ignore[arg-type]
        won = await ctx.race(one_side)
        async with ctx.task_group() as group:
            tasks: list[Any] = [
                group.start(measure, "abc"),
                group.start(weigh, "abc"),
                group.start(branch, "abc"),
                group.start(one_side),
                group.start(fetch, "u", 7),
            ]
        return [*both, won, *(task.result for task in tasks)]

    run = test.start(all_of_them, None)
    assert test.finish(run) == ["one", "other", "third", 30, "one", 3, 30, 3, "one", "u within 7"]
    assert {"0.0.0/one_side", "0.1.0/other_side", "0.2.0/third", "0.3.0/weigh"} < {one.step_id for one in run.steps}


def takes_two(item: str, other: str) -> None: ...


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda ctx: ctx.map(5, ["a"]), "takes functions: branches"),
        (lambda ctx: ctx.map(one_side, ["a"]), "calls its functions with 1 argument, or a context and these; one_side"),
        (lambda ctx: ctx.map(other_side, ["a"]), "calls its functions with 1 argument; other_side"),
        (lambda ctx: ctx.gather(weigh), r"ctx\.gather calls its functions with no arguments; weigh"),
        (
            lambda ctx: ctx.race(branch),
            r"ctx\.race calls its functions with no arguments, or a context and these; branch",
        ),
    ],
    ids=["no function", "too few", "a step that takes none", "a step that takes one", "a branch that takes one"],
)
def test_what_is_neither_is_refused_by_name(
    test: WorkflowTest, act: Callable[[WorkflowContext], Awaitable[Any]], told: str
) -> None:
    async def misused(ctx: WorkflowContext, _: None) -> str:
        with pytest.raises(WorkflowDefinitionError, match=told):
            await act(ctx)
        return "refused"

    assert test.finish(test.start(misused, None)) == "refused"


def test_a_branch_that_is_not_async_is_told_so(test: WorkflowTest) -> None:
    async def misused(ctx: WorkflowContext, _: None) -> str:
        with pytest.raises(ExceptionGroup, match=r"a branch of ctx\.map, takes_two, returned a NoneType, where"):
            await ctx.map(takes_two, ["a"])  # type: ignore[arg-type]
        return "refused"

    assert test.finish(test.start(misused, None)) == "refused"


# --- the first cause


def divide(number: int) -> float:
    return 12 / number


async def group_in(ctx: WorkflowContext, what: str) -> None:
    if what == "map":
        await ctx.map(divide, [1, 0, 2, "no"])  # type: ignore[arg-type]
    elif what == "gather":
        await ctx.gather(partial(divide, 0), partial(divide, 1))
    elif what == "group":
        async with ctx.task_group() as group:
            group.start(divide, 0)
    else:
        await ctx.map(lambda ctx, numbers: ctx.map(divide, numbers), [[1], [2, 0]])


@pytest.mark.parametrize("what", ["map", "gather", "group", "nested"])
def test_a_group_of_failures_names_the_first_and_has_it_as_its_cause(test: WorkflowTest, what: str) -> None:
    async def fails(ctx: WorkflowContext, what: str) -> list[Any]:
        with pytest.raises(ExceptionGroup) as caught:
            await group_in(ctx, what)
        cause = caught.value.__cause__
        return [caught.value.message, type(cause), caught.value.exceptions[0] is cause]

    message, cause, is_first = test.finish(test.start(fails, what))
    assert message.endswith("failed, first ZeroDivisionError: division by zero")
    assert cause is ZeroDivisionError
    assert is_first == (what != "nested")


def test_a_run_that_fails_with_a_map_says_why_in_one_line(test: WorkflowTest) -> None:
    async def maps(ctx: WorkflowContext, _: None) -> Any:
        return await ctx.map(divide, [1, 0, 0])

    with pytest.raises(WorkflowFailedError, match="first ZeroDivisionError: division by zero") as caught:
        test.finish(test.start(maps, None))
    assert "branches of ctx.map failed" in caught.value.failure.message
