"""Digests that count all that code could see, and digests of code without the data that it reads."""

from __future__ import annotations

import dataclasses
import time
import types
from typing import Any

import pytest

from raftoral_nb.workflow.codec.digests import code_apart, digest, exact_digest


@dataclasses.dataclass
class Pair:
    one: int
    hidden: Any = dataclasses.field(default=None, compare=False)


def user() -> None:
    """What mentions nothing."""


def notebook(source: str) -> dict[str, Any]:
    """The globals of a notebook in which this cell was run."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(source, space)
    return space


def test_the_order_of_a_dict_counts_and_that_of_a_set_does_not() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert exact_digest({"a": 1, "b": 2}) != exact_digest({"b": 2, "a": 1})
    assert exact_digest({"a": 1, "b": [2]}) == exact_digest({"a": 1, "b": [2]})
    assert exact_digest({"p", "q", "r"}) == exact_digest({"r", "q", "p"})


def test_fields_that_are_not_compared_count() -> None:
    assert digest(Pair(1, [1])) == digest(Pair(1, [2]))
    assert exact_digest(Pair(1, [1])) != exact_digest(Pair(1, [2]))
    assert exact_digest(Pair(1, [1])) == exact_digest(Pair(1, [1]))


def test_objects_that_refer_to_each_other_a_lot_are_given_up_soon() -> None:
    many = [types.SimpleNamespace() for _ in range(40)]
    for one in many:
        one.others = list(many)
    began = time.process_time()
    assert exact_digest(many) is None
    assert time.process_time() - began < 20  # it takes some 0.3 s, where all of them took hours


@pytest.mark.parametrize(
    ("changed", "counts"),
    [("k = 2", False), ("def g(x):\n    return x + k", True), ("h = 3", True)],
)
def test_of_code_counts_all_but_the_data_that_it_reads_in_the_notebook(changed: str, counts: bool) -> None:
    source = "k = 1\nh = 2\ndef g(x):\n    return x * k\ndef make(n):\n    def f(x):\n        return g(x) + n + k\n    return f\nf = make(h)"
    space = notebook(source)
    before, data = code_apart(space["f"], space, user)
    assert data == {"k"}
    after = notebook(source.replace("f = make(h)", f"{changed}\nf = make(h)"))
    assert (code_apart(after["f"], after, user)[0] != before) == counts


def test_of_a_class_the_functions_count_and_their_data_is_told() -> None:
    source = "k = [1]\nclass A:\n    n = 1\n    def get(self):\n        return k"
    space = notebook(source)
    before, data = code_apart(space["A"], space, user)
    assert data == {"k"}
    other = notebook(source.replace("n = 1", "n = 2"))
    assert code_apart(other["A"], other, user)[0] != before
