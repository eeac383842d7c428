"""Fixtures of the browser tests: one Chromium and one JupyterLab for all of them, a fresh page for each."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

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


@pytest.fixture
def lab(browser: Browser, lab_server: LabServer, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A page of its own. With RAFTORAL_SCREENSHOTS=FOLDER, what it showed last is kept there as TEST.png."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    opened = Lab(context.new_page(), lab_server)
    yield opened
    folder = os.environ.get("RAFTORAL_SCREENSHOTS")
    if folder:
        opened.screenshot(Path(folder) / f"{request.node.name}.png")
    context.close()
