"""Whatever a workflow does, and whatever happens to it: a replay of its records is the same after every turn."""

from __future__ import annotations

import gc
import logging
import os
import random
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raftoral_nb.core.records import CancelRecord, Message, TimersFired
from raftoral_nb.simulation.mutants import without
from tests.workflow.execution.playing import Played, digest_of, played, replayed
from tests.workflow.execution.programs import Choose

DIGEST = "from tests.workflow.execution.playing import digest_of; print(digest_of(range(120)))"


def compare(run_id: str, choose: Choose) -> Played:
    program, live = played(run_id, choose)
    try:
        assert live.execution.status == "running", live.execution.reason
        for at_once in (1, 2, 1000):
            replay = replayed(run_id, program, live.records, at_once)
            try:
                for number, (one, other) in enumerate(zip(live.turns, replay.turns, strict=True)):
                    assert one == other, f"turn {number} of {len(live.turns)} differs"
                assert replay.outcome == live.outcome
            finally:
                replay.close()
    finally:
        live.close()
    return live


@given(st.binary(min_size=40, max_size=250))
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_a_replay_has_the_same_diary_open_steps_and_next_due_time_after_every_turn(choices: bytes) -> None:
    left = iter(choices)
    compare("drawn", lambda count: next(left, 0) % count)


def test_hundreds_of_seeded_programs_replay_alike_and_meet_every_kind_of_record() -> None:
    """Larger ones than Hypothesis draws, each of a run_id of its own, on which the order of sets depends."""
    kinds: Counter[type] = Counter()
    ended = turns = 0
    for seed in range(300):
        live = compare(f"program {seed}", random.Random(seed).randrange)
        kinds.update(map(type, live.records))
        ended += live.execution.ended
        turns += len(live.turns)
    assert kinds[TimersFired] > 200
    assert kinds[Message] > 100
    assert kinds[CancelRecord] > 10
    assert ended > 100
    assert turns > 2000


@pytest.mark.parametrize(
    "name", ["one record in a turn", "records in their order", "hashes are ordinals", "loops hold their tasks"]
)
def test_programs_find_what_would_break_the_order(name: str) -> None:
    """Each of these is found by a few in a hundred programs or more; see `simulation/mutants`."""
    logging.disable(logging.CRITICAL)  # the collector ends tasks there
    try:
        with without(name), pytest.raises(AssertionError):  # noqa: PT012 - any of them
            for seed in range(300):
                compare(f"program {seed}", random.Random(seed).randrange)
    finally:
        gc.collect()
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
def test_programs_see_the_same_in_processes_with_other_hash_seeds(hash_seed: str) -> None:
    there = subprocess.run(
        [sys.executable, "-c", DIGEST],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(["", *sys.path])},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert there.stdout.strip() == digest_of(range(120))
