"""What the code of a cell says: examples, and properties over generated cells that are run."""

from __future__ import annotations

import ast
import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftoral_nb.cells.cell_code import analyse, kept_statements, parse


def reads(source: str) -> set[str]:
    return set(analyse(source).reads) - {"print", "range", "open", "len", "int", "__name__"}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1\ny = x + z", {"z"}),
        ("y = x\nx = 1", {"x"}),
        ("x += 1", {"x"}),
        ("x: int\ny = x", {"x"}),
        ("[w for w in words if w > least]", {"words", "least"}),
        ("{k: v for k, v in pairs}", {"pairs"}),
        ("f = lambda a: a + n", {"n"}),
        ("def f(a, b=start):\n    c = a\n    return c + k", {"start", "k"}),
        ("@wrap\ndef f(): pass", {"wrap"}),
        ("class A(Base):\n    t = u\n    s = t\n    def m(self):\n        return q", {"Base", "u", "q"}),
        ("import numpy as np\nnp.zeros(n)", {"n"}),
        ("with lock as held:\n    held.x", {"lock"}),
        ("try:\n    a\nexcept E as error:\n    print(error)", {"a", "E"}),
        ("match v:\n    case {'a': n, **rest}:\n        print(n, rest)\n    case K.x:\n        pass", {"v", "K"}),
        ("x = await get(y)", {"get", "y"}),
        ("del x", {"x"}),
        ("x = 1\ndel x", set()),
        ("if (n := size()) > 1:\n    print(n)", {"size"}),
        ("frame.query('a > @least')", {"frame", "least"}),
        ("get_ipython().run_line_magic('time', 'm = fit(t)')", {"fit", "t"}),
        ("get_ipython().run_cell_magic('time', '', 'a = 1\\nb = a + c\\n')", {"c"}),
        ("get_ipython().system('echo $v')", {"echo", "v"}),
        ("for i in many:\n    print(i)", {"many"}),
        ("def f():\n    def g():\n        return deep\n    return g", {"deep"}),
    ],
)
def test_what_a_cell_reads_is_what_it_has_not_bound_before(source: str, expected: set[str]) -> None:
    assert reads(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("if c:\n    x = 1\nprint(x)", {"x"}),
        ("if c:\n    x = 1\nelse:\n    x = 2\nprint(x)", set()),
        ("for i in many:\n    pass\nprint(i)", {"i"}),
        ("for i in many:\n    x = i\n    print(x)", set()),
        ("while c:\n    x = 1\nprint(x)", {"x"}),
        ("def f():\n    return k\nk = 1", {"k"}),
        ("k = 1\ndef f():\n    return k", set()),
        ("k = 1\ndel k\nf = lambda: k\nk = 2", {"k"}),
        ("try:\n    x = 1\nexcept E:\n    pass\nprint(x)", {"x"}),
        ("try:\n    x = 1\nexcept E:\n    x = 2\nprint(x)", set()),
        ("try:\n    x = 1\nexcept E:\n    raise\nprint(x)", set()),
        ("try:\n    x = 1\nfinally:\n    pass\nprint(x)", set()),
        ("if c:\n    x = 1", {"x"}),
        ("for i in many:\n    x = i", set()),
        ("for i in many:\n    if i:\n        x = i", {"x"}),
    ],
)
def test_what_a_cell_binds_and_perhaps_reads_before_is_told_apart(source: str, expected: set[str]) -> None:
    assert set(analyse(source).may_read) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1\nfor i, (j, k) in y:\n    pass", {"x": 1, "i": 2, "j": 2, "k": 2}),
        ("def f():\n    global g\n    g = 1", {"f": 1, "g": 1}),
        ("import a.b, c as d\nfrom e import f", {"a": 1, "d": 1, "f": 2}),
        ("with x as (a, b):\n    pass", {"a": 1, "b": 1}),
        ("a.b = 1\nc[0] = 2", {}),
        ("[n := 1 for _ in range(2)]", {"n": 1}),
    ],
)
def test_what_a_cell_binds_has_its_line(source: str, expected: dict[str, int]) -> None:
    assert analyse(source).binds == expected


def test_what_the_code_does_not_say_is_told() -> None:
    assert analyse("exec('a = 1')").unseen == ("exec",)
    assert analyse("globals()['a'] = 1").unseen == ("globals",)
    assert analyse("from math import *").unseen == ("from math import *",)
    assert analyse("a = 1").unseen == ()


def test_layout_and_comments_do_not_count() -> None:
    assert analyse("x=1 # one\n\ny = (2)").digest == analyse("x = 1\ny = 2").digest
    assert analyse("x = 1").digest != analyse("x = 1.0").digest


def test_what_will_not_be_recorded_is_named_with_its_line() -> None:
    found = analyse(
        "x = 1\nh = open('a')\ng = (i for i in x)\nimport threading\nl = threading.Lock()\nn = openly()"
    ).suspects
    assert [(one.name, one.what, one.line) for one in found] == [
        ("h", "an open file", 2),
        ("g", "a generator", 3),
        ("l", "a lock", 5),
    ]


def test_definitions_are_those_that_can_simply_be_run_again() -> None:
    source = (
        "import dataclasses\n@dataclasses.dataclass\nclass A: pass\ndef f(a=A): return late\nlate = 1\n"
        "def twice(): pass\ntwice = wrap(twice)\nn = 3\ndef g(a=n): pass\nh = lambda: n"
    )
    assert analyse(source).definitions == ("A", "f", "h")
    kept = kept_statements(parse(source), ["A", "h"])
    assert [ast.unparse(one).splitlines()[-1] for one in kept] == [
        "import dataclasses",
        "class A:\n    pass".splitlines()[-1],
        "h = lambda: n",
    ]


# --- properties: what code reads and binds when it runs is among what is said of it

NAMES = st.sampled_from(["a", "b", "c", "d"])
ATOMS = st.one_of(NAMES, st.integers(0, 3).map(str))
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda two: f"({two[0]} + {two[1]})"),
        st.tuples(NAMES, inner).map(lambda two: f"sum([{two[0]} for {two[0]} in [1, 2]] + [{two[1]}])"),
        st.tuples(NAMES, inner).map(lambda two: f"(lambda {two[0]}: {two[0]} + {two[1]})(1)"),
    ),
    max_leaves=4,
)


def blocks(depth: int) -> st.SearchStrategy[list[str]]:
    simple = st.one_of(
        st.tuples(NAMES, EXPRESSIONS).map(lambda two: [f"{two[0]} = {two[1]}"]),
        st.tuples(NAMES, EXPRESSIONS).map(lambda two: [f"{two[0]} += {two[1]}"]),
        EXPRESSIONS.map(lambda one: [one]),
        NAMES.map(lambda one: [f"del {one}"]),
    )
    if depth == 0:
        return simple
    inner = st.lists(blocks(depth - 1), min_size=1, max_size=2).map(
        lambda many: [f"    {line}" for block in many for line in block]
    )
    return st.one_of(
        simple,
        st.tuples(EXPRESSIONS, inner, inner).map(lambda t: [f"if {t[0]} > 2:", *t[1], "else:", *t[2]]),
        st.tuples(NAMES, inner).map(lambda t: [f"for {t[0]} in range(2):", *t[1]]),
        inner.map(lambda body: ["try:", *body, "except TypeError as e:", "    pass"]),
        st.tuples(NAMES, EXPRESSIONS).map(lambda t: [f"def f({t[0]}=1):", f"    return {t[1]}", "f()"]),
    )


CELLS = st.lists(blocks(2), min_size=1, max_size=4).map(
    lambda many: "\n".join(line for block in many for line in block)
)


class Watched(dict[str, Any]):
    """Globals that know which names were read before the cell bound them, and which were bound."""

    def __init__(self) -> None:
        super().__init__(a=1, b=2, c=3, d=4)
        self.read: set[str] = set()
        self.bound: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        if name in self and name not in self.bound:
            self.read.add(name)
        return super().__getitem__(name)

    def __setitem__(self, name: str, value: Any) -> None:
        self.bound.add(name)
        super().__setitem__(name, value)


@given(CELLS)
def test_what_a_cell_reads_and_binds_when_it_runs_is_among_what_is_said_of_it(source: str) -> None:
    code = analyse(source)
    names = Watched()
    with contextlib.suppress(NameError, TypeError):  # deleted, or read by a function, which does not see these names
        exec(compile(source, "<cell>", "exec"), {}, names)
    assert names.read <= code.reads | code.may_read
    assert names.bound <= code.binds.keys()


@given(CELLS)
def test_only_what_is_bound_may_be_read_later(source: str) -> None:
    code = analyse(source)
    assert code.may_read <= code.binds.keys()
    assert not code.may_read & code.reads
