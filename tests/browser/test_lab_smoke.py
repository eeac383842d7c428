"""The browser tests' own tools, on a notebook of two cells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.browser.lab import DARK, LIGHT, CellFailedError, Lab

pytestmark = pytest.mark.browser


CELLS = [
    "# A title",
    "print('six times seven is', 6 * 7)\n'a result'",
    "input_is_missing + 1",
    "import threading\nthreading.Event().wait()",
]


@pytest.fixture(scope="module")
def opened(notebook: Callable[[str, list[str]], Lab]) -> Lab:
    return notebook("tiny.ipynb", CELLS)


@pytest.fixture
def tiny(opened: Lab, lab: Lab) -> Lab:
    lab.clear()
    return lab


def test_a_notebook_is_opened_run_and_read_in_jupyterlab(tiny: Lab, tmp_path: Path) -> None:
    cell = tiny.find_cell("six times seven")
    tiny.run_cell(cell)

    assert tiny.output_text(cell) == "six times seven is 42\n'a result'"
    tiny.output_area(cell).get_by_text("six times seven is 42").wait_for()
    assert tiny.screenshot(tmp_path / "tiny.png").stat().st_size > 10_000
    assert tiny.errors == []
    assert tiny.foreign_requests == []


def test_a_cell_that_raises_fails_the_test_with_its_traceback(tiny: Lab) -> None:
    with pytest.raises(CellFailedError, match="input_is_missing"):
        tiny.run_cell(tiny.find_cell("input_is_missing"))


def test_the_page_can_be_read_while_a_cell_blocks_the_kernel_and_the_kernel_restarted(tiny: Lab) -> None:
    blocking = tiny.find_cell("threading")
    tiny.start_cell(blocking)
    tiny.page.locator(".jp-Notebook .jp-InputPrompt").get_by_text("[*]:").wait_for()
    assert tiny.is_running(blocking)

    tiny.restart_kernel()
    cell = tiny.find_cell("six times seven")
    tiny.run_cell(cell)
    assert "42" in tiny.output_text(cell)


def test_the_theme_switches_both_ways(tiny: Lab) -> None:
    tiny.set_theme(DARK)
    assert tiny.page.locator("body").get_attribute("data-jp-theme-light") == "false"
    tiny.set_theme(LIGHT)
    assert tiny.page.locator("body").get_attribute("data-jp-theme-light") == "true"
