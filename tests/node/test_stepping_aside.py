"""Having another node do the steps of runs whose executions cannot go on here: alone, without a cluster."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from raftoral_nb.core.commands import AssignRun, Command, Outcome, Rejected, Unknown
from raftoral_nb.core.run_record import RECORD_FORMAT
from raftoral_nb.node.stepping_aside import SteppingAside


class Node:
    """A node that notes what it is to propose, and with which answer that ends when it is refused."""

    node = 1

    def __init__(self) -> None:
        self.proposed: list[tuple[Command, Callable[[Outcome], None]]] = []
        self.yielded = 0

    def wall_clock(self) -> float:
        return 5.0

    def propose(self, command: Command, refused: Callable[[Outcome], None]) -> None:
        self.proposed.append((command, refused))

    def say(self, run_id: str, text: str) -> None:
        """Do nothing: what is said is of no interest."""

    def yield_leadership(self) -> None:
        self.yielded += 1


def stuck(run_id: str = "r", number: int | None = -1) -> Any:
    assigned = number if number is None or number < 0 else 0
    rights = SimpleNamespace(now=lambda: number, assigned=assigned)
    return SimpleNamespace(run_id=run_id, status="diverged", format=RECORD_FORMAT, run_ended=False, rights=rights)


def test_a_run_is_given_away_once_by_its_owner_and_by_yielding_once_by_the_leader() -> None:
    node = Node()
    aside = SteppingAside(node)
    for _ in range(2):
        aside.look([stuck(number=-1), stuck("s", number=None)])
    assert [command for command, _ in node.proposed] == [AssignRun("r", 0, -1, 5.0)]
    for _ in range(2):
        aside.look([stuck(number=7), stuck("t", number=7)])
    assert (len(node.proposed), node.yielded) == (1, 1)


@pytest.mark.parametrize("lost", [Unknown("nobody answered"), Rejected("there was no leader", "no_leader")])
def test_it_is_asked_again_if_nobody_answered_as_long_as_the_run_is_still_this_node_s(lost: Outcome) -> None:
    node = Node()
    execution = stuck()
    SteppingAside(node).look([execution])
    node.proposed[0][1](lost)
    assert [command for command, _ in node.proposed] == [AssignRun("r", 0, -1, 5.0)] * 2
    execution.rights.now = lambda: None
    node.proposed[1][1](lost)
    assert len(node.proposed) == 2


def test_it_is_not_asked_again_at_once_if_no_other_node_takes_runs_but_when_one_does() -> None:
    node = Node()
    aside = SteppingAside(node)
    held = [stuck(), stuck("led", number=7)]
    aside.look(held)
    node.proposed[0][1](Rejected("none do", "no_such_owner"))
    assert len(node.proposed) == 1
    aside.other_offers(held)
    assert (len(node.proposed), node.yielded) == (2, 1)


def test_a_run_that_has_other_code_or_is_another_one_is_looked_at_anew() -> None:
    node = Node()
    aside = SteppingAside(node)
    aside.look([stuck()])
    aside.forget("r")
    aside.look([stuck()])
    assert len(node.proposed) == 2
