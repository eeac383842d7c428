"""Which class is meant: by name and code, whatever object it is."""

from __future__ import annotations

import copy
import enum
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest

from raftoral_nb import errors
from raftoral_nb.workflow.codec import classes, pickling, values
from raftoral_nb.workflow.shipping.definitions import build, load_all

RunCell = Callable[..., dict[str, Any]]
RunNew = Callable[..., str]

CELL = """
import abc, collections, dataclasses, enum, functools, typing

RATE = 3

class Color(enum.Enum):
    RED = 1
    BLUE = "b"

    def shout(self):
        return self.name

@dataclasses.dataclass
class Order:
    item: str
    color: Color = Color.RED
    tags: list = dataclasses.field(default_factory=list)

    def total(self):
        return RATE * len(self.item)

class Point(typing.NamedTuple):
    x: int
    y: int = 2

class Base:
    def __init__(self, size):
        self.size = size

class Derived(Base):
    LIMIT = 5
    made = 0
    _seen = {}

    def __init__(self, size):
        super().__init__(size)
        Derived.made += 1
        self._seen[size] = self

    @property
    def double(self):
        return self.size * 2

    @classmethod
    def small(cls):
        return cls(1)

    def times(self, number):
        return self.size * number

    twice = functools.partialmethod(times, 2)

class CardDeclined(Exception):
    def __init__(self, code):
        super().__init__(code)
        self.code = code

class Slotted:
    __slots__ = ("a", "b")

    class Inner:
        def f(self):
            return 1
"""
FLOW = """
async def flow(ctx, value):
    return Color, Order, Point, Base, Derived, CardDeclined, Slotted
"""


@pytest.fixture
def notebook(run_cell: RunCell, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Runs cells in the namespace that is `__main__` now."""
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    return lambda source: run_cell(source, main.__dict__)


def known(cell: dict[str, Any]) -> classes.Known:
    """The classes of a copy of the workflow, as a node has it."""
    return load_all(build("flow", 1, cell["flow"])[0]).classes


def mine(view: classes.View, cls: type) -> Any:
    found = view.find(classes.identity(cls))
    assert found is not None
    return found


NAMES = ("Color", "Order", "Point", "Base", "Derived", "CardDeclined", "Slotted")


def test_a_cell_that_is_run_again_unchanged_makes_the_same_classes(run_cell: RunCell) -> None:
    one, two = run_cell(CELL), run_cell("# moved down, and a comment\n\n" + CELL)
    for name in NAMES:
        assert one[name] is not two[name]
        assert classes.identity(one[name]) == classes.identity(two[name]), name
        assert classes.same(one[name], two[name])


def test_the_identity_is_the_same_in_another_process_with_another_hash_seed(run_cell: RunCell, run_new: RunNew) -> None:
    cell = run_cell(CELL)
    printed = run_new(
        f"import sys\nfrom raftoral_nb.workflow.codec import classes\nexec(sys.argv[1])\n"
        f"print([tuple(classes.identity(globals()[name])) for name in {NAMES}])",
        CELL,
        seed="7",
    )
    assert printed == str([tuple(classes.identity(cell[name])) for name in NAMES])


CHANGES = [
    ("Order", "item: str", "item: str\n    note: str = ''", "field 'note' was added"),
    ("Order", "item: str", "item: int", "field 'item' changed"),
    ("Order", "    tags: list = dataclasses.field(default_factory=list)\n", "", "field 'tags' was removed"),
    ("Order", "color: Color = Color.RED", "color: Color = Color.BLUE", "the default of 'color' changed"),
    ("Order", "default_factory=list", "default_factory=lambda: [1]", "the default of 'tags' changed"),
    ("Order", "RATE * len", "RATE + len", "method 'total' changed"),
    (
        "Order",
        "dataclasses.dataclass",
        "dataclasses.dataclass(order=True)",
        "options 'dataclass' changed, method '__ge__' was added",
    ),
    ("Color", 'BLUE = "b"', 'GREEN = "b"', "member 'BLUE' was removed, member 'GREEN' was added"),
    ("Color", "RED = 1", "RED = 2", "member 'RED' changed"),
    ("Point", "y: int = 2", "y: int = 3", "the default of 'y' changed"),
    ("Point", "y: int = 2", "z: int = 2", "field 'y' was removed, field 'z' was added"),
    ("Derived", "class Derived(Base):", "class Derived(Base, abc.ABC):", "base 'ABC' was added"),
    ("Derived", "self.size = size", "self.length = size", "base 'Base' changed"),
    ("Derived", "return self.size * 2", "return self.size * 3", "property 'double' changed"),
    ("Derived", "return cls(1)", "return cls(2)", "method 'small' changed"),
    ("Derived", "size * number", "size + number", "method 'times' changed, attribute 'twice' changed"),
    ("Derived", "(times, 2)", "(times, 3)", "attribute 'twice' changed"),
    ("CardDeclined", "self.code = code", "self.number = code", "method '__init__' changed"),
    ("Slotted", '("a", "b")', '("a", "c")', "field '__slots__' changed"),
    ("Slotted", "            return 1", "            return 2", "class 'Inner' changed"),
]


@pytest.mark.parametrize(("name", "old", "new", "says"), CHANGES, ids=[f"{one[0]} {one[3]}" for one in CHANGES])
def test_a_change_of_its_code_makes_it_another_class_and_is_told_in_words(
    run_cell: RunCell, name: str, old: str, new: str, says: str
) -> None:
    assert old in CELL
    one, two = run_cell(CELL)[name], run_cell(CELL.replace(old, new))[name]
    assert not classes.same(one, two)
    assert says in classes.differences(classes.identity(one), classes.identity(two))


def test_a_class_that_is_changed_in_place_is_another_one_from_then_on(run_cell: RunCell) -> None:
    one, two = run_cell(CELL)["Order"], run_cell(CELL)["Order"]
    assert classes.same(one, two)
    two.total = lambda self: 0
    assert not classes.same(one, two)


def test_what_methods_assign_and_what_they_refer_to_does_not_make_another_class(run_cell: RunCell) -> None:
    one, two = run_cell(CELL), run_cell(CELL)
    two["Derived"](4)  # counts, and is kept in a private dict
    two["RATE"] = 100
    assert classes.same(one["Derived"], two["Derived"])
    assert classes.same(one["Order"], two["Order"])
    run_cell(FLOW, one)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        values.encode(two["Derived"](5), what="x", known=lambda: known(one))
    assert caught == []


def test_a_class_attribute_with_another_value_is_told_where_the_value_is_sent(run_cell: RunCell) -> None:
    one, two = run_cell(CELL), run_cell(CELL.replace("LIMIT = 5", "LIMIT = 6"))
    run_cell(FLOW, one)
    theirs = known(one)
    with pytest.warns(
        errors.ClassChangedWarning, match="the input: the attribute 'LIMIT' of the class Derived differs"
    ):
        data = values.encode(two["Derived"](1), what="the input", known=lambda: theirs)
    assert values.decode(data, what="x", view=theirs).LIMIT == 5


def test_in_a_run_values_are_of_the_classes_that_the_workflow_knows_and_enum_members_are_its_own(
    run_cell: RunCell,
) -> None:
    cell = run_cell(CELL)
    run_cell(FLOW, cell)
    theirs = known(cell)
    run_cell(CELL, cell)
    sent = {
        "orders": [cell["Order"]("a")],
        cell["Color"].BLUE: (cell["Point"](1), cell["Derived"](3), cell["CardDeclined"](7)),
    }
    got = values.decode(values.encode(sent, what="x", known=lambda: theirs), what="x", view=theirs)
    (order,) = got["orders"]
    color = mine(theirs, cell["Color"])
    assert issubclass(color, enum.Enum)
    assert type(order) is mine(theirs, cell["Order"]) is not cell["Order"]
    assert order.color is color["RED"]
    point, derived, declined = got[color["BLUE"]]
    assert type(point) is mine(theirs, cell["Point"])
    assert isinstance(derived, mine(theirs, cell["Base"]))
    assert (type(declined), declined.code) == (mine(theirs, cell["CardDeclined"]), 7)


def test_outside_a_run_values_are_of_the_classes_that_the_notebook_has_now(
    notebook: Callable[[str], dict[str, Any]],
) -> None:
    cell = notebook(CELL)
    notebook(FLOW)
    theirs = known(cell)
    made = mine(theirs, cell["Order"])("a")
    notebook(CELL)
    order = values.decode(values.encode(made, what="x"), what="x")
    assert type(order) is cell["Order"]
    assert order.color is cell["Color"].RED
    notebook(CELL.replace("RATE *", "RATE +"))
    with pytest.warns(errors.ClassChangedWarning, match=r"x: it holds the class Order .* method 'total' changed"):
        other = values.hand_back(values.encode(made, what="x"), what="x")
    assert type(other) is not cell["Order"]
    assert other.total() == 3


def test_a_value_after_a_round_trip_has_the_very_classes_that_it_had(run_cell: RunCell) -> None:
    cell = run_cell(CELL)
    order = cell["Order"]("a")
    run_cell(CELL, cell)
    _, back = values.round_trip([order], what="x")
    assert type(back[0]) is type(order)
    assert back == [order]


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [one for one in CHANGES if one[3] != "base 'Base' changed"],
    ids=[f"{one[0]} {one[3]}" for one in CHANGES if one[3] != "base 'Base' changed"],
)
def test_a_class_with_other_code_is_refused_where_it_is_sent(
    run_cell: RunCell, name: str, old: str, new: str, says: str
) -> None:
    cell = run_cell(CELL)
    run_cell(FLOW, cell)
    theirs = known(cell)
    run_cell(CELL.replace(old, new), cell)
    with pytest.raises(errors.ClassChangedError) as caught:
        values.encode([cell[name]], what="the input", known=lambda: theirs)
    assert f"the input: the class {name} is not the one that workflow 'flow' version 1 was registered with:" in str(
        caught.value
    )
    assert says in str(caught.value)


def test_a_base_with_other_code_is_named_itself(run_cell: RunCell) -> None:
    cell = run_cell(CELL)
    run_cell(FLOW, cell)
    theirs = known(cell)
    run_cell(CELL.replace("self.size = size", "self.length = size"), cell)
    with pytest.raises(errors.ClassChangedError, match=r"the class Base is not the one .*method '__init__' changed"):
        values.encode(cell["Derived"].__new__(cell["Derived"]), what="the input", known=lambda: theirs)


def test_a_recorded_value_whose_class_holds_the_same_is_used_with_the_workflows_own_methods_and_that_is_told(
    run_cell: RunCell,
) -> None:
    cell = run_cell(CELL)
    run_cell(FLOW, cell)
    data = values.encode(cell["Order"]("ab"), what="x")
    mended = run_cell(CELL.replace("RATE * len", "RATE + len"))
    run_cell(FLOW, mended)
    told: list[str] = []
    view = known(mended).for_run(told.append)
    assert values.decode(data, what="x", view=view).total() == 5
    values.decode(data, what="x", view=view)
    assert len(told) == 1
    assert "method 'total' changed" in told[0]


def test_a_recorded_value_whose_class_holds_something_else_is_refused_where_it_is_read(run_cell: RunCell) -> None:
    cell = run_cell(CELL)
    run_cell(FLOW, cell)
    data = values.encode(cell["Order"]("ab"), what="x")
    other = run_cell(CELL.replace("item: str", "item: str\n    note: str = ''"))
    run_cell(FLOW, other)
    with pytest.raises(errors.ClassChangedError, match=r"input of r1: the class Order .*field 'note' was removed"):
        values.decode(data, what="input of r1", view=known(other))


def test_two_versions_of_a_workflow_each_have_their_own_version_of_a_class(run_cell: RunCell) -> None:
    old, new = run_cell(CELL), run_cell(CELL.replace("RED = 1", "RED = 2"))
    for cell in (old, new):
        run_cell(FLOW, cell)
    views = [known(cell) for cell in (old, new)]
    for cell, view, value in zip((old, new), views, (1, 2), strict=True):
        assert values.decode(values.encode(cell["Color"].RED, what="x"), what="x", view=view).value == value


def test_a_subclass_that_the_workflow_does_not_know_is_still_derived_from_its_own_class(run_cell: RunCell) -> None:
    cell = run_cell(CELL)
    run_cell(FLOW, cell)
    theirs = known(cell)
    run_cell(CELL + "class Special(Order):\n    pass\n", cell)
    got = values.decode(values.encode(cell["Special"]("a"), what="x", known=lambda: theirs), what="x", view=theirs)
    assert isinstance(got, mine(theirs, cell["Order"]))
    assert got.color is mine(theirs, cell["Color"])["RED"]
    again = values.decode(values.encode(cell["Special"]("b"), what="x"), what="x", view=theirs)
    assert type(again) is type(got)


def test_classes_that_one_function_makes_stay_apart(run_cell: RunCell) -> None:
    cell = run_cell(
        """
        def make(kind):
            class Part:
                label = kind
                def shown(self):
                    return kind
            return Part
        A, B = make("a"), make("b")
        async def flow(ctx, value):
            return A, B
        """
    )
    theirs = known(cell)
    for cls in (cell["A"], cell["B"], cell["make"]("c"), cell["make"]("a")):
        for view in (theirs, classes.NOTEBOOK):
            got = values.decode(values.encode(cls(), what="x", known=lambda: theirs), what="x", view=view)
            assert (got.label, got.shown()) == (cls.label, cls.label)
    assert mine(theirs, cell["A"]) is not mine(theirs, cell["B"])


def test_what_an_earlier_version_pickled_is_of_the_classes_that_its_code_has(run_new: RunNew) -> None:
    """Its pickles have cloudpickle's ids, and no identities; a class of today is found all the same."""
    printed = run_new(
        """
import subprocess, sys
from raftoral_nb.workflow.codec import pickling, values
source = '''
import enum
class Color(enum.Enum):
    RED = 1
class Order:
    def __init__(self):
        self.color = Color.RED
def flow(value):
    return isinstance(value, Order) and value.color is Color.RED
'''
make = source + '''
import cloudpickle, sys
sys.stdout.write(cloudpickle.dumps(flow).hex() + " " + cloudpickle.dumps(Order()).hex())
'''
made = subprocess.run([sys.executable, "-c", make], capture_output=True, text=True, check=True)
code, value = map(bytes.fromhex, made.stdout.split())
flow, known = pickling.loads_code(code, "flow")
print(flow(values.decode(value, what="x", view=known)))
cell = {"__name__": "__main__"}
exec(source, cell)
Order = cell["Order"]
print(flow(Order()), flow(values.decode(values.encode(Order(), what="x"), what="x", view=known)))
        """
    )
    assert printed.split() == ["True", "False", "True"]


def test_plain_pickle_reads_a_value_too(run_cell: RunCell) -> None:
    order = run_cell(CELL)["Order"]("a")
    assert cloudpickle.loads(values.encode(order, what="x")) == order


def test_a_class_is_written_once_for_all_its_instances(run_cell: RunCell) -> None:
    cell = run_cell(CELL)
    one = len(values.encode([cell["Order"]("a")], what="x"))
    many = len(values.encode([cell["Order"]("a") for _ in range(11)], what="x"))
    assert many - one < 10 * 60


def test_loading_code_leaves_the_classes_of_the_notebook_alone_and_knows_none_of_them(run_cell: RunCell) -> None:
    order = run_cell(CELL)["Order"]
    order.seen = copy.copy([1])
    before = dict(vars(order))
    loaded, found = pickling.loads_code(pickling.dumps_code(order, 10**6), "x")
    assert dict(vars(order)) == before
    assert loaded is not order
    assert mine(found, order) is loaded
