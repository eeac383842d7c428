"""Inputs are checked against the workflow's annotation before anything is proposed."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import re
from collections.abc import Callable
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    Protocol,
    TypedDict,
    TypeVar,
    Union,
)

import msgspec
import pytest

from raftoral_nb import errors
from raftoral_nb.workflow.shipping import input_types

if TYPE_CHECKING:
    from nowhere import Missing  # type: ignore[import-not-found]

RunCell = Callable[..., dict[str, Any]]
T = TypeVar("T")


class Size(enum.Enum):
    SMALL = 1


@dataclasses.dataclass
class Item:
    name: str
    price: int
    size: Size = Size.SMALL


@dataclasses.dataclass
class Order:
    items: list[Item]
    note: str | None = None
    rates: dict[str, float] = dataclasses.field(default_factory=dict)
    kind: Literal["normal", "express"] = "normal"
    anything: Any = None
    missing: Missing = None
    parent: Order | None = None


@dataclasses.dataclass
class Express(Order):
    hours: int = 1


class Address(TypedDict):
    street: str
    number: NotRequired[int]


class Point(NamedTuple):
    x: int
    y: int


class Struct(msgspec.Struct):
    a: int
    b: list[str] = []


@dataclasses.dataclass
class Box(Generic[T]):
    content: T


class Runs(Protocol):
    def run(self) -> None: ...


UserId = NewType("UserId", int)


def problem(annotation: Any, value: object) -> str | None:
    """What the check says of `value` for a parameter `order` of that annotation."""

    async def flow(ctx: Any, order: Any) -> None:
        return None

    flow.__annotations__ = {"ctx": "WorkflowContext", "order": annotation}
    try:
        input_types.check(flow, value, workflow="flow")
    except errors.InputTypeError as error:
        text = str(error)
        assert text.startswith("the input of workflow 'flow' is not what it asks for: ")
        return text.partition(" asks for: ")[2]
    return None


def said(parameter: object) -> str:
    """Part of a test's id: the same in every process, so without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(parameter))


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, 1), (float, 1), (float, 1.5), (str, "a"), (bytes, b""), (None, None), (object, 3), ("int", 3),
        pytest.param(Any, object(), id="Any-an object"),
        (list[int], [1]), (list, ["x"]), (dict[str, int], {"a": 1}), (tuple[int, str], (1, "a")), (tuple[int, ...], (1, 2)),
        (tuple[()], ()), (set[int], {1}), (frozenset[str], frozenset("a")), (int | None, None), (Optional[int], 3),  # noqa: UP045

        (Union[int, str], "x"),  # noqa: UP007
        (Literal["a", 1], 1), (Order, Order([Item("a", 1)])), (Order, Express([])), ("Order", Order([])),
        (Address, {"street": "x"}), (Address, {"street": "x", "number": 1}), (Point, Point(1, 2)), (Struct, Struct(1, ["a"])),
        (Size, Size.SMALL), (UserId, 3), (Annotated[int, "positive"], 3), (Box[int], Box("not looked at")), (T, 3),
        (Runs, 3), (Callable[[int], int], len), (type[int], int), ("Missing", 3), (bool, True),
        (collections.abc.Sequence[int], [1]), (collections.abc.Mapping[str, int], {"a": 1}),
        pytest.param(collections.abc.Iterable[int], iter("a"), id="Iterable-an iterator"),
        (list["Item"], [Item("a", 1)]), (Union[Item, Order], Order([])),  # noqa: UP007
    ],
    ids=said,
)  # fmt: skip
def test_what_fits_passes(annotation: Any, value: object) -> None:
    assert problem(annotation, value) is None


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (int, "3", "order: expected int, got str ('3')"),
        (int, True, "order: expected int, got bool (True)"),
        (int, 1.0, "order: expected int, got float (1.0)"),
        (str, None, "order: expected str, got NoneType"),
        (list[int], (1,), "order: expected list[int], got tuple ((1,))"),
        (list[int], [1, "a"], "order[1]: expected int, got str ('a')"),
        (dict[str, int], {"a": "b"}, "order['a']: expected int, got str ('b')"),
        (dict[str, int], {1: 2}, "order (the key 1): expected str, got int (1)"),
        (tuple[int, str], (1, 2), "order[1]: expected str, got int (2)"),
        (tuple[int, str], (1,), "order: expected 2 elements, got 1"),
        (tuple[int, ...], (1, "a"), "order[1]: expected int, got str ('a')"),
        (int | None, "x", "order: expected int | None, got str ('x')"),
        (Literal["a", "b"], "c", "order: expected one of 'a', 'b', got 'c'"),
        (Literal[1], True, "order: expected one of 1, got True"),
        (Order, Order([Item("a", 1), Item("b", "2")]), "order.items[1].price: expected int, got str ('2')"),  # type: ignore[arg-type]
        (Order, Order([], rates={"x": "y"}), "order.rates['x']: expected float, got str ('y')"),  # type: ignore[dict-item]
        (Order, Order([], kind="slow"), "order.kind: expected one of 'normal', 'express', got 'slow'"),  # type: ignore[arg-type]
        (Order, Order([], parent=Order("x")), "order.parent.items: expected list[Item], got str ('x')"),  # type: ignore[arg-type]
        (Order, Express([], hours="x"), None),  # type: ignore[arg-type]
        (Express, Express([], note=3), "order.note: expected str | None, got int (3)"),  # type: ignore[arg-type]
        (Address, {"number": 1}, "order: the key 'street' of"),
        (Address, {"street": 1}, "order['street']: expected str, got int (1)"),
        (Address, {"street": "a", "number": "1"}, "order['number']: expected int, got str ('1')"),
        (Address, {"street": "a", "town": "b"}, "has no key 'town'"),
        (Point, Point(1, "a"), "order.y: expected int, got str ('a')"),  # type: ignore[arg-type]
        (Point, (1, 2), "Point, got tuple ((1, 2))"),
        (Struct, Struct(1, [2]), "order.b[0]: expected str, got int (2)"),  # type: ignore[list-item]
        (UserId, "x", "order: expected int, got str ('x')"),
        (type[int], 3, "order: expected type[int], got int (3)"),
        (set[int], {"a"}, "order (the element 'a'): expected int, got str ('a')"),
    ],
    ids=said,
)
def test_what_does_not_fit_is_refused_naming_the_field(annotation: Any, value: object, expected: str | None) -> None:
    found = problem(annotation, value)
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert expected.replace("Item", f"{__name__}.Item") in found or expected in found


def test_a_dict_is_no_dataclass_and_the_message_says_how_to_make_one() -> None:
    found = problem(Order, {"items": []})
    assert found is not None
    assert "Order, got dict" in found
    assert "make it with Order(**...)" in found


def test_the_value_is_not_changed() -> None:
    value = Order([Item("a", 1)], rates={"x": 1})
    inner = value.items
    assert problem(Order, value) is None
    assert value.items is inner
    assert type(value.rates["x"]) is int


def test_a_value_that_contains_itself_is_checked() -> None:
    order = Order([])
    order.parent = order
    assert problem(Order, order) is None


def test_no_annotation_no_check_and_the_default_passes() -> None:
    async def bare(ctx, value):  # type: ignore[no-untyped-def]
        return None

    async def default(ctx: Any, value: int = None) -> None:  # type: ignore[assignment]  # noqa: RUF013
        return None

    input_types.check(bare, object(), workflow="x")
    input_types.check(default, None, workflow="x")
    with pytest.raises(errors.InputTypeError, match="value: expected int"):
        input_types.check(default, "x", workflow="x")


CELL = """
{future}
from dataclasses import dataclass
@dataclass
class Order:
    item: str
"""
FLOW = """
{future}
async def flow(ctx, order: Order):
    return order
"""


@pytest.mark.parametrize("future", ["", "from __future__ import annotations"], ids=["evaluated", "text"])
def test_a_class_defined_again_since_registration_is_refused_saying_so(run_cell: RunCell, future: str) -> None:
    cell = run_cell(CELL.format(future=future))
    run_cell(FLOW.format(future=future), cell)
    input_types.resolve(cell["flow"])  # as registration does
    input_types.check(cell["flow"], cell["Order"]("a"), workflow="flow")
    run_cell(CELL.format(future=future), cell)
    input_types.check(cell["flow"], cell["Order"]("a"), workflow="flow")  # unchanged: the same class
    run_cell(CELL.format(future=future) + "    note: str = ''\n", cell)
    with pytest.raises(
        errors.InputTypeError,
        match=r"defined the class Order again .*field 'note' was added. Run the cell of the workflow again",
    ):
        input_types.check(cell["flow"], cell["Order"]("a"), workflow="flow")
    run_cell(FLOW.format(future=future), cell)
    input_types.check(cell["flow"], cell["Order"]("a"), workflow="flow")


def test_fields_of_a_notebooks_class_are_checked(run_cell: RunCell) -> None:
    future = "from __future__ import annotations"
    cell = run_cell(CELL.format(future=future) + "@dataclass\nclass Box:\n    orders: list[Order]\n")
    run_cell("async def flow(ctx, box: Box):\n    pass\n", cell)
    with pytest.raises(errors.InputTypeError, match=r"box.orders\[0\].item: expected str, got int \(3\)"):
        input_types.check(cell["flow"], cell["Box"]([cell["Order"](3)]), workflow="flow")
