"""The notebook in which a run waits for a person: the click arrives while its cell awaits the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import nbformat
import pytest
from playwright.sync_api import expect

from tests.browser.lab import Lab

pytestmark = pytest.mark.browser

NAME: Final = "08_approval.ipynb"


def test_a_click_is_the_answer_that_a_run_waits_for_while_its_cell_awaits_it(
    lab: Lab, notebook_copy: Callable[[str], str]
) -> None:
    path = lab.server.notebooks / notebook_copy(NAME)
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("PATIENCE = 3 ", "PATIENCE = 3000 ")
    nbformat.write(notebook, path)
    lab.open(NAME)
    for text in ("%raftoral start", "async def purchase", "PATIENCE = 3000"):
        lab.run_cell(lab.find_cell(text))
    asking = lab.find_cell("display(signal_buttons(")
    lab.start_cell(asking)
    approve = lab.output_area(asking).get_by_role("button", name="Approve")
    expect(approve).to_be_enabled()
    assert lab.is_running(asking)
    approve.click()
    lab.wait_for_cell(asking)
    assert "a telescope: approve" in lab.output_text(asking)
    expect(approve).to_be_disabled()
    lab.run_cell(lab.find_cell("%raftoral stop"))
    lab.shutdown_kernel()
