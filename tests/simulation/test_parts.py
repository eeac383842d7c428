"""The simulation's own parts: clocks, disks, threads, shrinking, the command."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from functools import partial

import msgspec
import pytest

from raftoral_nb.cli.main import main
from raftoral_nb.cli.simulate import INTERRUPTED
from raftoral_nb.raft.journal import MemoryJournal, Snapshot
from raftoral_nb.simulation import many
from raftoral_nb.simulation import shrink as shrinking
from raftoral_nb.simulation.clock_view import ClockView
from raftoral_nb.simulation.dice import SeededDice
from raftoral_nb.simulation.disk import DiskStore, PowerCut
from raftoral_nb.simulation.faults import PlannedFault, plan
from raftoral_nb.simulation.result import Result
from raftoral_nb.simulation.shrink import shrunk
from raftoral_nb.simulation.simulated_node import SimulatedThread
from raftoral_nb.virtual_time.clock import run


def test_a_clock_that_runs_fast_reaches_its_timers_sooner_and_never_goes_back() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        clock = ClockView(loop, rate=2.0, start=50.0)
        fired: list[tuple[float, float]] = []
        begin = loop.time()
        clock.call_at(60.0, lambda: fired.append((loop.time() - begin, clock.time())))
        clock.call_later(20.0, lambda: fired.append((loop.time() - begin, clock.time())))
        await asyncio.sleep(6.0)
        clock.set_rate(0.5)
        assert clock.time() == pytest.approx(62.0)
        await asyncio.sleep(16.5)
        assert fired == [pytest.approx((5.0, 60.0)), pytest.approx((22.0, 70.0))]

    run(main)


def test_a_timer_of_a_clock_view_that_is_cancelled_does_not_fire() -> None:
    async def main() -> None:
        clock = ClockView(asyncio.get_running_loop())
        timer = clock.call_later(1.0, pytest.fail)
        clock.set_rate(3.0)
        timer.cancel()
        await asyncio.sleep(5.0)

    run(main)


class Unwatched:
    def added(self, node: int, data: bytes, index: int, term: int) -> None:
        pass

    def deleted(self, node: int, index: int, last: int) -> None:
        pass

    def voted(self, node: int, term: int, vote: str) -> None:
        pass


def crashed(after: int, seed: int) -> MemoryJournal:
    """What a journal holds after the power was cut in the disk operation `after` of five appends and a vote."""
    store = DiskStore(1, Unwatched(), SeededDice(seed))
    journal = store.open()
    store.crash_after(after)
    try:
        journal.setCurrentTerm(1, "2")
        journal.sync()
        for index in range(1, 6):
            journal.add(b"entry %d" % index, index, 1)
            journal.sync()
    except PowerCut:
        pass
    store.crashed()
    return store.open()


def test_what_a_journal_acknowledged_survives_a_crash_at_any_disk_operation() -> None:
    for after in range(1, 19):
        for seed in range(8):
            journal = crashed(after, seed)
            done = after // 3  # a write, a sync, and the head; it is safe from the sync on
            assert journal.getCurrentTerm() == 1 or done == 0
            assert len(journal) in {max(0, done - 1), done} & set(range(6))
            assert [entry[0] for entry in journal[0:]] == [b"entry %d" % (n + 1) for n in range(len(journal))]


def test_unsynced_records_are_sometimes_kept_sometimes_lost_and_sometimes_torn() -> None:
    damage = set()
    for seed in range(20):
        store = DiskStore(1, Unwatched(), SeededDice(seed))
        journal = store.open()
        store.crash_after(5)
        journal.add(b"entry", 1, 1)
        journal.sync()
        journal.add(b"entry", 2, 1)
        with pytest.raises(PowerCut):
            journal.sync()
        store.crashed()
        damage.add(store.damage)
    assert damage == {(0, 0), (1, 0), (1, 1)}


STATE = Snapshot(4, 1, (b"what entries 1 to 4", b"come to"))


def crashed_at_a_snapshot(after: int, seed: int) -> MemoryJournal | None:
    """What a journal of five safe entries holds after the power was cut as it kept a snapshot; None if it was not cut."""
    store = DiskStore(1, Unwatched(), SeededDice(seed))
    journal = store.open()
    journal.setCurrentTerm(1, "2")
    for index in range(1, 6):
        journal.add(b"entry %d" % index, index, 1)
    journal.setRaftCommitIndex(5)
    journal.sync()
    store.crash_after(after)
    try:
        journal.keep(STATE)
        if seed % 2:
            journal.sync()  # or both at one go
        journal.compact(4)
        journal.sync()
    except PowerCut:
        store.crashed()
        return store.open()
    return None


def test_a_crash_at_any_disk_operation_of_a_snapshot_leaves_the_log_whole_or_the_snapshot_and_the_log_behind_it() -> (
    None
):
    """The third hazard: PySyncObj drops the whole log if the crash comes between writing a snapshot and cutting the log."""
    found = set()
    for after in range(1, 20):
        for seed in range(12):
            journal = crashed_at_a_snapshot(after, seed)
            if journal is None:
                continue
            assert journal.last_index == 5
            assert journal[len(journal) - 1] == (b"entry 5", 5, 1)
            assert (journal.getCurrentTerm(), journal.getVotedForNodeId()) == (1, "2")
            assert journal.snapshot in {None, STATE}
            assert journal.first_index == 1 or (journal.snapshot == STATE and journal.first_index == 4)
            found.add((journal.snapshot is None, journal.first_index))
    assert found == {(True, 1), (False, 1), (False, 4)}


def test_calls_to_a_simulated_thread_keep_their_order_whatever_their_lags() -> None:
    async def main() -> None:
        lags = iter([0.5, 0.0, 0.3, 0.0, 0.0])
        thread = SimulatedThread("t", asyncio.get_running_loop(), lambda: next(lags))
        called: list[int] = []
        for number in range(4):
            thread.post(called.append, number)
        thread.stall(2.0)
        await asyncio.sleep(1.0)
        assert not called
        await asyncio.sleep(1.1)
        assert called == [0, 1, 2, 3]
        thread.post(called.append, 4)
        thread.stop(0)
        await asyncio.sleep(1.0)
        assert called == [0, 1, 2, 3]

    run(main)


def test_a_failing_schedule_is_shrunk_to_the_faults_that_matter() -> None:
    faults = [PlannedFault(float(number), "pause", (1,), 1.0) for number in range(40)]
    matter = {faults[7], faults[30]}

    def fails(left: Sequence[PlannedFault]) -> bool:
        return matter <= set(left)

    assert set(shrunk(faults, fails)) == matter


def test_the_command_prints_a_table_and_succeeds_when_nothing_is_violated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--seeds", "2", "--nodes", "3", "--schedule", "mixed"]) == 0
    out = capsys.readouterr().out
    assert "seeds with violations" in out
    assert "commands acknowledged" in out
    assert "disk crash" in out


def test_several_workers_give_the_same_results_in_the_same_order_as_one() -> None:
    choice = many.Choice(nodes=3, schedule="leaders", mutant="queue before acting")
    alone = list(many.results(range(8, 11), choice))
    together = list(many.results(range(8, 11), choice, jobs=2))
    assert [msgspec.structs.replace(result, history=()) for result in alone] == together
    assert any(result.violations for result in together)


def test_an_interrupt_prints_what_was_done_so_far(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(seeds: Sequence[int], choice: many.Choice, *, jobs: int) -> Iterator[Result]:
        yield from original(seeds[:1], choice, jobs=jobs)
        raise KeyboardInterrupt

    original = many.results
    monkeypatch.setattr(many, "results", interrupted)
    assert main(["simulate", "--seeds", "1000"]) == INTERRUPTED
    out = capsys.readouterr().out
    assert "interrupted after 1 of 1000 seeds" in out
    assert "commands acknowledged" in out


def test_the_command_traces_one_seed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--seed", "3", "--trace"]) == 0
    out = capsys.readouterr().out
    for fault in plan(3).faults:
        assert str(fault) in out
    assert "acts" in out
    assert "committed" in out
    assert "no violations" in out


def test_the_command_fails_and_names_the_seed_when_something_is_violated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--seeds", "2", "--start", "7", "--schedule", "delays", "--without-guard"]) == 1
    assert "--seed 7 --nodes" in capsys.readouterr().out


def test_a_seed_that_fails_is_named_with_the_safeguard_that_was_missing_and_shrunk_on_request(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shrinking, "shrink", partial(shrinking.shrink, tries=1))  # it takes a simulation each
    which = ["simulate", "--seed", "3", "--nodes", "3", "--schedule", "leaders", "--mutant", "queue before acting"]
    assert main([*which, "--shrink"]) == 1
    out = capsys.readouterr().out
    assert "--seed 3 --nodes 3 --schedule 'leaders' --trace --mutant 'queue before acting'" in out
    assert "who acts has consumed what precedes its epoch" in out
    left = re.search(r"(\d+) faults are enough:\n((?:.+ s  .+, for .+ s\n?)+)", out)
    assert left is not None
    assert int(left[1]) == len(left[2].splitlines()) <= len(plan(3, nodes=3, schedule="leaders").faults)


def test_the_command_says_which_names_it_knows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--schedule", "nonsense"]) == 2
    assert "partitions" in capsys.readouterr().err
    assert main(["simulate", "--mutant", "list"]) == 0
    assert "epoch check" in capsys.readouterr().out
    assert main(["simulate", "--without-guard", "list"]) == 0
    assert "answers_carry_terms" in capsys.readouterr().out
    assert main(["simulate", "--without-guard", "nonsense"]) == 2
