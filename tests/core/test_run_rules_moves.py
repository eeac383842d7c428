"""The rules of moving a run: what the replicated state accepts."""

from __future__ import annotations

import msgspec
import pytest

from raftoral_nb.core.apply import apply
from raftoral_nb.core.commands import (
    Command,
    EndRun,
    MoveRun,
    RegisterWorkflow,
    SendSignal,
    SetCheckpoint,
    StartRun,
    Takeover,
)
from raftoral_nb.core.events import CommandRefused, RunMoved, WorkflowCompleted
from raftoral_nb.core.records import Definition, MoveRecord, Step
from raftoral_nb.core.run_record import RECORD_FORMAT
from raftoral_nb.core.snapshot import Frozen, Reader
from raftoral_nb.core.state import State
from raftoral_nb.node.hand_over import difference, handed_over
from raftoral_nb.workflow.execution import inbox


def step(position: int) -> Step:
    return Step(f"{position}/s", "compute", b"x", None, 1, 1)


@pytest.fixture
def state() -> State:
    made = State()
    commands: list[Command] = [
        Takeover(1, 1),
        *(RegisterWorkflow(Definition("w", version, str(version), "", b"", {})) for version in (1, 2)),
        StartRun("r", "w", 1, b"in", 3.0, format=RECORD_FORMAT),
        SetCheckpoint("r", step(0), 1),
    ]
    for index, command in enumerate(commands, 1):
        apply(made, command, index)
    return made


def code(events: tuple[object, ...]) -> str:
    (event,) = events
    assert isinstance(event, CommandRefused)
    return event.code


def test_a_move_re_pins_the_run_and_keeps_its_steps(state: State) -> None:
    assert apply(state, MoveRun("r", 2, 1), 9) == (RunMoved("r", 2, 1),)
    run = state.runs["r"]
    assert (run.definition.version, run.status) == (2, "running")
    assert run.records == [msgspec.structs.replace(step(0), at=3.0), MoveRecord(2, 3.0)]
    assert apply(state, MoveRun("r", 2, 1), 10) == ()


def test_records_of_the_old_version_are_refused_once_the_run_was_moved(state: State) -> None:
    apply(state, MoveRun("r", 2, 1), 9)
    assert code(apply(state, SetCheckpoint("r", step(1), 1), 10)) == "stale_version"
    assert code(apply(state, EndRun("r", 1, 1, b"", None, 1), 11)) == "stale_version"
    assert len(state.runs["r"].steps) == 1
    assert apply(state, SetCheckpoint("r", step(1), 2), 12)
    assert isinstance(apply(state, EndRun("r", 1, 1, b"", None, 2), 13)[0], WorkflowCompleted)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (MoveRun("other", 2, 1), "unknown_run"),
        (MoveRun("r", 3, 1), "unknown_workflow"),
        (MoveRun("r", 2, 0), "run_went_on"),
        (MoveRun("r", 2, 2), "run_went_on"),
        (MoveRun("", 2, 1), "bad_command"),
        (MoveRun("r", True, 1), "bad_command"),
        (MoveRun("r", 2, -1), "bad_command"),
    ],
)
def test_a_move_that_was_not_checked_for_this_state_changes_nothing(
    state: State, command: MoveRun, expected: str
) -> None:
    assert code(apply(state, command, 9)) == expected
    assert state.runs["r"].definition.version == 1


def test_a_run_that_has_ended_is_not_moved(state: State) -> None:
    apply(state, EndRun("r", 1, 1, b"", None, 1), 9)
    assert code(apply(state, MoveRun("r", 2, 1), 10)) == "run_ended"


def test_the_version_that_a_run_was_moved_to_cannot_be_replaced(state: State) -> None:
    apply(state, MoveRun("r", 2, 1), 9)
    assert code(apply(state, RegisterWorkflow(Definition("w", 2, "new", "", b"", {})), 10)) == "version_in_use"
    assert apply(state, RegisterWorkflow(Definition("w", 1, "new", "", b"", {})), 11)


def test_a_snapshot_tells_an_executor_of_a_move_that_it_missed(state: State) -> None:
    before = copy_of(state)
    apply(state, MoveRun("r", 2, 1), 9)
    apply(state, SetCheckpoint("r", step(1), 2), 10)
    moved, added = difference(before, copy_of(state))
    run = state.runs["r"]
    assert isinstance(moved, inbox.RunSwitched)
    assert (moved.definition.version, moved.records, moved.at) == (2, (run.records[0],), 3.0)
    assert added == inbox.RecordsAdded("r", tuple(run.records[1:]))


def test_a_snapshot_tells_of_a_move_there_and_back_as_what_was_bound_before_is_not_any_more(state: State) -> None:
    before = copy_of(state)
    apply(state, MoveRun("r", 2, 1), 9)
    apply(state, MoveRun("r", 1, 2), 10)
    moved, added = difference(before, copy_of(state))
    assert isinstance(moved, inbox.RunSwitched)
    assert moved.definition.version == 1
    assert isinstance(added, inbox.RecordsAdded)


def test_a_move_is_refused_once_anything_more_was_recorded_a_message_too(state: State) -> None:
    apply(state, SendSignal("r", "s", "go", b""), 9)
    assert code(apply(state, MoveRun("r", 2, 1), 10)) == "run_went_on"
    assert apply(state, MoveRun("r", 2, 2), 10) == (RunMoved("r", 2, 2),)
    assert code(apply(state, MoveRun("r", 1, 2), 10)) == "run_went_on"
    assert apply(state, MoveRun("r", 1, 3), 10) == (RunMoved("r", 1, 3),)


def test_an_executor_gets_a_moved_run_with_its_records_and_the_move_and_what_followed_in_the_entry(
    state: State,
) -> None:
    (event,) = apply(state, MoveRun("r", 2, 1), 9)
    (sent,) = apply(state, SendSignal("r", "s", "go", b""), 9)
    switched, added = (handed_over(one, state) for one in (event, sent))
    assert isinstance(switched, inbox.RunSwitched)
    assert isinstance(added, inbox.RecordAdded)
    assert [*switched.records, added.record] == state.runs["r"].records


def copy_of(state: State) -> State:
    reader = Reader()
    for piece in Frozen(state).pieces():
        reader.feed(piece)
    return reader.state()
