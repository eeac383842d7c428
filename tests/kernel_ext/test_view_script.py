"""The pure part of the view's JavaScript, under Node. What needs a page is in tests/browser/test_view_page.py."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from tests.tools import require_tool

TESTS: Final = Path(__file__).resolve().parents[1] / "js"


def test_the_pure_part_passes_its_own_tests() -> None:
    node = require_tool("node", get_it="apt-get install nodejs, or https://nodejs.org")
    files = sorted(map(str, TESTS.glob("*.test.mjs")))
    assert files
    done = subprocess.run([node, "--test", *files], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
