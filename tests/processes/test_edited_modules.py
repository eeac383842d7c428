"""A run goes on in another process with the module beside the notebook as it was, though its file was edited meanwhile."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes.helpers import ROOT

SCRIPT = Path(__file__).with_name("edited_later.py")
HELPERS = "import functools\nRATE = {rate}\ndef price(item):\n    return len(item) * RATE\n@functools.cache\ndef cached(item):\n    return RATE\n"


def script(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-B", SCRIPT, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize("where", ["one process", "processes"])
def test_a_run_goes_on_after_a_kill_with_the_module_that_it_started_with(tmp_path: Path, where: str) -> None:
    (tmp_path / "helpers.py").write_text(HELPERS.format(rate=2))
    begun = script(tmp_path / "data", tmp_path, "begin", where)
    assert begun.returncode == 9, begun.stderr
    assert begun.stdout == "1 [('Quote', 'class'), ('helpers.py', 'module'), ('quote', 'function')]\n"
    (tmp_path / "helpers.py").write_text(HELPERS.format(rate=3000))
    ended = script(tmp_path / "data", tmp_path, "end", where)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ["2", "[True, 6, 6, 6, 2]", "[True, 9000, 9000, 9000, 3000]"]
