"""The reference notebook: a section for every operation, each with an example and something that goes wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import nbformat
import pytest

from raftoral_nb import WorkflowContext

ROOT: Final = Path(__file__).resolve().parents[2]
REFERENCE: Final = ROOT / "notebooks" / "reference" / "workflow_language.ipynb"
FRAME: Final = ("Before you begin", "The end")
OPERATIONS: Final = tuple(name for name in dir(WorkflowContext) if not name.startswith("_"))
ON_RUNS: Final = (
    "run.signal",
    "run.update",
    "run.query",
    "run.variables",
    "run.progress",
    "run.cancel",
    "run.pause",
    "run.resume",
    "run.terminate",
    "run.move_to_version",
    "run.history",
    "run.to_frame",
    "run.save_history",
    "replay_history",
    "cluster.runs",
    "%raftoral check",
    "--strict",
    "at_most_once",
    "timeout",
)


def sections() -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for cell in nbformat.read(REFERENCE, as_version=4).cells:
        heading = re.match(r"## (.+)", cell.source) if cell.cell_type == "markdown" else None
        if heading is not None:
            found[heading[1]] = []
        if found:
            found[next(reversed(found))].append(cell)
    return {name: cells for name, cells in found.items() if name not in FRAME}


def test_every_operation_has_a_section() -> None:
    text = "\n".join(cell.source for cells in sections().values() for cell in cells if cell.cell_type == "markdown")
    assert [name for name in OPERATIONS if not re.search(rf"`(?:await |raise |async with )?ctx\.{name}\b", text)] == []
    assert [name for name in ON_RUNS if name not in text] == []


@pytest.mark.parametrize("name", sections())
def test_a_section_has_a_running_example_and_a_failure(name: str) -> None:
    code = [cell for cell in sections()[name] if cell.cell_type == "code"]
    wrong = [cell for cell in code if cell.source.startswith("# What goes wrong: ")]
    assert len(code) > len(wrong) >= 1
    for cell in wrong:
        shown = "".join(str(output.get("text", "")) for output in cell.outputs)
        assert shown, "what went wrong is shown"
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]


def test_the_contents_name_every_section_and_the_index_leads_here() -> None:
    contents = nbformat.read(REFERENCE, as_version=4).cells[0].source
    assert re.findall(r"\[([^\]]+)\]\(#", contents) == list(sections())
    index = (ROOT / "notebooks" / "00_index.ipynb").read_text(encoding="utf-8")
    assert "(reference/workflow_language.ipynb)" in index
