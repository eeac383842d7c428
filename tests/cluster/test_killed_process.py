"""A process is killed (SIGKILL) at random moments, and the next one goes on from its data directory."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import killed_process
from tests.cluster.helpers import PATIENCE
from tests.cluster.lives import check_lives

SCRIPT = Path(killed_process.__file__)


def live(folder: Path, level: str, life: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder), level, life],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=SCRIPT.parents[2],
    )


def kill_at(process: subprocess.Popen[str], seconds: float) -> None:
    """Kill it after so long: a random moment is what is tested."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == -9, errors


@pytest.mark.parametrize("level", ["process", "disk"])
def test_no_recorded_step_is_done_again_and_nothing_acknowledged_is_lost_when_a_process_is_killed(
    tmp_path: Path, request: pytest.FixtureRequest, level: str
) -> None:
    moments = request.config.getoption("--kill-moments")
    dice = random.Random(moments)
    for moment in range(moments):
        process = live(tmp_path, level, "again" if moment else "first")
        assert process.stdout is not None
        if dice.random() < 0.8:
            line = process.stdout.readline()
            assert line == "ready\n", process.communicate()
            kill_at(process, dice.uniform(0.0, 0.6))
        else:
            kill_at(process, dice.uniform(0.3, 1.2))
    last = live(tmp_path, level, "last")
    output, errors = last.communicate(timeout=4 * PATIENCE)
    assert last.returncode == 0, errors
    found = json.loads(output.splitlines()[-1])
    check_lives(tmp_path, found["results"], kills=moments)
