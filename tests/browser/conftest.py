"""Fixtures of the browser tests: one Chromium and one page with JupyterLab for all of them, a notebook and a kernel per module."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser

from tests.browser.lab import Lab, LabServer, chromium
from tests.tools import require_tool

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    executable = require_tool("chromium", "chromium-browser", "google-chrome", get_it="apt-get install chromium")
    with chromium(executable) as started:
        yield started


@pytest.fixture(scope="session")
def lab_server(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabServer]:
    # It asks for the browser only so that no server is started where the test is skipped.
    server = LabServer(tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("jupyter"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def notebook_copy(lab_server: LabServer) -> Callable[[str], str]:
    """Copies one of the project's notebooks to where the server sees it; returns the name to open."""

    def copy(name: str) -> str:
        shutil.copyfile(NOTEBOOKS / name, lab_server.notebooks / name)
        return name

    return copy


@pytest.fixture(scope="session")
def lab_page(browser: Browser, lab_server: LabServer) -> Iterator[Lab]:
    """JupyterLab in one page for all tests: opening it takes longer than most of them. Motion is reduced."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    yield Lab(context.new_page(), lab_server)
    context.close()


@pytest.fixture(scope="module")
def notebook(lab_page: Lab) -> Iterator[Callable[[str, list[str]], Lab]]:
    """Opens a notebook of these cells under a name that no other module uses; its kernel ends with the module."""

    def opened(name: str, cells: list[str]) -> Lab:
        made = nbformat.v4.new_notebook()
        made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        made.cells = [
            nbformat.v4.new_markdown_cell(cell) if cell.startswith("# A title") else nbformat.v4.new_code_cell(cell)
            for cell in cells
        ]
        nbformat.write(made, lab_page.server.notebooks / name)
        lab_page.open(name)
        return lab_page

    yield opened
    lab_page.shutdown_kernel()


@pytest.fixture
def lab(lab_page: Lab, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The page. With RAFTORAL_SCREENSHOTS=FOLDER, what it showed last is kept there as TEST.png."""
    lab_page.errors.clear()
    lab_page.foreign_requests.clear()
    yield lab_page
    folder = os.environ.get("RAFTORAL_SCREENSHOTS")
    if folder:
        lab_page.screenshot(Path(folder) / f"{request.node.name}.png")
