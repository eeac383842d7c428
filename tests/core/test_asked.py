"""Names of steps, and the match of what an execution asked for with the records of its run."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from raftoral_nb.core.asked import Asked, Awaited, Diverged, Dropped
from raftoral_nb.core.records import Operation, Step
from raftoral_nb.core.step_ids import Branch, check_key, path_of, position_of
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


def test_a_branch_of_an_operation_has_a_path_under_its_position() -> None:
    root = Branch()
    position = position_of([root.next_id(key) for key in ("load", "split", "fits")][-1])
    first, second = Branch(path_of(position, 0)), Branch(path_of(position, 1))
    assert second.next_id("fit") == "2.1.0/fit"
    assert first.next_id("fit") == "2.0.0/fit"
    assert Branch(path_of(position_of("2.1.0/fit"), 3)).next_id("fold") == "2.1.0.3.0/fold"
    assert root.next_id("best") == "3/best"


@pytest.mark.parametrize("key", ["charge", "a b", "fit/3", "größe", "👩‍🔬", "k" * MAX_NAME_CHARS])
def test_a_key_may_be_any_printable_text(key: str) -> None:
    step_id = Branch().next_id(key)
    assert step(step_id).key == key
    assert position_of(step_id) == "0"


@pytest.mark.parametrize(
    "key", ["", " ", "a\nb", "\x00", "\x9b", "\u2028", "\ud800", "k" * (MAX_NAME_CHARS + 1), None, 3]
)
def test_an_unusable_key_is_refused_and_takes_no_ordinal(key: Any) -> None:
    branch = Branch()
    for name in (branch.next_id, branch.next_gate_id, check_key):
        with pytest.raises(StepKeyError, match="key"):
            name(key)
    assert branch.ordinal == 0
    assert branch.next_gate_id("new") == Branch().next_gate_id("new")
    assert issubclass(StepKeyError, RaftoralError)


def test_a_step_too_deep_to_be_named_is_refused_and_takes_no_number() -> None:
    deep = Branch("2.1." * 256)
    for name in (deep.next_id, deep.next_gate_id):
        with pytest.raises(StepKeyError, match="too deep"):
            name("fit")
    assert deep.ordinal == 0


def test_a_gate_is_numbered_by_its_name_alone_so_that_nothing_else_gets_another_name() -> None:
    without, branch = Branch("2.1."), Branch("2.1.")
    without.next_id("a")
    gates = [branch.next_gate_id("new")]
    assert branch.next_id("a") == "2.1.0/a"
    branch.next_gate_id("other gate")
    gates.append(branch.next_gate_id("new"))
    assert branch.next_id("b") == without.next_id("b") == "2.1.1/b"
    assert [gate.partition("/")[2] for gate in gates] == ["new", "new"]
    places = [position_of(gate) for gate in gates]
    assert places[0].startswith("2.1.g")
    assert places[0].removesuffix("0") == places[1].removesuffix("1")


def test_no_two_gates_steps_and_branches_share_a_position() -> None:
    root = Branch()
    names = [root.next_gate_id("a"), root.next_gate_id("b"), root.next_gate_id("a"), root.next_id("a")]
    names += [Branch(path_of("0", 0)).next_id("a"), Branch("t0.").next_id("a"), Branch("c0.").next_id("a")]
    assert len({position_of(name) for name in names}) == len(names)


# --- matching


def test_what_is_waited_for_is_answered_once() -> None:
    asked = Asked()
    asked.ask("0/charge", "compute")
    assert (len(asked), asked.open) == (1, (("0/charge", "compute"),))
    assert asked.match(step("0/charge")) == Awaited()
    assert (len(asked), asked.open) == (0, ())
    assert isinstance(asked.match(step("0/charge")), Diverged)


def test_what_is_not_waited_for_any_more_is_dropped_once() -> None:
    asked = Asked()
    asked.ask("0/charge", "compute")
    asked.give_up("0/charge")
    assert len(asked) == 0
    assert asked.match(step("0/charge")) == Dropped()
    assert isinstance(asked.match(step("0/charge")), Diverged)


def test_records_come_in_any_order_and_what_is_open_keeps_the_order_of_asking() -> None:
    asked = Asked()
    for number in range(4):
        asked.ask(f"{number}/s", "compute")
    assert asked.match(step("2/s")) == Awaited()
    asked.give_up("0/s")
    assert [step_id for step_id, _ in asked.open] == ["1/s", "3/s"]


@pytest.mark.parametrize("given_up", [False, True])
@pytest.mark.parametrize(
    ("step_id", "operation"), [("0/refund", "compute"), ("0/charge", "var"), ("0/refund", "child")]
)
def test_another_key_or_operation_at_a_recorded_position_has_diverged_and_both_sides_are_named(
    step_id: str, operation: Operation, given_up: bool
) -> None:
    asked = Asked()
    asked.ask("0/charge", "compute")
    if given_up:
        asked.give_up("0/charge")
    match = asked.match(step(step_id, operation))
    assert isinstance(match, Diverged)
    assert (match.recorded, match.asked_id) == (step(step_id, operation), "0/charge")
    assert match.asked == "compute '0/charge'"
    assert match.asked in match.reason
    assert f"{operation} {step_id!r}" in match.reason


@pytest.mark.parametrize("step_id", ["1/charge", "0.0.0/charge", "t0.0/charge", "00/charge"])
def test_a_record_at_a_position_where_nothing_was_asked_for_has_diverged(step_id: str) -> None:
    asked = Asked()
    asked.ask("0/charge", "compute")
    match = asked.match(step(step_id))
    assert isinstance(match, Diverged)
    assert (match.asked_id, match.asked) == (None, "")
    assert f"did not ask for compute {step_id!r}" in match.reason


def test_keys_with_slashes_are_compared_whole() -> None:
    asked = Asked()
    asked.ask("0/fit/1", "compute")
    assert isinstance(asked.match(step("0/fit/2")), Diverged)
    assert asked.match(step("0/fit/1")) == Awaited()


def test_asking_twice_at_one_position_or_giving_up_what_is_not_waited_for_is_a_bug() -> None:
    asked = Asked()
    asked.ask("0/a", "compute")
    with pytest.raises(InternalError, match="twice"):
        asked.ask("0/b", "compute")
    asked.give_up("0/a")
    with pytest.raises(InternalError, match="twice"):
        asked.ask("0/a", "compute")
    for never in ("0/a", "1/b"):
        with pytest.raises(InternalError, match="not waited for"):
            asked.give_up(never)


OPERATIONS: tuple[Operation, ...] = ("compute", "child", "var")


@given(st.data())
def test_whatever_is_asked_for_given_up_and_recorded_in_any_order_each_record_finds_its_own(data: Any) -> None:
    asked = Asked()
    waiting: dict[str, Operation] = {}
    given_up: dict[str, Operation] = {}
    branches = [Branch(), Branch("0.0."), Branch("t0.")]
    for _ in range(data.draw(st.integers(0, 30))):
        what = data.draw(st.sampled_from(["ask", "ask", "give up", "record"]))
        if what == "ask":
            branch = data.draw(st.sampled_from(branches))
            gate = data.draw(st.integers(0, 4)) == 0
            step_id = branch.next_gate_id("new") if gate else branch.next_id(data.draw(st.sampled_from("ab")))
            waiting[step_id] = data.draw(st.sampled_from(OPERATIONS))
            asked.ask(step_id, waiting[step_id])
        elif what == "give up" and waiting:
            step_id = data.draw(st.sampled_from(list(waiting)))
            given_up[step_id] = waiting.pop(step_id)
            asked.give_up(step_id)
        elif what == "record" and (waiting or given_up):
            step_id = data.draw(st.sampled_from([*waiting, *given_up]))
            operation = {**waiting, **given_up}[step_id]
            assert asked.match(step(step_id, operation)) == (Awaited() if step_id in waiting else Dropped())
            waiting.pop(step_id, None)
            given_up.pop(step_id, None)
        assert asked.open == tuple(waiting.items())
        assert len(asked) == len(waiting)


@given(st.lists(st.sampled_from("ab"), max_size=6), st.lists(st.sampled_from("ab"), max_size=6))
def test_an_execution_diverges_at_the_first_record_that_differs_and_at_no_other(
    recorded: list[str], executed: list[str]
) -> None:
    asked, naming, branch = Asked(), Branch(), Branch()
    for place, key in enumerate(recorded):
        if place < len(executed):
            asked.ask(branch.next_id(executed[place]), "compute")
        match = asked.match(step(naming.next_id(key)))
        if place < len(executed) and executed[place] == key:
            assert match == Awaited()
            continue
        assert isinstance(match, Diverged)
        assert match.asked_id == (f"{place}/{executed[place]}" if place < len(executed) else None)
        break
