"""The magics in a real shell, with a real cluster."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import raftoral_nb
from kernel_ext.magics import extension
from raftoral_nb.errors import NoSuchNodeError, RaftoralError, WorkflowFailedError, WorkflowNotFoundError
from tests.kernel_ext.conftest import ORDER, Notebook


def test_a_run_is_started_and_waited_for(with_order: Notebook) -> None:
    with_order.ok("run = %raftoral run order 20")
    assert with_order.ok("run.wait_for_completion(timeout=10)").value == 41
    assert with_order.ok("run").text == "run order-1 of order, version 1: completed, 1 step recorded"


def test_start_says_the_same_whoever_is_elected(notebook: Notebook) -> None:
    ran = notebook.ok("%raftoral start --nodes 3")
    assert ran.text == "cluster of 3 nodes (1, 2, 3): running, with a leader"
    assert ran.bundles[-1]["text/html"] == "<p>cluster of 3 nodes (1, 2, 3): running, with a leader</p>"


def test_the_running_cluster_is_in_the_notebook_and_is_the_current_one(started: Notebook) -> None:
    cluster = started.ok("cluster").value
    assert cluster is raftoral_nb.current_cluster()
    with raftoral_nb.Cluster(1, network="memory"):
        assert raftoral_nb.current_cluster() is cluster, "the magics' own stays the current one"


def test_a_variable_named_cluster_is_never_replaced(notebook: Notebook) -> None:
    notebook.ok("cluster = 'mine'")
    said = notebook.ok("%raftoral start --nodes 1").text
    assert "raftoral_nb.current_cluster()" in said
    assert notebook.ok("cluster").value == "mine"
    notebook.ok("%unload_ext raftoral_nb")
    assert notebook.ok("cluster").value == "mine"


def test_a_stopped_cluster_made_in_python_gives_way_to_the_next_one(notebook: Notebook) -> None:
    notebook.ok("from raftoral_nb import Cluster\ncluster = Cluster(nodes=1).start()\nmine = cluster\ncluster.stop()")
    started = notebook.ok("%raftoral start --nodes 1")
    assert "left alone" not in started.text
    assert notebook.ok("cluster is not mine and cluster.running").value is True


def test_the_logs_of_the_nodes_are_shown_side_by_side(with_order: Notebook) -> None:
    ran = with_order.ok("run = %raftoral run order 1\nrun.wait_for_completion(30)\nold = cluster.leader")
    assert ran.error is None
    with_order.ok("for node in cluster.nodes.values():\n    node.wait_until_applied()")
    lines = with_order.ok("%raftoral entries --last 3").text.splitlines()
    assert lines[0].split() == ["index", "term", "entry", "node", "1", "node", "2", "node", "3"]
    assert [line.split("  ")[-1] for line in lines[1:]] == ["committed"] * 3
    assert "end order-1" in lines[-1]
    # What a node lacks is a dash in the same stretch of the log.
    with_order.ok("%raftoral isolate follower\nawait cluster.start_workflow('order', 2)\n%raftoral entries --last 3;")
    lines = with_order.ok("%raftoral entries --last 3").text.splitlines()
    assert len(lines) == 4
    assert all(" - " in f"{line} " for line in lines[1:])


def test_the_next_cluster_takes_the_place_of_the_stopped_one(started: Notebook) -> None:
    first = started.ok("cluster").value
    started.ok("%raftoral stop")
    started.ok("%raftoral start --nodes 1")
    assert started.ok("cluster").value is not first


def test_a_second_start_is_an_error_that_names_stop(started: Notebook) -> None:
    said = started.fails("%raftoral start")
    assert "already running" in said
    assert "%raftoral stop" in said


def test_a_second_stop_does_nothing(started: Notebook) -> None:
    assert started.ok("%raftoral stop").text == "cluster stopped"
    assert started.ok("%raftoral stop").text == "no cluster is running"


def test_a_cluster_made_in_python_is_driven_but_not_stopped(notebook: Notebook) -> None:
    with raftoral_nb.Cluster(1, name="handmade", network="memory") as cluster:
        assert "cluster handmade: running, 1 node" in notebook.ok("%raftoral status").text
        assert "was made in Python" in notebook.fails("%raftoral stop")
        assert cluster.running


def test_without_a_cluster_every_subcommand_says_how_to_get_one(notebook: Notebook) -> None:
    for line in ("status", "runs", "log", "events", "watch", "run order", "kill 1", "release 2"):
        assert "%raftoral start" in notebook.fails(f"%raftoral {line}")


def test_the_input_is_any_expression_of_the_notebook(with_order: Notebook) -> None:
    with_order.ok("items = [1, 2]")
    with_order.ok("run = %raftoral run order [item + 1 for item in items] --id sum")
    assert "TypeError" in with_order.fails("run.wait_for_completion(timeout=10)"), "a list plus a number"
    with_order.ok("run = %raftoral run order sum(items[i] for i in range(2)) --id sum-2 --version 1")
    assert with_order.ok("run.wait_for_completion(timeout=10)").value == 7


def test_the_input_may_use_the_locals_of_the_function_it_stands_in(with_order: Notebook) -> None:
    with_order.ok(
        "def go(amount):\n    return get_ipython().run_line_magic('raftoral', 'run order sum([amount for _ in range(2)])')\n"
    )
    assert with_order.ok("go(5).wait_for_completion(timeout=10)").value == 21


def test_braces_and_dollars_reach_the_workflow_as_typed(started: Notebook) -> None:
    started.ok("%%workflow\nasync def echo(ctx, text):\n    return text")
    started.ok("x = 1")
    started.ok('run = %raftoral run echo "{x} $x {{}}"')
    assert started.ok("run.wait_for_completion(timeout=10)").value == "{x} $x {{}}"


@pytest.mark.parametrize("name", ["r-$n", "r-{n}", "$n"])
def test_an_id_that_is_to_be_put_together_says_how_to_do_that(with_order: Notebook, name: str) -> None:
    said = with_order.fails(f"for n in range(2):\n    %raftoral run order 1 --id {name}")
    assert "are not replaced" in said
    assert "run_id=f" in said


def test_no_expression_means_none(started: Notebook) -> None:
    started.ok("%%workflow\nasync def echo(ctx, x):\n    return [x]")
    assert started.ok("run = %raftoral run echo\nrun.wait_for_completion(timeout=10)").value == [None]


def test_a_run_id_given_twice_is_one_run(with_order: Notebook) -> None:
    with_order.ok("one = %raftoral run order 1 --id same")
    with_order.ok("two = %raftoral run order 1 --id same")
    with_order.ok("two.wait_for_completion(timeout=10)")
    assert with_order.ok("%raftoral runs").text.splitlines() == [
        "run   workflow  version  status     steps",
        "same  order           1  completed      1",
    ]


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("{'a': ", "is not one Python expression"),
        ("a = 1", "is not one Python expression"),
        ("1 2", "is not one Python expression"),
        ("missing", "raised NameError: name 'missing' is not defined"),
        ("1 / 0", "raised ZeroDivisionError"),
    ],
)
def test_a_bad_input_expression_is_refused_and_starts_nothing(with_order: Notebook, expression: str, says: str) -> None:
    assert says in with_order.fails(f"%raftoral run order {expression}")
    assert with_order.ok("%raftoral runs").text == "no runs yet"


def test_a_workflow_that_is_unknown_or_only_in_the_notebook_is_told_apart(with_order: Notebook) -> None:
    assert "Did you mean 'order'?" in with_order.fails("%raftoral run oder")
    with_order.ok("async def other(ctx, x): return x")
    assert "%raftoral register other" in with_order.fails("%raftoral run other")
    assert isinstance(with_order.run("%raftoral run other").error, WorkflowNotFoundError)
    assert with_order.ok("%raftoral register other").text == "other, version 1: registered; nothing captured"
    with_order.ok("%raftoral run other 3")


def test_register_says_what_cannot_be_a_workflow(started: Notebook) -> None:
    started.ok("def plain(ctx, x): pass\nvalue = 3")
    assert "a plain function" in started.fails("%raftoral register plain")
    assert "is an int" in started.fails("%raftoral register value")
    assert "no 'missing'" in started.fails("%raftoral register missing")


def test_nodes_are_killed_paused_held_and_brought_back(with_order: Notebook) -> None:
    leader = with_order.ok("cluster.wait_for_leader()").value
    assert with_order.ok("%raftoral kill leader").text == f"node {leader}, the leader, killed"
    with_order.ok("cluster.wait_for_leader()")
    assert with_order.ok(f"cluster.nodes[{leader}].alive").value is False
    assert with_order.ok(f"%raftoral restart {leader}").text == f"node {leader} restarted"
    assert with_order.ok(f"%raftoral pause {leader}").text == f"node {leader} paused"
    assert with_order.ok(f"%raftoral resume {leader}").text == f"node {leader} resumed"
    assert with_order.ok(f"%raftoral hold {leader}").text.startswith(f"node {leader} held")
    assert "held" in with_order.ok("%raftoral status").text
    assert with_order.ok(f"%raftoral release {leader}").text.startswith(f"node {leader} released")
    with_order.ok("run = %raftoral run order 2")
    assert with_order.ok("run.wait_for_completion(timeout=10)").value == 5


def test_the_engines_own_errors_come_through_with_their_type(started: Notebook) -> None:
    assert "there is no node 7" in started.fails("%raftoral kill 7")
    assert isinstance(started.run("%raftoral kill 7").error, NoSuchNodeError)
    assert "log" in started.ok("%raftoral log").text
    assert "no run 'x'" in started.fails("%raftoral log x")
    assert "there is no node 9: the nodes are 1, 2, 3" in started.fails("%raftoral log --node 9")


def test_the_log_is_by_run_and_node_in_an_order_that_does_not_vary(with_order: Notebook) -> None:
    # In one cell: this shell's output is captured cell by cell, and whoever swaps sys.stdout takes what is printed just then.
    with_order.ok(
        "run = %raftoral run order 3\n"
        "results = [node.result(run.run_id, timeout=10) for node in cluster.nodes.values()]"
    )
    expected = "\n".join(f"order-1, node {number}\n  taking 3" for number in (1, 2, 3))
    assert with_order.ok("%raftoral log order-1").text == expected
    assert with_order.ok("%raftoral log order-1 --node 2").text == "order-1, node 2\n  taking 3"
    assert "2 before them" in with_order.ok("%raftoral log --last 1").text
    with_times = with_order.ok("%raftoral log --node 1 --times").text
    assert with_times.endswith("order-1, node 1: taking 3")


def test_events_are_told_in_words(with_order: Notebook) -> None:
    with_order.ok("run = %raftoral run order 3")
    with_order.ok("run.wait_for_completion(timeout=10)")
    assert with_order.ok("%raftoral events --last 1").text.endswith("run order-1 completed")
    every = with_order.ok("%raftoral events --last 1000").text
    assert "workflow order, version 1, was registered" in every
    assert "run order-1: step 0/double was recorded by node" in every


def test_history_can_be_read_after_the_cluster_stopped(with_order: Notebook) -> None:
    with_order.ok("%raftoral stop")
    assert "node 1 stopped" in with_order.ok("%raftoral events").text
    assert with_order.ok("%raftoral status").text.startswith("cluster cluster-")
    assert "stopped" in with_order.ok("%raftoral status").text


def test_a_semicolon_hides_what_would_be_shown(started: Notebook) -> None:
    assert started.ok("%raftoral status;").bundles == []


def test_the_magic_alone_shows_its_usage_and_the_question_mark_all_help(notebook: Notebook) -> None:
    assert "run NAME [INPUT-EXPRESSION]" in notebook.ok("%raftoral").text
    info: Any = notebook.shell.object_inspect("%raftoral")
    assert "%raftoral kill leader" in info["docstring"]
    assert "%%workflow" in notebook.shell.object_inspect("%%workflow")["docstring"]


def test_defaults_are_settings_of_the_shell(notebook: Notebook) -> None:
    notebook.ok("%config RaftoralMagics.nodes = 1")
    notebook.ok("%raftoral start")
    assert notebook.ok("len(cluster.nodes)").value == 1
    assert "refresh_rate" in notebook.ok("%config RaftoralMagics").stdout


# --- errors


def test_an_error_is_short_and_is_no_usage_error(started: Notebook) -> None:
    error = started.run("%raftoral strat").error
    assert isinstance(error, RaftoralError)
    assert type(error).__name__ != "UsageError"
    assert len(started.fails("%raftoral strat").splitlines()) <= 2


def test_a_failed_run_shows_the_workflows_own_traceback(started: Notebook) -> None:
    started.ok("%%workflow\nasync def bad(ctx, x):\n    raise ValueError('no such card')")
    said = started.fails("run = %raftoral run bad\nrun.wait_for_completion(timeout=10)")
    assert "ValueError: no such card" in said
    assert "raise ValueError('no such card')" in said
    assert "wait_for_completion" not in said
    assert isinstance(started.run("run.wait_for_completion(timeout=10)").error, WorkflowFailedError)


def test_an_error_outside_of_a_magic_names_the_line_that_asked(started: Notebook) -> None:
    started.shell.user_module.__name__ = "__main__"
    said = started.fails("def f():\n    cluster.restart(9)\nf()")
    assert said.splitlines()[1] == "  raised by line 2 in f: cluster.restart(9)"


# --- coming and going


def test_unload_takes_everything_out_again(shell: Any) -> None:
    notebook = Notebook(shell)
    notebook.ok("%reload_ext kernel_ext\n%unload_ext kernel_ext")  # IPython itself loads what this needs
    before = set(threading.enumerate())
    magics = {kind: set(names) for kind, names in shell.magics_manager.magics.items()}
    registry, configurables = set(shell.magics_manager.registry), list(shell.configurables)
    matchers, namespace = list(shell.Completer.custom_matchers), set(shell.user_ns)
    formats = dict(shell.display_formatter.mimebundle_formatter.type_printers)
    notebook.ok("%load_ext raftoral_nb")
    notebook.ok("%load_ext kernel_ext")
    notebook.ok("%raftoral start --nodes 3")
    cluster = notebook.ok("cluster").value
    notebook.ok("%unload_ext kernel_ext")
    notebook.ok("%unload_ext raftoral_nb")
    assert not cluster.running
    assert {kind: set(names) for kind, names in shell.magics_manager.magics.items()} == magics
    assert set(shell.magics_manager.registry) == registry
    assert shell.configurables == configurables
    assert list(shell.Completer.custom_matchers) == matchers
    assert shell.display_formatter.mimebundle_formatter.type_printers == formats
    left = {name for name in set(shell.user_ns) - namespace if not name.startswith("_")}
    assert not left
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("name", ["raftoral_nb", "kernel_ext"])
def test_reload_keeps_the_cluster_its_runs_and_what_waits_for_one(shell: Any, name: str) -> None:
    notebook = Notebook(shell)
    notebook.ok(f"import raftoral_nb\n%load_ext {name}\nrate = 1")
    notebook.ok(ORDER)
    notebook.ok(f"%reload_ext {name}")
    notebook.ok("%raftoral start --nodes 1")
    cluster = notebook.ok("cluster").value
    notebook.ok("run = %raftoral run order 20 --id kept")
    said = notebook.ok(f"%reload_ext {name}")
    assert said.bundles == []
    assert cluster.running
    assert notebook.ok("cluster is raftoral_nb.current_cluster()").value is True
    assert notebook.ok("run.wait_for_completion(timeout=10)").value == 41
    assert "kept" in notebook.ok("%raftoral runs").text
    assert "already running" in notebook.fails("%raftoral start")
    notebook.ok(f"%reload_ext {name}\n%reload_ext {name}")
    notebook.ok(f"%unload_ext {name}")
    assert not cluster.running, "the last one to go still stops it"
    assert "cluster" not in shell.user_ns


def test_what_a_reload_kept_is_there_although_it_failed(started: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = started.ok("cluster").value
    with monkeypatch.context() as patched:
        patched.setattr(extension, "make_matcher", lambda _: 1 / 0)
        assert isinstance(started.run("%reload_ext raftoral_nb").error, ZeroDivisionError)
    started.ok("%load_ext raftoral_nb")
    assert cluster.running
    assert started.ok("%raftoral stop").text == "cluster stopped"


def test_a_refused_setting_does_not_break_the_next_load(notebook: Notebook) -> None:
    notebook.run("%config RaftoralMagics.nodes = 99")
    with pytest.warns(UserWarning, match="the setting was left out"):
        notebook.ok("%reload_ext raftoral_nb")
    assert "nodes=<Int>" in notebook.ok("%config RaftoralMagics").stdout
    notebook.ok("%raftoral start --nodes 1")
