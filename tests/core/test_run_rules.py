"""What can be done to a run from outside, and how runs begin others: the rules, one by one."""

from __future__ import annotations

import copy
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from raftoral_nb.core.apply import apply
from raftoral_nb.core.commands import (
    CancelRun,
    Command,
    ContinueRun,
    EndRun,
    PauseRun,
    ResumeRun,
    SendSignal,
    SetCheckpoint,
    StartChild,
    StartRun,
    TerminateRun,
)
from raftoral_nb.core.events import (
    CancelRequested,
    CheckpointSet,
    MessageSent,
    RunPaused,
    RunResumed,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowContinued,
    WorkflowFailed,
    WorkflowStarted,
    WorkflowTerminated,
)
from raftoral_nb.core.records import CancelRecord, Failure, Message, Step
from raftoral_nb.core.run_record import RECORD_FORMAT
from raftoral_nb.core.state import State
from raftoral_nb.core.validation import Limits
from raftoral_nb.node.hand_over import difference, handed_over
from raftoral_nb.workflow.execution.inbox import (
    PauseChanged,
    RecordAdded,
    RecordsAdded,
    RunContinued,
    RunDropped,
    RunEnded,
    RunStarted,
    RunSwitched,
)
from tests.core.commands import checkpoint, done, end, refusal, running
from tests.core.histories import TINY, lively, replica


def child(
    step_id: str = "0/ship", child_id: str = "r1/0", *, run_id: str = "r1", generation: int = 1, **more: Any
) -> StartChild:
    step = Step(step_id, "child", b"id", None, 1, 1, at=5.0)
    workflow, version = more.get("workflow", "order"), more.get("version")
    detached, taken = more.get("detached", False), more.get("taken", 0)
    child_format = RECORD_FORMAT
    return StartChild(
        run_id, step, generation, child_id, workflow, version, b"in", detached, format=child_format, taken=taken
    )


# --- signals


def test_a_signal_is_a_record_of_the_run_and_waits_until_the_acting_node_says_that_it_was_taken() -> None:
    state = running("r1")
    message = Message("s1", "signal", "approve", b"yes", None, 3.0)
    assert done(state, SendSignal("r1", "s1", "approve", b"yes", at=3.0)) == (MessageSent("r1", message),)
    run = state.runs["r1"]
    assert (run.records, run.received, run.waiting) == ([message], 1, 1)
    done(state, checkpoint(taken=1))
    assert (run.taken, run.waiting) == (1, 0)
    assert run.records[0] == message


def test_an_update_is_a_record_too_and_its_answer_a_step() -> None:
    state = running("r1")
    done(state, SendSignal("r1", "u1", "change", b"x", update=True))
    done(state, SetCheckpoint("r1", Step("0/change", "answer", b"ok", None, 1, 1, message_id="u1"), taken=1))
    assert [type(record) for record in state.runs["r1"].records] == [Message, Step]
    assert state.runs["r1"].waiting == 0


def test_a_signal_that_is_sent_again_under_its_id_is_sent_once() -> None:
    state = running("r1")
    done(state, SendSignal("r1", "s1", "approve", b"yes"))
    assert done(state, SendSignal("r1", "s1", "approve", b"yes", at=9.0)) == ()
    assert len(state.runs["r1"].records) == 1


def test_a_repeated_signal_is_answered_alike_after_the_run_has_ended_and_a_new_one_is_refused() -> None:
    state = running("r1")
    done(state, SendSignal("r1", "s1", "approve", b"yes"))
    done(state, end())
    assert done(state, SendSignal("r1", "s1", "approve", b"yes")) == ()
    assert refusal(state, SendSignal("r1", "s2", "approve", b"yes")) == "run_ended"
    assert refusal(state, SendSignal("r9", "s2", "approve", b"yes")) == "unknown_run"
    assert state.runs["r1"].waiting == 0


def test_more_signals_than_may_wait_are_refused_until_some_are_taken() -> None:
    state = running("r1", limits=Limits(unreceived_signals=2))
    for number in (1, 2):
        done(state, SendSignal("r1", f"s{number}", "tick", b""))
    assert refusal(state, SendSignal("r1", "s3", "tick", b"")) == "too_many_signals"
    assert done(state, SendSignal("r1", "s2", "tick", b"")) == (), "it was sent"
    done(state, checkpoint(taken=1))
    done(state, SendSignal("r1", "s3", "tick", b""))
    assert refusal(state, SendSignal("r1", "s4", "tick", b"")) == "too_many_signals"


# --- cancelling, pausing, terminating


def test_cancelling_is_a_request_that_changes_no_status_and_is_noted_once() -> None:
    state = running("r1")
    assert done(state, CancelRun("r1", "why", 4.0)) == (CancelRequested("r1", "why", 4.0),)
    assert done(state, CancelRun("r1", "again", 5.0)) == ()
    run = state.runs["r1"]
    assert (run.status, run.cancel_reason) == ("running", "why")
    assert run.records == [CancelRecord("why", 4.0)]
    assert [(change.at, change.change, change.reason) for change in run.changes] == [(4.0, "asked to end", "why")]


def test_a_run_ends_as_cancelled_only_if_it_was_asked_to_end() -> None:
    failure = Failure("C", "")
    for asked, kind, status in ((True, WorkflowCancelled, "cancelled"), (False, WorkflowFailed, "failed")):
        state = running("r1")
        if asked:
            done(state, CancelRun("r1"))
        (event,) = done(state, EndRun("r1", 1, 1, None, failure, cancelled=True, at=7.0))
        assert isinstance(event, kind)
        assert (state.runs["r1"].status, state.runs["r1"].end_time) == (status, 7.0)


def test_a_run_that_was_asked_to_end_may_still_complete() -> None:
    state = running("r1")
    done(state, CancelRun("r1"))
    done(state, end())
    assert state.runs["r1"].status == "completed"


def test_a_pause_holds_until_it_is_ended_and_steps_that_had_begun_are_recorded() -> None:
    state = running("r1")
    assert done(state, PauseRun("r1")) == (RunPaused("r1"),)
    assert done(state, PauseRun("r1")) == ()
    status: str = state.runs["r1"].status
    assert status == "paused"
    done(state, checkpoint())
    assert done(state, ResumeRun("r1")) == (RunResumed("r1"),)
    assert done(state, ResumeRun("r1")) == ()
    assert state.runs["r1"].status == "running"


def test_a_paused_run_that_is_asked_to_end_goes_on_to_do_so_and_cannot_be_paused_again() -> None:
    state = running("r1")
    done(state, PauseRun("r1"))
    assert done(state, CancelRun("r1", "why")) == (RunResumed("r1"), CancelRequested("r1", "why"))
    assert refusal(state, PauseRun("r1")) == "run_cancelling"


def test_terminating_ends_a_run_at_once_also_a_paused_one_and_frees_what_waited() -> None:
    state = running("r1")
    done(state, SendSignal("r1", "s1", "approve", b"yes"))
    done(state, PauseRun("r1"))
    (event,) = done(state, TerminateRun("r1", "enough", 6.0))
    assert isinstance(event, WorkflowTerminated)
    assert isinstance(state.runs["r1"].records, tuple)
    run = state.runs["r1"]
    assert (run.status, run.end_time, run.waiting) == ("terminated", 6.0, 0)
    assert run.failure is not None
    assert run.failure.message == "enough"
    assert refusal(state, checkpoint()) == "run_ended"


@pytest.mark.parametrize("command", [CancelRun("r1"), PauseRun("r1"), ResumeRun("r1"), TerminateRun("r1")])
def test_nothing_can_be_asked_of_a_run_that_has_ended_or_is_unknown(command: Any) -> None:
    state = running("r1")
    done(state, end())
    assert refusal(state, command) == "run_ended"
    assert refusal(state, msgspec.structs.replace(command, run_id="r2")) == "unknown_run"


# --- children


def test_a_child_is_started_with_the_step_that_stands_for_it_and_its_end_is_told_to_the_parent() -> None:
    state = running("r1")
    recorded, started = done(state, child())
    assert isinstance(recorded, CheckpointSet)
    assert started == WorkflowStarted("r1/0", "order", 1, "r1")
    assert (state.runs["r1/0"].parent, state.runs["r1"].children) == ("r1", {"r1/0": True})
    _, told = done(state, end("r1/0", b"parcel"))
    assert told == MessageSent("r1", Message("\nr1/0", "child", "r1/0", b"parcel", None, 5.0))
    assert not state.runs["r1"].children
    assert state.runs["r1"].records == [recorded.step, told.message]
    assert state.runs["r1"].received == 0, "it takes no room from signals"


def test_a_child_that_failed_gives_its_failure_to_its_parent() -> None:
    state = running("r1")
    done(state, child())
    _, told = done(state, end("r1/0", None, Failure("E", "no")))
    assert (told.message.value, told.message.failure) == (None, Failure("E", "no"))


def test_a_child_that_cannot_be_started_is_recorded_as_that() -> None:
    state = running("r1", limits=Limits(children=1))
    (event,) = done(state, child("0/a", workflow="nothing"))
    assert event.step.failure.type_name == "unknown_workflow"
    (event,) = done(state, child("1/a", version=7))
    assert event.step.failure.type_name == "unknown_workflow"
    (event,) = done(state, child("2/a", child_id="r1"))
    assert event.step.failure.type_name == "run_conflict"
    done(state, child("3/a"))
    (event,) = done(state, child("4/a", "r1/4"))
    assert event.step.failure.type_name == "too_many_children"
    assert list(state.runs) == ["r1", "r1/0"]
    assert refusal(state, child("3/a")) == "already_recorded"


def test_a_run_that_was_started_by_others_is_waited_for_and_does_not_end_with_whoever_waits() -> None:
    state = running("r1", "r2")
    done(state, child("0/a", "r2"))
    assert state.runs["r1"].children == {"r2": False}
    done(state, CancelRun("r1"))
    assert state.runs["r2"].cancel_reason is None
    done(state, end("r2"))
    assert isinstance(state.runs["r1"].records[-1], Message)


def test_the_end_of_a_run_that_had_ended_before_is_told_at_once() -> None:
    state = running("r1", "r2")
    done(state, end("r2", b"old"))
    _, told = done(state, child("0/a", "r2"))
    assert told == MessageSent("r1", Message("\nr2", "child", "r2", b"old", None, 5.0))


def test_children_are_asked_to_end_with_their_parent_and_theirs_too_and_detached_ones_are_not() -> None:
    state = running("r1")
    done(state, child())
    done(state, child("1/a", "free", detached=True))
    done(state, child("0/b", "grandchild", run_id="r1/0"))
    events = done(state, CancelRun("r1", "why"))
    assert events == tuple(CancelRequested(run_id, "why", 5.0) for run_id in ("r1", "r1/0", "grandchild"))


def test_children_that_a_parent_leaves_behind_are_asked_to_end() -> None:
    state = running("r1")
    done(state, child())
    _, asked = done(state, end("r1"))
    assert asked == CancelRequested("r1/0", "its parent 'r1' has ended", 5.0)
    assert done(state, end("r1/0"))[1:] == ()  # nobody is told any more


def test_children_are_terminated_with_their_parent() -> None:
    state = running("r1")
    done(state, child())
    events = done(state, TerminateRun("r1", "enough"))
    assert [event.run_id for event in events if isinstance(event, WorkflowTerminated)] == ["r1", "r1/0"]
    assert list(state.finished) == ["r1", "r1/0"]


# --- beginning anew


def continued(generation: int = 1, value: bytes = b"next") -> ContinueRun:
    return ContinueRun("r1", 1, 1, generation, value, 8.0)


def test_a_run_that_begins_anew_has_another_input_and_of_its_records_only_the_messages_that_nobody_took() -> None:
    state = running("r1")
    done(state, checkpoint())
    for number in range(1, 5):
        done(state, SendSignal("r1", f"s{number}", "tick", b"", at=float(number)))
    run = state.runs["r1"]
    messages = [record for record in run.records if isinstance(record, Message)]
    # The code had three, took the first and the third, and the fourth came behind its end.
    (event,) = done(state, msgspec.structs.replace(continued(), had=3, left=(2,)))
    assert event == WorkflowContinued("r1", 2, b"next", 8.0, 2)
    assert run.records == [messages[1], messages[3]]
    assert (run.steps, run.by_id, run.input, run.generation, run.status) == ((), {}, b"next", 2, "running")
    assert (run.received, run.taken, run.waiting, run.time, run.begun_at) == (2, 0, 2, 8.0, 8.0)
    done(state, checkpoint(generation=2))


def test_a_message_whose_id_came_twice_is_carried_over_once_if_one_of_the_two_was_taken() -> None:
    state = running("r1", limits=Limits(signal_ids=1))
    for signal_id, value in (("s1", b"first"), ("s2", b""), ("s1", b"second")):
        done(state, SendSignal("r1", signal_id, "tick", value))
    done(state, msgspec.structs.replace(continued(), had=3, left=(3,)))
    assert [record.value for record in state.runs["r1"].records if isinstance(record, Message)] == [b"second"]


def test_a_request_to_end_that_the_code_did_not_get_goes_along_and_is_made_once() -> None:
    state = running("r1")
    done(state, CancelRun("r1", "why", 4.0))
    (event,) = done(state, continued())
    assert event.carried == 1
    assert state.runs["r1"].records == [CancelRecord("why", 4.0)]
    assert state.runs["r1"].cancel_reason == "why"
    assert done(state, CancelRun("r1", "again", 9.0)) == ()


def test_a_request_to_end_after_which_the_code_began_anew_is_over_and_it_may_be_asked_again() -> None:
    state = running("r1")
    done(state, CancelRun("r1", "why", 4.0))
    (event,) = done(state, msgspec.structs.replace(continued(), cancelled=True))
    assert (event.carried, state.runs["r1"].records, state.runs["r1"].cancel_reason) == (0, [], None)
    assert done(state, CancelRun("r1", "again", 9.0)) == (CancelRequested("r1", "again", 9.0),)


@pytest.mark.parametrize("late", [checkpoint("1/late"), end(), continued(), child("5/a")])
def test_what_was_proposed_in_an_earlier_generation_is_refused(late: Any) -> None:
    """The step of that name, which is recorded now, would get the value of the one that had the name before."""
    state = running("r1")
    done(state, continued())
    assert refusal(state, late) == "stale_generation"


def test_children_do_not_outlive_the_generation_that_started_them() -> None:
    state = running("r1")
    done(state, child())
    _, asked = done(state, continued())
    assert asked == CancelRequested("r1/0", "its parent 'r1' has begun anew", 8.0)
    (ended,) = done(state, end("r1/0"))
    assert isinstance(ended, WorkflowCompleted), "nobody is told: the generation that asked is over"
    assert not state.runs["r1"].records


def test_an_end_that_came_before_its_parent_began_anew_is_not_told_to_the_next_generation() -> None:
    state = running("r1")
    done(state, child())
    done(state, end("r1/0"))
    (event,) = done(state, continued())
    assert event.carried == 0


def test_the_end_of_a_child_is_told_to_the_generation_that_asked_for_it_last() -> None:
    state = running("r1", "r2")
    done(state, child("0/a", "r2"))
    done(state, continued())
    done(state, child("0/a", "r2", generation=2))
    told = done(state, end("r2"))[1:]
    assert len(told) == 1
    assert state.runs["r1"].records[-1] == told[0].message


def test_starting_a_run_again_that_has_begun_anew_finds_it() -> None:
    state = running("r1")
    done(state, continued())
    assert done(state, StartRun("r1", "order", 1, b"in")) == ()


def test_a_run_that_begins_anew_for_ever_takes_no_more_memory() -> None:
    state = running("r1")
    sizes = []
    for generation in range(1, 3000):
        done(state, msgspec.structs.replace(checkpoint(), generation=generation))
        done(state, continued(generation))
        if generation % 1000 == 999:
            run = state.runs["r1"]
            sizes.append((len(run.records), len(run.changes), run.waiting))
    assert sizes[1] == sizes[2] == (0, 1000, 0)


# --- what executors hear


def heard(items: Any) -> dict[str, list[Any]]:
    """What an executor knows of each run that it heard of: generation, input, version, records, whether paused, end."""
    known: dict[str, list[Any]] = {}
    for item in items:
        match item:
            case RunStarted(run_id, definition, input_, generation, at, record_format):
                assert run_id not in known
                assert record_format == RECORD_FORMAT
                known[run_id] = [generation, input_, definition.version, [], False, None, at]
            case RecordAdded(run_id, record):
                known[run_id][3].append(record)
            case RecordsAdded(run_id, records):
                known[run_id][3].extend(records)
            case RunSwitched(run_id, definition, _, records, generation, at):
                # From the top, with all that was recorded.
                assert known[run_id][3] == list(records[: len(known[run_id][3])])
                assert (generation, at) == (known[run_id][0], known[run_id][6])
                known[run_id][2], known[run_id][3] = definition.version, list(records)
            case PauseChanged(run_id, paused):
                known[run_id][4] = paused
            case RunEnded(run_id, result, failure, terminated):
                known[run_id][4] = False
                known[run_id][5] = (result, failure, terminated)
            case RunContinued(run_id, definition, generation, input_, at, records):
                known[run_id] = [generation, input_, definition.version, list(records), known[run_id][4], None, at]
            case RunDropped(run_id):
                del known[run_id]
    return known


def told(state: State, commands: list[Command]) -> list[Any]:
    """Apply the commands; what an executor is handed of each."""
    items = [handed_over(event, state) for command in commands for event in apply(state, command, 9)]
    return [item for item in items if item is not None]


@settings(max_examples=300)
@given(st.lists(lively, max_size=15), st.lists(lively, max_size=15))
def test_an_executor_hears_the_same_of_a_snapshot_as_of_the_entries_that_it_stands_for(
    before: list[Command], skipped: list[Command]
) -> None:
    state, _ = replica([], TINY)
    opening = list(difference(State(TINY), state))
    first = [*opening, *told(state, before)]
    old = copy.deepcopy(state)
    every = [*first, *told(state, skipped)]
    assert heard([*first, *difference(old, state)]) == heard(every)


@settings(max_examples=300)
@given(st.lists(lively, max_size=30))
def test_a_node_that_begins_with_a_snapshot_knows_all_there_is(commands: list[Command]) -> None:
    state, _ = replica([], TINY)
    told(state, commands)
    known = heard(difference(State(TINY), state))
    for run in state.runs.values():
        generation, input_, version, records, paused, ended, at = known.pop(run.run_id)
        assert (generation, input_, version, records) == (
            run.generation,
            run.input,
            run.definition.version,
            list(run.records),
        )
        assert (paused, at) == (run.status == "paused", run.begun_at)
        assert (ended is None) == run.unfinished
    assert not known
