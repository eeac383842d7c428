"""The view's JavaScript, tested by Node's own test runner. Node is needed for this alone, never to build or to use the package."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.tools import require_tool

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((Path(__file__).parent / "js").glob("*.test.mjs"))


def test_there_are_tests_of_the_javascript() -> None:
    assert FILES


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_javascript_passes_its_tests(file: Path) -> None:
    node = require_tool("node", "nodejs", get_it="apt-get install nodejs")
    done = subprocess.run([node, "--test", file], check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_types_that_the_javascript_says_it_has_are_right() -> None:
    tsc = require_tool("tsc", get_it="apt-get install node-typescript")
    done = subprocess.run(
        [tsc, "--project", "tests/js"], cwd=ROOT, check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
