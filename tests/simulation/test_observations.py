"""Executions of one run that come to something else are found, and told apart by what differs."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

from raftoral_nb.core.records import Step
from raftoral_nb.simulation.observations import SAME_TURNS, Observations, diary_of
from raftoral_nb.workflow.codec import values
from tests.workflow.execution.playing import Played, played

PROGRAM = (("gather", 2, ((("step", 0),), (("step", 1),))),)


class Watched:
    """Executions of one program, watched as those of nodes are."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []
        self.observations = Observations(lambda invariant, text, place: self.found.append((invariant, text)))

    def look(self, number: int, execution: Played) -> None:
        node: Any = SimpleNamespace(number=number, incarnation=SimpleNamespace(number=1))
        self.observations.turned(node, execution.execution)


def result(step_id: str, value: int) -> Step:
    return Step(step_id, "compute", values.encode(value, what="a value"), None, 1, 1, 1_700_000_001.0)


def test_the_same_is_compared_and_nothing_is_found() -> None:
    watched = Watched()
    nodes = [Played("r", PROGRAM) for _ in range(3)]
    for number, node in enumerate(nodes):
        watched.look(number, node)
        node.have(result("t2.0/s1", 1))
        watched.look(number, node)
    assert (watched.observations.turns, watched.observations.compared, watched.found) == (6, 4, [])


def test_another_order_is_found_and_both_nodes_and_what_differs_are_named() -> None:
    watched = Watched()
    for number, place in enumerate(("t1.0/s0", "t2.0/s1"), start=1):
        node = Played("r", PROGRAM)
        node.have(result(place, 1))
        watched.look(number, node)
    [(invariant, text)] = watched.found
    assert invariant == SAME_TURNS
    assert "run 'r', generation 1, record 1: node 2, incarnation 1 and node 1, incarnation 1 differ: open" in text


def test_a_diary_with_another_entry_is_found_though_all_else_is_the_same() -> None:
    watched = Watched()
    one, other = Played("r", PROGRAM), Played("r", PROGRAM)
    diary = diary_of(other.execution)
    assert diary is not None
    diary.seen[-1] = "something else"
    watched.look(1, one)
    watched.look(2, other)
    [(_, text)] = watched.found
    assert "differ: seen b" in text


def test_what_the_execution_that_is_ahead_has_received_is_known() -> None:
    watched = Watched()
    for seed in range(40):
        _, node = played(f"program {seed}", random.Random(seed).randrange)
        if node.execution.status != "running":
            continue
        watched.look(1, node)
        diary = diary_of(node.execution)
        assert diary is not None
        assert watched.observations.received(f"program {seed}") == diary.received
        node.close()
