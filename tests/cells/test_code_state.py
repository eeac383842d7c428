"""What code of the notebook holds beside itself: seen, recorded and put back."""

from __future__ import annotations

from typing import Any

from raftoral_nb.cells.code_state import CodeState, code_name, restore_code


def run(source: str, space: dict[str, Any] | None = None) -> dict[str, Any]:
    space = {"__name__": "__main__"} if space is None else space
    exec(source, space)
    return space


def changes(before: str, cell: str, *names: str) -> dict[str, Any]:
    space = run(before)
    state = CodeState(names, space)
    run(cell, space)
    return state.changes((), ())


def test_only_what_changed_is_told() -> None:
    before = "class A:\n    x = 1\n    y = [1]\n    def f(self): ...\ndef f(): ...\nf.calls = 0"
    assert changes(before, "A().f()", "A", "f") == {}
    assert changes(before, "A.y.append(2)\nA.z = 3", "A", "f") == {"A.y": [1, 2], "A.z": 3}
    assert changes(before, "f.calls += 1\nA.f = None", "A", "f") == {"A.f": None, "f.calls": 1}


def test_what_is_no_data_or_cannot_be_pickled_or_is_pickled_anew_each_time_is_left_out() -> None:
    before = "import itertools, threading\nclass A: ...\ncount = itertools.count()\nclass Odd:\n    def __reduce__(self):\n        return int, (next(count),)"
    cell = "A.f = lambda: 1\nA.p = property(lambda self: 1)\nA.lock = threading.Lock()\nA.odd = Odd()\nA.x = 1"
    assert changes(before, cell, "A") == {"A.x": 1}


def test_all_of_a_definition_is_told_but_for_what_was_handed_to_it() -> None:
    space = run("other = [1]")
    state = CodeState((), space)
    run("class A:\n    x = 1\n    y = other\nA.x = 2", space)
    assert state.changes({"A"}, ["A"]) == {"A.x": 2}
    assert state.changes({"A"}, []) == {}


def test_what_was_told_is_put_back_where_it_can_be() -> None:
    space = run(
        "import enum\nclass A:\n    x = 1\nclass E(enum.Enum):\n    ONE = 1\ndef f():\n    n = 0\n    return lambda: n\ng = f()"
    )
    restore_code({"A.x": 2, "A.y": [3], "E.ONE": 5, "g.<n>": 7, "gone.x": 1, "random.getstate()": 1}, space)
    assert (space["A"].x, space["A"].y, space["E"].ONE.value, space["g"]()) == (2, [3], 1, 7)


def test_a_recorded_name_says_whose_it_is() -> None:
    assert [code_name(one) for one in ("A.x", "f.<n>", "module shop.prices.rate")] == ["A", "f", "shop.prices"]
