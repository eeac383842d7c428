"""The replay cursor, the catch-up queue and the names of steps, one example each."""

from __future__ import annotations

from typing import Any

import pytest

from raftoral_nb.core.records import Operation, Step
from raftoral_nb.core.replay import Branch, Diverged, Missing, Recorded, Replay
from raftoral_nb.errors import InternalError, RaftoralError, StepKeyError
from raftoral_nb.limits import MAX_NAME_CHARS


def step(step_id: str, operation: Operation = "compute") -> Step:
    return Step(step_id, operation, step_id.encode(), None, 1, 1)


# --- names


def test_steps_are_numbered_from_zero_within_their_branch() -> None:
    branch = Branch()
    assert [branch.next_id(key) for key in ("reserve", "charge", "charge")] == ["0/reserve", "1/charge", "2/charge"]


def test_peeking_names_the_next_step_without_taking_it() -> None:
    branch = Branch()
    assert branch.peek_id("charge") == branch.peek_id("charge") == branch.next_id("charge") == "0/charge"
    assert branch.ordinal == 1


def test_a_parallel_branch_has_a_path_of_its_own_under_the_operation_named_last() -> None:
    root = Branch()
    for key in ("load", "split", "fits"):
        root.next_id(key)
    first, second = root.child(0), root.child(1)
    assert second.next_id("fit") == "2.1.0/fit"
    assert first.next_id("fit") == "2.0.0/fit"
    assert second.child(3).next_id("fold") == "2.1.0.3.0/fold"
    assert root.next_id("best") == "3/best"


def test_a_branch_of_no_operation_is_a_bug() -> None:
    with pytest.raises(InternalError):
        Branch().child(0)


@pytest.mark.parametrize("key", ["charge", "a b", "fit/3", "größe", "👩‍🔬", "k" * MAX_NAME_CHARS])
def test_a_key_may_be_any_printable_text(key: str) -> None:
    step_id = Branch().next_id(key)
    assert step(step_id).key == key


@pytest.mark.parametrize(
    "key", ["", " ", "a\nb", "\x00", "\x9b", "\u2028", "\ud800", "k" * (MAX_NAME_CHARS + 1), None, 3]
)
def test_an_unusable_key_is_refused_and_takes_no_ordinal(key: Any) -> None:
    branch = Branch()
    with pytest.raises(StepKeyError, match="key"):
        branch.next_id(key)
    assert branch.ordinal == 0
    assert issubclass(StepKeyError, RaftoralError)


def test_a_step_too_deep_to_be_named_is_refused() -> None:
    with pytest.raises(StepKeyError, match="too deep"):
        Branch("2.1." * 256).next_id("fit")


# --- asking


def test_a_recorded_step_is_answered_with_its_record() -> None:
    replay = Replay([step("0/charge")])
    assert replay.ask("0/charge", "compute") == Recorded(step("0/charge"))


def test_a_step_not_recorded_yet_is_missing_and_after_the_end_for_ever() -> None:
    replay = Replay([step("0/charge")])
    assert replay.ask("1/ship", "compute") == Missing(ended=False)
    replay.end()
    assert replay.ask("1/ship", "compute") == Missing(ended=True)
    assert replay.ask("0/charge", "compute") == Recorded(step("0/charge"))


@pytest.mark.parametrize(("asked", "operation"), [("0/refund", "compute"), ("0/charge", "var"), ("0/refund", "set")])
def test_another_key_or_operation_at_a_recorded_position_has_diverged(asked: str, operation: Operation) -> None:
    replay = Replay([step("0/charge")])
    answer = replay.ask(asked, operation)
    assert isinstance(answer, Diverged)
    assert (answer.asked_id, answer.asked_operation, answer.recorded) == (asked, operation, step("0/charge"))
    assert asked in answer.reason
    assert "0/charge" in answer.reason


def test_divergence_is_seen_after_the_step_was_consumed_and_after_the_end_too() -> None:
    replay = Replay([step("0/charge")])
    replay.consume("0/charge")
    replay.end()
    assert isinstance(replay.ask("0/refund", "compute"), Diverged)


def test_positions_of_different_branches_are_different() -> None:
    replay = Replay([step("2.1.0/fit")])
    for step_id in ("2/fit", "2.1/fit", "2.0.0/fit", "2.1.0.0/fit", "0/fit"):
        assert replay.ask(step_id, "compute") == Missing(ended=False)


def test_keys_with_slashes_are_compared_whole() -> None:
    replay = Replay([step("0/fit/1")])
    assert isinstance(replay.ask("0/fit/1", "compute"), Recorded)
    assert isinstance(replay.ask("0/fit/2", "compute"), Diverged)


def test_asking_changes_nothing() -> None:
    replay = Replay([step("0/a"), step("1/b")])
    for step_id in ("0/a", "1/x", "7/y"):
        replay.ask(step_id, "compute")
    assert (replay.queue, replay.consumed, replay.last_consumed, replay.recorded) == (("0/a", "1/b"), 0, None, 2)


# --- the queue


def test_the_queue_is_what_was_recorded_and_not_consumed_in_record_order() -> None:
    replay = Replay()
    assert (replay.queue, replay.queue_length, replay.ended) == ((), 0, False)
    for step_id in ("1.1.0/b", "1.0.0/a", "2/c"):
        replay.record(step(step_id))
    before = replay.queue
    assert replay.consume("1.0.0/a") == step("1.0.0/a")
    assert (before, replay.queue) == (("1.1.0/b", "1.0.0/a", "2/c"), ("1.1.0/b", "2/c"))
    assert replay.queue_length == 2
    assert (replay.consumed, replay.last_consumed, replay.recorded) == (1, "1.0.0/a", 3)


def test_a_held_execution_of_twenty_steps_has_twenty_in_its_queue_and_drains_to_none() -> None:
    ids = [f"{ordinal}/step" for ordinal in range(20)]
    replay = Replay(map(step, ids))
    lengths = []
    for step_id in ids:
        lengths.append(replay.queue_length)
        replay.consume(step_id)
    assert lengths == list(range(20, 0, -1))
    assert (replay.queue, replay.consumed, replay.last_consumed) == ((), 20, "19/step")


def test_consuming_twice_or_what_is_not_recorded_is_a_bug() -> None:
    replay = Replay([step("0/a")])
    replay.consume("0/a")
    with pytest.raises(InternalError, match="consumed before"):
        replay.consume("0/a")
    with pytest.raises(InternalError, match="not recorded"):
        replay.consume("1/b")
    assert (replay.consumed, replay.last_consumed) == (1, "0/a")


def test_handing_a_step_over_twice_is_a_bug_even_after_it_was_consumed() -> None:
    replay = Replay([step("0/a")])
    with pytest.raises(InternalError, match="twice"):
        replay.record(step("0/a"))
    replay.consume("0/a")
    with pytest.raises(InternalError, match="twice"):
        replay.record(step("0/a"))
    assert replay.queue_length == 0


def test_nothing_is_handed_over_after_the_end() -> None:
    replay = Replay([step("0/a")], ended=True)
    with pytest.raises(InternalError, match="end"):
        replay.record(step("1/b"))
    assert replay.queue == ("0/a",)


def test_of_two_records_at_one_position_the_first_is_the_one_and_the_other_shows_as_divergence() -> None:
    replay = Replay([step("0/a"), step("0/b")])
    assert isinstance(replay.ask("0/a", "compute"), Recorded)
    assert isinstance(replay.ask("0/b", "compute"), Diverged)


def test_a_void_position_is_dropped_whether_it_is_recorded_before_or_after() -> None:
    before, after, other = (Step(f"{number}/step", "compute", b"1", None, 1, 1) for number in range(3))
    replay = Replay([before])
    replay.void("0")
    replay.void("1")
    replay.record(after)
    replay.record(other)
    assert replay.queue == ("2/step",)
    assert (replay.consumed, replay.recorded) == (2, 3)
    replay.void("0")
    assert replay.consumed == 2


def test_what_is_recorded_at_a_position_is_told_with_its_place_in_the_log() -> None:
    first, second = (Step(f"{number}/step", "compute", b"1", None, 1, 1) for number in range(2))
    replay = Replay([second, first])
    replay.consume("1/step")
    assert replay.recorded_at("1") == (0, second)
    assert replay.recorded_at("0") == (1, first)
    assert replay.recorded_at("2") is None


def test_a_branch_is_past_where_something_is_recorded_there_below_or_behind() -> None:
    def at(path: str, ordinal: int) -> Branch:
        branch = Branch(path)
        branch.ordinal = ordinal
        return branch

    replay = Replay()
    assert not replay.is_past(at("", 0))
    replay.record(step("2.1.0.3.4/fold"))
    assert all(replay.is_past(at("", ordinal)) for ordinal in (0, 1, 2))
    assert replay.is_past(at("2.1.", 0))
    assert replay.is_past(at("2.1.0.3.", 4))
    ahead = [at("", 3), at("2.1.", 1), at("2.0.", 0), at("2.1.0.3.", 5), at("2.1.0.2.", 0), at("21.", 0), at("1.1.", 0)]
    assert not any(map(replay.is_past, ahead))


def test_the_end_of_a_branch_is_past_when_who_waited_for_it_went_on() -> None:
    root = Branch()
    root.next_id("gather")
    inner = root.child(0)
    inner.next_id("one")
    replay = Replay([step("0.0.0/one"), step("0.1.0/other"), step("0.1.1/more")])
    assert not replay.is_past(inner)
    replay.record(step("1/next"))
    assert replay.is_past(inner)
    assert not replay.is_past(Branch("7.0."))  # of a task group: nobody waits there
