"""What a seed decides beyond the plan."""

from __future__ import annotations

import msgspec

from raftoral_nb.simulation.faults import Conditions, plan
from raftoral_nb.simulation.setting import Setting


def test_a_seed_decides_the_same_setting_each_time_and_another_seed_another() -> None:
    planned = plan(3, nodes=5)
    assert Setting.of(3, planned, without=None) == Setting.of(3, planned, without=None)
    assert Setting.of(3, planned, without=None).compaction != Setting.of(4, planned, without=None).compaction


def test_founders_clocks_run_within_the_planned_spread_and_all_at_one_rate_without_it() -> None:
    planned = msgspec.structs.replace(plan(3, nodes=5), conditions=Conditions(clock_spread=0.15))
    rates = Setting.of(3, planned, without=None).rates
    assert list(rates) == [1, 2, 3, 4, 5]
    assert all(0.85 <= rate <= 1.15 for rate in rates.values())
    assert len(set(rates.values())) == 5
    even = msgspec.structs.replace(planned, conditions=Conditions())
    assert set(Setting.of(3, even, without=None).rates.values()) == {1.0}


def test_the_pace_lengthens_elections_and_heartbeats_alike() -> None:
    planned = plan(3, nodes=3)
    usual = Setting.of(3, msgspec.structs.replace(planned, conditions=Conditions()), without=None).timing
    slow = Setting.of(
        3, msgspec.structs.replace(planned, conditions=Conditions(pace=4.0, beat=0.5)), without=None
    ).timing
    assert slow.election_min == 4 * usual.election_min
    assert slow.election_max == 4 * usual.election_max
    assert slow.heartbeat == 2 * usual.heartbeat
