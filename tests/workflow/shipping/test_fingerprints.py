"""When a workflow counts as changed."""

from __future__ import annotations

import ast
import threading
from collections.abc import Callable
from typing import Any

import pytest

from raftoral_nb.workflow.codec import sources
from raftoral_nb.workflow.shipping.fingerprints import fingerprint

RunCell = Callable[..., dict[str, Any]]
RunNew = Callable[..., str]

CELL = '''
import math
import enum
import dataclasses
from dataclasses import dataclass, field
from raftoral_nb.workflow.shipping.definitions import workflow

RATE = 2
TAGS = {"a", "b", "c"}

class Size(enum.Enum):
    SMALL = 1
    LARGE = 2

class Base:
    factor = 3
    def scale(self, x):
        return x * self.factor

@dataclass
class Order(Base):
    """An order."""
    item: str
    size: Size = Size.SMALL
    tags: list[str] = field(default_factory=list)
    def total(self):
        return helper(self.item) + len(self.tags) + super().scale(1)

def helper(item):
    # counts
    return len(item) * RATE + math.floor(1.5) + (helper(item[1:]) if item else 0)

def outer(limit):
    def inner(x, *, y=4):
        return x < limit
    return inner

check = outer(10)

async def order(ctx, input):
    o = Order(input, Size.LARGE, ["x"])
    if check(3) and o.item in TAGS:
        return [line for line in (lambda: o.total())]
    return order
'''


def changed(run_cell: RunCell, old: str, new: str, *, known: bool = True) -> bool:
    """Whether replacing `old` by `new` in the cell counts as a change."""
    assert old in CELL
    before = run_cell(CELL, known=known)["order"]
    after = run_cell(CELL.replace(old, new), known=known)["order"]
    return fingerprint(before) != fingerprint(after)


@pytest.mark.parametrize("known", [True, False], ids=["with source", "without source"])
def test_running_the_same_cell_again_changes_nothing(run_cell: RunCell, known: bool) -> None:
    assert not changed(run_cell, "order", "order", known=known)


def test_running_a_cell_again_in_the_same_notebook_changes_nothing(run_cell: RunCell) -> None:
    namespace = run_cell(CELL)
    before = fingerprint(namespace["order"])
    assert fingerprint(run_cell(CELL, namespace)["order"]) == before
    assert fingerprint(run_cell("\n\n" + CELL, namespace)["order"]) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    # counts\n", "    # counts letters\n\n\n"),
        ("o.item in TAGS", "(o.item   in  TAGS)"),
        ("async def order", "\n# a comment\nasync def order"),
        ("RATE = 2", "UNUSED = 5\nRATE = 2"),
        ('TAGS = {"a", "b", "c"}', 'TAGS = {"c", "b", "a"}'),
    ],
)
def test_what_is_no_change(run_cell: RunCell, old: str, new: str) -> None:
    assert not changed(run_cell, old, new)


@pytest.mark.parametrize("decorator", ["@workflow", "@workflow(version=3)", "@wf", "@definitions.workflow(name='x')"])
def test_our_decorator_is_not_part_of_the_code(run_cell: RunCell, decorator: str) -> None:
    imports = "from raftoral_nb.workflow.shipping import definitions\nfrom raftoral_nb.workflow.shipping.definitions import workflow\nwf = workflow\n"
    body = "async def flow(ctx, input):\n    return input + 1\n"
    plain, decorated = run_cell(body)["flow"], run_cell(f"{imports}\n{decorator}\n{body}")["flow"]
    assert fingerprint(decorated.fn) == fingerprint(plain)


def test_other_decorators_are_part_of_the_code(run_cell: RunCell) -> None:
    body = "async def flow(ctx, input):\n    return input + 1\n"
    mark = "def mark(function):\n    return function\n"
    assert fingerprint(run_cell(f"{mark}\n@mark\n{body}")["flow"]) != fingerprint(run_cell(body)["flow"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("check(3)", "check(4)"),
        ("RATE = 2", "RATE = 3"),
        ("len(item) * RATE", "len(item) + RATE"),
        ("outer(10)", "outer(11)"),
        ("y=4", "y=5"),
        ("x < limit", "x <= limit"),
        ("factor = 3", "factor = 4"),
        ("x * self.factor", "x + self.factor"),
        ("len(self.tags)", "len(self.tags) + 1"),
        ("LARGE = 2", "LARGE = 3"),
        ("    item: str", "    item: int"),
        ("size: Size = Size.SMALL", "size: Size = Size.LARGE"),
        ("default_factory=list", "default_factory=tuple"),
        ("class Order(Base)", "class Order"),
        ('"c"}', '"d"}'),
        ("math.floor", "math.ceil"),
    ],
)
def test_what_is_a_change(run_cell: RunCell, old: str, new: str) -> None:
    new = new if new != "class Order" else "class Order(Base, object)"
    assert changed(run_cell, old, new)


@pytest.mark.parametrize(
    ("old", "new"), [("check(3)", "check(4)"), ("x < limit", "x <= limit"), ("o.total()", "o.scale()")]
)
def test_without_source_the_code_counts(run_cell: RunCell, old: str, new: str) -> None:
    assert changed(run_cell, old, new, known=False)
    assert not changed(run_cell, "    # counts\n", "\n\n\n", known=False)


def test_source_that_is_not_this_functions_is_not_trusted(run_cell: RunCell) -> None:
    """As when a file was edited after it was imported."""
    import linecache

    function = run_cell("def f(ctx, input):\n    return 1\n")["f"]
    before = fingerprint(function)
    other = run_cell("def f(ctx, input):\n    return 2\n")["f"]
    name = function.__code__.co_filename
    linecache.cache[name] = linecache.cache[other.__code__.co_filename]
    assert fingerprint(function) not in {before, fingerprint(other)}


def test_a_value_without_a_digest_counts_by_its_type(run_cell: RunCell) -> None:
    cell = "async def f(ctx, input):\n    return LOCK\n"
    one = run_cell(cell, {"__name__": "__main__", "LOCK": threading.Lock()})["f"]
    two = run_cell(cell, {"__name__": "__main__", "LOCK": threading.Lock()})["f"]
    three = run_cell(cell, {"__name__": "__main__", "LOCK": threading.RLock()})["f"]
    assert fingerprint(one) == fingerprint(two) != fingerprint(three)


def test_a_captured_value_counts_in_depth(run_cell: RunCell) -> None:
    cell = "async def f(ctx, input):\n    return CONFIG\n"
    found = {
        fingerprint(run_cell(cell, {"__name__": "__main__", "CONFIG": {"a": [1, {"b": value}]}})["f"])
        for value in (1, 2, 1)
    }
    assert len(found) == 2


def test_code_that_refers_to_itself_in_every_way_ends(run_cell: RunCell) -> None:
    names = [f"f{i}" for i in range(15)]
    lines = [f"def {name}(x):\n    return [{', '.join(names)}][x]\n" for name in names]
    lines.append("async def flow(ctx, input):\n    return f0(1)\n")
    assert fingerprint(run_cell("\n".join(lines))["flow"]) == fingerprint(run_cell("\n".join(lines))["flow"])


def test_functions_of_importable_modules_count_by_name() -> None:
    import textwrap

    assert fingerprint(textwrap.dedent) == fingerprint(textwrap.dedent) != fingerprint(textwrap.indent)


def test_the_fingerprint_is_the_same_in_every_process_and_with_every_hash_seed(run_new: RunNew) -> None:
    code = """
    import sys, linecache
    from raftoral_nb.workflow.shipping.fingerprints import fingerprint
    name = "<cell-" + sys.argv[2] + ">"
    source = sys.argv[1]
    found = []
    for known in (False, True):
        if known:
            linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        namespace = {"__name__": "__main__"}
        exec(compile(source, name, "exec", dont_inherit=True), namespace)
        found.append(fingerprint(namespace["order"]))
    print(*found)
    """
    one, two = run_new(code, CELL, 1, seed="1"), run_new(code, CELL, 2, seed="2")
    assert one == two
    assert len(set(one.split())) == 2


def test_a_tree_that_another_threads_parser_spoilt_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython 3.11 and 3.12 raise SystemError where two threads make syntax trees at once."""
    parse, spoilt = ast.parse, iter([True, True])

    def spoilt_twice(text: str) -> ast.Module:
        if next(spoilt, False):
            raise SystemError("AST constructor recursion depth mismatch (before=153, after=57)")
        return parse(text)

    with monkeypatch.context() as patch:
        patch.setattr(ast, "parse", spoilt_twice)
        tree = sources.parsed("x = 1\n")
    assert ast.unparse(tree) == "x = 1"
    assert next(spoilt, None) is None
