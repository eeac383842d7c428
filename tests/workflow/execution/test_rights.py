"""What a node may do of a run: as the leader, as the owner, as the node that a step is bound to."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from raftoral_nb.core.commands import BindStep, Command
from raftoral_nb.workflow.execution.acting import OpenStep, StepPlace
from raftoral_nb.workflow.execution.inbox import StepGiven
from raftoral_nb.workflow.execution.rights import Rights


class Around:
    """A node that leads in `acting`, and notes what it is to propose and to say."""

    node = 1

    def __init__(self, acting: int | None) -> None:
        self.acting = acting
        self.proposed: list[Command] = []
        self.said: list[str] = []
        self.alarms = SimpleNamespace(clock=lambda: 5.0)

    def propose(self, command: Command, refused: Any) -> None:
        self.proposed.append(command)

    def say(self, run_id: str, text: str) -> None:
        self.said.append(text)


EXECUTION: Any = SimpleNamespace(definition=SimpleNamespace(version=3), generation=1)


PLACE = StepPlace("gpu", ("0/fit",))


def ask(step_id: str = "0/fit") -> OpenStep:
    future: Any = asyncio.Future(loop=asyncio.new_event_loop())
    future.get_loop().close()
    return OpenStep(step_id, "compute", "", lambda step_id: (b"", None), future, PLACE)


def rights(acting: int | None = 7) -> tuple[Rights, Any]:
    around: Any = Around(acting)
    return Rights("r", around), around


def test_without_an_owner_the_leader_may_do_the_steps_of_a_run() -> None:
    assert rights(7)[0].now() == 7
    assert rights(None)[0].now() is None


@pytest.mark.parametrize("acting", [None, 7])
def test_an_owner_may_whoever_leads_and_nobody_else(acting: int | None) -> None:
    mine, _ = rights(acting)
    assert mine.assign(-4)
    assert mine.now() == -4
    assert not mine.assign(-4), "it is not new"
    assert mine.assign(None)
    assert mine.now() is None
    assert mine.assign(0)
    assert mine.now() == acting


def test_a_step_with_a_label_is_bound_first_and_begun_by_the_node_that_it_is_bound_to() -> None:
    mine, around = rights()
    assert mine.to_begin(EXECUTION, ask(), PLACE, 7) is None
    assert mine.to_begin(EXECUTION, ask(), PLACE, 7) is None
    assert around.proposed == [BindStep("r", ("0/fit",), "gpu", 1, 7, 3, 1, 5.0)], "asked for once"
    assert mine.given(StepGiven("r", "0/fit", "gpu", 1, -2))
    assert mine.to_begin(EXECUTION, ask(), PLACE, 7) == -2
    assert mine.now("0/fit") == -2
    assert mine.bound_here == {"0/fit"}
    assert mine.given(StepGiven("r", "0/fit", "gpu", 2, None))
    assert mine.to_begin(EXECUTION, ask(), PLACE, 7) is None
    assert not mine.bound_here
    del mine.bound["0/fit"]  # it is recorded
    assert mine.now("0/fit") == 7


def test_whoever_may_not_do_the_steps_of_a_run_binds_none() -> None:
    mine, around = rights(None)
    assert mine.to_begin(EXECUTION, ask(), PLACE, None) is None
    assert not around.proposed


def test_what_was_to_be_bound_is_asked_for_again_in_another_epoch_and_after_a_move_to_other_code() -> None:
    mine, around = rights()
    mine.to_begin(EXECUTION, ask(), PLACE, 7)
    mine.to_begin(EXECUTION, ask(), PLACE, 8)
    assert len(around.proposed) == 2
    mine.assign(-9)
    mine.given(StepGiven("r", "0/other", "gpu", 1, -8))
    moved = mine.moved()
    assert moved.now() == moved.now("0/other") == -9, "its steps are bound anew"
    moved.to_begin(EXECUTION, ask(), PLACE, 8)
    assert len(around.proposed) == 3, "what the old code asked for may have been refused"


def test_it_is_said_that_a_step_waits_for_a_label_and_only_by_whoever_does_the_steps_of_the_run() -> None:
    for acting, times in ((7, 1), (None, 0)):
        mine, around = rights(acting)
        mine.given(StepGiven("r", "0/fit", "gpu", 0, None))
        mine.given(StepGiven("r", "0/fit", "gpu", 0, None))
        assert len(around.said) == times
