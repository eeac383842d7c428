"""The extension in a Jupyter kernel of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tests.kernel_ext.kernels import Kernel, new_kernel  # noqa: F401 - a fixture

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


def test_nbval_passes_the_story_and_fails_an_error(tmp_path: Path) -> None:
    for name, cells in (("story", STORY), ("error", [STORY[0], "%raftoral strat"])):
        nbformat.write(notebook_of(*cells), tmp_path / f"{name}.ipynb")
    lax = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "-rA", "-W", "default"]
    done = subprocess.run(
        [*lax, "-p", "no:cacheprovider", "story.ipynb", "error.ipynb"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    ended = re.findall(r"^(PASSED|FAILED) (\w+)\.ipynb::Cell (\d+)", done.stdout, re.MULTILINE)
    passed = [("PASSED", "story", str(number)) for number in range(len(STORY))]
    assert sorted(ended) == sorted([*passed, ("PASSED", "error", "0"), ("FAILED", "error", "1")]), done.stdout


# --- interrupts, and what is left

COUNT = """
import asyncio, os, stat, threading
sockets = 0
for fd in os.listdir("/dev/fd"):
    try:
        sockets += stat.S_ISSOCK(os.fstat(int(fd)).st_mode)
    except OSError:
        pass  # the one that listed the folder
print(sorted(thread.name for thread in threading.enumerate()), sockets, len(asyncio.all_tasks()))
"""
STUCK = "import threading\ngo_on = threading.Event()\ndef wait():\n    import __main__\n    __main__.go_on.wait(60)"
WAITING = "%%workflow\nasync def waiting(ctx, _):\n    await ctx.compute('wait', wait)"


@pytest.fixture
def kernel(new_kernel: Callable[[], Kernel]) -> Kernel:  # noqa: F811
    return new_kernel()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning", "ignore::UserWarning")
def test_a_cell_that_waits_is_interrupted_and_after_unloading_nothing_is_left(kernel: Kernel) -> None:
    # For its first message of more than 64 kB, as the view's script is one, pyzmq starts a thread that it keeps.
    assert kernel.run(f"%load_ext raftoral_nb\n{STUCK}\nprint('x' * 100_000)")[1] == ""
    before = kernel.run(COUNT)
    for cell in ("%raftoral start;", WAITING, "run = %raftoral run waiting"):
        assert kernel.run(cell)[1] == ""
    for wait in ("await run", "run.wait_for_completion(timeout=60)"):
        raised = kernel.run(f"print('now')\n{wait}", on_output=kernel.manager.interrupt_kernel)[1]
        assert raised in {"WaitInterruptedError", "AwaitCancelledError"}
        assert kernel.reply["evalue"] == "waiting for run 'waiting-1' was interrupted; the run continues"
        assert len(kernel.reply["traceback"]) == 1
        assert kernel.reply["traceback"][0].endswith(kernel.reply["evalue"])
        assert kernel.run("print(run.status, go_on.is_set())")[0] == "running False\n"
    assert kernel.run("go_on.set()\nawait run")[1] == ""
    assert kernel.run("%unload_ext raftoral_nb")[1] == ""
    assert kernel.run(COUNT) == before


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning", "ignore::UserWarning")
def test_a_kernel_ends_by_itself_although_a_cluster_runs_and_a_step_is_stuck(kernel: Kernel) -> None:
    for cell in (f"%load_ext raftoral_nb\n{STUCK}", "%raftoral start;", WAITING, "run = %raftoral run waiting"):
        assert kernel.run(cell)[1] == ""
    assert kernel.leave() == 0


COUNTED = """
def link(number):
    with open("effects", "a") as file:
        file.write(f"{number}\\n")
    print("step", number, flush=True)
    return number"""
CHAIN = (
    "%%workflow\nasync def chain(ctx, steps):\n    return [await ctx.compute('link', link, n) for n in range(steps)]"
)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning", "ignore::UserWarning")
def test_a_killed_kernel_is_gone_on_from_without_its_cells(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    new_kernel: Callable[[], Kernel],  # noqa: F811
) -> None:
    monkeypatch.chdir(tmp_path)
    first = new_kernel()
    load = "%load_ext raftoral_nb\n%raftoral start --data-dir lab"
    assert first.run(f"{load} --nodes 3\n{COUNTED}")[1] == ""
    assert first.run(CHAIN)[1] == ""
    assert first.run("run = %raftoral run chain 400")[1] == ""
    recorded = "while cluster.run('chain-1').steps[40:] == (): pass"
    assert first.run(f"import itertools\n{recorded}")[1] == ""
    first.kill()

    second = new_kernel()
    assert second.run(load)[1] == ""
    printed, error = second.run(
        "print(cluster.recovered.runs, cluster.recovered.steps > 40, cluster.run('chain-1').wait_for_completion(60) == [*range(400)])"
    )
    assert (printed, error) == ("1 True True\n", "")
    effects = (tmp_path / "effects").read_text().split()
    assert list(dict.fromkeys(effects)) == [str(number) for number in range(400)]
    assert len(effects) <= 401  # the step that was being done when the kernel was killed
