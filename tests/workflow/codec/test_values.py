"""The value codec, digests, and that decoding never alters a class of the notebook."""

from __future__ import annotations

import collections
import dataclasses
import enum
import math
import random
import threading
import types
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import raftoral_nb
from raftoral_nb import errors, limits
from raftoral_nb.workflow.codec import digests, pickling, values

RunCell = Callable[..., dict[str, Any]]
RunNew = Callable[..., str]

ORDER_CELL = """
from dataclasses import dataclass, field
import enum

class Size(enum.Enum):
    SMALL = 1
    LARGE = 2

    def shout(self):
        return self.name + "!"

@dataclass
class Order:
    item: str
    size: Size = Size.SMALL
    tags: list = field(default_factory=list)
    seen = 0

    def total(self):
        return helper(self.item)

def helper(item):
    return len(item)
"""


# --- encode, decode, round_trip


@pytest.mark.parametrize(
    "value",
    [None, True, 3, 2.5, "text", b"bytes", [1, "a"], (1, None), {"a": 1}, {"a": [1, {"b": {2}}]}, Decimal("1.5")],
    ids=repr,
)
def test_a_value_comes_back_equal_and_of_the_same_type(value: object) -> None:
    data, decoded = values.round_trip(value, what="x")
    assert decoded == value
    assert type(decoded) is type(value)
    assert values.decode(data, what="x") == value


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(plain)
def test_any_plain_value_survives_the_round_trip_and_keeps_its_digest(value: object) -> None:
    _, decoded = values.round_trip(value, what="x")
    assert decoded == value
    assert values.digest(decoded) == values.digest(value) is not None


def test_containers_come_back_as_copies() -> None:
    value = [1, 2]
    _, decoded = values.round_trip(value, what="x")
    value.append(3)
    assert decoded == [1, 2]


def test_a_value_that_does_not_pickle_is_refused_with_its_name_type_and_reason() -> None:
    with pytest.raises(
        errors.ValueNotShippableError, match=r"step 0/charge of run r1: a value of type dict .*_thread.lock"
    ):
        values.encode({"lock": threading.Lock()}, what="step 0/charge of run r1")


RANDOM = random.Random(1).randbytes(500_001)


@pytest.mark.parametrize(
    "value",
    [RANDOM, [[RANDOM.decode("latin-1")]], [np.zeros(500_001, "u1")]],
    ids=["plain", "nested", "beside the pickle"],
)
def test_a_value_over_the_limit_is_refused_by_the_limits_name(value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(errors.ValueNotShippableError, match=r"step 1/x.*more than max_value_bytes \(500,000\)"):
        values.encode(value, what="step 1/x", most=500_000)
    monkeypatch.setattr(limits, "MAX_ENCODED_BYTES", 500_000)
    with pytest.raises(errors.ValueNotShippableError, match=r"step 1/x.*more than MAX_ENCODED_BYTES \(500,000\)"):
        values.encode(value, what="step 1/x")


def test_a_value_over_the_limit_is_counted_without_being_kept() -> None:
    with pytest.raises(pickling.TooLargeError) as caught:
        pickling.dumps([np.zeros(1000)], 100)
    assert caught.value.size > 8000


def _explode() -> None:
    raise RuntimeError("not today")


class Unreadable:
    def __reduce__(self) -> Any:
        return (_explode, ())


def test_a_value_that_does_not_unpickle_is_refused_at_the_step_that_made_it() -> None:
    with pytest.raises(
        errors.ValueNotShippableError, match=r"step 2/load: .*does not unpickle \(RuntimeError: not today\)"
    ):
        values.round_trip(Unreadable(), what="step 2/load")


class Forgetful:
    def __init__(self) -> None:
        self.kept, self.cache = 1, "cache"

    def __getstate__(self) -> Any:
        return {"kept": self.kept, "cache": None}


def test_a_value_that_changes_when_decoded_goes_on_changed() -> None:
    _, decoded = values.round_trip(Forgetful(), what="x")
    assert (decoded.kept, decoded.cache) == (1, None)


def test_a_very_deep_value_is_refused_and_not_a_crash() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(errors.ValueNotShippableError, match="recursion"):
        values.encode(value, what="x")
    while value:  # freeing it recursively is Python's own trouble
        value = value[0]


# --- classes of the notebook


def test_decoding_keeps_the_notebooks_class_and_its_attributes(run_cell: RunCell) -> None:
    cell = run_cell(ORDER_CELL)
    order_class = cell["Order"]
    order = order_class("A1", cell["Size"].LARGE)
    data = values.encode(order, what="x")
    order_class.seen = 7
    order_class.added = "later"
    method = order_class.total

    decoded = values.decode(data, what="x")

    assert order_class.seen == 7
    assert order_class.added == "later"
    assert order_class.total is method
    assert type(decoded) is order_class
    assert decoded == order
    assert decoded.size is cell["Size"].LARGE


def test_cloudpickle_alone_would_reset_the_class(run_cell: RunCell) -> None:
    """The reason for all this; should it stop to be so, `pickling` may go."""
    order_class = run_cell(ORDER_CELL)["Order"]
    data = cloudpickle.dumps(order_class("A1"))
    order_class.seen = 7
    cloudpickle.loads(data)
    assert order_class.seen == 0


def test_an_existing_class_is_not_even_built_a_second_time(run_cell: RunCell) -> None:
    cell = run_cell(
        """
        made = []
        class Base:
            def __init_subclass__(cls):
                made.append(cls.__name__)
        class Child(Base):
            pass
        """
    )
    values.round_trip(cell["Child"](), what="x")
    assert cell["made"] == ["Child"]


def test_a_new_process_builds_the_class_in_full(tmp_path: Path, run_cell: RunCell, run_new: RunNew) -> None:
    cell = run_cell(ORDER_CELL)
    (tmp_path / "order").write_bytes(values.encode(cell["Order"]("A12", cell["Size"].LARGE, ["x"]), what="x"))
    printed = run_new(
        """
        import sys, pathlib
        from raftoral_nb.workflow.codec import values
        data = pathlib.Path(sys.argv[1]).read_bytes()
        a = values.decode(data, what="x")
        b = values.decode(data, what="x")
        print(a, a.total(), a.size.shout(), a == b, type(a) is type(b), a.size is type(a.size).LARGE, type(a).seen)
        """,
        str(tmp_path / "order"),
    )
    assert printed == "Order(item='A12', size=<Size.LARGE: 2>, tags=['x']) 3 LARGE! True True True 0"


def test_threads_of_a_new_process_never_see_a_class_half_built(
    tmp_path: Path, run_cell: RunCell, run_new: RunNew
) -> None:
    """Many threads decode the same unknown classes at once, again and again with other classes."""
    for number in range(20):
        methods = "\n".join(f"    def m{i}(self): return helper(self.item) + {i}" for i in range(30))
        cell = run_cell(f"{ORDER_CELL}\nclass Big(Order):\n{methods}\n")
        (tmp_path / f"{number}").write_bytes(values.encode(cell["Big"]("A1"), what="x"))
    printed = run_new(
        """
        import sys, pathlib, threading
        from raftoral_nb.workflow.codec import values
        sys.setswitchinterval(1e-6)
        problems = []
        def load(data, barrier, types):
            barrier.wait()
            try:
                value = values.decode(data, what="x")
                assert value.m29() == 31
                types.append(type(value))
            except BaseException as error:
                problems.append(repr(error))
        for number in range(20):
            data = (pathlib.Path(sys.argv[1]) / str(number)).read_bytes()
            barrier, types = threading.Barrier(8), []
            threads = [threading.Thread(target=load, args=(data, barrier, types)) for _ in range(8)]
            for t in threads: t.start()
            for t in threads: t.join()
            if len(set(types)) != 1: problems.append("several classes")
        print(problems)
        """,
        str(tmp_path),
    )
    assert printed == "[]"


def test_a_load_that_fails_leaves_no_half_built_class_behind(run_new: RunNew) -> None:
    code = """
    import pickle, cloudpickle, sys, pathlib
    from raftoral_nb.workflow.codec import pickling, values
    from raftoral_nb import errors
    from cloudpickle import cloudpickle as cp
    import io

    class Marker:
        pass

    class Fails:
        def __reduce__(self):
            return (int, ("no number",))

    class Order:
        seen = Fails()
        def __init__(self):
            self.x = 1

    data = cloudpickle.dumps(Order())
    for one in (Order, Fails):
        cp._DYNAMIC_CLASS_TRACKER_BY_ID.pop(cp._DYNAMIC_CLASS_TRACKER_BY_CLASS.pop(one))
    before = set(cp._DYNAMIC_CLASS_TRACKER_BY_ID)
    try:
        values.decode(data, what="x")
    except errors.ValueNotShippableError as error:
        print("refused", set(cp._DYNAMIC_CLASS_TRACKER_BY_ID) == before)
    """
    code = code.replace(
        "cp._DYNAMIC_CLASS_TRACKER_BY_ID.pop(cp._DYNAMIC_CLASS_TRACKER_BY_CLASS.pop(one))",
        ("key = cp._DYNAMIC_CLASS_TRACKER_BY_CLASS.pop(one, None); cp._DYNAMIC_CLASS_TRACKER_BY_ID.pop(key, None)"),
    )
    assert run_new(code) == "refused True"


# --- digest


@dataclasses.dataclass
class Point:
    x: float
    y: float = dataclasses.field(default=0.0, compare=True)
    note: str = dataclasses.field(default="", compare=False)


class Colour(enum.Enum):
    RED = 1


class Plain:
    def __init__(self, **attributes: object) -> None:
        self.__dict__.update(attributes)


@given(st.lists(plain.filter(lambda v: values.digest(v) is not None), max_size=8), st.randoms())
def test_dicts_have_no_order(items: list[object], random: Any) -> None:
    pairs = list(enumerate(items))
    shuffled = list(pairs)
    random.shuffle(shuffled)
    assert values.digest(dict(pairs)) == values.digest(dict(shuffled)) is not None


@given(st.lists(st.text() | st.integers() | st.tuples(st.text(), st.integers()), unique=True), st.randoms())
def test_sets_have_no_order(items: list[Any], random: Any) -> None:
    shuffled = list(items)
    random.shuffle(shuffled)
    assert values.digest(set(items)) == values.digest(set(shuffled)) is not None
    assert values.digest(frozenset(items)) == values.digest(frozenset(shuffled))


@given(st.lists(st.integers(), min_size=2, max_size=5, unique=True))
def test_lists_have_an_order(items: list[int]) -> None:
    assert values.digest(items) != values.digest(items[::-1])
    assert values.digest(items) != values.digest(tuple(items))


def test_different_values_have_different_digests() -> None:
    many = [
        None, True, 1, 1.0, "1", b"1", [1], (1,), {1}, {1: 1}, [[1]], ["1"], [1, 1], [], (), {}, set(), "", b"",
        [["a"], "b"], [["a", "b"]], {"a": {"b": 1}}, {"a": 1, "b": 2}, {"a": 2, "b": 1}, Point(1.0), Point(2.0), Colour.RED,
        Plain(x=1), Plain(x=2), Plain(y=1), Decimal("1.0"), Decimal("1.5"), np.zeros(2), np.zeros(3), np.zeros(2, dtype=int),
        collections.Counter("ab"), collections.Counter("abb"), collections.deque([1]), 1j, int, float, Point, len, print,
    ]  # fmt: skip
    found = [values.digest(value) for value in many]
    assert None not in found
    assert len(set(found)) == len(many)


def test_what_compares_equal_in_fields_has_one_digest() -> None:
    assert values.digest(Point(1.0, note="a")) == values.digest(Point(1.0, note="b"))
    assert values.digest(math.nan) == values.digest(-math.nan) is not None
    assert values.digest([math.nan]) == values.digest([float("nan")])
    array = np.arange(6.0).reshape(2, 3)
    assert values.digest(array) == values.digest(np.asfortranarray(array))


def test_what_cannot_be_taken_apart_has_no_digest() -> None:
    assert values.digest(threading.Lock()) is None
    assert values.digest({"a": [threading.Lock()]}) is None
    assert values.digest(n for n in "ab") is None
    assert values.digest(Unreadable()) is not None  # it is taken apart, not built


def test_cycles_end_and_count() -> None:
    def ring(length: int) -> list[Any]:
        first: list[Any] = []
        last = first
        for _ in range(length - 1):
            last.append([])
            last = last[0]
        last.append(first)
        return first

    assert values.digest(ring(2)) == values.digest(ring(2)) is not None
    assert values.digest(ring(2)) != values.digest(ring(3))
    tree = Plain(name="root", children=[])
    tree.children = [Plain(parent=tree), Plain(parent=tree)]  # type: ignore[attr-defined]
    assert values.digest(tree) is not None


def test_shared_parts_count_as_equal_ones_and_cost_no_second_walk() -> None:
    shared: list[Any] = [1]
    assert values.digest([shared, shared]) == values.digest([[1], [1]])
    for _ in range(100):
        shared = [shared, shared]
    assert values.digest(shared) is not None


def test_huge_and_deep_values_have_no_digest() -> None:
    deep: list[Any] = []
    for _ in range(digests.MAX_DIGEST_DEPTH + 1):
        deep = [deep]
    assert values.digest(deep) is None
    assert values.digest([[] for _ in range(digests.MAX_DIGEST_PARTS + 1)]) is None


def test_digests_are_the_same_in_every_process_and_with_every_hash_seed(run_new: RunNew) -> None:
    code = """
    import datetime, decimal, fractions, numpy as np, collections, sys, dataclasses, enum
    from raftoral_nb.workflow.codec.values import digest

    class Order:
        def __init__(self): self.tags = {"a", "b", "c", "d"}
    @dataclasses.dataclass
    class Item:
        price: float
        names: frozenset
    class Size(enum.Enum):
        L = "large"
    class Tags(set):
        pass
    def f(x, y={"a", "b", "c"}):
        return x in {"p", "q", "r", "s"}
    values = [
        {"a", "b", "c", "d"}, Order(), Item(1.5, frozenset("xyz")), Size.L, Tags("abcd"), f, [lambda: {"x", "y", "z"}],
        datetime.datetime(2020, 1, 1), decimal.Decimal("1.1"), fractions.Fraction(1, 3), np.arange(5), np.float64(2),
        np.array([{"a", "b", "c"}], dtype=object), collections.OrderedDict(a=1), {Size.L: {("a", "b"), ("c", "d")}},
        range(3), slice(1, 2), collections.defaultdict(set, {"k": {"a", "b", "c"}}), np.random.default_rng(1),
    ]
    print([digest(v) for v in values])
    """
    one, two = run_new(code, seed="1"), run_new(code, seed="2")
    assert one == two
    assert "None" not in one


def test_an_equal_instance_of_a_class_defined_again_has_the_same_digest(run_cell: RunCell) -> None:
    one, two = run_cell(ORDER_CELL), run_cell(ORDER_CELL)
    assert values.digest(one["Order"]("a")) == values.digest(two["Order"]("a")) is not None


# --- shorten


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError


def test_a_view_shows_values_short_on_one_line_and_without_addresses() -> None:
    assert values.shorten({"item": "A1"}) == "{'item': 'A1'}"
    assert values.shorten(Plain()).endswith("Plain object>")
    assert "0x" not in values.shorten([Plain(), lambda: 1])
    assert len(values.shorten("x" * 1000)) == 60
    assert len(values.shorten(list(range(1000)), 20)) == 20
    assert "\n" not in values.shorten(np.zeros((3, 3)))
    assert values.shorten({"b", "a"}) == "{'a', 'b'}"


def test_a_repr_that_raises_does_not_break_a_view() -> None:
    assert values.shorten(Rude()).startswith("<")
    assert values.shorten([Rude(), types.SimpleNamespace(x=Rude())]).startswith("[<")
    assert values.shorten(10**5000) == "<int>"


@pytest.mark.parametrize(
    "old", [(module, name) for module, names in pickling._MOVED.items() for name in names], ids=".".join
)
def test_what_an_earlier_version_recorded_by_the_module_of_that_time_is_found_where_it_is_now(
    old: tuple[str, str],
) -> None:
    module, name = old
    found = pickling.loads(f"c{module}\n{name}\n.".encode())
    assert found is getattr(raftoral_nb, name, found)
    assert found.__name__ == name
    assert found.__module__ == pickling._MOVED[module][name]
