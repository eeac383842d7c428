"""`%raftoral check` and `%raftoral move`, and what a notebook shows of runs and versions."""

from __future__ import annotations

from tests.kernel_ext.conftest import Notebook

WAITING = """%%workflow
import anyio
async def parcel(ctx, x):
    await ctx.compute("pack", lambda: 1)
    await ctx.receive("go")
    await ctx.compute("wait", anyio.sleep, 3600)
"""
BETTER = """%%workflow
import anyio
async def parcel(ctx, x):
    await ctx.compute("pack", lambda: 1)
    await ctx.receive("go")
    if await ctx.patched("no waiting"):
        return "sent"
    await ctx.compute("wait", anyio.sleep, 3600)
"""
WORSE = BETTER.replace('"pack"', '"wrap"')


def until_packed(notebook: Notebook) -> None:
    notebook.ok("import anyio")
    notebook.ok(
        "stream = cluster.events()\n"
        "run = cluster.start_workflow('parcel', 1, run_id='p')\n"
        "async def wait():\n"
        "    async for event in stream:\n"
        "        if type(event).__name__ == 'CheckpointSet':\n"
        "            return\n"
        "anyio.run(wait)"
    )


def test_a_run_is_moved_and_its_result_is_that_of_the_new_code(started: Notebook) -> None:
    started.ok(WAITING)
    until_packed(started)
    assert "1 unfinished run of other versions keeps the code they started with (p)" in started.ok(BETTER).text
    assert started.ok("%raftoral move p 2").text.startswith("run p was moved to version 2")
    started.ok("run.signal('go')")
    assert started.ok("run.wait_for_completion(timeout=10)").value == "sent"
    assert started.ok("run.version").value == 2


def test_a_version_that_does_not_fit_is_refused_with_both_sides(started: Notebook) -> None:
    started.ok(WAITING)
    until_packed(started)
    started.ok(WORSE)
    said = started.fails("%raftoral move p 2")
    assert "recorded:     compute '0/pack' = 1" in said
    assert "asked for:    compute '0/wrap'" in said
    assert 'await ctx.compute("wrap"' in said
    assert started.ok("run.version").value == 1


def test_a_workflow_of_the_notebook_is_checked_without_a_cluster(notebook: Notebook) -> None:
    notebook.ok("async def order(ctx, x):\n    return await ctx.compute('double', lambda: 2 * x)")
    assert notebook.ok("%raftoral check order 4").text == (
        "order: no difference in 3 runs of 1 steps, in 2 of which the leader was killed"
    )
    notebook.ok("import time\nasync def stamp(ctx, x):\n    await ctx.var('now', time.time())")
    said = notebook.fails("%raftoral check stamp")
    assert "likely cause" in said
    assert "Instead: await ctx.now()" in said
