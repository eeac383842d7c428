"""What executors are handed is compared with the log, for every kind of record."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from raftoral_nb.core.records import CancelRecord, Message, MoveRecord, Step, TimersFired
from raftoral_nb.simulation.run_logs import SAME_RECORDS, RunLogs
from raftoral_nb.workflow.execution.inbox import (
    RecordAdded,
    RecordsAdded,
    RunContinued,
    RunDropped,
    RunStarted,
    RunSwitched,
)

NOTHING: Any = None
STEP = Step("0/a", "compute", b"1", None, 1, 1, 1.0)
WORD = Message("w", "signal", "word", b"", None, 2.0)
FIRED = TimersFired(2.5, 3.0, 1, 1)
CANCEL = CancelRecord("enough", 4.0)


class Told:
    """The log of run r: a step, a message, timers, a request to cancel; and a node that is handed things."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.logs = RunLogs(lambda invariant, text, place: self.found.append(invariant))
        for record in (STEP, WORD, FIRED, CANCEL):
            self.logs.added("r", record)
        self.node: Any = SimpleNamespace(number=1, incarnation=SimpleNamespace(number=1), records_handed_over=0)
        self.hand_over(RunStarted("r", NOTHING, b""))

    def hand_over(self, *items: Any) -> None:
        self.logs.handed_over(self.node, items)


@pytest.fixture
def told() -> Told:
    return Told()


def test_all_records_in_their_order_one_by_one_or_several_at_once_are_as_they_must_be(told: Told) -> None:
    told.hand_over(RecordAdded("r", STEP), RecordsAdded("r", (WORD, FIRED)), RecordAdded("r", CANCEL))
    assert not told.found
    assert told.node.records_handed_over == told.logs.total == 4


@pytest.mark.parametrize(
    "handed",
    [
        (WORD,),
        (STEP, FIRED),
        (STEP, STEP),
        (STEP, WORD, FIRED, CANCEL, STEP),
        (STEP, Message("v", "signal", "word", b"")),
    ],
)
def test_a_record_that_is_left_out_comes_twice_early_or_is_another_is_found(
    told: Told, handed: tuple[Any, ...]
) -> None:
    told.hand_over(*(RecordAdded("r", record) for record in handed))
    assert set(told.found) == {SAME_RECORDS}


def test_a_move_is_a_record_behind_those_before_it(told: Told) -> None:
    told.hand_over(RecordsAdded("r", (STEP, WORD, FIRED, CANCEL)))
    told.logs.moved("r", 2)
    move = MoveRecord(2, 4.0)
    told.hand_over(RunSwitched("r", NOTHING, b"", (STEP, WORD, FIRED, CANCEL, move), 1, 0.0, 2))
    assert not told.found
    assert told.node.records_handed_over == told.logs.total == 5


@pytest.mark.parametrize(
    "moved", [(STEP, WORD), (STEP, WORD, FIRED, CANCEL, MoveRecord(3, 4.0)), (WORD, STEP, FIRED, CANCEL)]
)
def test_a_move_with_other_records_than_the_node_had_is_found(told: Told, moved: tuple[Any, ...]) -> None:
    told.hand_over(RecordsAdded("r", (STEP, WORD, FIRED, CANCEL)))
    told.logs.moved("r", 2)
    told.hand_over(RunSwitched("r", NOTHING, b"", moved, 1, 0.0, 2))
    assert told.found == [SAME_RECORDS]


def test_another_generation_begins_with_what_goes_along_and_a_node_that_skips_one_counts_as_having_had_it(
    told: Told,
) -> None:
    told.logs.continued("r", 2, [WORD])
    told.hand_over(RecordsAdded("r", (STEP, WORD, FIRED, CANCEL)))
    told.hand_over(RunContinued("r", NOTHING, 2, b"", 5.0, (WORD,)))
    late: Any = SimpleNamespace(number=2, incarnation=SimpleNamespace(number=1), records_handed_over=0)
    told.logs.handed_over(late, [RunStarted("r", NOTHING, b"", 2), RecordsAdded("r", (WORD,))])
    assert not told.found
    assert told.node.records_handed_over == late.records_handed_over == told.logs.total == 5


def test_a_run_that_is_started_twice_is_found_unless_it_was_dropped(told: Told) -> None:
    told.hand_over(RunDropped("r"), RunStarted("r", NOTHING, b""))
    assert not told.found
    told.hand_over(RunStarted("r", NOTHING, b""))
    assert told.found == [SAME_RECORDS]


def test_the_next_run_of_an_id_has_records_of_its_own(told: Told) -> None:
    told.hand_over(RecordsAdded("r", (STEP, WORD, FIRED, CANCEL)))
    told.logs.dropped("r", 7)
    told.logs.started("r", 2)
    told.logs.added("r", WORD)
    told.hand_over(RunDropped("r"), RunStarted("r", NOTHING, b"", 2), RecordAdded("r", WORD))
    assert not told.found
    assert told.node.records_handed_over == told.logs.total == 5


def test_a_node_whose_snapshot_left_out_a_run_that_was_dropped_counts_as_having_had_it(told: Told) -> None:
    told.hand_over(RecordAdded("r", STEP))
    told.logs.dropped("r", 7)
    told.node.member = SimpleNamespace(state=SimpleNamespace(index=6))
    told.logs.installed(told.node)
    assert told.node.records_handed_over == 1, "the snapshot is of a time when it was there"
    told.node.member.state.index = 7
    told.logs.installed(told.node)
    assert told.node.records_handed_over == told.logs.total == 4
