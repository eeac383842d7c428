"""README's cells, and the script that `docs/workflows.md` shows, do what these say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel_ext.conftest import Notebook

ROOT = Path(__file__).resolve().parents[2]


def blocks(page: str) -> dict[str, list[str]]:
    """The Python of a page, by the heading of level two that it stands below."""
    text = (ROOT / page).read_text(encoding="utf-8")
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return {
        heading: re.findall(r"^```python\n(.*?)^```$", below, re.MULTILINE | re.DOTALL)
        for heading, below in zip(parts[1::2], parts[2::2], strict=True)
    }


def test_the_cells_of_readme_run_from_the_first_to_the_last(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    notebook.ok(f"%config RaftoralMagics.cells_dir = {str(tmp_path)!r}")
    shown = blocks("README.md")
    start, workflow, run = shown.pop("A first workflow")
    notebook.ok(start)
    notebook.ok(workflow)
    assert notebook.ok(run).value == "A1 for 25"
    assert "charging 25 for A1" in notebook.ok("%raftoral log").text

    (broken,) = shown.pop("Break it")
    ran = notebook.ok(broken)
    assert ran.value == "A1 for 25"
    charged = notebook.ok("run.steps[-1].node").value
    assert "the leader, killed" in ran.text
    assert f"node {charged}," not in ran.text
    assert "order-2, node" in notebook.ok("%raftoral log").text
    notebook.ok("%raftoral restart dead")

    isolated, tested, lasting, sweep = shown.pop("Who is it for?")
    assert "isolated" in notebook.ok(isolated).text
    notebook.ok(tested)
    assert notebook.ok(lasting).text.startswith("ran ")
    assert notebook.ok("squares[-1]").value == 99_999**2
    notebook.ok(sweep)
    assert notebook.ok("run = %raftoral run sweep [0.0, 0.5]\nawait run").value == [0.25, 0.0]
    assert not any(shown.values())


def test_the_script_without_a_notebook_prints_its_result(tmp_path: Path) -> None:
    (code,) = blocks("docs/workflows.md")["Without a notebook"]
    script = tmp_path / "first.py"
    script.write_text(code, encoding="utf-8")
    done = subprocess.run([sys.executable, script], check=True, capture_output=True, text=True, timeout=120)
    assert done.stdout == "HELLO WORLD\n"
