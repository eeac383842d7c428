"""Annotations of workflows, steps and classes travel, whether or not all of their names can be had."""

from __future__ import annotations

import importlib
import json
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raftoral_nb import errors
from raftoral_nb.workflow.codec import digests, hints, pickling, sources
from raftoral_nb.workflow.shipping import definitions, input_types
from raftoral_nb.workflow.shipping.fingerprints import fingerprint

RunCell = Callable[..., dict[str, Any]]
RunNew = Callable[..., str]

# What one writes: on Pythons before 3.14 a name that is missing needs the import, or quotation marks.
CELL = """
{future}
import dataclasses, enum, typing
from typing import TYPE_CHECKING, NamedTuple, TypedDict

if TYPE_CHECKING:
    from nowhere import Context, Missing

@dataclasses.dataclass
class Item:
    name: str
    price: int = 0
    maker: Missing | None = None

class Address(TypedDict):
    street: str
    town: Missing

class Point(NamedTuple):
    x: int
    y: Missing

class Plain:
    kind: list[int]
    other: Missing
    def method(self: Plain, other: Missing, *rest: Item) -> Missing: ...

def helper(one: Missing, *, two: list[Item] = ()) -> Missing:
    return 1

async def flow(ctx: Context, items: list[Item]) -> Missing:
    return helper(1), Plain, Address, Point
"""
FUTURES = [
    pytest.param("from __future__ import annotations", id="text"),
    pytest.param("", id="lazy", marks=pytest.mark.skipif(sys.version_info < (3, 14), reason="evaluated at once there")),
]


def shown(owner: Any) -> dict[str, str]:
    """The annotations of something by name, as text; what is evaluated by its name."""
    return {
        name: getattr(one, "__name__", str(one)) if isinstance(one, type) else str(one)
        for name, one in hints.of(owner).items()
    }


@pytest.mark.parametrize("future", FUTURES)
def test_annotations_with_missing_names_survive_shipping(run_cell: RunCell, future: str) -> None:
    cell = run_cell(CELL.format(future=future))
    definition, _ = definitions.build("flow", 1, cell["flow"])
    flow = definitions.load(definition)
    assert set(shown(flow)) == {"ctx", "items", "return"}
    assert shown(flow)["ctx"] == "Context"
    helper = flow.__globals__["helper"]
    assert shown(helper)["one"] == shown(helper)["return"] == "Missing"
    assert set(shown(helper)) == {"one", "two", "return"}
    assert set(shown(flow.__globals__["Plain"])) == {"kind", "other"}
    assert shown(flow.__globals__["Plain"])["other"] == "Missing"
    assert set(shown(flow.__globals__["Plain"].method)) == {"self", "other", "rest", "return"}


@pytest.mark.parametrize("future", FUTURES)
def test_a_stranger_to_the_notebook_has_annotations_of_functions_and_of_classes(
    run_cell: RunCell, run_new: RunNew, tmp_path: Any, future: str
) -> None:
    cell = run_cell(CELL.format(future=future))
    (tmp_path / "it").write_bytes(
        pickling.dumps([cell[name] for name in ("flow", "helper", "Item", "Plain", "Address", "Point")], 10**6)
    )
    found = run_new(
        """
        import dataclasses, json, pathlib, sys
        from raftoral_nb import errors
        from raftoral_nb.workflow.codec import hints, pickling; from raftoral_nb.workflow.shipping import input_types as inputs
        flow, helper, *classes = pickling.loads(pathlib.Path(sys.argv[1]).read_bytes())
        said = []
        for value in ([classes[0]("tea", 3)], [classes[0]("tea", "3")], {}):
            try:
                inputs.check(flow, value, workflow="flow")
                said.append("")
            except errors.InputTypeError as error:
                said.append(str(error))
        print(json.dumps([sorted(hints.of(one)) for one in (flow, helper, *classes)]))
        print(json.dumps(said))
        print([field.name for field in dataclasses.fields(classes[0])])
        """,
        tmp_path / "it",
    ).splitlines()
    assert json.loads(found[0]) == [
        ["ctx", "items", "return"],
        ["one", "return", "two"],
        ["maker", "name", "price"],
        ["kind", "other"],
        ["street", "town"],
        ["x", "y"],
    ]
    fits, price, kind = json.loads(found[1])
    assert fits == ""
    # What is text refers to names, and those that only annotations use do not go along.
    assert ("items[0].price: expected int, got str ('3')" in price) == (not future)
    assert ("items: expected list" in kind) == (not future)
    assert found[2] == "['name', 'price', 'maker']"


@pytest.mark.parametrize("future", FUTURES)
def test_inputs_are_checked_where_only_other_names_are_missing(run_cell: RunCell, future: str) -> None:
    cell = run_cell(CELL.format(future=future))
    definitions.validate(cell["flow"])
    input_types.check(cell["flow"], [cell["Item"]("tea", 3)], workflow="flow")
    with pytest.raises(errors.InputTypeError, match=r"items\[0\].price: expected int, got str"):
        input_types.check(cell["flow"], [cell["Item"]("tea", "3")], workflow="flow")
    run_cell(f"{future}\nasync def other(ctx: Context, item: Missing): ...\n", cell)
    input_types.check(cell["other"], object(), workflow="other")


@pytest.mark.parametrize("future", FUTURES)
def test_a_workflow_whose_annotations_have_missing_names_has_one_fingerprint(
    run_cell: RunCell, run_new: RunNew, future: str
) -> None:
    text = CELL.format(future=future)
    cell = run_cell(text)
    once = fingerprint(cell["flow"])
    definitions.build("flow", 1, cell["flow"])
    input_types.resolve(cell["flow"])
    assert fingerprint(cell["flow"]) == once, "it does not matter that annotations were looked at"
    assert fingerprint(run_cell(text, cell)["flow"]) == once == fingerprint(run_cell(text)["flow"])
    code = """
    import linecache, sys
    from raftoral_nb.workflow.shipping.fingerprints import fingerprint
    linecache.cache["<cell>"] = (1, None, sys.argv[1].splitlines(keepends=True), "<cell>")
    space = {"__name__": "__main__"}
    exec(compile(sys.argv[1], "<cell>", "exec", dont_inherit=True), space)
    print(fingerprint(space["flow"]))
    """
    assert {run_new(code, text, seed="1"), run_new(code, text, seed="2")} == {once}
    changed = fingerprint(run_cell(text.replace("other: Missing\n", "other: Missing | int\n"))["flow"])
    assert changed != once, "an annotation of a class counts, also where it does not resolve"


@pytest.mark.parametrize("future", FUTURES)
def test_the_users_own_function_and_class_stay_as_they_are(run_cell: RunCell, future: str) -> None:
    cell = run_cell(CELL.format(future=future))
    pickling.dumps([cell["flow"], cell["Plain"]], 10**6)
    cell["Context"], cell["Missing"] = str, bytes
    if sys.version_info >= (3, 14) and not future:
        assert cell["flow"].__annotations__["ctx"] is str
        assert cell["Plain"].__annotations__["other"] is bytes


def test_an_annotation_that_fails_in_another_way_hinders_nothing(run_cell: RunCell) -> None:
    future = "" if sys.version_info >= (3, 14) else "from __future__ import annotations"
    cell = run_cell(
        f"{future}\nclass Odd:\n    odd: 1 / 0\n\nasync def flow(ctx, x: Odd.no.such[1 / 0]):\n    return Odd\n"
    )
    loaded = definitions.load(definitions.build("flow", 1, cell["flow"])[0])
    assert loaded.__globals__["Odd"].__name__ == "Odd"
    input_types.check(cell["flow"], 3, workflow="flow")
    assert fingerprint(cell["flow"]) == fingerprint(cell["flow"])


def test_a_decorated_functions_annotations_survive(run_cell: RunCell) -> None:
    cell = run_cell(
        """
        from __future__ import annotations
        import functools
        def loud(fn):
            @functools.wraps(fn)
            def louder(*args: int) -> str:
                return fn(*args)
            return louder
        @loud
        def price(item: Missing) -> int:
            return 3
        """
    )
    loaded = pickling.loads(pickling.dumps(cell["price"], 10**6))
    assert loaded(1) == 3
    assert list(hints.of(loaded)) == ["item", "return"]
    assert list(hints.of(loaded.__wrapped__)) == ["item", "return"]


# --- references


def test_a_reference_to_a_class_by_its_name_travels_and_has_one_digest(run_cell: RunCell) -> None:
    cell = run_cell(
        "import typing\nclass Node:\n    next: typing.Optional['Node']\n    rest: 'list[Node]'\n"
        "async def flow(ctx, node: typing.Optional['Node']):\n    return Node\n"
    )
    once = fingerprint(cell["flow"])
    input_types.check(cell["flow"], cell["Node"](), workflow="flow")  # evaluates the reference
    assert fingerprint(cell["flow"]) == once
    loaded = definitions.load(definitions.build("flow", 1, cell["flow"])[0])
    with pytest.raises(errors.InputTypeError, match="node: expected"):
        input_types.check(loaded, 3, workflow="flow")
    assert sources.is_by_value(cell["Node"])
    assert digests.code_digest(loaded) == once


# --- parameters of types

OLD_STYLE = """
from typing import Callable, Generic, ParamSpec, TypeVar, TypeVarTuple, Unpack
P, Ts, T = ParamSpec("P"), TypeVarTuple("Ts"), TypeVar("T")
"""
NEW_STYLE = """
from typing import Callable
"""


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            OLD_STYLE
            + "def same(fn: Callable[P, T]) -> Callable[P, T]: return fn\n"
            + "def rest(*args: Unpack[Ts]) -> tuple[Unpack[Ts]]: return args\n"
            + "class Box(Generic[T]):\n    it: T\n",
            id="as values",
        ),
        pytest.param(
            NEW_STYLE
            + "def same[**P, T: Missing](fn: Callable[P, T]) -> Callable[P, T]: return fn\n"
            + "def rest[*Ts](*args: *Ts) -> tuple[*Ts]: return args\n"
            + "class Box[T: Missing]:\n    it: T\n",
            id="in brackets",
            marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="of Python 3.12"),
        ),
    ],
)
def test_code_with_parameters_of_types_travels_to_where_nobody_knows_them(
    run_cell: RunCell, run_new: RunNew, tmp_path: Any, text: str
) -> None:
    cell = run_cell(text + "async def flow(ctx, x):\n    return same(rest)(x, x), Box\n")
    (tmp_path / "it").write_bytes(definitions.build("flow", 1, cell["flow"])[0].code)
    found = run_new(
        """
        import asyncio, pathlib, sys
        from raftoral_nb.workflow.codec import hints, pickling
        flow = pickling.loads(pathlib.Path(sys.argv[1]).read_bytes())
        result, box = asyncio.run(flow(None, 1))
        print(result, list(hints.of(box)), *(sorted(hints.of(flow.__globals__[name])) for name in ("same", "rest")))
        """,
        tmp_path / "it",
    )
    assert found == "(1, 1) ['it'] ['fn', 'return'] ['args', 'return']"


# --- aliases


needs_aliases = pytest.mark.skipif(sys.version_info < (3, 12), reason="`type X = ...` is of Python 3.12")

ALIASES = """
import dataclasses, typing
type Price = int | float
type Json = dict[str, Json] | list[Json] | str | int | None
type Pair[T] = tuple[T, T]
type Tree = list[Branch]
type Lost = Missing

@dataclasses.dataclass
class Branch:
    price: Price
    below: Tree

async def flow(ctx, tree: Tree):
    return Price, Json, Pair, Lost, Branch
"""


@needs_aliases
def test_a_type_alias_travels_by_value_to_where_nobody_knows_it(
    run_cell: RunCell, run_new: RunNew, tmp_path: Any
) -> None:
    cell = run_cell(ALIASES)
    (tmp_path / "it").write_bytes(definitions.build("flow", 1, cell["flow"])[0].code)
    found = run_new(
        """
        import asyncio, pathlib, sys, typing
        from raftoral_nb import errors
        from raftoral_nb.workflow.shipping import input_types as inputs; from raftoral_nb.workflow.codec import pickling
        flow = pickling.loads(pathlib.Path(sys.argv[1]).read_bytes())
        Price, Json, Pair, Lost, Branch = asyncio.run(flow(None, None))
        print([one.__name__ for one in (Price, Json, Pair, Lost)], Price.__value__)
        print(typing.get_args(Json.__value__)[0].__args__[1] is Json, Pair[int], Pair.__type_params__)
        inputs.check(flow, [Branch(1, [Branch(1.5, [])])], workflow="flow")
        try:
            inputs.check(flow, [Branch(1, [Branch("1", [])])], workflow="flow")
        except errors.InputTypeError as error:
            print(error)
        """,
        tmp_path / "it",
    ).splitlines()
    assert found[0] == "['Price', 'Json', 'Pair', 'Lost'] int | float"
    assert found[1] == "True Pair[int] (~T,)"
    assert "tree[0].below[0].price: expected int | float, got str" in found[2]


@needs_aliases
def test_the_meaning_of_an_alias_counts_in_the_fingerprint(run_cell: RunCell) -> None:
    once = fingerprint(run_cell(ALIASES)["flow"])
    assert fingerprint(run_cell(ALIASES)["flow"]) == once
    for old, new in [("int | float", "int | str"), ("list[Json] ", "set[Json] "), ("tuple[T, T]", "tuple[T, int]")]:
        assert fingerprint(run_cell(ALIASES.replace(old, new))["flow"]) != once, new


@needs_aliases
def test_an_input_is_checked_through_aliases_and_not_where_one_does_not_resolve(run_cell: RunCell) -> None:
    cell = run_cell(ALIASES + "\nasync def lost(ctx, it: Lost): ...\nasync def json(ctx, it: Json): ...\n")
    input_types.check(cell["lost"], 3, workflow="lost")
    input_types.check(cell["json"], {"a": [1, {"b": None}]}, workflow="json")
    with pytest.raises(errors.InputTypeError, match="it"):
        input_types.check(cell["json"], {"a": [1, {"b": 1.5}]}, workflow="json")


@needs_aliases
def test_an_alias_that_cannot_travel_is_refused_by_its_name(run_cell: RunCell) -> None:
    cell = run_cell("type Nest[T] = T | list[Nest[T]]\nasync def flow(ctx, x):\n    return Nest\n")
    with pytest.raises(errors.CodeNotShippableError, match=r"'Nest' .*the type alias Nest has parameters"):
        definitions.build("flow", 1, cell["flow"])
    cell = run_cell("type Nest[T] = T | list[Nest[T]]\nasync def flow(ctx, x: Nest[int]): ...\n")
    if sys.version_info < (3, 14):
        with pytest.raises(errors.CodeNotShippableError, match="the type alias Nest has parameters"):
            definitions.build("flow", 1, cell["flow"])


@needs_aliases
def test_an_alias_of_an_installed_module_travels_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "site-packages"
    installed.mkdir()
    (installed / "aliases_installed.py").write_text("type Price = int\n")
    monkeypatch.syspath_prepend(installed)
    alias = importlib.import_module("aliases_installed").Price
    try:
        assert pickling.loads(pickling.dumps([alias], 10**6)) == [alias]
    finally:
        monkeypatch.delitem(sys.modules, "aliases_installed")


@needs_aliases
def test_an_alias_of_a_module_beside_the_notebook_travels_by_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "aliases_beside.py").write_text("type Price = int\ntype Prices = list[Price]\n")
    monkeypatch.syspath_prepend(tmp_path)
    alias = importlib.import_module("aliases_beside").Prices
    data = pickling.dumps(alias, 10**6)
    monkeypatch.delitem(sys.modules, "aliases_beside")
    (tmp_path / "aliases_beside.py").unlink()
    found = pickling.loads(data)
    assert found.__name__ == "Prices"
    assert [one.__value__ for one in typing.get_args(found.__value__)] == [int]
