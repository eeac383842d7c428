"""The simulation can fail: with each safeguard of our own taken out. (Without the guard's rules: `test_hazards`.)"""

from __future__ import annotations

import pytest

from raftoral_nb.errors import InternalError
from raftoral_nb.simulation.conservation import CONSERVED
from raftoral_nb.simulation.effects import CONTINUES
from raftoral_nb.simulation.invariants import (
    BLOB_OF_MAJORITY,
    COMMITTED_BY_FOLLOWER,
    COMMITTED_BY_LEADER,
    DELETED,
    UNREPAIRED,
)
from raftoral_nb.simulation.many import rarely_collecting
from raftoral_nb.simulation.mutants import MUTANTS, without
from raftoral_nb.simulation.observations import SAME_TURNS
from raftoral_nb.simulation.owners import OWN_ASSIGNMENT
from raftoral_nb.simulation.pausing import PAUSED
from raftoral_nb.simulation.result import Result
from raftoral_nb.simulation.simulation import simulate

MOST_SEEDS = 500
"""Within so many seeds a missing safeguard must be found; the test stops at the first that finds it."""

WELL, BREAKS = "all is well after the healing", "no replica breaks"

FOUND_BY = {
    "epoch check": {"only the current epoch records"},
    "first record wins": {"a step has one record"},
    "session answers": {"nothing is applied twice"},
    "queue before acting": {"who acts has consumed what precedes its epoch"},
    "takeover before acting": {"acting needs its takeover applied"},
    "truncate only on conflict": {DELETED},
    "answers carry terms": {COMMITTED_BY_LEADER},
    "commit only verified": {COMMITTED_BY_FOLLOWER},
    "resets go back only": {UNREPAIRED},
    "vote kept": {"a node votes once in a term"},
    "past terms answered": {"all is well after the healing"},
    "checksum of a stored record": {"all nodes have the same state", "applied sequences are prefixes of one another"},
    "entries sent whole": {"all is well after the healing"},
    "given-up steps remembered": {"no execution differs"},
    "one record in a turn": {SAME_TURNS},
    "records in their order": {SAME_TURNS},
    "results come by the log": {SAME_TURNS},
    "getters take when they run": {CONSERVED},
    "hashes are ordinals": {SAME_TURNS},
    "loops hold their tasks": {SAME_TURNS},
    "intent before the effect": {"at most once"},
    "long steps continue": {CONTINUES},
    "version check": {"only the code of a run records"},
    "gates look ahead": {"gates fit wherever a run is"},
    "pauses are heeded": {PAUSED},
    "synced before acknowledged": {
        "what was committed stays",
        COMMITTED_BY_LEADER,
        "nothing is raised that nobody handles",  # recovery itself misses what was acknowledged
    },
    "answers wait for the disk": {"a node votes once in a term", "what was committed stays", COMMITTED_BY_LEADER},
    "fast path: from the leader": {WELL},
    "fast path: behind the last entry": {BREAKS},  # the journal refuses gaps
    "fast path: the last entry is the leader's": {COMMITTED_BY_FOLLOWER},
    "fast path: answers carry terms": {COMMITTED_BY_LEADER, BREAKS},  # it sends what it has not got
    "fast path: refusals are none": {WELL, COMMITTED_BY_LEADER},
    "fast path: members answer": {BREAKS},
    "fast path: snapshots arrive": {WELL},
    "fast path: leaders count": {BREAKS, COMMITTED_BY_FOLLOWER},
    "fast path: a majority": {COMMITTED_BY_LEADER},
    "fast path: the own disk is one of them": {COMMITTED_BY_LEADER},
    "blobs: a majority": {BLOB_OF_MAJORITY},
    "blobs: held is stored": {BLOB_OF_MAJORITY},
    "blobs: fetched": {WELL, BLOB_OF_MAJORITY},
    "owners record": {"only the current epoch records"},
    "owners offer anew": {OWN_ASSIGNMENT},
    "owners are withdrawn": {WELL},
}
"""The invariants of which one must be violated: a mutant that fails for another reason proves nothing."""


BEGIN_AT = {
    "queue before acting": 35,
    "long steps continue": 1,
    "checksum of a stored record": 177,
    "vote kept": 33,
    "answers wait for the disk": 12,
    "epoch check": 0,
    "version check": 3,
    "getters take when they run": 2,
    "intent before the effect": 7,
    "pauses are heeded": 44,
    "fast path: from the leader": 10,
    "fast path: behind the last entry": 1,
    "fast path: the last entry is the leader's": 41,
    "fast path: answers carry terms": 1,
    "fast path: refusals are none": 8,
    "fast path: members answer": 38,
    "fast path: snapshots arrive": 10,
    "fast path: leaders count": 1,
    "fast path: a majority": 2,
    "fast path: the own disk is one of them": 8,
    "blobs: a majority": 4,
    "blobs: held is stored": 4,
    "blobs: fetched": 4,
    "owners record": 57,
    "owners offer anew": 2,
    "owners are withdrawn": 5,
}
"""Where the search begins, so that it is short as long as the engine does what it did; it goes round, and misses no seed."""


def first_failure(name: str) -> Result | None:
    first = BEGIN_AT.get(name, 0)
    with without(name) as mutant, rarely_collecting():
        for seed in (*range(first, MOST_SEEDS), *range(first)):
            result = simulate(seed, schedule=mutant.schedule)
            if FOUND_BY[name] & {violation.invariant for violation in result.violations}:
                return result
    return None


@pytest.mark.parametrize("name", FOUND_BY)
def test_a_safeguard_that_is_missing_is_found(name: str) -> None:
    found = first_failure(name)
    assert found is not None, f"{MOST_SEEDS} seeds without {name!r} violated nothing"
    print(f"\nwithout {name!r}: seed {found.seed} of {found.plan.schedule!r}")


def test_every_mutant_is_tried_but_the_one_that_changes_nothing() -> None:
    """See `test_hazards` for that one."""
    assert set(MUTANTS) - set(FOUND_BY) == {"one vote per voter"}


def test_the_engine_is_whole_again_after_a_mutant() -> None:
    whole = simulate(0, schedule="leaders")
    for name in MUTANTS:
        with without(name):
            pass
    assert simulate(0, schedule="leaders") == whole
    with pytest.raises(InternalError, match="there is no safeguard"), without("nonsense"):
        pass
