"""A process is killed (SIGKILL) at random moments, and the next one goes on from its data directory."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.cluster import killed_process
from tests.cluster.helpers import PATIENCE

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
    results: dict[str, list[str]] = found["results"]

    started = (tmp_path / "started").read_text().split() if (tmp_path / "started").exists() else []
    assert started, "no run was ever started: the moments were too early"
    assert set(started) <= set(results), "an acknowledged run is gone"
    done: dict[tuple[str, int], list[str]] = {}
    for line in (tmp_path / "effects").read_text().splitlines():
        run, number, nonce, before = line.split()
        done.setdefault((run, int(number)), []).append(nonce)
        if int(number):
            # The effect before was recorded, and acknowledged: that must be what the run has, for ever.
            assert results[run][int(number) - 1] == before, f"step {int(number) - 1} of {run} was lost or changed"
    for run, result in results.items():
        assert [nonce in done[run, number] for number, nonce in enumerate(result)] == [True] * killed_process.STEPS
        # A kill leaves at most the step that was being done to be done again, in each run that went on.
        again = Counter({number: len(done[run, number]) - 1 for number in range(killed_process.STEPS)})
        assert again.total() <= moments, f"steps of {run} were done again: {+again}"
