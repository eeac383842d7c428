"""Cut and slow links, on both networks alike: what arrives, what does not, and what both ends hear of it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftoral_nb.core.cluster_events import LinkDelay
from raftoral_nb.core.records import NodeId
from raftoral_nb.transport import link_faults
from raftoral_nb.transport.link_faults import DelayLine, LinkFaults
from raftoral_nb.transport.memory_network import MemoryNetwork
from raftoral_nb.transport.tcp_network import TcpNetwork
from tests.transport import tcp_helpers
from tests.transport.network_helpers import Recorder, numbered, turns
from tests.transport.tcp_helpers import KEY, run

SOON = 0.02
"""Seconds; nothing is measured with it."""


class World:
    """Nodes on a network of one of the kinds."""

    def __init__(self, kind: str) -> None:
        loop = asyncio.get_running_loop()
        self.network: Any = MemoryNetwork(loop) if kind == "memory" else TcpNetwork(KEY)
        self.recorders: dict[NodeId, Recorder] = {}
        self.endpoints: dict[NodeId, Any] = {}

    async def add(self, node: NodeId) -> None:
        self.recorders[node] = Recorder()
        self.endpoints[node] = await self.network.attach(node, self.recorders[node])

    async def linked(self, a: NodeId, b: NodeId, times: int = 1) -> None:
        """Wait until both have heard that often that their link is up."""
        await self.recorders[a].until_fact(("up", b, 0), times)
        await self.recorders[b].until_fact(("up", a, 0), times)

    async def unlinked(self, a: NodeId, b: NodeId, times: int = 1) -> None:
        await self.recorders[a].until_fact(("down", b, 0), times)
        await self.recorders[b].until_fact(("down", a, 0), times)

    async def deliver(self, source: NodeId, target: NodeId, number: int) -> None:
        self.endpoints[source].send(target, numbered(number))
        await self.recorders[target].until_fact(("got", source, number))

    def downs(self, node: NodeId) -> int:
        return [fact[0] for fact in self.recorders[node].facts].count("down")


Opened = Callable[..., contextlib.AbstractAsyncContextManager[World]]


@pytest.fixture(params=["memory", "tcp"])
def world(request: pytest.FixtureRequest) -> Opened:
    """Opens a network of that many connected nodes."""

    @contextlib.asynccontextmanager
    async def opened(count: int = 2) -> AsyncIterator[World]:
        made = World(request.param)
        try:
            for node in range(1, count + 1):
                await made.add(node)
            for a in range(1, count + 1):
                for b in range(a + 1, count + 1):
                    await made.linked(a, b)
            yield made
        finally:
            await made.network.close()

    return opened


@pytest.fixture
def noticed_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LinkFaults, "cut_noticed", SOON)


def test_nothing_arrives_over_a_cut_link_and_for_a_while_nobody_is_told(world: Opened) -> None:
    async def test() -> None:
        async with world(3) as made:
            made.network.cut(1, 2)
            made.endpoints[1].send(2, numbered(1))
            made.endpoints[2].send(1, numbered(1))
            for source, target in ((1, 3), (3, 2), (2, 3), (3, 1)):
                await made.deliver(source, target, 2)
            assert made.recorders[2].numbers(1) == made.recorders[1].numbers(2) == []
            assert made.downs(1) == made.downs(2) == 0
            assert made.endpoints[1].connected_peers == {2, 3}
            made.network.heal_all()
            await made.deliver(1, 2, 3)
            assert made.recorders[2].numbers(1) == [3]

    run(test)


@pytest.mark.usefixtures("noticed_soon")
def test_both_ends_notice_a_cut_and_a_mended_link_is_built_at_once(world: Opened) -> None:
    async def test() -> None:
        async with world(3) as made:
            for times in (1, 2):
                made.network.cut(1, 2)
                await made.unlinked(1, 2, times)
                assert made.endpoints[1].connected_peers == {3}
                await asyncio.sleep(4 * SOON)  # time to dial, if it would
                assert made.endpoints[2].connected_peers == {3}
                made.network.mend(1, 2)
                await made.linked(1, 2, times + 1)
                await made.deliver(1, 2, times)
                await made.deliver(2, 1, times)
            assert made.downs(3) == 0

    run(test)


@pytest.mark.usefixtures("noticed_soon")
def test_a_cut_that_is_mended_before_it_is_noticed_costs_no_connection(world: Opened) -> None:
    async def test() -> None:
        async with world(3) as made:
            made.network.cut_noticed = 10 * SOON
            made.network.cut(1, 2)
            made.network.cut(1, 2)
            made.network.mend(1, 2, both=False)
            made.network.cut(1, 3)  # its end comes after the other's would have come
            await made.unlinked(1, 3)
            await made.deliver(1, 2, 1)
            assert made.downs(2) == 0

    run(test)


@pytest.mark.usefixtures("noticed_soon")
def test_a_cut_in_one_direction_keeps_the_connection_and_lets_a_new_one_be_built(world: Opened) -> None:
    async def test() -> None:
        async with world(3) as made:
            made.network.cut(1, 2, both=False)
            made.network.cut(1, 3)
            await made.unlinked(1, 3)  # this one was noticed
            made.endpoints[1].send(2, numbered(1))
            await made.deliver(2, 1, 2)
            assert made.downs(2) == 0
            made.endpoints[2].reset(1)
            await made.linked(1, 2, 2)
            made.endpoints[1].send(2, numbered(3))
            await made.deliver(2, 1, 4)
            assert made.recorders[2].numbers(1) == []
            made.network.mend(1, 2)
            await made.deliver(1, 2, 5)

    run(test)


@pytest.mark.usefixtures("noticed_soon")
@pytest.mark.parametrize("node", [1, 3])
def test_a_fault_on_a_dead_node_is_there_when_it_comes_back(world: Opened, node: NodeId) -> None:
    async def test() -> None:
        async with world(3) as made:
            other = 4 - node
            made.endpoints[node].close()
            await made.recorders[2].until_fact(("down", node, 0))
            made.network.cut(node, other)
            await made.add(node)
            await made.recorders[2].until_fact(("up", node, 0), 2)
            await made.deliver(2, node, 1)
            made.network.slow(2, node, LinkDelay(SOON))  # ... so that time has passed when this one arrives
            await made.deliver(2, node, 2)
            assert made.endpoints[node].connected_peers == {2}
            made.network.heal_all()
            await made.recorders[other].until_fact(("up", node, 0), 2)
            await made.deliver(other, node, 3)

    run(test)


@pytest.mark.usefixtures("noticed_soon")
def test_a_link_that_breaks_while_it_is_severed_stays_down_until_it_is_mended(world: Opened) -> None:
    async def test() -> None:
        async with world(3) as made:
            made.network.cut_noticed = 60.0
            made.network.cut(2, 3)
            made.endpoints[3].reset(2)
            await made.unlinked(2, 3)
            made.endpoints[3].reset(1)
            await made.linked(1, 3, 2)  # this one was dialed again
            assert made.endpoints[2].connected_peers == {1}
            made.network.mend(2, 3)
            await made.linked(2, 3, 2)

    run(test)


def test_order_is_kept_on_a_slow_link_whose_delay_varies_and_ends(world: Opened) -> None:
    async def test() -> None:
        dice = random.Random(1)
        async with world() as made:
            for number in range(200):
                if number % 40 == 0:
                    made.network.slow(1, 2, LinkDelay(SOON * dice.random(), SOON * dice.random()))
                if number == 190:
                    made.network.heal_all()
                made.endpoints[1].send(2, numbered(number))
                if number % 10 == 0:
                    await asyncio.sleep(SOON * dice.random() / 4)
            await made.recorders[2].until_fact(("got", 1, 199))
            assert made.recorders[2].numbers(1) == list(range(200))
            assert len(made.recorders[2].batches) > 1

    run(test)


def test_a_message_on_a_slow_link_takes_its_time_and_the_other_way_does_not(world: Opened) -> None:
    async def test() -> None:
        async with world() as made:
            loop = asyncio.get_running_loop()
            made.network.slow(1, 2, LinkDelay(0.2, 0.05), both=False)
            begun = loop.time()
            made.endpoints[1].send(2, numbered(1))
            await made.deliver(2, 1, 1)
            assert made.recorders[2].numbers(1) == [], "the quick way was quicker"
            await made.recorders[2].until_fact(("got", 1, 1))
            assert loop.time() - begun > 0.14, "it cannot arrive before its least delay"
            assert made.network.delay(1, 2) == LinkDelay(0.2, 0.05)
            assert made.network.delay(2, 1) is None

    run(test)


def test_what_is_on_its_way_over_a_slow_link_is_lost_when_it_is_cut(world: Opened) -> None:
    async def test() -> None:
        async with world() as made:
            made.network.slow(1, 2, LinkDelay(SOON), both=False)
            made.endpoints[1].send(2, numbered(1))
            made.network.cut(1, 2, both=False)
            made.endpoints[1].send(2, numbered(2))  # vanishes at once
            await asyncio.sleep(2 * SOON)  # its time to arrive
            made.network.mend(1, 2)
            await made.deliver(1, 2, 3)
            assert made.recorders[2].numbers(1) == [3]

    run(test)


def test_too_much_on_its_way_resets_a_slow_link(world: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_faults, "MAX_DELAYED_MESSAGES", 10)

    async def test() -> None:
        async with world() as made:
            made.network.slow(1, 2, LinkDelay(SOON), both=False)
            for number in range(10):
                made.endpoints[1].send(2, numbered(number))
            await made.recorders[2].until_fact(("got", 1, 9))
            assert made.downs(2) == 0
            for number in range(11):
                made.endpoints[1].send(2, numbered(100 + number))
            await made.unlinked(1, 2)
            await made.linked(1, 2, 2)
            assert max(made.recorders[2].numbers(1)) == 9, "what was on its way is lost"
            await made.deliver(1, 2, 200)

    run(test)


def test_bytes_on_their_way_over_a_slow_link_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_faults, "MAX_DELAYED_BYTES", 20)

    async def test() -> None:
        async with tcp_helpers.nodes() as made:
            made.network.slow(1, 2, LinkDelay(10.0), both=False)
            for number in range(20):
                made.endpoints[1].send(2, numbered(number))
            await made.recorders[2].until_fact(("down", 1, 0))
            made.network.heal_all()

    run(test)


def test_a_slow_link_is_built_a_round_trip_later(world: Opened) -> None:
    async def test() -> None:
        async with world(3) as made:
            made.network.slow(1, 2, LinkDelay(5 * SOON))
            made.endpoints[2].reset(1)
            made.endpoints[3].reset(1)
            await made.linked(1, 3, 2)
            assert 1 not in made.endpoints[2].connected_peers
            await made.linked(1, 2, 2)

    run(test)


@pytest.mark.parametrize("pause", [False, True])
def test_closing_leaves_nothing_of_faults_behind(world: Opened, pause: bool) -> None:
    async def test() -> None:
        async with world(4) as made:
            made.network.cut(1, 2)
            made.network.slow(3, 4, LinkDelay(30.0, 5.0))
            made.endpoints[3].send(4, numbered(1))
            made.endpoints[4].reset(3)
            await turns()
            if pause:
                made.endpoints[1].pause()

    run(test)  # which looks for what is left


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-0.5, 5.0), st.floats(0.0, 3.0)), min_size=1, max_size=60))
def test_a_delay_line_keeps_the_order_and_no_item_is_early(items: list[tuple[float, float]]) -> None:
    """Each item: the delay it is given, and how long after the one before it is put (seconds on a virtual clock)."""

    class Loop:
        now = 1000.0
        scheduled: list[tuple[float, Callable[[], None]]] = []  # noqa: RUF012 - one per example

        def time(self) -> float:
            return self.now

        def call_later(self, wait: float, fn: Callable[[], None]) -> object:
            self.scheduled.append((self.now + wait, fn))
            return self.scheduled[-1]

        def call_soon(self, fn: Callable[[], None]) -> object:
            return self.call_later(0.0, fn)

        def until(self, when: float) -> None:
            while self.scheduled and min(self.scheduled, key=lambda one: one[0])[0] <= when:
                due = min(self.scheduled, key=lambda one: one[0])
                self.scheduled.remove(due)
                self.now = max(self.now, due[0])
                due[1]()
            self.now = max(self.now, when)

    loop: Any = Loop()
    loop.scheduled = []
    arrived: list[tuple[int, float]] = []
    line: DelayLine[int] = DelayLine(loop, lambda batch: arrived.extend((item, loop.now) for item in batch))
    least = []
    for number, (delay, pause) in enumerate(items):
        loop.until(loop.now + pause)
        least.append(loop.now + max(0.0, delay))
        assert line.put(number, delay)
    loop.until(loop.now + 10.0)
    assert [item for item, _ in arrived] == list(range(len(items)))
    assert all(at >= least[item] - 1e-6 for item, at in arrived)
    assert len(line) == 0
