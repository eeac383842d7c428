"""`%raftoral cache`, as a reader uses it."""

from __future__ import annotations

from tests.kernel_ext.conftest import Notebook

CELL = """%%workflow
async def model(ctx, data):
    def fit(data):
        return data * 2
    return await ctx.compute("fit", step(fit, cache="inputs"), data)
"""


def test_what_is_cached_is_listed_shown_in_the_history_of_runs_and_cleared(started: Notebook) -> None:
    assert "no step is cached" in started.ok("%raftoral cache").text
    started.ok("from raftoral_nb import step")
    started.ok(CELL)
    for name in ("first", "second"):
        started.ok(f"run = %raftoral run model 21 --id {name}")
        assert started.ok("run.wait_for_completion(timeout=10)").value == 42
    header, row = started.ok("%raftoral cache").text.splitlines()[-2:]
    assert header.split() == ["function", "inputs", "size", "age", "hits", "computed", "by"]
    assert row.split()[:4] == ["fit", "21", "1", "kB"]
    assert "run first, step 0/fit" in row
    assert ", cached from run first, step 0/fit" in started.ok("%raftoral history second").text
    assert "cached from" not in started.ok("%raftoral history first").text
    assert started.ok("%raftoral cache --clear other").text == "nothing is cached of other; cached are steps of fit"
    assert "run first, step 0/fit" in started.ok("%raftoral cache").text
    assert started.ok("%raftoral cache --clear fit").text == "the cache of steps of fit was cleared"
    assert started.ok("%raftoral cache --clear fit").text == "nothing is cached of fit; no step is cached"
    assert started.ok("%raftoral cache --clear").text == "the cache of steps was cleared"
    assert "no step is cached" in started.ok("%raftoral cache").text


def test_a_line_that_makes_no_sense_says_how_it_is_written(started: Notebook) -> None:
    assert "%raftoral cache [--clear [NAME]]" in started.fails("%raftoral cache fit")
