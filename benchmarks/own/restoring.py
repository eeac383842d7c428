"""A durable cell that leaves arrays and a table, and a second shell that has them back."""

from __future__ import annotations

import atexit
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import Found, Task

NEEDED: Final = ("IPython", "numpy", "pandas")
FIRST: Final = "%%durable first\nbegun = True"
"""It opens the folder: whatever cell comes first starts the node."""


def cell(megabytes: int) -> str:
    """Return the cell that makes the values, and notes which process it ran in."""
    return (
        f"%%durable values\nimport os\nfrom benchmarks.keepsakes import made\nvalues = made({megabytes})\n"
        "samples, pictures, labels, table = values.values()\ndel values\nran_in = os.getpid()"
    )


@contextmanager
def shell_with(folder: Path) -> Iterator[Any]:
    """Give a shell whose durable cells are recorded in a folder."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.ipython_dir = str(folder / "ipython")
    InteractiveShell.clear_instance()
    main = sys.modules["__main__"]  # a shell puts its own in the place
    made: Any = InteractiveShell
    shell: Any = made.instance(config=config)
    try:
        shell.run_line_magic("load_ext", "raftoral_nb")
        shell.run_line_magic("config", f"RaftoralMagics.cells_dir = {str(folder / 'cells')!r}")
        yield shell
    finally:
        shell.run_line_magic("unload_ext", "raftoral_nb")
        atexit.unregister(shell.atexit_operations)
        shell.atexit_operations()
        InteractiveShell.clear_instance()
        sys.modules["__main__"] = main


def run(shell: Any, source: str) -> float:
    """Run a cell, and return how long that took, in seconds."""
    begun = time.perf_counter()
    shell.run_cell(source).raise_error()
    return time.perf_counter() - begun


def restore(task: Task) -> Found:
    """Measure it: another process runs the cell, and this one restores it."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        return Found(absent=f"not installed here: {', '.join(missing)}")
    recorder = [sys.executable, "-P", "-m", "benchmarks.own", json.dumps(vars(task)), "record"]
    said = subprocess.run(recorder, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
    recorded = json.loads(said)
    from benchmarks import keepsakes

    with shell_with(Path(task.scratch)) as shell:
        opened = run(shell, FIRST)
        there = run(shell, cell(task.numbers["megabytes"]))
        begun = time.perf_counter()
        total = keepsakes.touched(shell.user_ns)
        all_read = there + time.perf_counter() - begun
        ran_in = shell.user_ns["ran_in"]
    # The folder is let go of when the digests of large files are compared.
    checked = there + time.perf_counter() - begun
    if ran_in != recorded["ran_in"]:
        raise RuntimeError("the cell ran again")
    if total != recorded["total"]:
        raise RuntimeError("what was restored is not what was recorded")
    figures = {"there": there, "touched": all_read, "checked": checked, "opened": opened, "ran": recorded["seconds"]}
    return Found(task.numbers["megabytes"], figures=figures)


def record(task: Task) -> None:
    """Run the cell the first time, and say what it left."""
    from benchmarks import keepsakes

    with shell_with(Path(task.scratch)) as shell:
        run(shell, FIRST)
        seconds = run(shell, cell(task.numbers["megabytes"]))
        found = {"ran_in": shell.user_ns["ran_in"], "total": keepsakes.touched(shell.user_ns), "seconds": seconds}
    print(f"\n{json.dumps(found)}")
