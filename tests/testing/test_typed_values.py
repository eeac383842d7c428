"""Values of every kind, wherever a workflow can have one; and what cannot be recorded, refused where it was made."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest

from raftoral_nb import RaftoralError, ValueNotShippableError, WorkflowContext, WorkflowFailedError, WorkflowRun, limits
from raftoral_nb.core import state
from raftoral_nb.testing import WorkflowTest, workflow_test
from raftoral_nb.workflow.language.variables import ReplicatedVar


class Size(enum.Enum):
    SMALL = "small"


@dataclasses.dataclass(frozen=True)
class Item:
    name: str
    size: Size = Size.SMALL
    tags: frozenset[str] = frozenset({"a", "b"})


class Point(NamedTuple):
    x: float
    y: float


class Order(msgspec.Struct):
    item: str
    at: dt.datetime


class Plain:
    """A class without `__eq__`, as notebooks have them."""

    def __init__(self, value: object) -> None:
        self.value = value


def same(one: Any, other: Any) -> bool:
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        return bool(np.array_equal(one, other)) and one.dtype == other.dtype
    if isinstance(one, pd.DataFrame):
        return bool(one.equals(other))
    if isinstance(one, Plain):
        return bool(one.value == other.value)
    return bool(one == other)


VALUES: Final[dict[str, Callable[[], Any]]] = {
    "dataclass": lambda: Item("tea"),
    "named tuple": lambda: Point(1.5, 2.5),
    "msgspec struct": lambda: Order("tea", dt.datetime(2024, 1, 1, tzinfo=dt.UTC)),
    "instance": lambda: Plain({"a": [1, 2]}),
    "array": lambda: np.array([[1.5, np.inf], [2.5, 0.0]]),
    "table": lambda: pd.DataFrame({"word": ["a", "b"], "value": [1.5, 2.5]}),
    "decimal": lambda: decimal.Decimal("1.10"),
    "nested": lambda: {"items": [Item("tea"), Item("cup")], "when": dt.date(2024, 1, 1), Size.SMALL: {1, 2}},
}


async def echoes(ctx: WorkflowContext, given: Any) -> Any:
    return await ctx.compute("echo", lambda: given)


async def everywhere(ctx: WorkflowContext, given: Any) -> list[Any]:
    """Sends a value through everything that records one."""
    seen = [given, await ctx.compute("step", lambda value: value, given)]
    variable = await ctx.var("variable", given)
    seen += [variable.value, await variable.set(given), await variable.update(lambda value: value)]
    seen.append((await ReplicatedVar.with_computation("computed", ctx, lambda: given)).value)
    seen.append(await ctx.receive("signal"))
    update = await ctx.receive_update("update")
    await update.answer(update.value)
    seen += [update.value, await ctx.run_child("echoes", given)]
    seen += await ctx.gather(*[lambda inner: inner.compute("in a branch", lambda: given)] * 2)
    seen += await ctx.map(echoes, [given])
    return seen


@pytest.mark.parametrize("kind", VALUES)
def test_a_value_passes_wherever_one_is_recorded_and_is_the_same_on_every_node(kind: str) -> None:
    check_everywhere(VALUES[kind]())


def check_everywhere(value: Any) -> None:
    """Send a value through everything, with a leader that dies meanwhile."""
    with workflow_test() as test:
        test.cluster.register_workflow("echoes", echoes)
        run = test.start(everywhere, value)
        run.signal("signal", value)
        test.settle()
        test.kill_leader_at("in a branch", when="after", restart=True)
        assert same(run.update("update", value), value)
        result = test.finish(run)
        assert len(result) == 12
        assert all(same(one, value) for one in result)
        for node in test.cluster.nodes.values():
            assert all(same(one, value) for one in node.result(run.run_id))
        assert same(run.variables()["variable"], value)
        assert same(run.value("step"), value)
        assert run.to_frame()["value"].notna().any()


# --- what cannot be recorded

SMALL_LIMIT = 1_000_000


@pytest.fixture
def _small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_ENCODED_BYTES", SMALL_LIMIT)
    monkeypatch.setattr(state, "MAX_VALUE_BYTES", SMALL_LIMIT)


def no_pickle() -> Any:
    return threading.Lock()


def too_large() -> Any:
    return bytes(SMALL_LIMIT + 1)


async def in_a_step(ctx: WorkflowContext, make: Any) -> None:
    await ctx.compute("made here", make)


async def in_a_variable(ctx: WorkflowContext, make: Any) -> None:
    await ctx.var("made here", make())


async def in_a_change(ctx: WorkflowContext, make: Any) -> None:
    await (await ctx.var("made here", None)).set(make())


async def in_a_computation(ctx: WorkflowContext, make: Any) -> None:
    await ReplicatedVar.with_computation("made here", ctx, make)


async def in_an_answer(ctx: WorkflowContext, make: Any) -> None:
    await (await ctx.receive_update("made here")).answer(make())


async def in_a_child(ctx: WorkflowContext, make: Any) -> None:
    await ctx.run_child("echoes", make())


async def in_a_branch(ctx: WorkflowContext, make: Any) -> None:
    await ctx.gather(lambda inner: inner.compute("made here", make))


async def in_the_result(ctx: WorkflowContext, make: Any) -> Any:
    return make()


async def in_the_next_input(ctx: WorkflowContext, make: Any) -> None:
    raise ctx.continue_as_new(make())


def start(test: WorkflowTest, workflow: Any, make: Callable[[], Any]) -> WorkflowRun[Any]:
    test.cluster.register_workflow("echoes", echoes)
    run = test.start(workflow, make, run_id="run")
    if workflow is in_an_answer:
        with pytest.raises(RaftoralError):
            run.update("made here", None)
    return run


@pytest.mark.parametrize(
    ("workflow", "place"),
    [
        (in_a_step, "step '0/made here'"),
        (in_a_variable, "step '0/made here'"),
        (in_a_change, "step '1/made here'"),
        (in_a_computation, "step '0/made here'"),
        (in_an_answer, "step '0/made here'"),
        (in_a_child, "step '0/echoes'"),
        (in_a_branch, "step '0.0.0/made here'"),
        (in_the_result, "result of run 'run'"),
        (in_the_next_input, "the next input of run 'run'"),
    ],
)
@pytest.mark.parametrize(
    ("make", "says"),
    [(no_pickle, "_thread.lock cannot be recorded, as it does not pickle"), (too_large, "MAX_ENCODED_BYTES")],
)
@pytest.mark.usefixtures("_small_limit")
def test_what_cannot_be_recorded_is_refused_where_it_was_made(workflow: Any, place: str, make: Any, says: str) -> None:
    with workflow_test() as test:
        run = start(test, workflow, make)
        with pytest.raises(WorkflowFailedError) as caught:
            test.finish(run)
        told = f"{caught.value} {caught.value.__cause__!r}"
        assert "ValueNotShippableError" in told
        cause = caught.value.__cause__
        said = str(cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause)
        assert said.startswith(place), said
        assert says in said


@pytest.mark.usefixtures("_small_limit")
@pytest.mark.parametrize("make", [no_pickle, too_large])
def test_from_outside_it_is_refused_before_anything_is_proposed(make: Callable[[], Any]) -> None:
    async def waits(ctx: WorkflowContext, given: Any) -> None:
        await ctx.receive("never")

    with workflow_test() as test:
        with pytest.raises(ValueNotShippableError, match="input of workflow 'waits'"):
            test.cluster.start_workflow(waits, make())
        run = test.start(waits, None)
        with pytest.raises(ValueNotShippableError, match="the value of the signal 'go'"):
            run.signal("go", make())
        with pytest.raises(ValueNotShippableError, match="the value of the update 'go'"):
            run.update("go", make())
        assert len(run.history()) == 1
        run.terminate()
