"""The cell of a class is run again, in this kernel or in the next: the class is the same, or the change is refused or said."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from raftoral_nb.errors import ClassChangedWarning
from tests.kernel_ext.conftest import Notebook

CLASSES = """
import dataclasses, enum

class Color(enum.Enum):
    RED = 1
    BLUE = 2

@dataclasses.dataclass
class Order:
    item: str
    color: Color = Color.RED
    tags: dict = dataclasses.field(default_factory=dict)

    def total(self):
        return len(self.item)

class Declined(Exception):
    def __init__(self, code):
        super().__init__(code)
        self.code = code
"""
CHILD = """%%workflow
async def ship(ctx, order):
    return isinstance(order, Order), order.color is Color.RED, order
"""
FLOW = """%%workflow
def pay(order):
    if not (isinstance(order, Order) and order.color is Color.RED):
        raise ValueError("another class")
    raise Declined(7)

async def order(ctx, first{annotation}):
    def good(value):
        return isinstance(value, Order) and value.color is Color.RED

    ctx.on_query("is it", lambda value: (good(value), value))
    sent = await ctx.receive("more", timeout=60)
    update = await ctx.receive_update("change", timeout=60)
    await update.answer([update.value])
    shipped = await ctx.run_child("ship", first)
    try:
        await ctx.compute("pay", pay, first)
    except Declined as declined:
        code = declined.code
    return [good(one) for one in (first, sent, update.value, shipped[2])] + [*shipped[:2], code == 7], first
"""
START = """
run = cluster.start_workflow("order", Order("A"))
run.signal("more", Order("B"))
(answer,) = run.update("change", Order("C"), timeout=60)
asked, echo = run.query("is it", Order("D"))
checks, first = run.wait_for_completion(timeout=60)
assert all(checks) and asked, (checks, asked)
assert all(type(one) is Order and one.color is Color.RED for one in (answer, echo, first))
assert first == Order("A")
"""


def prepare(notebook: Notebook, processes: str, annotation: str) -> None:
    notebook.ok(CLASSES)
    notebook.ok(f"%raftoral start --nodes 2 {processes}")
    notebook.ok(CHILD)
    notebook.ok(CLASSES)  # the parent is registered with other class objects than the child
    notebook.ok(FLOW.format(annotation=annotation))


@pytest.mark.parametrize(
    ("processes", "annotation"),
    [("", ""), ("", ": Order"), ("--processes", "")],
    ids=["plain", "annotated", "processes"],
)
def test_run_again_unchanged_it_is_the_same_class_wherever_values_go(
    notebook: Notebook, processes: str, annotation: str
) -> None:
    prepare(notebook, processes, annotation)
    notebook.ok(START)
    notebook.ok(CLASSES)
    notebook.ok(START)
    notebook.ok(START)
    assert notebook.ok("max(cluster.workflows['order'])").value == 1, "the workflow is unchanged too"


@pytest.mark.parametrize("annotation", ["", ": Order"], ids=["plain", "annotated"])
def test_a_change_is_refused_before_anything_is_sent_naming_the_class_and_what_differs(
    notebook: Notebook, annotation: str
) -> None:
    prepare(notebook, "", annotation)
    notebook.ok('run = cluster.start_workflow("order", Order("A"))')
    notebook.ok(CLASSES.replace("item: str", "item: str\n    note: str = ''"))
    for line in (
        'cluster.start_workflow("order", Order("A"))',
        'run.signal("more", Order("A"))',
        'run.update("change", [{1: Order("A")}])',
        'run.query("is it", Order("A"))',
    ):
        said = notebook.fails(line)
        assert "the class Order " in said, line
        assert "field 'note' was added" in said, line
    assert len(notebook.ok("cluster.runs()").value) == 1
    notebook.ok(CHILD)
    notebook.ok(FLOW.format(annotation=annotation))
    notebook.ok(START)


def test_a_child_with_another_version_of_a_class_refuses_the_parents(notebook: Notebook) -> None:
    prepare(notebook, "", "")
    notebook.ok(CLASSES.replace("BLUE = 2", "GREEN = 3"))
    notebook.ok(CHILD)
    notebook.ok(CLASSES)
    said = notebook.fails(START)
    assert "ship" in said
    assert "class Color" in said
    assert "member 'BLUE' was removed" in said or "member 'BLUE' was added" in said


def test_a_result_whose_class_has_changed_since_is_handed_back_as_it_was_and_that_is_said(notebook: Notebook) -> None:
    notebook.ok(CLASSES)
    notebook.ok("%raftoral start --nodes 1")
    notebook.ok("%%workflow\nasync def same(ctx, order):\n    return order")
    notebook.ok('run = cluster.start_workflow("same", Order("abc"))\nrun.wait_for_completion(timeout=60)')
    notebook.ok(CLASSES.replace("return len", "return -len"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        notebook.ok("found = run.wait_for_completion(timeout=60)")
    (said,) = [one for one in caught if one.category is ClassChangedWarning]
    assert "the class Order as the run knew it" in str(said.message)
    assert "method 'total' changed" in str(said.message)
    assert notebook.ok("found.total(), isinstance(found, Order)").value == (3, False)


LIFE = """
import json, sys, warnings
from IPython.core.interactiveshell import InteractiveShell
warnings.simplefilter("error")
shell = InteractiveShell.instance()
def cell(text):
    shell.run_cell(text, silent=True).raise_error()
    return shell.user_ns
folder, life, processes, classes, flow = sys.argv[1:]
cell("%load_ext raftoral_nb")
if life == "first":
    cell(classes)
cell(f"%raftoral start --nodes 2 --data-dir {folder} {processes}")
if life == "first":
    cell(flow)
    cell('run = cluster.start_workflow("order", Order("A", tags={"a": 1, "b": {2, 3}}), run_id="mine")')
    cell('run.signal("more", Order("B"))')
    found = True
else:
    cell('run = cluster.run("mine")\\nrun.signal("end")')
    cell('before = type(run.wait_for_completion(timeout=60)[1]).__name__')  # no cell of a class has been run yet
    cell(classes)
    cell('again = cluster.start_workflow("order", Order("A", tags={"b": {3, 2}, "a": 1}), run_id="mine")')
    cell('checks, first = again.wait_for_completion(timeout=60)')
    cell('other = cluster.start_workflow("order", Order("A"))\\nother.signal("more", Order("B"))\\nother.signal("end")')
    cell('more, second = other.wait_for_completion(timeout=60)')
    found = cell('good = checks, more, type(first) is Order, type(second) is Order, first.color is Color.RED, before')["good"]
cell("%raftoral stop")
print(json.dumps(found))
"""
WAITING = """%%workflow
async def order(ctx, first):
    sent = await ctx.receive("more", timeout=600)
    await ctx.receive("end", timeout=600)
    return [isinstance(one, Order) and one.color is Color.RED for one in (first, sent)], first
"""


@pytest.mark.parametrize("processes", ["", "--processes"], ids=["in the kernel", "in processes"])
def test_in_the_next_kernel_on_the_same_data_directory_it_is_the_same_class_and_an_equal_input_the_same_run(
    tmp_path: Path, processes: str
) -> None:
    found = []
    for life in ("first", "second"):
        done = subprocess.run(
            [sys.executable, "-c", LIFE, str(tmp_path / "data"), life, processes, CLASSES, WAITING],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parents[2],
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found.append(json.loads(done.stdout.splitlines()[-1]))
    assert found == [True, [[True, True], [True, True], True, True, True, "Order"]]
