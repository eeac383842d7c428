"""The magics of clusters whose nodes are processes, in a real shell."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import raftoral_nb
from tests.kernel_ext.conftest import Complete, Notebook

FLOW = """%%workflow
async def pids(ctx, item):
    import os
    print("taking", item)
    return await ctx.compute("pid", os.getpid)
"""


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    for name in raftoral_nb.attachable():
        with contextlib.suppress(raftoral_nb.RaftoralError):
            raftoral_nb.attach(name).stop()


def test_a_cluster_of_processes_outlives_its_notebook_and_is_driven_from_another(
    notebook: Notebook, complete: Complete, tmp_path: Path
) -> None:
    notebook.ok(FLOW)
    said = notebook.ok(f"%raftoral start --nodes 2 --processes --data-dir {tmp_path / 'kept'} --detach")
    assert said.text.splitlines()[-1].startswith(
        "cluster kept outlives this notebook. In another one: %raftoral attach"
    )
    notebook.ok("run = %raftoral run pids 1 --id first")
    assert notebook.ok("import os\nawait run != os.getpid()").value is True
    assert "taking 1" in notebook.ok("%raftoral log first").text
    assert "To leave it first: %raftoral leave" in notebook.fails("%raftoral attach kept")
    assert "keeps running without this notebook" in notebook.ok("%raftoral leave").text
    assert notebook.ok("cluster.running").value is False

    assert complete("%raftoral attach ") == ["%raftoral attach kept"]
    assert "attached to cluster kept" in notebook.ok("%raftoral attach kept").text
    assert "first" in notebook.ok("%raftoral runs").text
    assert "leader" in notebook.ok("%raftoral status").text
    notebook.ok("%unload_ext raftoral_nb")
    assert raftoral_nb.attachable() == ("kept",), "what is only closed leaves it as it is"

    notebook.ok("%load_ext raftoral_nb")
    notebook.ok("%raftoral attach kept")
    assert notebook.ok("%raftoral stop").text == "cluster stopped"
    assert raftoral_nb.attachable() == ()
    assert "no cluster named 'kept' is running" in notebook.fails("%raftoral attach kept")
    assert "ends with this process" in notebook.fails("%raftoral start --nodes 1\n%raftoral leave")
