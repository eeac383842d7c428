"""What the functions of running steps save for the next attempt: the latest of the acting node, until the step is recorded."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftoral_nb.core.apply import apply
from raftoral_nb.core.commands import CancelRun, ContinueRun, MoveRun, RegisterWorkflow, SaveStepState, Takeover
from raftoral_nb.core.events import CommandRefused, StepStateSaved
from raftoral_nb.core.records import StepState
from raftoral_nb.core.snapshot import Frozen, Reader
from raftoral_nb.core.state import State, summary
from raftoral_nb.core.validation import Limits
from tests.core.commands import checkpoint, definition, done, end, refusal, running


def saves(number: int = 1, value: bytes = b"epoch", step_id: str = "0/charge", **more: Any) -> SaveStepState:
    names = {"run_id": "r1", "node": 1, "epoch": 1, **more}
    return SaveStepState(step_id=step_id, number=number, value=value, **names)


def saved(state: State, run_id: str = "r1") -> dict[str, bytes]:
    return {step_id: one.value for step_id, one in state.runs[run_id].step_states.items()}


def test_the_latest_of_a_step_is_kept_and_is_no_record() -> None:
    state = running("r1")
    assert done(state, saves(1, b"one", at=2.0)) == (StepStateSaved("r1", "0/charge", 1, 3),)
    assert done(state, saves(3, b"three", at=1.0)) == (StepStateSaved("r1", "0/charge", 3, 5),)
    done(state, saves(1, b"x", "1/other"))
    assert state.runs["r1"].step_states["0/charge"] == StepState("0/charge", 3, b"three", 1.0)
    assert saved(state) == {"0/charge": b"three", "1/other": b"x"}
    assert (state.runs["r1"].records, state.runs["r1"].time, state.checkpoints) == ([], 0.0, 0)


def test_one_that_is_late_is_refused_and_one_that_is_said_twice_changes_nothing() -> None:
    state = running("r1")
    done(state, saves(2, b"two"))
    before = summary(state)
    assert done(state, saves(2, b"two")) == ()
    assert summary(state) == before
    assert refusal(state, saves(1, b"one")) == "older_step_state"


def test_a_recorded_step_has_none_and_gets_none() -> None:
    state = running("r1")
    done(state, saves())
    done(state, saves(step_id="1/other"))
    done(state, checkpoint())
    assert saved(state) == {"1/other": b"epoch"}
    assert refusal(state, saves(2)) == "already_recorded"


@pytest.mark.parametrize("over", [end(), ContinueRun("r1", 1, 1, 1, b"")], ids=["ended", "began anew"])
def test_the_end_of_a_run_or_its_new_beginning_drops_them(over: Any) -> None:
    state = running("r1")
    done(state, saves())
    done(state, over)
    assert saved(state) == {}


def test_a_request_to_cancel_another_epoch_and_a_move_leave_them() -> None:
    state = running("r1")
    done(state, saves())
    done(state, CancelRun("r1", "why"))
    done(state, Takeover(2, 2))
    done(state, RegisterWorkflow(definition(version=2)))
    done(state, MoveRun("r1", 2, 1))
    assert saved(state) == {"0/charge": b"epoch"}
    done(state, saves(2, b"later", node=2, epoch=2, version=2))
    assert saved(state) == {"0/charge": b"later"}


def test_a_run_with_as_many_as_may_be_saves_no_more_but_goes_on_with_those() -> None:
    state = running("r1", "r2", limits=Limits(step_states=2))
    done(state, saves())
    done(state, saves(step_id="1/b"))
    assert refusal(state, saves(step_id="2/c")) == "too_many_step_states"
    done(state, saves(2, b"later"))
    done(state, saves(step_id="2/c", run_id="r2"))
    done(state, checkpoint())
    done(state, saves(step_id="2/c"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"run_id": ""},
        {"step_id": ""},
        {"step_id": "s" * 1025},
        {"number": 0},
        {"number": True},
        {"value": b"12345"},
        {"value": None},
        {"node": 0},
        {"epoch": 0},
        {"version": -1},
        {"generation": 0},
        {"at": float("nan")},
    ],
    ids=str,
)
def test_what_is_malformed_or_too_large_is_refused(wrong: dict[str, Any]) -> None:
    command = {"value": b"1234", **wrong}
    assert refusal(running("r1", limits=Limits(value_bytes=4)), saves(**command)) == "bad_command"


def test_a_snapshot_holds_them_in_pieces_and_the_state_is_the_same() -> None:
    state = running("r1", "r2")
    for number in range(5):
        done(state, saves(value=bytes(100), step_id=f"{number}/s"))
    done(state, checkpoint("9/done"))
    pieces = list(Frozen(state).pieces(150))
    assert len(pieces) > 5
    reader = Reader()
    for piece in pieces:
        reader.feed(piece)
    assert summary(reader.state()) == summary(state)


def test_what_is_saved_after_a_snapshot_was_begun_is_not_in_it() -> None:
    state = running("r1")
    done(state, saves(1, b"one"))
    frozen = Frozen(state)
    done(state, saves(2, b"two"))
    done(state, saves(1, b"x", "1/other"))
    reader = Reader()
    for piece in frozen.pieces():
        reader.feed(piece)
    assert saved(reader.state()) == {"0/charge": b"one"}


@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["save", "record", "take over"])), max_size=30))
def test_whatever_comes_in_whatever_order_the_numbers_of_a_step_only_rise(asked: list[tuple[int, str]]) -> None:
    """Against an account of our own: what the current epoch saved last with a higher number, until the step is recorded."""
    state, expected, term, is_recorded = running("r1"), 0, 1, False
    for number, what in asked:
        if what == "take over":
            term += 1
            done(state, Takeover(1, term))
        elif what == "record":
            is_recorded = is_recorded or number > 3
            apply(state, checkpoint(epoch=term), 9) if number > 3 else refusal(state, checkpoint(epoch=term + 1))
            expected = 0 if is_recorded else expected
        else:
            events = apply(state, saves(number, str(number).encode(), epoch=term), 9)
            is_refused = bool(events) and isinstance(events[0], CommandRefused)
            assert is_refused == (is_recorded or number < expected)
            expected = expected if is_refused else number
        known = state.runs["r1"].step_states.get("0/charge")
        assert (0 if known is None else known.number) == expected
        assert known is None or known.value == str(known.number).encode()
