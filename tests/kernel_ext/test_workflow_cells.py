"""`%%workflow` cells."""

from __future__ import annotations

import pytest

from kernel_ext.errors import MagicError
from tests.kernel_ext.conftest import ORDER, Notebook


def test_registering_says_in_one_line_what_went_along(started: Notebook) -> None:
    started.ok("rate = 1")
    assert started.ok(ORDER).text == "order, version 1: registered; captured rate (int, 1 kB)"


def test_an_unchanged_cell_does_nothing_and_a_changed_one_takes_the_next_version(with_order: Notebook) -> None:
    assert with_order.ok(ORDER).text == "order, version 1: unchanged"
    assert with_order.ok(ORDER.replace("double", "twice")).text.startswith("order, version 2: registered")
    assert with_order.ok(ORDER.replace("double", "twice")).text == "order, version 2: unchanged"


def test_functions_classes_and_imports_of_other_cells_go_along(started: Notebook) -> None:
    started.ok("import math\nfrom dataclasses import dataclass")
    started.ok("@dataclass\nclass Item:\n    price: float")
    started.ok("def charged(item):\n    return math.ceil(item.price)")
    started.ok("%%workflow\nasync def pay(ctx, item):\n    return await ctx.compute('pay', charged, item)")
    started.ok("run = %raftoral run pay Item(2.5)")
    assert started.ok("run.wait_for_completion(timeout=10)").value == 3


def test_the_last_async_function_is_taken_or_the_one_that_is_named(started: Notebook) -> None:
    body = "async def one(ctx, x): return 1\nasync def two(ctx, x): return 2\ndef three(): pass\n"
    assert started.ok(f"%%workflow\n{body}").text.startswith("two, version 1")
    assert started.ok(f"%%workflow one\n{body}").text.startswith("one, version 1")
    assert started.ok(f"%%workflow other --version 5\n{body}").text.startswith("other, version 5")
    started.ok("run = %raftoral run other")
    assert started.ok("run.wait_for_completion(timeout=10)").value == 2


def test_a_decorated_workflow_keeps_its_name_and_version(started: Notebook) -> None:
    started.ok("from raftoral_nb import workflow")
    cell = "%%workflow{}\n@workflow(version=3)\nasync def order(ctx, x): return x"
    assert started.ok(cell.format("")).text.startswith("order, version 3: registered")
    assert started.ok(cell.format(" --version 4")).text.startswith("order, version 4: registered")
    assert started.ok(cell.format(" copy")).text.startswith("copy, version 3: registered")


def test_without_a_cluster_it_is_kept_and_registered_at_the_next_start(notebook: Notebook) -> None:
    notebook.ok("rate = 1")
    assert notebook.ok(ORDER).text == "order: kept, and registered at the next %raftoral start"
    notebook.ok(ORDER.replace("double", "twice"))
    said = notebook.ok("%raftoral start --nodes 1").text.splitlines()
    assert said == ["order, version 1: registered; captured rate (int, 1 kB)", "cluster of 1 node (1): running"]
    notebook.ok("run = %raftoral run order 1\nrun.wait_for_completion(timeout=10)")
    assert notebook.ok("run.steps[0].key").value == "twice"


def test_a_kept_workflow_that_cannot_be_registered_hinders_no_other(notebook: Notebook) -> None:
    notebook.ok("import threading\nlock = threading.Lock()")
    notebook.ok("%%workflow\nasync def bad(ctx, x): return lock")
    notebook.ok("%%workflow\nasync def good(ctx, x): return x")
    said = notebook.fails("%raftoral start --nodes 1")
    assert "the cluster is running" in said
    assert "bad: " in said
    assert notebook.ok("tuple(cluster.workflows)").value == ("good",)


def test_the_cell_runs_as_any_other_and_shows_its_last_expression(started: Notebook) -> None:
    ran = started.ok("%%workflow\nprint('printed')\nasync def order(ctx, x): return x\nvalue = 7\nvalue + 1")
    assert ran.stdout.startswith("printed\n")
    assert "8" in ran.stdout
    assert started.ok("value").value == 7


def test_what_the_cell_raises_is_raised_and_nothing_is_registered(started: Notebook) -> None:
    ran = started.run("%%workflow\nasync def order(ctx, x): return x\n1 / 0")
    assert isinstance(ran.error, ZeroDivisionError)
    assert started.ok("dict(cluster.workflows)").value == {}


def test_a_syntax_error_names_the_line_of_the_cell_without_our_frames(started: Notebook) -> None:
    said = started.fails("%%workflow\nasync def order(ctx, x):\n    return (")
    assert "line 3 of the cell" in said
    assert "return (" in said
    assert "SyntaxError: '(' was never closed" in said
    assert "kernel_ext" not in said


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("%%workflow\nx = 1", "this cell defines no workflow"),
        ("%%workflow\nif True:\n    async def f(ctx, x): pass", "at its top level"),
        ("%%workflow\nasync def f(ctx, x): pass\nf = 3", "'f' is an int"),
        ("%%workflow\nimport asyncio\nawait asyncio.sleep(0)", "cannot `await` at its top level"),
        ("%%workflow a b\nasync def f(ctx, x): pass", "Usage: %%workflow"),
    ],
)
def test_a_cell_without_a_workflow_says_what_it_needs(started: Notebook, cell: str, says: str) -> None:
    error = started.run(cell).error
    assert isinstance(error, MagicError)
    assert says in str(error)


def test_magics_work_inside_the_cell(started: Notebook) -> None:
    started.ok("%%workflow\n%config RaftoralMagics.nodes = 2\nasync def order(ctx, x): return x")
    assert started.ok("tuple(cluster.workflows)").value == ("order",)


BAD = "%%workflow{}\nimport time\nasync def stamp(ctx, x):\n    return time.time()"


def test_what_is_not_deterministic_is_said_with_the_registration_and_not_as_a_warning(started: Notebook) -> None:
    first, second = started.ok(BAD.format("")).text.splitlines()
    assert first == "stamp, version 1: registered; nothing captured"
    assert second.startswith("  not deterministic: cell")
    assert second.endswith("time.time(): every node, and every replay, reads another time. Instead: await ctx.now()")
    assert started.ok(BAD.format("")).text.splitlines()[0] == "stamp, version 1: unchanged"


def test_a_strict_cell_refuses_it(started: Notebook) -> None:
    said = started.fails(BAD.format(" --strict"))
    assert "workflow 'stamp' is not registered" in str(said)
    assert "time.time()" in str(said)
    assert started.ok("list(cluster.workflows)").value == []


def test_the_message_says_which_unfinished_runs_keep_the_old_code(with_order: Notebook) -> None:
    with_order.ok("cluster.hold('leader')\nrun = cluster.start_workflow('order', 1, run_id='old')")
    said = with_order.ok(ORDER.replace("double", "twice")).text.splitlines()
    assert said[1] == (
        "  1 unfinished run of other versions keeps the code they started with (old); to move one: %raftoral move RUN 2"
    )
