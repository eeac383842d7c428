"""The checker finds what must never be, and nothing else: driven by hand, without a simulation."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from raftoral_nb.core.apply import Applied
from raftoral_nb.core.cluster_events import EffectStarted
from raftoral_nb.core.commands import (
    AssignRun,
    Committed,
    FireTimers,
    MoveRun,
    PauseRun,
    Proposal,
    SetCheckpoint,
    StartRun,
    Takeover,
)
from raftoral_nb.core.events import (
    CheckpointSet,
    EpochChanged,
    RunAssigned,
    RunMoved,
    RunPaused,
    RunResumed,
    StateEvent,
    TimerFired,
    WorkflowStarted,
)
from raftoral_nb.core.records import Operation, ProposalId, Step, TimersFired
from raftoral_nb.core.state import Epoch
from raftoral_nb.raft.journal import MemoryJournal
from raftoral_nb.raft.pysyncobj_driver import LEADER
from raftoral_nb.simulation.invariants import COMMITTED_BY_LEADER, DELETED, LATER_TERM, Checker
from raftoral_nb.simulation.owners import NUMBERED_ONCE, OWN_ASSIGNMENT
from raftoral_nb.simulation.pausing import PAUSED, Pauses
from raftoral_nb.workflow.execution.inbox import RecordAdded, RunStarted


class Table:
    """Three nodes with journals and nothing else."""

    def __init__(self) -> None:
        self.checker = Checker(lambda: 0.0)
        self.nodes: dict[int, Any] = {number: self._node(number) for number in (1, 2, 3)}

    def _node(self, number: int) -> Any:
        journal = MemoryJournal()
        self.checker.journals[number] = journal
        return SimpleNamespace(
            number=number,
            journal=journal,
            records_handed_over=0,
            incarnation=SimpleNamespace(number=1, offering=SimpleNamespace(token=f"start of {number}")),
            executor=SimpleNamespace(acting=None, execution=lambda run_id: None),
            member=SimpleNamespace(
                state=SimpleNamespace(index=0, epoch=Epoch(0, 0), runs={}),
                replica=SimpleNamespace(raft=SimpleNamespace(term=0, role=0)),
            ),
        )

    def add(self, index: int, term: int, *numbers: int, data: bytes = b"x") -> None:
        for number in numbers:
            journal = self.nodes[number].journal
            journal.setCurrentTerm(max(term, journal.getCurrentTerm()), None)
            journal.add(data, index, term)
            self.checker.added(number, data, index, term)

    def apply(self, number: int, index: int, *applied: Applied, in_term: int = 1) -> None:
        self.nodes[number].member.replica.raft.term = in_term
        self.checker.applied(self.nodes[number], index, applied)

    @property
    def violated(self) -> set[str]:
        return {violation.invariant for violation in self.checker.violations}


@pytest.fixture
def table() -> Table:
    return Table()


def taken_over(node: int, term: int) -> Applied:
    return Applied(Proposal(None, Takeover(node, term)), Committed(1), (EpochChanged(node, term),))


def recorded(
    step_id: str,
    node: int,
    term: int,
    *,
    number: int = 1,
    index: int = 1,
    operation: Operation = "compute",
    version: int = 0,
) -> Applied:
    step = Step(step_id, operation, b"1", None, node, term)
    proposal = Proposal(ProposalId("0.1.a", number), SetCheckpoint("r", step, version))
    return Applied(proposal, Committed(index), (CheckpointSet("r", step),))


def fired(node: int, term: int, *, number: int, index: int) -> Applied:
    timers = TimersFired(5.0, 5.5, node, term)
    proposal = Proposal(ProposalId("0.1.a", number), FireTimers("r", 5.0, 5.5, node, term))
    return Applied(proposal, Committed(index), (TimerFired("r", timers),))


def test_two_leaders_of_one_term_are_found_and_one_that_is_told_of_twice_is_not(table: Table) -> None:
    table.checker.role_changed(table.nodes[1], "leader", 3)
    table.checker.role_changed(table.nodes[1], "leader", 3)
    assert not table.violated
    table.checker.role_changed(table.nodes[2], "leader", 3)
    assert table.violated == {"one leader per term"}


def test_a_leader_must_have_what_earlier_terms_committed_but_not_what_a_younger_term_did(table: Table) -> None:
    table.add(1, 1, 1, 2, 3)
    table.add(2, 2, 1, 2)
    table.apply(1, 1, in_term=1)
    table.apply(1, 2, in_term=5)  # an old entry that a leader of term 5 committed
    table.checker.role_changed(table.nodes[3], "leader", 4)
    assert not table.violated
    table.checker.role_changed(table.nodes[3], "leader", 6)
    assert table.violated == {"what was committed stays"}


def test_entries_that_differ_where_they_must_be_one_are_found(table: Table) -> None:
    table.add(1, 1, 1, 2)
    table.add(1, 1, 3, data=b"y")
    assert table.violated == {"log matching"}
    table.apply(1, 1)
    table.apply(3, 1)
    assert "applied sequences are prefixes of one another" in table.violated


def test_what_a_member_held_when_its_disk_was_lost_counts_until_it_is_no_member(table: Table) -> None:
    """The leader cannot know that a copy is gone; one that is lost is a failure like another, and was taken for a violation."""
    table.add(1, 1, 1, 3)
    table.checker.disk_lost(3)
    table.nodes[1].member.replica.raft.role = LEADER
    table.apply(1, 1)
    assert not table.violated
    table.add(2, 1, 1)
    table.apply(1, 2)
    assert table.violated == {COMMITTED_BY_LEADER}


def test_what_a_removed_member_held_counts_no_more(table: Table) -> None:
    table.add(1, 1, 1, 3)
    table.checker.disk_lost(3)
    table.checker.removed(3)
    table.nodes[1].member.replica.raft.role = LEADER
    table.apply(1, 1)
    assert table.violated == {COMMITTED_BY_LEADER}


def test_an_entry_that_no_majority_holds_must_not_be_applied(table: Table) -> None:
    table.add(1, 1, 1)
    table.apply(1, 1)
    assert table.violated == {"a follower commits only what its leader verified"}
    table.add(2, 1, 1)
    table.nodes[1].member.replica.raft.role = LEADER
    table.apply(1, 2)
    assert "a leader commits only what a majority holds" in table.violated


def test_an_entry_of_a_later_term_than_its_nodes_is_found(table: Table) -> None:
    table.add(1, 2, 1, 2)
    assert not table.violated
    table.checker.added(3, b"x", 1, 2)
    assert table.violated == {LATER_TERM}


def test_a_committed_entry_must_not_be_deleted(table: Table) -> None:
    table.add(1, 1, 1, 2)
    table.checker.deleted(2, 1, 1)
    assert not table.violated
    table.apply(1, 1)
    table.checker.deleted(2, 1, 1)
    assert table.violated == {DELETED}


def test_records_outside_of_their_epoch_or_made_twice_are_found(table: Table) -> None:
    for index in (1, 2, 3, 4):
        table.add(index, 2, 1, 2)
    table.apply(1, 1, taken_over(1, 2))
    table.apply(1, 2, recorded("0/a", 1, 2, index=2))
    assert not table.violated
    table.apply(1, 3, recorded("0/a", 1, 2, number=2, index=3))
    assert table.violated == {"a step has one record"}
    table.apply(1, 4, recorded("1/b", 3, 1, number=3, index=4))
    assert "only the current epoch records" in table.violated


def test_what_a_new_leader_records_of_a_paused_run_is_found_be_it_a_step_or_timers(table: Table) -> None:
    for index in range(1, 8):
        table.add(index, 4, 1, 2)

    def said(index: int, *events: StateEvent) -> Applied:
        return Applied(Proposal(ProposalId("0.1.b", index), PauseRun("r")), Committed(index), events)

    table.apply(1, 1, taken_over(1, 2))
    table.apply(1, 2, said(2, RunPaused("r")))
    table.apply(1, 3, recorded("0/begun before", 1, 2, number=1, index=3))
    table.apply(1, 4, taken_over(2, 4))
    assert not table.violated
    table.apply(1, 5, fired(2, 4, number=2, index=5))
    assert table.violated == {PAUSED}
    table.checker.violations.clear()
    table.apply(1, 6, recorded("1/begun since", 2, 4, number=3, index=6))
    assert table.violated == {PAUSED}
    table.checker.violations.clear()
    table.apply(1, 7, said(7, RunResumed("r")), recorded("2/after", 2, 4, number=4, index=7))
    assert not table.violated


def test_an_effect_that_begins_after_a_node_was_told_of_a_pause_is_found_but_not_another_attempt_of_it() -> None:
    time, found = [1.0], []
    pauses = Pauses(lambda: time[0], lambda invariant, text, place: found.append(invariant), virtual=True)
    began = partial(pauses.effect_started, 1, 1, 2, "r", "r")
    began("0/a")
    pauses.handed_over(1, 1, "r", paused=True)
    began("1/in that moment")
    time[0] = 2.0
    began("0/a")
    pauses.effect_started(2, 1, 2, "r", "r", "0/on another node")
    assert not found
    began("2/new")
    assert found == [PAUSED]
    pauses.handed_over(1, 1, "r", paused=False)
    began("3/resumed")
    assert found == [PAUSED]


def test_a_record_by_other_code_than_the_run_executes_is_found(table: Table) -> None:
    for index in (1, 2, 3, 4, 5):
        table.add(index, 2, 1, 2)
    moved = Applied(Proposal(ProposalId("0.1.b", 1), MoveRun("r", 2, 0)), Committed(3), (RunMoved("r", 2, 0),))
    begun = Applied(
        Proposal(ProposalId("0.1.b", 2), StartRun("r", "w", 1, b"")), Committed(1), (WorkflowStarted("r", "w", 1),)
    )
    table.apply(1, 1, begun, taken_over(1, 2))
    table.apply(1, 2, recorded("0/a", 1, 2, number=1, index=2, version=1))
    table.apply(1, 3, moved)
    table.apply(1, 4, recorded("1/b", 1, 2, number=2, index=4, version=2))
    assert not table.violated
    table.apply(1, 5, recorded("2/c", 1, 2, number=3, index=5, version=1))
    assert table.violated == {"only the code of a run records"}


def test_a_proposal_that_is_carried_out_at_two_indexes_is_found_and_one_that_is_only_answered_again_is_not(
    table: Table,
) -> None:
    for index in (1, 2, 3):
        table.add(index, 1, 1, 2)
    first = recorded("0/a", 0, 0, index=1)
    table.apply(1, 1, first)
    table.apply(1, 2, Applied(first.proposal, Committed(1), ()))
    assert "nothing is applied twice" not in table.violated
    table.apply(1, 3, Applied(first.proposal, Committed(3), ()))
    assert "nothing is applied twice" in table.violated


def test_an_effect_before_everything_that_precedes_its_epoch_was_handed_over_is_found(table: Table) -> None:
    for index, what in enumerate((taken_over(1, 1), recorded("0/a", 1, 1, index=2), taken_over(2, 2)), start=1):
        table.add(index, 1, 1, 2)
        table.apply(1, index, what)
    node = table.nodes[2]
    node.executor.acting = 2
    table.checker.effect_started(node, EffectStarted(2, "r", "1/b"))
    assert table.violated == {"who acts has consumed what precedes its epoch"}
    table.checker.violations.clear()
    record = table.checker.records["r", "0/a"][1]
    definition: Any = None
    table.checker.handed_over(node, [RunStarted("r", definition, b""), RecordAdded("r", record)])
    table.checker.effect_started(node, EffectStarted(2, "r", "2/c"))
    assert not table.violated


def given(number: int, node: int, token: str, run_id: str = "r") -> Applied:
    """A run is given to a node."""
    command = AssignRun(run_id, node)
    event = RunAssigned(run_id, node, number, token)
    return Applied(Proposal(ProposalId(f"0.1.{number}", 1), command), Committed(1), (event,))


def owns(number: int | None) -> Any:
    """An execution of a run, at a node that does its steps under a number."""
    return SimpleNamespace(rights=SimpleNamespace(now=lambda step_id: number))


def test_a_record_by_another_than_the_owner_or_under_another_number_is_found(table: Table) -> None:
    table.add(1, 1, 1, 2)
    table.apply(1, 1, taken_over(1, 1), given(-1, 2, "start of 2"), recorded("0/a", 2, -1))
    assert not table.violated
    for index, (node, number) in enumerate(((1, 1), (3, -1), (2, -2)), start=2):
        table.add(index, 1, 1, 2)
        table.apply(1, index, recorded(f"{index}/b", node, number, index=index, number=index))
        assert table.violated == {"only the current epoch records"}
        table.checker.violations.clear()


def test_a_number_that_is_given_twice_is_found(table: Table) -> None:
    table.add(1, 1, 1, 2)
    table.apply(1, 1, taken_over(1, 1), given(-1, 2, "start of 2"), given(-1, 3, "start of 3", "s"))
    assert table.violated == {NUMBERED_ONCE}


def test_an_effect_under_an_assignment_of_an_earlier_start_of_the_node_is_found(table: Table) -> None:
    table.add(1, 1, 1, 2)
    table.apply(1, 1, taken_over(1, 1), given(-1, 2, "start of 2"), given(-2, 2, "an earlier start", "s"))
    node = table.nodes[2]
    node.executor.execution = lambda run_id: owns(-1 if run_id == "r" else -2)
    table.checker.effect_started(node, EffectStarted(2, "r", "0/a"))
    assert not table.violated
    table.checker.effect_started(node, EffectStarted(2, "s", "0/a"))
    assert table.violated == {OWN_ASSIGNMENT}


def test_an_effect_of_a_node_that_owns_nothing_is_found(table: Table) -> None:
    node = table.nodes[2]
    node.executor.execution = lambda run_id: owns(None)
    table.checker.effect_started(node, EffectStarted(2, "r", "0/a"))
    assert table.violated == {"effects need an epoch"}


def test_records_that_are_handed_over_in_another_order_than_they_were_made_are_found(table: Table) -> None:
    table.add(1, 1, 1, 2)
    table.apply(1, 1, taken_over(1, 1), recorded("0/a", 1, 1), recorded("1/b", 1, 1, number=2))
    second = table.checker.records["r", "1/b"][1]
    table.checker.handed_over(table.nodes[2], [RecordAdded("r", second)])
    assert table.violated == {"every node sees the same records"}


def test_acting_without_the_own_takeover_applied_is_found(table: Table) -> None:
    table.checker.acting_changed(table.nodes[1], 2)
    assert table.violated == {"acting needs its takeover applied"}
