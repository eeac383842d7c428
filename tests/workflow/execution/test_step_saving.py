"""What is sent of the checkpoints of one attempt, and when: against an environment that answers when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftoral_nb.core.commands import Committed, Outcome, Rejected, SaveStepState, Unknown
from raftoral_nb.core.records import StepState
from raftoral_nb.errors import NotAcknowledgedError
from raftoral_nb.workflow.codec import values
from raftoral_nb.workflow.execution.step_saving import Saving, StepSaver

DONE = Committed(7)


class Alone:
    """The environment of one execution, and the execution."""

    node = 1

    def __init__(self, known: StepState | None = None) -> None:
        self.now = 0.0
        self.alarms: list[tuple[float, Callable[[], object]]] = []
        self.asked: list[tuple[SaveStepState, Callable[[Outcome], None]]] = []
        """What is under way."""
        self.sent: list[SaveStepState] = []
        self.said: list[str] = []
        self.large_values = SimpleNamespace(most=10**9)
        self.known = known
        self.timers = SimpleNamespace(
            clock=lambda: self.now, call_at=lambda when, callback: self.alarms.append((when, callback))
        )
        self.run_id, self.generation, self.around = "r", 1, self
        self.definition = SimpleNamespace(version=2)
        self.say_once = self.said.append

    def step_state(self, run_id: str, step_id: str) -> StepState | None:
        assert (run_id, step_id) == ("r", "0/fit")
        return self.known

    def wall_clock(self) -> float:
        return 100.0 + self.now

    def post(self, fn: Callable[[], object]) -> None:
        fn()

    def ask(self, command: Any, done: Callable[[Outcome], None]) -> None:
        self.asked.append((command, done))
        self.sent.append(command)

    def answer(self, outcome: Outcome = DONE) -> None:
        _, done = self.asked.pop(0)
        done(outcome)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        due = [callback for when, callback in self.alarms if when <= self.now]
        self.alarms = [one for one in self.alarms if one[0] > self.now]
        for callback in due:
            callback()

    @property
    def values(self) -> list[Any]:
        return [values.decode(command.value, what="a checkpoint") for command in self.sent]


def saver(around: Alone, term: int | None = 5) -> StepSaver:
    return StepSaver(around, "0/fit", term)  # type: ignore[arg-type]


def is_over(saving: Saving) -> bool:
    return saving._future.done()


def test_the_first_is_sent_at_once_and_the_latest_a_second_later() -> None:
    around = Alone()
    one = saver(around)
    first, second, third = (one.take(value, None) for value in "abc")
    assert (is_over(first), is_over(second), is_over(third)) == (False, True, True)
    around.answer()
    assert is_over(first)
    around.pass_time(0.9)
    assert around.values == ["a"]
    around.pass_time(0.2)
    assert around.values == ["a", "c"]
    assert around.sent[1] == SaveStepState("r", "0/fit", 2, around.sent[1].value, 1, 5, 2, 1, 101.1)


def test_one_is_under_way_at_a_time_and_who_waits_is_told_of_a_later_one() -> None:
    around = Alone()
    one = saver(around)
    savings = [one.take(value, 0) for value in "abc"]
    assert around.values == ["a"]
    around.answer()
    assert around.values == ["a", "c"]
    assert [is_over(saving) for saving in savings] == [True, False, False]
    around.answer()
    assert all(map(is_over, savings))
    assert around.asked == []


def test_numbers_go_on_from_what_was_saved_before() -> None:
    around = Alone(StepState("0/fit", 41, b""))
    one = saver(around)
    one.take("a", 0)
    assert [command.number for command in around.sent] == [42]
    assert one.known is around.known


@pytest.mark.parametrize("outcome", [Unknown("the deadline"), Rejected("nobody leads", "no_leader")])
def test_what_is_not_known_to_be_saved_is_said_again_for_as_long_as_the_attempt_runs(outcome: Outcome) -> None:
    around = Alone()
    one = saver(around)
    saving = one.take("a", 0)
    around.answer(outcome)
    assert [command.number for command in around.sent] == [1, 1]
    one.close()
    around.answer(outcome)
    assert around.asked == []
    with pytest.raises(NotAcknowledgedError) as raised:
        saving.wait()
    assert raised.value.may_commit


def test_after_a_refusal_for_good_nothing_more_is_sent_and_all_who_wait_are_told() -> None:
    around = Alone()
    one = saver(around)
    savings = [one.take("a", 0), one.take("b", 0)]
    around.answer(Rejected("another node acts", "stale_epoch"))
    savings.append(one.take("c", 0))
    assert around.values == ["a"]
    for saving in savings:
        with pytest.raises(NotAcknowledgedError):
            saving.wait()
    assert around.said == []


def test_a_run_with_too_many_saved_states_says_so() -> None:
    around = Alone()
    saver(around).take("a", 0)
    around.answer(Rejected("no more", "too_many_step_states"))
    assert len(around.said) == 1
    assert "MAX_STEP_STATES" in around.said[0]


def test_without_a_term_or_after_its_end_an_attempt_saves_nothing() -> None:
    around = Alone()
    closed = saver(around)
    closed.close()
    for one in (saver(around, None), closed):
        with pytest.raises(NotAcknowledgedError, match="not needed any more"):
            one.take("a", 0).wait()
    assert around.sent == []


def test_flushing_waits_until_the_last_is_saved_whether_it_was_due_or_not() -> None:
    async def flush() -> None:
        around = Alone()
        one = saver(around)
        for value in "abc":
            one.take(value, 1000)
        one.close()
        flushing = asyncio.ensure_future(one.flush())
        await asyncio.sleep(0)
        around.answer()
        assert around.values == ["a", "c"]
        await asyncio.sleep(0)
        assert not flushing.done()
        around.answer()
        await flushing
        await one.flush()  # nothing is left
        assert around.asked == []

    asyncio.run(flush())


def test_what_cannot_be_saved_in_the_end_keeps_nobody_waiting() -> None:
    async def flush() -> None:
        around = Alone()
        one = saver(around)
        one.take("a", 0)
        one.close()
        flushing = asyncio.ensure_future(one.flush())
        await asyncio.sleep(0)
        around.answer(Rejected("another node acts", "stale_epoch"))
        await flushing

    asyncio.run(flush())


_deeds = st.lists(st.sampled_from(["take", "take", "answer", "unknown", "time"]) | st.floats(0, 3), max_size=40)


@given(_deeds, st.sampled_from([0.0, 1.0, 2.5]))
def test_whatever_happens_values_are_sent_in_order_and_the_last_one_is_saved_in_the_end(
    deeds: list[Any], every: float
) -> None:
    around = Alone()
    one, taken = saver(around), 0
    begun: list[float] = []

    def check() -> None:
        assert len(around.asked) <= 1
        numbers = [command.number for command in around.sent]
        assert numbers == sorted(numbers)
        if len(set(numbers)) > len(begun):
            assert around.values[-1] == taken, "the latest"
            assert not begun or around.now - begun[-1] >= every - 1e-9
            begun.append(around.now)

    for deed in deeds:
        match deed:
            case "take":
                taken += 1
                one.take(taken, every)
            case "answer" | "unknown" if around.asked:
                around.answer(DONE if deed == "answer" else Unknown("the deadline"))
            case float():
                around.pass_time(deed)
        check()
    while around.asked or around.alarms:
        if around.asked:
            around.answer()
        else:
            around.pass_time(every)
        check()
    assert not taken or around.values[-1] == taken
