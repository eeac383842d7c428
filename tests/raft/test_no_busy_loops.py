"""Nothing polls: how often anything happens is bounded by heartbeats, whatever is missing. Counted on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import pytest

from raftoral_nb.core.records import NodeId
from raftoral_nb.raft.pysyncobj_driver import Raft
from raftoral_nb.raft.replica import Timing
from raftoral_nb.transport.memory_network import MemoryEndpoint
from raftoral_nb.transport.messages import Message
from raftoral_nb.virtual_time.clock import run

from .members import Members, committed

HEARTBEATS = 400
"""How long is counted, in heartbeats."""


class Count(NamedTuple):
    """What happened, per heartbeat."""

    turns: float
    """Of the loop."""
    ticks: float
    """Of PySyncObj."""
    messages: float


async def counted(members: Members, monkeypatch: pytest.MonkeyPatch) -> Count:
    """Let the time of so many heartbeats pass and count."""
    turns = ticks = messages = 0
    loop: Any = members.loop
    run_once, tick, send = loop._run_once, Raft.tick, MemoryEndpoint.send

    def counting_run_once() -> None:
        nonlocal turns
        turns += 1
        run_once()

    def counting_tick(raft: Raft) -> None:
        nonlocal ticks
        ticks += 1
        tick(raft)

    def counting_send(endpoint: MemoryEndpoint, peer: NodeId, message: Message) -> None:
        nonlocal messages
        messages += 1
        send(endpoint, peer, message)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_run_once", counting_run_once)
        patch.setattr(Raft, "tick", counting_tick)
        patch.setattr(MemoryEndpoint, "send", counting_send)
        await asyncio.sleep(HEARTBEATS * Timing().heartbeat)
    return Count(turns / HEARTBEATS, ticks / HEARTBEATS, messages / HEARTBEATS)


def on_members(count: int, test: Callable[[Members], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        members = Members(count)
        await members.start()
        try:
            await members.leader()
            await members.level()
            await test(members)
        finally:
            await members.close()

    run(main)


def test_an_idle_cluster_sends_a_heartbeat_and_gets_an_answer_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(members: Members) -> None:
        found = await counted(members, monkeypatch)
        assert 3.5 <= found.messages <= 4.5  # two followers, one question and one answer each
        assert found.ticks <= 1.5
        assert found.turns <= 5

    on_members(3, test)


@pytest.mark.parametrize("how", ["killed", "cut off", "paused"])
@pytest.mark.parametrize("leader_is_missing", [True, False])
def test_without_a_majority_next_to_nothing_happens(
    how: str, leader_is_missing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        others = [number for number in members.numbers if number != leader.node]
        missing = [leader.node, *others[:2]] if leader_is_missing else others[:3]
        for number in missing:
            match how:
                case "killed":
                    members.kill(number)
                case "paused":
                    members.members[number].pause()
                case _:
                    for other in members.numbers:
                        members.network.cut(number, other)
        await asyncio.sleep(2.0)
        left = [number for number in members.numbers if number not in missing]
        assert all(members.members[number].acting_term is None for number in left)
        found = await counted(members, monkeypatch)
        # Each asks all others once per election timeout: five heartbeats or more. Cut-off nodes do so as well.
        assert found.messages <= 4
        assert found.ticks <= 1
        assert found.turns <= 2

    on_members(5, test)


def test_a_paused_node_costs_no_more_than_one_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(members: Members) -> None:
        members.members[3].pause()
        found = await counted(members, monkeypatch)
        assert found.messages <= 4.5
        assert found.ticks <= 1.5
        assert found.turns <= 5

    on_members(3, test)


def test_a_follower_that_lags_behind_by_hundreds_of_entries_is_not_sent_them_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        # Its answers never arrive, or it reads nothing, while the others go on.
        members.network.cut(3, leader.node, both=False)
        for number in range(500):
            assert committed(await members.commit(number, by=leader))
        found = await counted(members, monkeypatch)
        # What it answers is lost, what it asks as well.
        assert found.messages <= 5
        assert found.ticks <= 1.5
        assert found.turns <= 5
        assert leader.acting_term is not None

    on_members(3, test)
