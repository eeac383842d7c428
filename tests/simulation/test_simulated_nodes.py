"""The nodes of a simulation, without its clients and its faults."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import msgspec
import pytest

from raftoral_nb.simulation.effects import SeededEffects
from raftoral_nb.simulation.faults import Conditions, plan
from raftoral_nb.simulation.joining import Joining
from raftoral_nb.simulation.setting import Setting
from raftoral_nb.simulation.simulated_nodes import SimulatedNodes
from raftoral_nb.simulation.tap import GETS, SENDS
from raftoral_nb.simulation.witness import Witness
from raftoral_nb.virtual_time.clock import VirtualClockLoop

World = tuple[SimulatedNodes, Witness]


@pytest.fixture
def world() -> Iterator[World]:
    """Three nodes, none of them started yet."""
    loop = VirtualClockLoop()
    planned = msgspec.structs.replace(plan(1, nodes=3), conditions=Conditions())
    witness = Witness(loop, lambda number: nodes.end(number, "broke"))
    nodes = SimulatedNodes(loop, Setting.of(1, planned, without=None), witness, SeededEffects(1, witness.checker))
    yield nodes, witness
    nodes.end_all()
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()


def started(nodes: SimulatedNodes) -> int:
    """Start them, and wait for the node that acts."""
    for number in nodes.numbers:
        nodes.start(number)
    until(nodes, lambda: nodes.acting is not None)
    assert nodes.acting is not None
    return nodes.acting


def until(nodes: SimulatedNodes, so: Callable[[], bool]) -> None:
    """Let virtual time pass until it is so; at most a minute of it."""

    async def wait() -> None:
        async with asyncio.timeout(60):
            while not so():  # noqa: ASYNC110 - on a virtual clock
                await asyncio.sleep(0.05)

    nodes.loop.run_until_complete(wait())


def finished(nodes: SimulatedNodes, awaitable: Callable[[], Awaitable[None]]) -> None:
    async def wait() -> None:
        async with asyncio.timeout(60):
            await awaitable()

    nodes.loop.run_until_complete(wait())


def test_one_node_acts_and_another_does_when_that_one_has_ended(world: World) -> None:
    nodes, witness = world
    first = started(nodes)
    nodes.end(first, "killed")
    until(nodes, lambda: nodes.acting is not None)
    assert nodes.acting != first
    assert [what for _, node, what, _ in witness.history if node == first][-1] == "killed"
    assert not witness.checker.violations


def test_a_node_starts_again_from_its_disk_unless_it_is_lost(world: World) -> None:
    nodes, witness = world
    first = started(nodes)
    nodes.end(first, "killed")
    nodes.start(first)
    assert nodes.living[first].journal.last_index > 1
    nodes.end(first, "killed")
    nodes.lost = frozenset({first})
    nodes.start(first)
    assert first not in nodes.living
    assert not witness.checker.violations


def test_a_node_whose_disk_is_lost_is_replaced_by_one_of_another_number(world: World) -> None:
    nodes, witness = world
    first = started(nodes)
    gone = next(number for number in nodes.numbers if number != first)
    joining = Joining(nodes, witness.checker)
    until(
        nodes,
        lambda: all(one.journal.last_index == nodes.living[first].journal.last_index for one in nodes.living.values()),
    )
    assert joining.begin("replacement", gone)
    assert not joining.begin("join", gone), "one change at a time"
    finished(nodes, joining.done)
    assert nodes.moved
    assert gone not in nodes.numbers
    assert nodes.numbers[-1] == 4
    assert set(nodes.living[4].member.replica.members) == set(nodes.numbers)
    assert not witness.checker.violations


def test_messages_are_in_the_history_between_the_seconds_asked_for_and_change_no_digest() -> None:
    digests = []
    for messages in (None, (0.0, 1.0)):
        loop = VirtualClockLoop()
        witness = Witness(loop, lambda number: None, messages)
        witness.note(1, "started", "")
        witness.note_message(1, SENDS, "to node 2: a word")
        witness.note_message(1, GETS, "from node 2: another")
        assert len(witness.history) == (3 if messages else 1)
        digests.append(witness.digest())
        loop.close()
    assert digests[0] == digests[1]
