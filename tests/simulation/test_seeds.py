"""What the simulation is for: the engine keeps its promises under every seed, and its seeds are worth something."""

from __future__ import annotations

import os
from typing import get_args

import pytest

from raftoral_nb.core.records import Operation
from raftoral_nb.simulation import many, report
from raftoral_nb.simulation.faults import SCHEDULES
from raftoral_nb.simulation.final_checks import (
    ASKED_AGAIN,
    CARRIED,
    COMPARED,
    FAILED,
    HUNG,
    INSTALLED,
    REASSIGNED,
    RECEIVED,
    RECORDED,
)


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


def test_some_runs_are_given_to_other_owners(tally: report.Tally) -> None:
    assert tally.did[REASSIGNED] >= tally.seeds / 10


def test_steps_fail_and_hang_clients_ask_again_and_snapshots_are_installed(tally: report.Tally) -> None:
    assert tally.did[FAILED] >= tally.seeds
    assert tally.did[HUNG] >= tally.seeds
    assert tally.did[ASKED_AGAIN] >= tally.seeds
    assert tally.did[INSTALLED]


def test_executions_are_compared_turn_for_turn_and_messages_are_received_and_carried_on(tally: report.Tally) -> None:
    assert tally.did[COMPARED] >= 500 * tally.seeds
    assert tally.did[RECEIVED] >= 5 * tally.seeds
    assert tally.did[CARRIED] >= tally.seeds


def test_every_kind_of_step_that_there_is_was_recorded(tally: report.Tally) -> None:
    recorded = {name.removeprefix(RECORDED) for name in tally.did if name.startswith(RECORDED)}
    assert recorded == set(get_args(Operation))
