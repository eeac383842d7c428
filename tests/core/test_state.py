"""The rules of the replicated state, one example each."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raftoral_nb import limits
from raftoral_nb.core.apply import apply_entry
from raftoral_nb.core.commands import (
    Command,
    EndRun,
    Entry,
    RegisterWorkflow,
    ReserveNumber,
    SetCheckpoint,
    StartRun,
    Takeover,
)
from raftoral_nb.core.events import (
    CheckpointSet,
    EpochChanged,
    NumberReserved,
    RunEvicted,
    WorkflowCompleted,
    WorkflowDropped,
    WorkflowFailed,
    WorkflowRegistered,
    WorkflowStarted,
)
from raftoral_nb.core.records import Definition, Failure, Step
from raftoral_nb.core.run_record import RECORD_FORMAT
from raftoral_nb.core.state import NO_EPOCH, Epoch, State, summary
from raftoral_nb.core.validation import Limits
from tests.core.commands import FAILURE, checkpoint, definition, done, end, refusal, running, start

# --- epochs


def test_nobody_acts_before_the_first_takeover() -> None:
    assert State().epoch == NO_EPOCH == Epoch(0, 0)


def test_a_takeover_of_a_greater_term_changes_the_epoch() -> None:
    state = State()
    assert done(state, Takeover(2, 3)) == (EpochChanged(2, 3),)
    assert done(state, Takeover(1, 7)) == (EpochChanged(1, 7),)
    assert state.epoch == Epoch(1, 7)


@pytest.mark.parametrize("term", [1, 2, 3])
def test_a_takeover_of_the_same_or_an_older_term_is_refused(term: int) -> None:
    state = State()
    done(state, Takeover(2, 3))
    assert refusal(state, Takeover(1, term)) == "stale_takeover"


# --- numbers of nodes that join


def test_a_number_is_reserved_once() -> None:
    state = State()
    assert state.next_number == 1
    assert done(state, ReserveNumber(4)) == (NumberReserved(4),)
    assert state.next_number == 5
    for taken in (1, 4):
        assert refusal(state, ReserveNumber(taken)) == "number_taken"
    assert done(state, ReserveNumber(7)) == (NumberReserved(7),)
    assert state.next_number == 8


def test_a_number_that_a_member_has_or_had_is_not_reserved() -> None:
    state = State()
    apply_entry(state, 1, Entry((), (1, 2, 3)))
    apply_entry(state, 2, Entry((), (1, 2)))
    assert refusal(state, ReserveNumber(3)) == "number_taken"
    assert state.next_number == 4
    assert done(state, ReserveNumber(4)) == (NumberReserved(4),)


@pytest.mark.parametrize("number", [0, -1, True, 1.5, "4", 2**70])
def test_a_number_that_is_none_is_not_reserved(number: Any) -> None:
    assert refusal(State(), ReserveNumber(number)) == "bad_command"


# --- definitions


def test_a_new_definition_is_registered() -> None:
    state = State()
    assert done(state, RegisterWorkflow(definition())) == (WorkflowRegistered("order", 1, replaced=False),)
    assert state.definitions == {("order", 1): definition()}


def test_registering_the_same_fingerprint_again_changes_nothing() -> None:
    """Pickle bytes differ between identical cells; the fingerprint decides."""
    state = running("r1")
    before = summary(state)
    assert done(state, RegisterWorkflow(definition(code=b"other bytes"))) == ()
    assert summary(state) == before


def test_a_changed_definition_is_refused_while_an_unfinished_run_uses_its_version() -> None:
    state = running("r1")
    assert refusal(state, RegisterWorkflow(definition("f2"))) == "version_in_use"


def test_a_changed_definition_replaces_a_version_that_only_finished_runs_used_and_they_keep_theirs() -> None:
    state = running("r1")
    done(state, end())
    assert done(state, RegisterWorkflow(definition("f2"))) == (WorkflowRegistered("order", 1, replaced=True),)
    done(state, StartRun("r2", "order", 1, b"in"))
    assert [run.definition.fingerprint for run in state.runs.values()] == ["f1", "f2"]


def test_a_changed_definition_under_another_version_leaves_running_ones_alone() -> None:
    state = running("r1")
    done(state, RegisterWorkflow(definition("f2", version=2)))
    assert state.runs["r1"].definition == definition()


def test_the_latest_version_is_the_highest_of_that_workflow() -> None:
    state = State()
    assert state.latest_version("order") is None
    for version in (2, 10, 9):
        done(state, RegisterWorkflow(definition(version=version)))
    assert state.latest_version("order") == 10
    assert state.latest_version("ord") is None


# --- runs


def test_a_run_starts_with_the_registered_definition() -> None:
    state = running()
    assert done(state, StartRun("r1", "order", 1, b"in"), 12) == (WorkflowStarted("r1", "order", 1),)
    run = state.runs["r1"]
    assert (run.definition, run.input, run.started_at, run.status, run.records) == (
        definition(),
        b"in",
        12,
        "running",
        [],
    )


@pytest.mark.parametrize(("workflow", "version"), [("order", 2), ("odrer", 1)])
def test_a_run_of_an_unknown_workflow_is_refused(workflow: str, version: int) -> None:
    assert refusal(running(), StartRun("r1", workflow, version, b"")) == "unknown_workflow"


def test_starting_the_same_run_again_is_accepted_and_changes_nothing() -> None:
    state = running("r1")
    done(state, checkpoint())
    before = summary(state)
    assert done(state, StartRun("r1", "order", 1, b"in")) == ()
    assert summary(state) == before


def test_an_equal_digest_is_an_equal_input_and_without_one_the_bytes_count() -> None:
    state = State()
    done(state, RegisterWorkflow(definition()))
    done(state, StartRun("r1", "order", 1, b"in", 0.0, "d1"))
    done(state, StartRun("r2", "order", 1, b"in"))
    assert done(state, StartRun("r1", "order", 1, b"other bytes", 0.0, "d1")) == ()
    assert done(state, StartRun("r1", "order", 1, b"in", 0.0, "d2")) == ()
    assert refusal(state, StartRun("r1", "order", 1, b"other", 0.0, "d2")) == "run_conflict"
    assert refusal(state, StartRun("r1", "order", 1, b"other")) == "run_conflict"
    assert refusal(state, StartRun("r2", "order", 1, b"other", 0.0, "")) == "run_conflict"


def test_starts_in_logs_of_earlier_versions_are_read_without_a_digest_and_a_name() -> None:
    old = msgspec.msgpack.encode(["start", "r1", "order", 1, b"in", 2.5])
    assert msgspec.msgpack.decode(old, type=Command) == StartRun("r1", "order", 1, b"in", 2.5, "", 1, "")


def chosen(start_id: str, run_id: str = "r1", value: bytes = b"in") -> StartRun:
    """A start whose run_id was chosen for it."""
    return StartRun(run_id, "order", 1, value, format=RECORD_FORMAT, start_id=start_id)


def test_a_start_whose_id_was_chosen_never_gets_the_run_of_another_start_though_all_else_is_equal() -> None:
    state = running("r1")
    done(state, chosen("s2", "r2"))
    before = summary(state)
    assert refusal(state, chosen("s1")) == "run_id_taken", "its id was given to another"
    assert refusal(state, chosen("s1", "r2")) == "run_id_taken", "its id was chosen for another"
    assert refusal(state, chosen("s1", "r2", b"other")) == "run_id_taken"
    assert summary(state) == before


def test_a_start_whose_id_was_chosen_makes_one_run_however_often_it_comes_and_by_whichever_node() -> None:
    state = running()
    assert done(state, chosen("s1")) == (WorkflowStarted("r1", "order", 1),)
    before = summary(state)
    assert done(state, chosen("s1")) == ()
    assert summary(state) == before
    done(state, end("r1"))
    assert done(state, chosen("s1")) == (), "nor when the run has ended"
    assert list(state.runs) == ["r1"]


def test_a_run_whose_id_was_chosen_is_found_by_whoever_gives_that_id_and_an_equal_input() -> None:
    state = running()
    done(state, chosen("s1"))
    assert done(state, start("r1")) == ()
    assert refusal(state, StartRun("r1", "order", 1, b"other")) == "run_conflict"


def test_starting_a_run_under_a_used_id_with_another_input_or_version_is_refused() -> None:
    state = running("r1")
    done(state, RegisterWorkflow(definition(version=2)))
    assert refusal(state, StartRun("r1", "order", 1, b"other")) == "run_conflict"
    assert refusal(state, StartRun("r1", "order", 2, b"in")) == "run_conflict"


# --- checkpoints


def test_a_checkpoint_of_the_acting_node_is_recorded() -> None:
    state = running("r1")
    command = checkpoint()
    assert done(state, command) == (CheckpointSet("r1", command.step),)
    assert state.runs["r1"].records == [command.step]
    assert state.runs["r1"].by_id == {"0/charge": command.step}
    assert state.checkpoints == 1


def test_steps_are_kept_in_the_order_in_which_they_were_recorded() -> None:
    state = running("r1")
    for step_id in ("1.1.0/b", "1.0.0/a", "0/c"):
        done(state, checkpoint(step_id))
    assert [step.step_id for step in state.runs["r1"].steps] == ["1.1.0/b", "1.0.0/a", "0/c"]


def test_a_failed_step_is_recorded_as_a_failure() -> None:
    state = running("r1")
    done(state, checkpoint(value=None, failure=FAILURE))
    assert state.runs["r1"].steps[0].failure == FAILURE


def test_the_first_record_of_a_step_wins() -> None:
    state = running("r1")
    done(state, checkpoint(value=b"first"))
    assert refusal(state, checkpoint(value=b"second")) == "already_recorded"
    assert refusal(state, checkpoint(value=b"first")) == "already_recorded"
    done(state, Takeover(2, 2))
    assert refusal(state, checkpoint(value=b"third", node=2, epoch=2)) == "already_recorded"
    assert state.runs["r1"].by_id["0/charge"].value == b"first"


@pytest.mark.parametrize(("node", "epoch"), [(1, 1), (2, 1), (1, 2), (2, 3)])
def test_only_the_acting_node_in_its_own_term_records(node: int, epoch: int) -> None:
    state = running("r1")
    done(state, Takeover(2, 2))
    assert refusal(state, checkpoint(node=node, epoch=epoch)) == "stale_epoch"
    assert refusal(state, EndRun("r1", epoch, node, b"done", None)) == "stale_epoch"


def test_nothing_is_recorded_for_an_unknown_or_an_ended_run() -> None:
    state = running("r1")
    assert refusal(state, checkpoint(run_id="r2")) == "unknown_run"
    assert refusal(state, end("r2")) == "unknown_run"
    done(state, end())
    assert refusal(state, checkpoint()) == "run_ended"


# --- ends


def test_a_run_ends_with_a_result() -> None:
    state = running("r1")
    assert done(state, end()) == (WorkflowCompleted("r1", b"done"),)
    run = state.runs["r1"]
    assert (run.status, run.result, run.failure) == ("completed", b"done", None)


def test_a_run_ends_with_a_failure() -> None:
    state = running("r1")
    assert done(state, end(result=None, failure=FAILURE)) == (WorkflowFailed("r1", FAILURE),)
    run = state.runs["r1"]
    assert (run.status, run.result, run.failure) == ("failed", None, FAILURE)


def test_the_first_end_of_a_run_wins() -> None:
    state = running("r1")
    done(state, end())
    assert refusal(state, end(result=None, failure=FAILURE)) == "run_ended"


def test_an_empty_value_is_a_value() -> None:
    state = running("r1")
    done(state, checkpoint(value=b""))
    assert done(state, end(result=b"")) == (WorkflowCompleted("r1", b""),)


def test_the_run_that_finished_first_is_evicted_first_and_its_id_stays_refused() -> None:
    state = running("r1", "r2", "r3", "r4", limits=Limits(runs_kept=2, evicted_run_ids=1))
    done(state, end("r2"))
    done(state, end("r1"))
    assert done(state, end("r3")) == (WorkflowCompleted("r3", b"done"), RunEvicted("r2"))
    assert list(state.runs) == ["r1", "r3", "r4"]
    assert list(state.finished) == ["r1", "r3"]
    assert refusal(state, StartRun("r2", "order", 1, b"in")) == "run_evicted"
    assert refusal(state, checkpoint(run_id="r2")) == "unknown_run"


def test_evicted_ids_are_remembered_up_to_a_horizon() -> None:
    state = running("r1", "r2", limits=Limits(runs_kept=0, evicted_run_ids=1))
    done(state, end("r1"))
    done(state, end("r2"))
    assert list(state.evicted) == ["r2"]
    assert done(state, StartRun("r1", "order", 1, b"in")) == (WorkflowStarted("r1", "order", 1),)


# --- malformed commands

LIMITED = Limits(value_bytes=20, code_bytes=20)
TOO_LARGE = b"x" * 21


@pytest.mark.parametrize(
    "command",
    [
        None,
        "takeover",
        Takeover(1, "2"),  # type: ignore[arg-type]
        Takeover(1, True),
        Takeover(1, 2.0),  # type: ignore[arg-type]
        Takeover(0, 2),
        Takeover(1, 2**63),
        RegisterWorkflow(None),  # type: ignore[arg-type]
        RegisterWorkflow(definition(code=TOO_LARGE)),
        RegisterWorkflow(Definition("", 1, "f", "d", b"", {})),
        RegisterWorkflow(Definition("order", -1, "f", "d", b"", {})),
        RegisterWorkflow(Definition("order", 1, "f", "d", b"", ["cell"])),  # type: ignore[arg-type]
        StartRun("", "order", 1, b""),
        StartRun("r" * (limits.MAX_NAME_CHARS + 1), "order", 1, b""),
        StartRun(["r"], "order", 1, b""),  # type: ignore[arg-type]
        StartRun("r", "order", 1, TOO_LARGE),
        StartRun("r", "order", 1, "text"),  # type: ignore[arg-type]
        StartRun("r", "order", 1, b"", start_id=5),  # type: ignore[arg-type]
        StartRun("r", "order", 1, b"", start_id="s" * (limits.MAX_NAME_CHARS + 1)),
        SetCheckpoint("r1", None),  # type: ignore[arg-type]
        checkpoint(value=None),
        checkpoint(value=b"1", failure=Failure("E", "m")),
        checkpoint(value=TOO_LARGE),
        checkpoint(value=None, failure=Failure("E", "m", "t" * 21)),
        checkpoint(value=None, failure=Failure("E", "m", exception=TOO_LARGE)),
        checkpoint(value=None, failure="failed"),
        checkpoint(step_id=""),
        checkpoint(step_id="s" * (limits.MAX_STEP_ID_CHARS + 1)),
        checkpoint(epoch=True),
        SetCheckpoint("r1", Step("0/a", "erase", b"", None, 1, 1)),  # type: ignore[arg-type]
        SetCheckpoint({}, Step("0/a", "compute", b"", None, 1, 1)),  # type: ignore[arg-type]
        end(result=None),
        end(failure=Failure("E", "m")),
        end(result=TOO_LARGE),
        end(run_id=[]),  # type: ignore[arg-type]
    ],
    ids=repr,
)
def test_a_malformed_or_oversized_command_is_refused(command: Any) -> None:
    assert refusal(running("r1", limits=LIMITED), command) == "bad_command"


def test_the_limits_are_those_of_the_model() -> None:
    assert State().limits == Limits(
        value_bytes=limits.MAX_RECORDED_BYTES,
        code_bytes=limits.MAX_CODE_BYTES,
        session_answers=limits.MAX_SESSION_ANSWERS,
        sessions=limits.MAX_SESSIONS,
        runs_kept=limits.MAX_RUNS_KEPT,
        evicted_run_ids=limits.MAX_EVICTED_RUN_IDS,
    )
    assert limits.MAX_SESSION_ANSWERS > limits.MAX_OUTSTANDING_PROPOSALS


def test_a_summary_is_a_copy_and_sees_every_difference_of_order() -> None:
    one, other = running("r1", "r2"), running("r2", "r1")
    assert summary(one) != summary(other)
    before = summary(one)
    done(one, checkpoint())
    assert summary(one) != before


# --- how many definitions


def _registered(*versions: int, limit: int = 3) -> State:
    state = running(limits=Limits(definitions=limit))
    for version in versions:
        done(state, RegisterWorkflow(definition(f"f{version}", version)))
    return state


def test_past_the_limit_the_version_registered_first_makes_room() -> None:
    state = _registered(3, 2)
    events = done(state, RegisterWorkflow(definition("f4", 4)))
    assert events == (WorkflowDropped("order", 1), WorkflowRegistered("order", 4, replaced=False))
    assert list(state.definitions) == [("order", 3), ("order", 2), ("order", 4)]
    done(state, RegisterWorkflow(definition("f5", 5)))
    assert list(state.definitions) == [("order", 2), ("order", 4), ("order", 5)]


def test_a_version_that_an_unfinished_run_uses_stays_until_the_run_ends() -> None:
    state = _registered(2, 3)
    done(state, StartRun("r1", "order", 1, b"in"))
    done(state, RegisterWorkflow(definition("f4", 4)))
    assert list(state.definitions) == [("order", 1), ("order", 3), ("order", 4)]
    done(state, end("r1"))
    done(state, RegisterWorkflow(definition("f5", 5)))
    assert list(state.definitions) == [("order", 3), ("order", 4), ("order", 5)]
    assert state.runs["r1"].definition == definition(), "a run that is kept keeps its code"
    assert done(state, StartRun("r1", "order", 1, b"in")) == (), "and starting it again asks for the same run"


def test_where_every_definition_is_the_latest_or_in_use_no_more_are_taken() -> None:
    state = _registered(2, limit=2)
    done(state, StartRun("r1", "order", 1, b"in"))
    other = msgspec.structs.replace(definition(), workflow="other")
    assert refusal(state, RegisterWorkflow(other)) == "too_many_workflows"
    done(state, RegisterWorkflow(definition("new code", 2)))  # replacing needs no room
    done(state, end("r1"))
    assert done(state, RegisterWorkflow(other))[0] == WorkflowDropped("order", 1)
    assert refusal(state, RegisterWorkflow(msgspec.structs.replace(other, workflow="third"))) == "too_many_workflows"
