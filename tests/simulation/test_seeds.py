"""What the simulation is for: the engine keeps its promises under every seed, and its seeds are worth something."""

from __future__ import annotations

import os

import pytest

from raftoral_nb.simulation import many, report
from raftoral_nb.simulation.faults import SCHEDULES


@pytest.fixture(scope="module")
def tally(request: pytest.FixtureRequest) -> report.Tally:
    found = report.Tally()
    seeds = range(request.config.getoption("--simulation-seeds"))
    for result in many.results(seeds, many.Choice(), jobs=os.cpu_count() or 1):
        found.add(result)
    print(f"\n{found}")
    return found


def test_nothing_is_violated_under_any_seed(tally: report.Tally) -> None:
    assert not tally.failed, "\n".join(map(report.violations, tally.failed))


def test_on_average_a_seed_has_sixty_seconds_twenty_faults_and_two_hundred_acknowledged_commands(
    tally: report.Tally,
) -> None:
    assert tally.seconds / tally.seeds >= 60
    assert sum(tally.faults.values()) / tally.seeds >= 20
    assert tally.acknowledged / tally.seeds >= 200


def test_the_seeds_of_a_run_cover_every_schedule_every_size_and_every_kind_of_fault(tally: report.Tally) -> None:
    assert {schedule for schedule, _ in tally.by_schedule} == set(SCHEDULES)
    assert {nodes for _, nodes in tally.by_schedule} == {2, 3, 4, 5}
    assert all(tally.faults.values())
    assert tally.with_losses >= tally.seeds / 5
    assert tally.lost_records
    assert tally.torn_records
