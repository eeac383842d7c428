"""The notebooks one after the other in one kernel, each twice in a row: none leaves anything behind that another one meets."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import KernelManager

ROOT = Path(__file__).resolve().parents[2]
COURSE = sorted((ROOT / "notebooks").glob("*.ipynb"))
NOTEBOOKS = [*COURSE, *sorted((ROOT / "notebooks" / "reference").glob("*.ipynb"))]
CELL_SECONDS = 120.0

WHAT_IS_LEFT = """\
import threading
import raftoral_nb
for thread in threading.enumerate():
    if thread.name == "raftoral-view":
        thread.join(30)  # it draws the last picture, and ends
print([thread.name for thread in threading.enumerate() if thread.name.startswith(("cluster-", "raftoral"))],
      raftoral_nb.current_cluster())
"""

pytestmark = [
    pytest.mark.notebooks,
    # jupyter_client's own.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning", "ignore::UserWarning"),
]


class Kernel:
    """A kernel in which the cells of notebooks are run."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def run(self, cell: str) -> str:
        """Runs a cell; returns what it printed. Raises AssertionError, with the traceback, if it raised."""
        printed: list[str] = []

        def hook(message: dict[str, Any]) -> None:
            if message["msg_type"] == "stream":
                printed.append(message["content"]["text"])

        reply = self._client.execute_interactive(cell, timeout=CELL_SECONDS, allow_stdin=False, output_hook=hook)
        content = reply["content"]
        assert content["status"] == "ok", "\n".join([cell, *content.get("traceback", [])])
        return "".join(printed)

    def run_all(self, path: Path) -> None:
        """Runs a notebook from its first cell to its last."""
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                self.run(cell.source)


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(tmp_path))
    client: Any = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        yield Kernel(client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def test_notebooks_run_twice_in_a_row_and_in_any_order_without_meeting_each_other(
    kernel: Kernel, pytestconfig: pytest.Config
) -> None:
    seed = pytestconfig.getoption("--notebooks-seed")
    if seed is None:
        seed = random.SystemRandom().randrange(10**6)
    count = min(pytestconfig.getoption("--notebooks"), len(NOTEBOOKS))
    drawn = random.Random(seed).sample(NOTEBOOKS, count)
    print(f"--notebooks {count} --notebooks-seed {seed}: {', '.join(path.stem for path in drawn)}")
    for path in drawn:
        for time in ("first", "second"):
            print(f"{path.stem}, the {time} time")
            kernel.run_all(path)
            assert kernel.run(WHAT_IS_LEFT) == "[] None\n", f"left behind by {path.stem}"


@pytest.mark.parametrize("path", [path for path in COURSE if path.stem[:2] != "00"], ids=lambda path: path.stem)
def test_a_notebook_of_the_course_has_what_every_one_of_them_has(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "you will" in text
    checks = [cell for cell in code if re.search(r"^check\(", cell.source, re.MULTILINE)]
    assert len(checks) >= text.count("**Predict:**") >= 3
    assert "## Exercise" in text
    assert any(cell.metadata.get("jupyter", {}).get("source_hidden") for cell in code), "a folded solution"
    assert "## Further reading" in text
    assert "time.sleep" not in "\n".join(cell.source for cell in code), "events are waited for"
    assert path.name in (ROOT / "notebooks" / "00_index.ipynb").read_text(encoding="utf-8")


def test_links_between_notebooks_lead_somewhere() -> None:
    names = {path.relative_to(ROOT / "notebooks").as_posix() for path in NOTEBOOKS}
    for path in COURSE:
        text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
        linked = {part.partition(")")[0] for part in text.split("](")[1:]}
        assert {link for link in linked if link.endswith(".ipynb")} <= names, path.name
