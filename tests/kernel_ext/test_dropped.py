"""Where in a cell a magic stands, and what is shown of it."""

from __future__ import annotations

import pytest

from tests.kernel_ext.conftest import Notebook


@pytest.fixture
def notebook_with_run(with_order: Notebook) -> Notebook:
    with_order.ok("run = %raftoral run order 20 --id r\nrun.wait_for_completion(timeout=10)")
    return with_order


READING = [
    "",
    " status",
    " runs",
    " history r",
    " log",
    " events",
    " entries",
    " metrics",
    " scenario",
    " query q left",
]
PLACES = {
    "in the middle": "%raftoral{line}\nx = 1",
    "in a loop": "for _ in range(1):\n    %raftoral{line}",
    "in a branch": "if True:\n    %raftoral{line}\nelse:\n    %raftoral nonsense",
    "in a function": "def look():\n    %raftoral{line}\nlook()",
    "in a block": "import contextlib\nwith contextlib.suppress(ZeroDivisionError):\n    %raftoral{line}\n    1 / 0",
    "beside an await": "import asyncio\n%raftoral{line}\nawait asyncio.sleep(0)",
}


@pytest.mark.parametrize("place", PLACES)
def test_what_reads_is_shown_once_wherever_it_stands(notebook_with_run: Notebook, place: str) -> None:
    notebook = notebook_with_run
    notebook.ok(
        "%%workflow\nasync def waits(ctx, x):\n    ctx.on_query('left', lambda: 42)\n    await ctx.receive('go')\n"
    )
    notebook.ok("%raftoral run waits --id q;")
    for line in READING:
        last = notebook.ok(f"%raftoral{line}")
        assert last.value is not None
        ran = notebook.ok(PLACES[place].format(line=line))
        assert ran.value is None, line
        assert len(ran.bundles) == 1, line
        assert set(ran.bundles[0]) == set(last.bundles[-1]), line
        assert len(last.bundles) == 1, "and not twice where IPython shows it"


def test_a_cluster_is_shown_wherever_it_is_started_or_watched(notebook: Notebook) -> None:
    ran = notebook.ok("%raftoral start --nodes 3\n%raftoral watch\nx = 1")
    assert [bundle["text/plain"].partition(":")[0] for bundle in ran.bundles] == [
        "cluster of 3 nodes (1, 2, 3)",
        "cluster " + notebook.ok("cluster.name").value,
    ]


def test_what_is_assigned_or_used_in_an_expression_is_not_shown(notebook_with_run: Notebook) -> None:
    notebook = notebook_with_run
    for cell in (
        "h = %raftoral run order 1\nx = 1",
        "h = %raftoral status",
        "h = [get_ipython().run_line_magic('raftoral', 'runs')]",
        "def f():\n    h = %raftoral status\n    return h\nh = f()",
        "h = get_ipython().run_line_magic('raftoral', 'status').plain\nx = 1",
    ):
        ran = notebook.ok(cell)
        assert ran.bundles == [], cell
        assert notebook.ok("h").value is not None, cell


def test_a_run_that_is_started_in_the_middle_of_a_cell_says_its_name(with_order: Notebook) -> None:
    ran = with_order.ok("%raftoral run order 20 --id r\nx = 1")
    assert ran.text.startswith("run r of order, version 1: ")


def test_a_semicolon_keeps_it_quiet_everywhere(with_order: Notebook) -> None:
    for cell in ("%raftoral status;\nx = 1", "%raftoral status;", "for _ in range(2):\n    %raftoral runs ;"):
        assert with_order.ok(cell).bundles == [], cell
    assert with_order.ok("h = %raftoral run order 20;\nh.wait_for_completion(timeout=10)").value == 41


def test_what_did_something_and_what_was_read_are_shown_in_the_order_of_their_lines(started: Notebook) -> None:
    ran = started.ok("%raftoral hold 2\n%raftoral status\n%raftoral release 2\n%raftoral status")
    assert [bundle["text/plain"].split()[0] for bundle in ran.bundles] == ["node", "cluster", "node", "cluster"]


def test_what_stood_before_an_error_was_shown(started: Notebook) -> None:
    ran = started.run("%raftoral status\n1 / 0\n%raftoral runs")
    assert isinstance(ran.error, ZeroDivisionError)
    assert len(ran.bundles) == 1


def test_in_a_workflow_cell_it_is_shown_too(started: Notebook) -> None:
    ran = started.ok("%%workflow\nasync def noop(ctx, x):\n    return x\n%raftoral runs\nx = 1")
    assert [bundle["text/plain"].split()[0] for bundle in ran.bundles] == ["no", "noop,"]


def test_every_expression_is_shown_once_where_ipython_shows_them_all(started: Notebook) -> None:
    started.shell.ast_node_interactivity = "all"
    ran = started.ok("%raftoral status\n%raftoral runs")
    assert len(ran.bundles) == 1, (
        "the value of the last one: the first went to IPython's displayhook, and not to display()"
    )
    assert "Out[" in ran.stdout
