"""Plain asyncio in a process that is killed (SIGKILL) again and again: the next one goes on from its data directory, with the same journal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.operations import forms_killed

ROOT = Path(forms_killed.__file__).parents[2]


def test_every_life_sees_what_the_one_before_saw_on_every_node(tmp_path: Path) -> None:
    last: list[object] = [[], [], []]
    for life in range(forms_killed.WORDS):
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.operations.forms_killed", str(tmp_path / "data"), str(life)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        if life < forms_killed.WORDS - 1:
            process.kill()
        _, errors = process.communicate(timeout=forms_killed.PATIENCE)
        assert line, errors
        before, after = json.loads(line)
        assert before == last
        assert all(one == after[0] for one in after)
        assert len(after[0]) == life + 1
        assert after[0][:life] == before[0]
        last = after
    names = [word for _, word, _ in last[0]]  # type: ignore[attr-defined]
    assert names == [str(number) for number in range(forms_killed.WORDS)]
