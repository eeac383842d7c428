"""The public names have the types that the documentation promises, and the type checker refuses misuse."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
GOOD = ROOT / "tests" / "typing" / "public_api.py"
BAD = ROOT / "tests" / "typing_must_fail" / "public_api.py"


def mypy(path: Path, cache: Path) -> str:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context", "--no-pretty"]
    done = subprocess.run(
        [*command, "--cache-dir", str(cache), str(path.relative_to(ROOT))],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def test_the_type_checker_knows_what_runs_and_variables_hold_and_refuses_misuse(tmp_path: Path) -> None:
    assert mypy(GOOD, tmp_path) == ""
    wanted = {
        number: set(match[1].split(", "))
        for number, line in enumerate(BAD.read_text(encoding="utf-8").splitlines(), 1)
        if (match := re.search(r"# error: ([\w, -]+)$", line))
    }
    assert len(wanted) >= 8
    output = mypy(BAD, tmp_path)
    found: dict[int, set[str]] = {}
    for number, code in re.findall(r"public_api\.py:(\d+): error: .*\[([\w-]+)\]$", output, re.MULTILINE):
        found.setdefault(int(number), set()).add(code)
    assert set(found) == set(wanted), output
    assert all(found[number] <= wanted[number] for number in wanted), output
