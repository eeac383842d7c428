"""The rules of the replicated state, one example each."""

from __future__ import annotations

from typing import Any

import pytest

from raftoral_nb import model
from raftoral_nb.model import (
    CheckpointSet,
    Command,
    CommandRefused,
    Committed,
    Definition,
    EndRun,
    Entry,
    EpochChanged,
    Failure,
    Proposal,
    ProposalId,
    RegisterWorkflow,
    Rejected,
    RunEvicted,
    SetCheckpoint,
    StartRun,
    Step,
    Takeover,
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowRegistered,
    WorkflowStarted,
)
from raftoral_nb.state import NO_EPOCH, Applied, Epoch, Limits, State, apply, apply_entry, recorded_answer, summary

FAILURE = Failure("ValueError", "no such card")


def definition(fingerprint: str = "f1", version: int = 1, code: bytes = b"code") -> Definition:
    return Definition("order", version, fingerprint, "digest", code, {"cell 1": "async def order(): ..."})


def checkpoint(
    step_id: str = "0/charge",
    value: bytes | None = b"1",
    *,
    run_id: str = "r1",
    node: int = 1,
    epoch: int = 1,
    **more: Any,
) -> SetCheckpoint:
    return SetCheckpoint(run_id, Step(step_id, "compute", value, more.get("failure"), node, epoch))


def end(run_id: str = "r1", result: bytes | None = b"done", failure: Failure | None = None, epoch: int = 1) -> EndRun:
    return EndRun(run_id, epoch, 1, result, failure)


def running(*run_ids: str, limits: Limits | None = None) -> State:
    """Node 1 acts in term 1, `order` version 1 is registered, and the runs are started."""
    state = State(limits or Limits())
    commands: list[Command] = [Takeover(1, 1), RegisterWorkflow(definition())]
    commands += [StartRun(run_id, "order", 1, b"in") for run_id in run_ids]
    for command in commands:
        done(state, command)
    return state


def done(state: State, command: Command, index: int = 9) -> tuple[Any, ...]:
    """Apply a command that must be accepted."""
    events = apply(state, command, index)
    assert not any(isinstance(event, CommandRefused) for event in events), events
    return events


def refusal(state: State, command: Any) -> str:
    """Apply a command that must be refused and change nothing; its code."""
    before = summary(state)
    (event,) = apply(state, command, 9)
    assert isinstance(event, CommandRefused)
    assert event.reason
    assert summary(state) == before
    return event.code


def propose(state: State, index: int, client: str, number: int, command: Command) -> Applied:
    (applied,) = apply_entry(state, index, Entry((Proposal(ProposalId(client, number), command),)))
    return applied


def code(applied: Applied) -> str:
    assert isinstance(applied.answer, Rejected)
    return applied.answer.code


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
    assert (run.definition, run.input, run.started_at, run.status, run.steps) == (
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
    assert state.runs["r1"].steps == [command.step]
    assert state.runs["r1"].by_id == {"0/charge": command.step}
    assert state.checkpoints == 1


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
        StartRun("r" * (model.MAX_NAME_CHARS + 1), "order", 1, b""),
        StartRun(["r"], "order", 1, b""),  # type: ignore[arg-type]
        StartRun("r", "order", 1, TOO_LARGE),
        StartRun("r", "order", 1, "text"),  # type: ignore[arg-type]
        SetCheckpoint("r1", None),  # type: ignore[arg-type]
        checkpoint(value=None),
        checkpoint(value=b"1", failure=FAILURE),
        checkpoint(value=TOO_LARGE),
        checkpoint(value=None, failure=Failure("E", "m", "t" * 21)),
        checkpoint(value=None, failure=Failure("E", "m", exception=TOO_LARGE)),
        checkpoint(value=None, failure="failed"),
        checkpoint(step_id=""),
        checkpoint(step_id="s" * (model.MAX_STEP_ID_CHARS + 1)),
        checkpoint(epoch=True),
        SetCheckpoint("r1", Step("0/a", "erase", b"", None, 1, 1)),  # type: ignore[arg-type]
        SetCheckpoint({}, Step("0/a", "compute", b"", None, 1, 1)),  # type: ignore[arg-type]
        end(result=None),
        end(failure=FAILURE),
        end(result=TOO_LARGE),
        end(run_id=[]),  # type: ignore[arg-type]
    ],
    ids=repr,
)
def test_a_malformed_or_oversized_command_is_refused(command: Any) -> None:
    assert refusal(running("r1", limits=LIMITED), command) == "bad_command"


# --- proposals and sessions


def test_a_committed_answer_carries_the_index_of_its_entry() -> None:
    state = State()
    applied = propose(state, 5, "0.1.a", 1, RegisterWorkflow(definition()))
    assert applied.answer == Committed(5)
    assert applied.events == (WorkflowRegistered("order", 1, replaced=False),)
    assert (state.index, state.commands, state.entries) == (5, 1, 1)


def test_a_refused_command_is_answered_with_its_code_and_shown_as_an_event() -> None:
    state = State()
    applied = propose(state, 5, "0.1.a", 1, StartRun("r1", "order", 1, b""))
    assert code(applied) == "unknown_workflow"
    assert [type(event) for event in applied.events] == [CommandRefused]
    assert state.commands == 0


def test_the_proposals_of_an_entry_are_applied_in_order() -> None:
    state = State()
    start = StartRun("r1", "order", 1, b"in")
    commands: list[Command] = [Takeover(1, 1), RegisterWorkflow(definition()), start, checkpoint(), end()]
    entry = Entry(tuple(Proposal(ProposalId("0.1.a", n), command) for n, command in enumerate(commands, 1)))
    assert [applied.answer for applied in apply_entry(state, 3, entry)] == [Committed(3)] * 5
    assert state.runs["r1"].status == "completed"
    assert (state.commands, state.entries, state.checkpoints) == (5, 1, 1)


def test_an_entry_without_proposals_only_moves_the_index() -> None:
    state = State()
    assert apply_entry(state, 4, Entry(())) == []
    assert (state.index, state.entries) == (4, 0)


def test_a_takeover_needs_no_id_and_makes_no_session() -> None:
    state = State()
    (applied,) = apply_entry(state, 1, Entry((Proposal(None, Takeover(1, 1)),)))
    assert applied.answer == Committed(1)
    assert state.sessions == {}


def test_any_other_command_without_an_id_is_refused() -> None:
    state = State()
    (applied,) = apply_entry(state, 1, Entry((Proposal(None, RegisterWorkflow(definition())),)))
    assert code(applied) == "bad_command"
    assert state.definitions == {}


def test_a_repeated_proposal_gets_its_first_answer_and_is_not_applied_again() -> None:
    state = running("r1", limits=Limits(runs_kept=0, evicted_run_ids=0))
    propose(state, 5, "0.1.a", 1, end())
    start = StartRun("r1", "order", 1, b"in")
    assert propose(state, 6, "0.1.a", 2, start).events
    propose(state, 7, "0.1.a", 3, end())
    repeated = propose(state, 8, "0.1.a", 2, start)
    assert (repeated.answer, repeated.events) == (Committed(6), ())
    assert state.runs == {}
    assert state.commands == 3


def test_a_repeated_refused_proposal_stays_refused_even_if_it_would_succeed_now() -> None:
    state = State()
    start = StartRun("r1", "order", 1, b"in")
    first = propose(state, 5, "0.1.a", 1, start)
    propose(state, 6, "0.1.a", 2, RegisterWorkflow(definition()))
    again = propose(state, 7, "0.1.a", 1, start)
    assert (again.answer, again.events) == (first.answer, ())
    assert state.runs == {}


def test_a_repeat_within_one_entry_is_not_applied_again() -> None:
    state = State()
    proposal = Proposal(ProposalId("0.1.a", 1), Takeover(1, 1))
    first, second = apply_entry(state, 3, Entry((proposal, proposal)))
    assert (first.answer, second.answer, second.events) == (Committed(3), Committed(3), ())


def test_a_number_below_the_horizon_is_refused_and_not_applied() -> None:
    state = State(Limits(session_answers=2))
    for number in (2, 3, 4):
        propose(state, number, "0.1.a", number, Takeover(1, number))
    assert state.sessions["0.1.a"].horizon == 2
    assert set(state.sessions["0.1.a"].answers) == {3, 4}
    for number in (1, 2):
        applied = propose(state, 9, "0.1.a", number, Takeover(1, 90 + number))
        assert (code(applied), applied.events) == ("too_old", ())
    assert state.epoch.term == 4


def test_numbers_may_arrive_out_of_order_within_the_horizon() -> None:
    state = running(limits=Limits(session_answers=3))
    for number in (3, 1, 2):
        run_id = f"r{number}"
        assert propose(state, 5, "0.1.a", number, StartRun(run_id, "order", 1, b"")).answer == Committed(5)
    assert list(state.runs) == ["r3", "r1", "r2"]


def test_the_least_recently_used_client_is_forgotten_and_never_comes_back() -> None:
    state = State(Limits(sessions=2))
    propose(state, 5, "3.1.a", 1, Takeover(1, 1))
    propose(state, 6, "4.2.b", 1, Takeover(1, 2))
    propose(state, 7, "3.1.a", 2, Takeover(1, 3))
    propose(state, 8, "5.3.c", 1, Takeover(1, 4))
    assert set(state.sessions) == {"3.1.a", "5.3.c"}
    assert state.evicted_birth == 4
    applied = propose(state, 9, "4.2.b", 2, Takeover(1, 9))
    assert (code(applied), applied.events) == ("session_expired", ())
    assert state.epoch.term == 4
    assert propose(state, 9, "3.1.a", 3, Takeover(1, 9)).answer == Committed(9), "one that is remembered goes on"


def test_a_new_client_born_before_a_forgotten_one_is_refused_and_one_born_after_it_is_not() -> None:
    state = State(Limits(sessions=1))
    propose(state, 5, "3.1.a", 1, Takeover(1, 1))
    propose(state, 6, "6.1.b", 1, Takeover(1, 2))
    assert code(propose(state, 7, "3.9.new", 1, Takeover(1, 3))) == "session_expired"
    assert propose(state, 7, "4.9.new", 1, Takeover(1, 3)).answer == Committed(7)


def test_the_mark_of_forgotten_clients_never_falls() -> None:
    state = State(Limits(sessions=1))
    for index, client in enumerate(("8.1.a", "9.1.b"), 10):
        propose(state, index, client, 1, Takeover(1, index))
    state.sessions = {"2.1.old": state.sessions["9.1.b"]}
    propose(state, 13, "12.1.c", 1, Takeover(1, 13))
    assert state.evicted_birth == 8


def test_of_clients_used_equally_recently_the_first_by_name_is_forgotten() -> None:
    state = State(Limits(sessions=2))
    names = ("1.2.b", "1.1.a")
    apply_entry(state, 3, Entry(tuple(Proposal(ProposalId(name, 1), Takeover(1, 1)) for name in names)))
    propose(state, 4, "2.1.c", 1, Takeover(1, 1))
    assert set(state.sessions) == {"1.2.b", "2.1.c"}


@pytest.mark.parametrize("client", ["", "node", ".1.a", "-1.1.a", "8.1.a", "x" * 300, None, 5, ["0.1.a"]])
def test_a_client_that_does_not_begin_with_a_past_index_is_refused(client: Any) -> None:
    """A birth in the future would, once forgotten, shut out every client that is younger."""
    state = State()
    assert code(propose(state, 7, client, 1, Takeover(1, 1))) == "bad_command"
    assert state.sessions == {}


@pytest.mark.parametrize("number", [0, -1, True, None, "1", 2**63])
def test_a_number_that_is_none_is_refused(number: Any) -> None:
    state = State()
    assert code(propose(state, 7, "0.1.a", number, Takeover(1, 1))) == "bad_command"


def test_what_is_not_a_proposal_is_refused() -> None:
    (applied,) = apply_entry(State(), 1, Entry((None,)))  # type: ignore[arg-type]
    assert code(applied) == "bad_command"


def test_a_recorded_answer_can_be_looked_up_without_using_the_session() -> None:
    state = State()
    assert recorded_answer(state, ProposalId("0.1.a", 1)) is None
    propose(state, 5, "0.1.a", 1, Takeover(1, 1))
    before = summary(state)
    assert recorded_answer(state, ProposalId("0.1.a", 1)) == Committed(5)
    assert recorded_answer(state, ProposalId("0.1.a", 2)) is None
    assert summary(state) == before


def test_the_limits_are_those_of_the_model() -> None:
    assert State().limits == Limits(
        value_bytes=model.MAX_VALUE_BYTES,
        code_bytes=model.MAX_CODE_BYTES,
        session_answers=model.MAX_SESSION_ANSWERS,
        sessions=model.MAX_SESSIONS,
        runs_kept=model.MAX_RUNS_KEPT,
        evicted_run_ids=model.MAX_EVICTED_RUN_IDS,
    )
    assert model.MAX_SESSION_ANSWERS > model.MAX_OUTSTANDING_PROPOSALS


def test_a_summary_is_a_copy_and_sees_every_difference_of_order() -> None:
    one, other = running("r1", "r2"), running("r2", "r1")
    assert summary(one) != summary(other)
    before = summary(one)
    done(one, checkpoint())
    assert summary(one) != before
