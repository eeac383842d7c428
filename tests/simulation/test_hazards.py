"""The simulation can fail: without a rule of the guard it finds what that rule is for, by symptoms of its own."""

from __future__ import annotations

import pytest

from raftoral_nb.errors import InternalError
from raftoral_nb.raft.guard import Guard
from raftoral_nb.raft.journal import MemoryJournal
from raftoral_nb.simulation import hazards, mutants, report
from raftoral_nb.simulation.faults import SCHEDULES
from raftoral_nb.simulation.invariants import (
    COMMITTED_BY_FOLLOWER,
    COMMITTED_BY_LEADER,
    DELETED,
    TORN_APART,
    UNREPAIRED,
)
from raftoral_nb.simulation.simulation import simulate

MOST_SEEDS = 100

BEGIN_AT = {"answers_carry_terms": 5, "commit_only_verified": 1}
"""Where the search begins, so that it is short as long as the engine does what it did; it goes round, and misses no seed."""


def invariants(seed: int, *, without: str, schedule: str) -> set[str]:
    return {violation.invariant for violation in simulate(seed, without=without, schedule=schedule).violations}


def first_seed(symptoms: set[str], *, without: str, schedule: str) -> int | None:
    first = BEGIN_AT.get(without, 0)
    seeds = (*range(first, MOST_SEEDS), *range(first))
    return next((seed for seed in seeds if symptoms & invariants(seed, without=without, schedule=schedule)), None)


@pytest.mark.parametrize(
    ("rule", "symptom"),
    [
        ("truncate_only_on_conflict", DELETED),
        ("answers_carry_terms", COMMITTED_BY_LEADER),
        ("resets_go_back_only", UNREPAIRED),
        ("commit_only_verified", COMMITTED_BY_FOLLOWER),
        ("entries_sent_whole", TORN_APART),
    ],
)
def test_what_a_rule_of_the_guard_mends_is_found_without_it_by_a_symptom_of_its_own(rule: str, symptom: str) -> None:
    known = hazards.RULES[rule]
    assert symptom in known.symptoms
    assert first_seed({symptom}, without=rule, schedule=known.schedule) is not None


def test_every_rule_has_its_test_above_and_symptoms_that_no_other_has() -> None:
    symptoms = [symptom for rule in hazards.RULES.values() for symptom in rule.symptoms]
    assert sorted(symptoms) == sorted({DELETED, COMMITTED_BY_LEADER, UNREPAIRED, COMMITTED_BY_FOLLOWER, TORN_APART})


def test_without_the_guard_at_least_a_tenth_of_the_default_mix_fails() -> None:
    """Deletions that were made good in time do not even count."""
    tally = report.Tally()
    for seed in range(len(SCHEDULES)):
        tally.add(simulate(seed, without=hazards.ALL))
    assert tally.noticed >= tally.seeds / 10


@pytest.mark.parametrize(
    ("symptom", "schedule"), [(DELETED, "delays"), (UNREPAIRED, "stale answers"), (TORN_APART, "sizes")]
)
def test_without_the_guard_hazards_are_told_apart(symptom: str, schedule: str) -> None:
    """A follower that deletes behind every message holds nothing unverified: that one shows only by itself, above."""
    assert first_seed({symptom}, without=hazards.ALL, schedule=schedule) is not None


def test_with_the_guard_commands_of_every_size_about_the_batch_limit_pass() -> None:
    for seed in range(3):
        assert not simulate(seed, schedule="sizes").violations


def test_the_guard_is_whole_again_afterwards() -> None:
    before = {name: vars(Guard)[name] for name in vars(Guard)} | {"delete": MemoryJournal.deleteEntriesFrom}
    for rule in (None, hazards.ALL, *hazards.RULES):
        with hazards.without(rule):
            pass
    assert before == {name: vars(Guard)[name] for name in vars(Guard)} | {"delete": MemoryJournal.deleteEntriesFrom}
    with pytest.raises(InternalError, match="there is no rule 'nonsense'"), hazards.without("nonsense"):
        pass


@pytest.mark.parametrize("seed", range(6))
def test_counting_votes_instead_of_voters_changes_nothing_while_voters_answer_once_and_links_never_repeat(
    seed: int,
) -> None:
    """So the rule `one_vote_per_voter` cannot be found missing: it is kept for networks and voters that we have not got.

    That a voter answers once per term is an invariant of every seed (and found when a node forgets its vote); that frames are
    neither repeated nor reordered is held by the tests of the wire.
    """
    whole = simulate(seed, schedule="elections")
    with mutants.without("one vote per voter"):
        assert simulate(seed, schedule="elections") == whole
