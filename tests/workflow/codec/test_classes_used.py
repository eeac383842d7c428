"""Using a class changes nothing of it, and whatever makes one by chance does not count: pickle, attrs, pydantic and msgspec leave marks."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

from raftoral_nb.workflow.codec import classes, digests, pickling, values
from raftoral_nb.workflow.shipping.fingerprints import fingerprint

RunCell = Callable[..., dict[str, Any]]
RunNew = Callable[..., str]

CELL = """
import attrs, dataclasses, enum, msgspec, pydantic, typing

class Plain:
    def __init__(self):
        self.x = 1

@dataclasses.dataclass
class Counted:
    x: int = 1
    LIMIT: typing.ClassVar[int] = 4

@attrs.frozen
class Frozen:
    x: int = 1

class Struct(msgspec.Struct):
    x: int = 1

class Row(typing.NamedTuple):
    x: int = 1

class Model(pydantic.BaseModel):
    x: int = 1

    @pydantic.field_validator("x")
    @classmethod
    def more(cls, x):
        return x + 1

class Frame(pydantic.RootModel[list[int]]):
    root: list[int] = [1]

@pydantic.dataclasses.dataclass
class Checked:
    x: int = 1
    many: Frame = pydantic.Field(default_factory=lambda: Frame())
"""
NAMES = ("Plain", "Counted", "Frozen", "Struct", "Row", "Model", "Frame", "Checked")
USED = """
import contextlib
from raftoral_nb.workflow.codec import values
for cls in (Plain, Counted, Frozen, Struct, Row, Model, Frame, Checked):
    made = cls()
    values.encode(made, what="x")
    with contextlib.suppress(Exception):
        hash(made)
    with contextlib.suppress(Exception):
        made.x = 2
    with contextlib.suppress(Exception):
        msgspec.json.decode(msgspec.json.encode(made), type=cls)
"""
FLOW = "async def flow(ctx, value):\n    return {name}, lambda: {name}()\n"


@pytest.fixture
def notebook(run_cell: RunCell, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Runs cells in the namespace that is `__main__` now."""
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    return lambda source: run_cell(source, main.__dict__)


def flow_of(cell: dict[str, Any], run_cell: RunCell, name: str) -> Any:
    return run_cell(FLOW.format(name=name), cell)["flow"]


@pytest.mark.parametrize("name", NAMES)
def test_a_class_that_was_used_is_as_it_was_also_when_its_cell_is_run_again(
    name: str, notebook: Callable[[str], dict[str, Any]], run_cell: RunCell
) -> None:
    cell = notebook(CELL)
    before = fingerprint(flow_of(cell, run_cell, name)), classes.identity(cell[name]).whole
    notebook(USED)
    assert fingerprint(cell["flow"]) == before[0]
    notebook("# again\n" + CELL)
    assert (fingerprint(flow_of(cell, run_cell, name)), classes.identity(cell[name]).whole) == before
    notebook(USED)
    assert fingerprint(cell["flow"]) == before[0]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_same_in_a_process_with_another_hash_seed(
    name: str, notebook: Callable[[str], dict[str, Any]], run_cell: RunCell, run_new: RunNew
) -> None:
    cell = notebook(CELL)
    mine = [*classes.identity(cell[name])], fingerprint(flow_of(cell, run_cell, name))
    printed = run_new(
        f"""
import linecache, sys
from raftoral_nb.workflow.codec import classes; from raftoral_nb.workflow.shipping import fingerprints
for place, text in enumerate(sys.argv[1:]):
    linecache.cache[f"<cell {{place}}>"] = len(text), None, text.splitlines(True), f"<cell {{place}}>"
    exec(compile(text, f"<cell {{place}}>", "exec"), globals())
print(([*classes.identity({name})], fingerprints.fingerprint(flow)))
        """,
        CELL,
        FLOW.format(name=name),
    )
    assert printed == repr(mine)


def test_another_default_is_a_change_of_every_kind_of_class(
    notebook: Callable[[str], dict[str, Any]], run_cell: RunCell
) -> None:
    cell = notebook(CELL)
    struct = cell["Struct"]
    found = {name: (fingerprint(flow_of(cell, run_cell, name)), classes.identity(cell[name]).code) for name in NAMES}
    notebook(CELL.replace("x: int = 1", "x: int = 3").replace("[1]", "[3]").replace("self.x = 1", "self.x = 3"))
    assert (
        classes.differences(*(classes.identity(one) for one in (struct, cell["Struct"])))
        == "the default of 'x' changed"
    )
    for name in NAMES:
        assert fingerprint(flow_of(cell, run_cell, name)) != found[name][0], name
        assert classes.identity(cell[name]).code != found[name][1], name


def test_another_option_of_a_struct_is_a_change(notebook: Callable[[str], dict[str, Any]], run_cell: RunCell) -> None:
    cell = notebook(CELL)
    before = fingerprint(flow_of(cell, run_cell, "Struct")), classes.identity(cell["Struct"]).shape
    notebook(CELL.replace("(msgspec.Struct)", "(msgspec.Struct, tag='struct')"))
    assert fingerprint(flow_of(cell, run_cell, "Struct")) != before[0]
    assert classes.identity(cell["Struct"]).shape != before[1]


def test_a_future_statement_of_another_cell_does_not_change_a_function() -> None:
    text = "make = lambda x: (lambda: x)"
    plain: dict[str, Any] = {}
    later: dict[str, Any] = {}
    exec(text, plain)
    exec("from __future__ import annotations\n" + text, later)
    assert digests.digest(plain["make"]) == digests.digest(later["make"]) is not None


def test_a_table_of_pandas_that_was_looked_at_equals_itself() -> None:
    pandas = pytest.importorskip("pandas")

    derived = type("Table", (pandas.DataFrame,), {})

    for kind in (pandas.DataFrame, derived):
        columns = {"n": pandas.array([1, None], dtype="Int64"), "s": ["x", None]}
        table = kind({**columns, "p": pandas.period_range("2020-01", periods=2, freq="M")})
        before = digests.digest(table)
        assert table.equals(values.round_trip(table, what="x")[1])
        table.n.array.dtype, table.p.array.dtype, table.isna()
        assert digests.digest(table) == before is not None


def test_equal_tables_of_pandas_have_one_digest_however_they_were_made() -> None:
    pandas = pytest.importorskip("pandas")
    one = pandas.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    other = pandas.DataFrame({"a": [1.0, 2.0]})
    other["b"] = [3.0, 4.0]  # a block of its own
    assert digests.digest(one) == digests.digest(other) == digests.digest(other.copy()) is not None
    for different in (
        other.rename(columns={"b": "c"}),
        other.set_index("a"),
        other + 1,
        other.astype("float32"),
        other["b"],
    ):
        assert digests.digest(different) not in (None, digests.digest(one))


def test_a_cached_property_is_no_part_of_what_an_object_is() -> None:
    one, other = Lazy(1), Lazy(1)
    assert one.twice == 2
    assert digests.digest(one) == digests.digest(other) != digests.digest(Lazy(2))


class Lazy:
    def __init__(self, x: int) -> None:
        self.x = x

    @functools.cached_property
    def twice(self) -> int:
        return self.x * 2


def test_functions_are_members_of_an_enum_where_that_is_said(run_cell: RunCell) -> None:
    cell = run_cell(
        "import enum\nclass Op(enum.Enum):\n    ADD = enum.member(lambda a, b: a + b)\n    TEXT = 'x'\n"
        "    def __call__(self, *args):\n        return self.value(*args)\n"
    )
    loaded, _ = pickling.loads_code(pickling.dumps_code(cell["Op"], 10**6), "Op", stranger=True)
    assert (list(loaded.__members__), loaded.ADD(1, 2), loaded("x") is loaded.TEXT) == (["ADD", "TEXT"], 3, True)
    known = classes.Known("x")
    known.belongs(classes.identity(loaded), loaded)
    members = values.encode([cell["Op"].ADD, cell["Op"].TEXT], what="x")
    assert values.decode(members, what="x", view=known) == [loaded.ADD, loaded.TEXT]
