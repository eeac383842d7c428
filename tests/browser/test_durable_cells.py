"""`%%durable` in JupyterLab: a kernel is restarted in the middle, and all cells are run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.browser.lab import DARK, LIGHT, Lab, LabServer

pytestmark = pytest.mark.browser

CELLS = [
    "# A title",
    "%load_ext raftoral_nb",
    """%%durable table
%matplotlib inline
import numpy as np
import matplotlib.pyplot as plt
table = np.arange(1_000_000.0).reshape(1000, 1000)
print('made a table')
plt.figure(figsize=(3, 1))
plt.plot(table[0])
plt.show()""",
    "%%durable reading\nlog = open('log.txt', 'w')\nlines = [1, 2]",
    "%%durable total\nlines.append(3)\ntotal = table.sum()\ntotal",
    "%raftoral cells",
    "%%durable long\nimport threading\nthreading.Event().wait()",
]


@pytest.fixture(scope="module")
def opened(notebook: Callable[[str, list[str]], Lab]) -> Lab:
    return notebook("my study.ipynb", CELLS)


def test_after_a_restart_in_the_middle_of_a_cell_what_was_recorded_is_there_again_with_its_pictures(
    opened: Lab, lab: Lab, lab_server: LabServer, tmp_path: Path
) -> None:
    lab.clear()
    for cell in range(1, 6):
        lab.run_cell(cell)
    table = lab.output_text(2)
    assert "made a table" in table
    assert "ran " in table
    assert "recorded 3 variables, 8.0 MB" in table
    assert "line 2: `log` is an open file, and will not be recorded" in lab.output_text(3)
    assert "changed lines" in lab.output_text(4)
    lab.start_cell(6)
    lab.page.locator(".jp-Notebook .jp-InputPrompt").get_by_text("[*]:").wait_for()
    lab.restart_kernel()
    for cell in range(1, 6):
        lab.run_cell(cell)
    assert "restored 3 variables, 8.0 MB, from " in lab.output_text(2)
    assert "made a table" in lab.output_text(2)
    assert lab.output_area(2).locator("img").count() == 1
    assert "499999500000.0" in lab.output_text(4)
    for theme in (LIGHT, DARK):
        lab.set_theme(theme)
        lab.screenshot(tmp_path / f"{theme.split()[-1]}.png")
    assert lab.errors == []
    folder = lab_server.notebooks / ".raftoral" / "my_study"
    assert json.loads((folder / "cluster.json").read_text("utf-8"))["nodes"] == [1]
