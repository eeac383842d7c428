"""Workflows of a notebook, with annotations that nobody can look at and with type aliases, through the loss of a leader."""

from __future__ import annotations

import linecache
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from raftoral_nb import InputTypeError, WorkflowFailedError
from raftoral_nb.testing import workflow_test

CELL = """
{future}
import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nowhere import Context, Receipt

@dataclasses.dataclass
class Order:
    item: str
    price: int
    receipt: Receipt | None = None

def charge(order: Order, *, receipt: Receipt | None = None) -> Receipt:
    if order.price < 0:
        raise ValueError(order.item)  # refused
    return dataclasses.replace(order, price=order.price + 1)

async def sell(ctx: Context, orders: list[Order]) -> Receipt:
    charged = [await ctx.compute("charge", charge, order) for order in orders]
    await ctx.sleep(86400)
    return await ctx.compute("last", charge, charged[-1])
"""

ALIASES = """
type Json = dict[str, Json] | list[Json] | int | str | None
type Pair[T] = tuple[T, T]

async def paired(ctx, value: Json):
    first: Pair[int] = await ctx.compute("first", lambda: (1, 2))
    await ctx.sleep(86400)
    return first, Json.__name__, Pair[int].__value__ is not None, value
"""

FUTURES = [
    pytest.param("from __future__ import annotations", id="text"),
    pytest.param("", id="lazy", marks=pytest.mark.skipif(sys.version_info < (3, 14), reason="evaluated at once there")),
]


@pytest.fixture
def notebook() -> Iterator[Any]:
    """Runs cells as IPython does: each has a file name of its own, and all of them are of `__main__`."""
    space: dict[str, Any] = {"__name__": "__main__"}
    names: list[str] = []

    def run(cell: str) -> dict[str, Any]:
        text = textwrap.dedent(cell)
        names.append(f"/tmp/ipykernel_7/{len(names)}.py")
        linecache.cache[names[-1]] = (len(text), None, text.splitlines(keepends=True), names[-1])
        exec(compile(text, names[-1], "exec", dont_inherit=True), space)
        return space

    yield run
    for name in names:
        linecache.cache.pop(name, None)


@pytest.mark.parametrize("future", FUTURES)
def test_annotations_with_missing_names_run_through_a_killed_leader(notebook: Any, future: str) -> None:
    cell = notebook(CELL.format(future=future))
    with workflow_test() as test:
        run = test.start(cell["sell"], [cell["Order"]("tea", 3), cell["Order"]("milk", 1)])
        test.settle()
        test.cluster.kill("leader")
        result = test.finish(run)
        assert (result.item, result.price) == ("milk", 3)
        assert test.effects("charge") == 2
        with pytest.raises(InputTypeError, match=r"orders\[0\].price: expected int, got str"):
            test.start(cell["sell"], [cell["Order"]("tea", "3")])
        with pytest.raises(WorkflowFailedError) as failed:
            test.finish(test.start(cell["sell"], [cell["Order"]("tea", -1)]))
        assert failed.value.failure is not None
        assert "raise ValueError(order.item)  # refused" in failed.value.failure.traceback


@pytest.mark.parametrize("future", FUTURES)
def test_a_cell_that_is_run_again_unchanged_is_the_same_version(notebook: Any, future: str) -> None:
    with workflow_test() as test:
        first = test.cluster.register_workflow(notebook(CELL.format(future=future))["sell"])
        assert (
            test.cluster.register_workflow(notebook(CELL.format(future=future))["sell"]).version == first.version == 1
        )
        changed = CELL.format(future=future).replace("order.price + 1", "order.price + 2")
        assert test.cluster.register_workflow(notebook(changed)["sell"]).version == 2


@pytest.mark.skipif(sys.version_info < (3, 12), reason="`type X = ...` is of Python 3.12")
def test_type_aliases_of_a_cell_run_through_a_killed_leader(notebook: Any) -> None:
    cell = notebook(ALIASES)
    with workflow_test() as test:
        run = test.start(cell["paired"], {"a": [1, {"b": None}]})
        test.settle()
        test.cluster.kill("leader")
        assert test.finish(run) == ((1, 2), "Json", True, {"a": [1, {"b": None}]})
        with pytest.raises(InputTypeError):
            test.start(cell["paired"], {"a": 1.5})
