"""A seed is worth something only if it gives the same history again."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from raftoral_nb.simulation.faults import SCHEDULES, plan
from raftoral_nb.simulation.simulation import simulate

DIGEST = "import sys; from raftoral_nb.simulation.simulation import simulate; print(simulate(int(sys.argv[1])).digest)"

LEAPING_CLOCKS = """
import itertools, time
leaps = itertools.count(1)
for name in ("time", "monotonic", "perf_counter"):
    setattr(time, name, lambda read=getattr(time, name): read() + 1000 * next(leaps))
    setattr(time, name + "_ns", lambda read=getattr(time, name + "_ns"): read() + 1000 * 10**9 * next(leaps))
"""


@pytest.mark.parametrize("seed", [1, 7])
def test_the_same_seed_gives_the_same_history_in_one_process(seed: int) -> None:
    first, second = simulate(seed), simulate(seed)
    assert first.history == second.history
    assert first == second


@pytest.mark.parametrize("seed", [2, 8])
def test_the_same_seed_gives_the_same_history_in_processes_with_other_hash_seeds(
    seed: int, request: pytest.FixtureRequest
) -> None:
    """And in other Pythons, if any are given with `--other-python`."""
    here = simulate(seed).digest
    others = request.config.getoption("--other-python")
    for python, hash_seed in ((sys.executable, "1"), (sys.executable, "4242"), *((one, "7") for one in others)):
        there = subprocess.run(
            [python, "-c", DIGEST, str(seed)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        assert there.stdout.strip() == here


WRITTEN = {
    (3, 11): "86a048a1d969fed4abcecb0d3360502f",
    (3, 13): "86a048a1d969fed4abcecb0d3360502f",
    (3, 14): "e9859e647f807f060c7312e266cf7491",
}
"""The digest of seed 11, by version of Python: workflows use asyncio, which is not the same in all of them."""


@pytest.mark.skipif(sys.version_info[:2] not in WRITTEN, reason="no digest is written for this Python")
def test_a_seed_gives_the_same_history_on_every_machine() -> None:
    """Who changes what the engine or the simulation does writes the new ones here. That of 3.14 is compared in WebAssembly."""
    digest = simulate(11).digest
    assert digest == WRITTEN[sys.version_info[:2]], digest


def test_no_clock_of_the_machine_has_a_say_in_a_history() -> None:
    leaping = subprocess.run(
        [sys.executable, "-c", LEAPING_CLOCKS + DIGEST, "2"], capture_output=True, text=True, check=True, timeout=120
    )
    assert leaping.stdout.strip() == simulate(2).digest


def test_another_seed_gives_another_history() -> None:
    assert simulate(0, schedule="mixed").digest != simulate(1, schedule="mixed").digest


def test_a_plan_is_data_and_running_its_faults_is_running_the_seed() -> None:
    # A quick seed, with faults of five kinds: it is run in WebAssembly as well, where it takes ten times as long.
    planned = plan(16)
    assert planned == plan(16)
    assert simulate(16, faults=planned.faults).digest == simulate(16).digest


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_plans_faults_one_a_line(schedule: str) -> None:
    planned = plan(3, schedule=schedule, nodes=5)
    assert planned.nodes == 5
    assert len(planned.faults) >= 15
    assert all("\n" not in str(fault) and fault.kind in str(fault) for fault in planned.faults)
