"""Who does the steps of a run: owners, offers, steps that are bound to a label."""

from __future__ import annotations

from typing import Any

import pytest

from raftoral_nb.core.apply import apply, apply_entry
from raftoral_nb.core.commands import (
    AssignRun,
    BindStep,
    ChangeMembers,
    Command,
    EndRun,
    Entry,
    FireTimers,
    MoveRun,
    OfferNode,
    RegisterWorkflow,
    SaveStepState,
    SetCheckpoint,
    StartChild,
    StartRun,
    Takeover,
    WithdrawNode,
)
from raftoral_nb.core.events import CommandRefused, NodeOffered, NodeWithdrawn, RunAssigned, StepBound
from raftoral_nb.core.records import Definition, Step
from raftoral_nb.core.run_record import RECORD_FORMAT
from raftoral_nb.core.snapshot import Frozen, Reader
from raftoral_nb.core.state import State, summary


def led(*nodes: int, labels: dict[int, tuple[str, ...]] | None = None) -> State:
    """A state in which node 1 leads in term 1, and these nodes take runs, under tokens such as t2."""
    state = State()
    done(state, Takeover(1, 1), RegisterWorkflow(Definition("w", 1, "f", "d", b"", {})))
    for node in nodes:
        done(state, OfferNode(node, f"t{node}", True, (labels or {}).get(node, ())))
    return state


def done(state: State, *commands: Command) -> tuple[Any, ...]:
    """Apply commands, none of which is refused; return the events of the last."""
    events: tuple[Any, ...] = ()
    for command in commands:
        events = apply(state, command, 1)
        assert not any(isinstance(event, CommandRefused) for event in events), events
    return events


def code(state: State, command: Command) -> str:
    (event,) = apply(state, command, 1)
    assert isinstance(event, CommandRefused), event
    return event.code


def start(run_id: str) -> StartRun:
    return StartRun(run_id, "w", 1, b"", format=RECORD_FORMAT)


def record(run_id: str, node: int, number: int, step_id: str = "0/a") -> SetCheckpoint:
    return SetCheckpoint(run_id, Step(step_id, "compute", b"", None, node, number))


def owner(state: State, run_id: str) -> tuple[int, int]:
    run = state.runs[run_id]
    return run.owner, run.assigned


def test_without_an_offer_the_leader_does_the_steps_of_all_runs() -> None:
    state = led()
    done(state, start("r"))
    assert owner(state, "r") == (0, 0)
    done(state, record("r", 1, 1))
    assert code(state, record("r", 2, 1, "1/b")) == "stale_epoch"


def test_a_run_that_starts_is_given_to_the_node_that_owns_the_fewest() -> None:
    state = led(1, 2, 3)
    owners = []
    for name in "abcde":
        done(state, start(name))
        owners.append(owner(state, name)[0])
    assert owners == [1, 2, 3, 1, 2]
    done(state, EndRun("b", owner(state, "b")[1], 2, b"", None), EndRun("e", owner(state, "e")[1], 2, b"", None))
    done(state, start("f"), start("g"))
    assert (owner(state, "f")[0], owner(state, "g")[0]) == (2, 2)


def test_only_its_owner_records_for_a_run_and_only_under_the_number_of_its_assignment() -> None:
    state = led(2)
    done(state, start("r"))
    node, number = owner(state, "r")
    assert (node, number) == (2, -1)
    for wrong in (record("r", 1, 1), record("r", 2, 1), record("r", 2, -2), record("r", 3, -1)):
        assert code(state, wrong) == "stale_assignment"
    assert code(state, FireTimers("r", 1.0, 1.0, 1, 1)) == "stale_assignment"
    assert code(state, EndRun("r", 1, 1, b"", None)) == "stale_assignment"
    assert code(state, SaveStepState("r", "0/a", 1, b"", 1, 1)) == "stale_assignment"
    done(state, record("r", 2, -1), FireTimers("r", 1.0, 1.0, 2, -1), EndRun("r", -1, 2, b"", None))


def test_a_new_leader_changes_nothing_of_what_owners_do() -> None:
    state = led(2, 3)
    done(state, start("r"), Takeover(3, 2))
    assert code(state, record("r", 3, 2)) == "stale_assignment"
    done(state, record("r", 2, -1))


def test_the_runs_of_a_node_that_is_withdrawn_go_to_the_others_and_nothing_late_of_it_is_taken() -> None:
    state = led(1, 2, 3)
    done(state, start("a"), start("b"))
    _, number = owner(state, "b")
    events = done(state, WithdrawNode(2, "t2"))
    assert events == (NodeWithdrawn(2), RunAssigned("b", 3, -3, "t3"))
    assert code(state, record("b", 2, number)) == "stale_assignment"
    done(state, record("b", 3, -3))
    assert state.owned == {1: 1, 3: 1}


def test_the_leader_does_the_steps_again_once_every_node_is_withdrawn() -> None:
    state = led(2)
    done(state, start("r"))
    assert done(state, WithdrawNode(2, "t2")) == (NodeWithdrawn(2), RunAssigned("r", 0, -2, ""))
    assert code(state, record("r", 2, -1)) == "stale_epoch"
    done(state, record("r", 1, 1))
    assert state.owned == {}


def test_whoever_withdraws_a_node_means_one_start_of_it_and_no_later_one() -> None:
    state = led(2, 3)
    done(state, start("r"), OfferNode(2, "later", True))
    before = summary(state)
    assert done(state, WithdrawNode(2, "t2")) == ()
    assert summary(state) == before


def test_a_node_that_starts_again_keeps_its_runs_under_new_numbers() -> None:
    state = led(2, 3)
    done(state, start("r"))
    events = done(state, OfferNode(2, "later", True))
    assert events == (NodeOffered(2, True, (), "later"), RunAssigned("r", 2, -2, "later"))
    assert code(state, record("r", 2, -1)) == "stale_assignment"
    done(state, record("r", 2, -2))
    assert done(state, OfferNode(2, "later", True)) == (), "said twice"


def test_a_node_that_takes_no_runs_any_more_gives_its_own_to_others() -> None:
    state = led(2, 3)
    done(state, start("r"), OfferNode(2, "t2", False, ("gpu",)))
    assert owner(state, "r")[0] == 3
    done(state, start("s"))
    assert owner(state, "s")[0] == 3


def test_a_node_that_is_no_member_any_more_owns_nothing_and_cannot_offer_itself() -> None:
    state = led()
    apply_entry(state, 5, Entry((), members=(1, 2, 3)))
    done(state, OfferNode(3, "t3", True), start("r"))
    assert owner(state, "r")[0] == 3
    apply_entry(state, 6, Entry((), members=(1, 2)))
    done(state, ChangeMembers(3, "remove"))
    assert owner(state, "r")[0] == 0
    assert code(state, OfferNode(3, "again", True)) == "not_a_member"


def test_a_child_has_an_owner_of_its_own() -> None:
    state = led(1, 2)
    done(state, start("r"))
    step = Step("0/c", "child", b"", None, 1, -1)
    done(state, StartChild("r", step, 1, "kid", "w", 1, b"", False, format=RECORD_FORMAT))
    assert owner(state, "kid")[0] == 2


def test_a_run_can_be_given_to_a_node_or_to_any_other_but_not_to_one_that_takes_none() -> None:
    state = led(1, 2, 3)
    done(state, start("r"), AssignRun("r", 3))
    assert owner(state, "r") == (3, -2)
    done(state, AssignRun("r", 0, -2))
    assert owner(state, "r") in {(1, -3), (2, -3)}
    assert done(state, AssignRun("r", 0, -2)) == (), "it was given to another meanwhile"
    assert code(state, AssignRun("r", 4)) == "no_such_owner"
    assert code(state, AssignRun("unknown", 1)) == "unknown_run"
    done(state, WithdrawNode(2, "t2"), WithdrawNode(3, "t3"))
    assert code(state, AssignRun("r")) == "no_such_owner"


def test_a_run_that_one_after_the_other_gives_away_comes_to_all_nodes_and_not_all_runs_to_the_same_one_first() -> None:
    state = led(1, 2, 3, 4)
    done(state, WithdrawNode(4, "t4"))  # it takes none
    firsts = set()
    for number in range(20):
        done(state, start(f"r{number}"), AssignRun(f"r{number}", 1))
        owners = []
        for _ in range(3):
            done(state, AssignRun(f"r{number}"))
            owners.append(owner(state, f"r{number}")[0])
        assert sorted(owners) == [1, 2, 3]
        assert owners[-1] == 1
        firsts.add(owners[0])
    assert firsts == {2, 3}


# --- steps that are bound to a label


def bind(number: int, *step_ids: str, node: int = 1, where: str = "gpu") -> BindStep:
    return BindStep("r", step_ids or ("0/a",), where, node, number)


def test_a_step_is_bound_to_a_node_that_has_the_label_and_recorded_by_no_other() -> None:
    state = led(1, 2, labels={2: ("gpu",)})
    done(state, start("r"))
    assert done(state, bind(-1)) == (StepBound("r", "0/a", "gpu", 2, -2, "t2"),)
    assert done(state, bind(-1)) == (), "it is bound already"
    assert code(state, record("r", 1, -1)) == "stale_assignment"
    assert code(state, SaveStepState("r", "0/a", 1, b"", 1, -1)) == "stale_assignment"
    done(state, SaveStepState("r", "0/a", 1, b"", 2, -2), record("r", 1, -1, "1/b"), record("r", 2, -2))
    assert not state.runs["r"].bound


def test_a_step_waits_for_a_node_that_has_its_label() -> None:
    state = led(1)
    done(state, start("r"))
    assert done(state, bind(-1)) == (StepBound("r", "0/a", "gpu", 0, -2, ""),)
    assert code(state, record("r", 1, -1)) == "stale_assignment"
    events = done(state, OfferNode(3, "t3", False, ("gpu",)))
    assert events[1:] == (StepBound("r", "0/a", "gpu", 3, -3, "t3"),)
    done(state, record("r", 3, -3))


def test_an_intent_and_its_step_go_to_one_node_and_on_to_one_other() -> None:
    for name in "abcdefgh":
        state = led(1, 2, 3, labels={2: ("gpu",), 3: ("gpu",)})
        done(state, start("r"))
        step_id = f"0/{name}"
        first, second = done(state, bind(-1, "00/intent", step_id))
        assert (first.step_id, second.step_id) == ("00/intent", step_id)
        assert first.node == second.node != 1
        assert first.number == second.number, "whoever records the intent knows it for its own"
        events = done(state, WithdrawNode(first.node, f"t{first.node}"))
        assert len({(it.node, it.number) for it in events if isinstance(it, StepBound)}) == 1
        assert events[-1].node == 5 - first.node


def test_only_whoever_does_the_steps_of_a_run_binds_them() -> None:
    state = led(1, 2, labels={2: ("gpu",)})
    done(state, start("r"))
    assert code(state, bind(1)) == "stale_assignment"
    assert code(state, bind(-1, node=2)) == "stale_assignment"
    done(state, record("r", 1, -1))
    assert done(state, bind(-1)) == (), "it is recorded already"


def test_a_run_that_ends_leaves_no_step_bound() -> None:
    state = led(1)
    done(state, start("r"), bind(-1), EndRun("r", -1, 1, b"", None))
    assert not state.runs["r"].bound


@pytest.mark.parametrize("labels", [{}, {2: ("gpu",)}])
def test_a_run_that_is_moved_to_other_code_has_its_open_steps_bound_anew(labels: dict[int, tuple[str, ...]]) -> None:
    state = led(1, 2, labels=labels)
    done(state, RegisterWorkflow(Definition("w", 2, "g", "e", b"", {})), start("r"), bind(-1), MoveRun("r", 2, 0))
    done(state, record("r", 1, -1))  # the new code names no label for it


# --- malformed, and kept


@pytest.mark.parametrize(
    "command",
    [
        OfferNode(0, "t", True),
        OfferNode(1, "", True),
        OfferNode(1, "t", 1),  # type: ignore[arg-type]
        OfferNode(1, "t", True, ("",)),
        OfferNode(1, "t", True, tuple(map(str, range(17)))),
        WithdrawNode(1, ""),
        AssignRun("", 1),
        AssignRun("r", -1),
        AssignRun("r", 1, 1),
        bind(-1, "", "0/a"),
        bind(-1, "a", "b", "c"),
        bind(0),
        bind(-1, where=""),
    ],
    ids=repr,
)
def test_a_malformed_command_about_owners_is_refused(command: Command) -> None:
    state = led(1)
    done(state, start("r"))
    assert code(state, command) == "bad_command"


def test_offers_owners_and_bound_steps_are_in_a_snapshot() -> None:
    state = led(1, 2, labels={2: ("gpu",)})
    done(state, start("r"), start("s"), bind(-1), EndRun("s", -2, 2, b"", None))
    reader = Reader()
    for piece in Frozen(state).pieces(100):
        reader.feed(piece)
    assert summary(reader.state()) == summary(state)
    assert reader.state().owned == {1: 1}
