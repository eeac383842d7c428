"""README's first workflow does what README says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.kernel_ext.conftest import Notebook

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


def blocks(section: str) -> list[str]:
    """The Python below that heading."""
    _, _, rest = README.partition(f"\n## {section}\n")
    return re.findall(r"^```python\n(.*?)^```$", rest.partition("\n## ")[0], re.MULTILINE | re.DOTALL)


def test_the_cells_of_the_first_workflow_run_and_run_again_without_the_leader(notebook: Notebook) -> None:
    start, workflow, run, _ = blocks("A first workflow")
    notebook.ok(start)
    notebook.ok(workflow)
    assert notebook.ok(run).value == "A1 for 25"
    assert "charging 25 for A1" in notebook.ok("%raftoral log").text
    notebook.ok("%raftoral kill leader")
    assert notebook.ok(run).value == "A1 for 25"


def test_the_script_of_the_first_workflow_prints_its_result(tmp_path: Path) -> None:
    script = tmp_path / "first.py"
    script.write_text(blocks("A first workflow")[-1], encoding="utf-8")
    done = subprocess.run([sys.executable, script], check=True, capture_output=True, text=True, timeout=120)
    assert done.stdout == "HELLO WORLD\n"


def test_links_inside_of_readme_lead_to_headings_and_files() -> None:
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    )
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for target in re.findall(r"\]\(([^)\s]+)\)", README):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif "://" not in target:
            # Behind the name of a file of tests is that of a test; `tests/docs` holds that there is such a test.
            assert (Path(__file__).resolve().parents[2] / target.partition("#")[0]).exists(), target
