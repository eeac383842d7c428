"""The extension in a Jupyter kernel of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

STORY = [
    "%load_ext raftoral_nb\n%raftoral start --nodes 3",
    "%%workflow\nasync def double(ctx, x):\n    return await ctx.compute('double', lambda: 2 * x)",
    "run = %raftoral run double 21\nawait run",
    "%raftoral kill leader\nawait run",
    "%raftoral stop",
]


def notebook_of(*cells: str) -> Any:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return notebook


@pytest.fixture
def run_it(tmp_path: Path) -> Any:
    def run(*cells: str) -> list[list[Any]]:
        """The outputs of each cell, as `jupyter execute` would leave them."""
        notebook = notebook_of(*cells)
        NotebookClient(
            notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
        ).execute()
        return [cell.outputs for cell in notebook.cells]

    return run


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning", "ignore::UserWarning")
def test_a_run_is_awaited_and_the_live_view_goes_out_with_its_static_forms(run_it: Any) -> None:
    outputs = run_it(*STORY)
    assert set(outputs[0][-1]["data"]) == {"text/plain", "text/html", "application/vnd.jupyter.widget-view+json"}
    assert outputs[2][-1]["data"]["text/plain"] == outputs[3][-1]["data"]["text/plain"] == "42"
    assert "the leader, killed" in outputs[3][0]["data"]["text/plain"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning", "ignore::UserWarning")
@pytest.mark.parametrize("cell", ["%raftoral strat", "%%workflow\n1 / 0", "%raftoral run nothing"])
def test_a_cell_whose_magic_fails_fails_the_execution(run_it: Any, cell: str) -> None:
    with pytest.raises(CellExecutionError):
        run_it("%load_ext raftoral_nb\n%raftoral start --nodes 1", cell)


def test_nbval_passes_the_story_and_fails_an_error(tmp_path: Path, run_it: Any) -> None:
    lax = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval-lax",
        "--nbval-current-env",
        "-q",
        "-p",
        "no:cacheprovider",
        "-W",
        "default",
    ]
    for name, cells, expected in (("story", STORY, 0), ("error", [STORY[0], "%raftoral strat"], 1)):
        nbformat.write(notebook_of(*cells), tmp_path / f"{name}.ipynb")
        done = subprocess.run(
            [*lax, f"{name}.ipynb"], cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == expected, done.stdout + done.stderr
