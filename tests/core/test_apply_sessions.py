"""Proposals and sessions: what comes again is answered and not applied again. One example each."""

from __future__ import annotations

from typing import Any

import pytest

from raftoral_nb.core.apply import apply_entry, recorded_answer
from raftoral_nb.core.commands import (
    Command,
    Committed,
    Entry,
    Proposal,
    RegisterWorkflow,
    StartRun,
    Takeover,
    WithBlobs,
)
from raftoral_nb.core.events import CommandRefused, WorkflowRegistered
from raftoral_nb.core.records import ProposalId
from raftoral_nb.core.state import State, summary
from raftoral_nb.core.validation import Limits
from tests.core.commands import checkpoint, code, definition, end, propose, running


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


def test_a_command_with_large_values_is_refused_where_other_members_vote_and_each_copy_gets_the_same_answer() -> None:
    state = State()
    apply_entry(state, 1, Entry((), (1, 2, 3)))
    register = RegisterWorkflow(definition())
    counted = [WithBlobs(register, members) for members in ((1, 2), (1, 2, 3))]
    proposals = [Proposal(ProposalId("0.1.a", number), command) for number, command in enumerate(counted, 1)]
    refused, done = apply_entry(state, 2, Entry(tuple(proposals)))
    assert code(refused) == "members_changed"
    assert (refused.proposal.carried, len(refused.events)) == (register, 1)
    assert done.answer == Committed(2)
    apply_entry(state, 3, Entry((), (1, 2)))
    again, still_done = apply_entry(state, 4, Entry(tuple(proposals)))
    assert again.answer == refused.answer, "also where those vote that were counted"
    assert still_done.answer == Committed(2)
    assert not again.events


def test_nothing_is_counted_twice_and_no_claim_to_lead_is_counted() -> None:
    state = State()
    twice = WithBlobs(WithBlobs(RegisterWorkflow(definition()), ()), ())  # type: ignore[arg-type]
    (applied,) = apply_entry(state, 1, Entry((Proposal(ProposalId("0.1.a", 1), twice),)))
    assert code(applied) == "bad_command"
    (applied,) = apply_entry(state, 2, Entry((Proposal(None, WithBlobs(Takeover(1, 1), ())),)))
    assert code(applied) == "bad_command"


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
