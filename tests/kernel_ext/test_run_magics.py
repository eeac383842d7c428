"""What the magics ask of runs."""

from __future__ import annotations

import pytest

from tests.kernel_ext.conftest import Notebook

WAITING = """\
%%workflow
async def waiting(ctx, item):
    answers = []
    ctx.on_query("answers", lambda: answers)
    ctx.on_query("times", lambda factor: item * factor)
    answers.append(await ctx.receive("approve"))
    update = await ctx.receive_update("double")
    await update.answer(update.value * 2)
    return answers
"""


@pytest.fixture
def run(started: Notebook) -> Notebook:
    started.ok(WAITING)
    started.ok("run = %raftoral run waiting 3 --id w")
    return started


def test_a_run_is_sent_signals_and_updates_and_asked_queries(run: Notebook) -> None:
    run.ok("yes = [1]")
    assert run.ok("%raftoral query w times 5").value == 15
    assert run.ok("%raftoral signal w approve yes + [2]").text == "run w was sent the signal approve"
    assert run.ok("%raftoral update w double 21").value == 42
    assert run.ok("run.wait_for_completion(timeout=10)").value == [[1, 2]]
    assert run.ok("%raftoral query w answers").value == [[1, 2]]


def test_a_run_is_paused_resumed_cancelled_and_listed_by_what_became_of_it(run: Notebook) -> None:
    assert "no runs" in run.ok("%raftoral runs --status cancelled").text
    assert run.ok("%raftoral pause w").text == "run w is paused: no new step of it begins"
    assert "paused" in run.ok("%raftoral runs").text
    assert run.ok("%raftoral resume w").text == "run w continues"
    assert run.ok("%raftoral cancel w not wanted").text == "run w is asked to end"
    assert "was cancelled: not wanted" in run.fails("run.wait_for_completion(timeout=10)")
    assert "cancelled" in run.ok("%raftoral runs --status cancelled --workflow waiting --since 1h").text
    assert "has ended (cancelled)" in run.fails("%raftoral terminate w")
    said = run.ok("%raftoral history w").text.splitlines()
    assert said[0] == "run w of waiting, version 1, started"
    assert said[-1] == "run w was cancelled: not wanted"
    assert "run w was paused" in said


def test_a_run_is_terminated(run: Notebook) -> None:
    assert run.ok("%raftoral terminate w enough").text == "run w is terminated"
    assert "was terminated: enough" in run.fails("run.wait_for_completion(timeout=10)")


def test_a_run_that_is_not_there_is_an_error_that_says_so(run: Notebook) -> None:
    for line in ("signal x approve", "cancel x", "pause x", "history x", "query x answers"):
        assert "no run 'x' is known" in run.fails(f"%raftoral {line}")


def test_a_finished_run_is_deleted_and_one_that_is_not_is_not(run: Notebook) -> None:
    assert "run 'w' has not ended (running): cancel or terminate it first" in run.fails("%raftoral delete w")
    run.ok("%raftoral terminate w")
    assert run.ok("%raftoral delete w").text == "run w is deleted; its id is free"
    assert run.ok("%raftoral runs").text == "no runs yet"
    assert "run 'w' was deleted" in run.fails("%raftoral delete w")
    run.ok("run = %raftoral run waiting 4 --id w")
    assert run.ok("%raftoral query w times 5").value == 20


def test_what_was_evicted_is_told_below_the_runs(notebook: Notebook) -> None:
    assert "keep_bytes is how many bytes" in notebook.fails("%raftoral start --nodes 1 --keep-bytes 0kB")
    notebook.ok("%raftoral start --nodes 1 --keep-runs 2 --keep-bytes 500MB")
    notebook.ok("%%workflow\nasync def same(ctx, item):\n    return item")
    notebook.ok("runs = cluster.start_many(same, range(5))")
    assert notebook.ok("[run.wait_for_completion(timeout=10) for run in runs]").value == [0, 1, 2, 3, 4]
    said = notebook.ok("%raftoral runs").text
    assert said.splitlines()[-1] == "3 older runs were evicted: keep_runs=2, keep_bytes='500 MB'"
    assert "run 'same-1' has finished" in notebook.fails("%raftoral history same-1")
    assert "run same-3 was evicted: its records were dropped, by keep_runs" in notebook.ok("%raftoral events").text


def test_a_run_that_waits_with_a_large_value_is_held_and_told_what_to_do(notebook: Notebook) -> None:
    notebook.ok("%raftoral start --nodes 1 --max-value-bytes 1MB")
    notebook.ok(
        "%%workflow\nimport numpy\nasync def large(ctx, item):\n    return len(await ctx.compute('make', numpy.arange, item))"
    )
    notebook.ok("run = cluster.start_workflow(large, 200_000, run_id='l')")
    assert "it is held: a value takes 1,600," in notebook.fails("run.wait_for_completion(timeout=2)")
    said = notebook.ok("%raftoral runs").text
    assert "held" in said.splitlines()[-2]
    assert said.splitlines()[-1].startswith("run l is held: a value takes 1,600,")
    assert 'cluster.set_max_value_bytes("2 MB")' in said
    assert "run l is held: a value takes 1,600," in notebook.ok("%raftoral status").text
    assert "run l is held: a value takes 1,600," in notebook.ok("%raftoral events").text
    notebook.ok("cluster.set_max_value_bytes('2 MB')")
    assert notebook.ok("run.wait_for_completion(timeout=10)").value == 200_000
    assert "held" not in notebook.ok("%raftoral runs").text


def test_a_run_with_a_step_for_whose_label_there_is_no_node_says_so_in_the_list_and_when_time_is_over(
    started: Notebook,
) -> None:
    started.ok(
        "%%workflow\nfrom raftoral_nb import step\nasync def fits(ctx, item):\n    return await ctx.compute('fit', step(abs, where='gpu'), item)"
    )
    started.ok("run = cluster.start_workflow(fits, -1, run_id='f')")
    assert "a step waits for a node with the label 'gpu'" in started.fails("run.wait_for_completion(timeout=2)")
    said = started.ok("%raftoral runs").text.splitlines()[-1]
    assert said.startswith("run f: a step waits for a node with the label 'gpu', which none has: start one with it")
    started.ok("%raftoral terminate f")
    assert "label" not in started.ok("%raftoral runs").text
