"""The network in memory, also on a loop whose clock is ours."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from raftoral_nb.errors import ClusterError, NodeStateError
from raftoral_nb.limits import MAX_PAUSED_MESSAGES
from raftoral_nb.transport.memory_network import MemoryNetwork
from raftoral_nb.transport.network import Network
from tests.transport.network_helpers import Recorder, numbered, turns


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time jumps to the next timer instead of passing."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 1000.0
        self._select = self._selector.select  # type: ignore[attr-defined]
        self._selector.select = self._jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self._now

    def _jump(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("the test waits for something that nothing will cause")
        self._now += timeout
        return self._select(0)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a test on the virtual clock, and looks for what it left behind."""
    with asyncio.Runner(loop_factory=VirtualLoop, debug=False) as runner:
        runner.run(test())
        loop = runner.get_loop()
        assert not asyncio.all_tasks(loop)
        assert not [handle for handle in loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]


async def make(count: int = 2, latency: Callable[[int, int], float] | None = None) -> Any:
    """A network with that many nodes, connected: the network, the endpoints and the recorders, by node."""
    network = MemoryNetwork(asyncio.get_running_loop(), latency)
    recorders = {node: Recorder() for node in range(1, count + 1)}
    endpoints = {node: await network.attach(node, recorder) for node, recorder in recorders.items()}
    await turns()
    return network, endpoints, recorders


def test_every_pair_is_connected_and_both_are_told_once() -> None:
    async def test() -> None:
        network, endpoints, recorders = await make(3)
        for node in (1, 2, 3):
            others = {1, 2, 3} - {node}
            assert endpoints[node].connected_peers == others
            assert sorted(recorders[node].facts) == sorted(("up", other, 0) for other in others)
        typed: Network = network
        await typed.close()

    run(test)


def test_nobody_is_told_inside_a_call() -> None:
    async def test() -> None:
        network = MemoryNetwork(asyncio.get_running_loop())
        one, two = Recorder(), Recorder()
        first = network.join(1, one)
        network.join(2, two)
        assert one.facts == two.facts == []
        await turns()
        first.send(2, numbered(1))
        first.reset(2)
        assert one.facts == [("up", 2, 0)]
        assert two.facts == [("up", 1, 0)]
        await network.close()

    run(test)


def test_messages_arrive_in_order_and_what_was_sent_together_arrives_together() -> None:
    async def test() -> None:
        network, endpoints, recorders = await make()
        for number in range(5):
            endpoints[1].send(2, numbered(number))
        endpoints[1].send(3, numbered(99))  # there is no such node
        await turns()
        assert recorders[2].numbers(1) == [0, 1, 2, 3, 4]
        assert recorders[2].batches == [5]
        await network.close()

    run(test)


def test_order_is_kept_when_latency_varies() -> None:
    async def test() -> None:
        dice = random.Random(1)
        network, endpoints, recorders = await make(latency=lambda _a, _b: dice.uniform(-0.05, 0.2))
        for number in range(200):
            endpoints[1].send(2, numbered(number))
            if number % 3 == 0:
                await asyncio.sleep(dice.random() / 20)
        await recorders[2].until(lambda: len(recorders[2].numbers(1)) == 200)
        assert recorders[2].numbers(1) == list(range(200))
        assert len(recorders[2].batches) > 20
        await network.close()

    run(test)


def test_a_message_takes_its_latency() -> None:
    async def test() -> None:
        network, endpoints, recorders = await make(latency=lambda a, _b: 0.25 if a == 1 else 3.0)
        loop = asyncio.get_running_loop()
        start = loop.time()
        endpoints[1].send(2, numbered(1))
        endpoints[2].send(1, numbered(2))
        await recorders[2].until_fact(("got", 1, 1))
        assert loop.time() - start == pytest.approx(0.25)
        await recorders[1].until_fact(("got", 2, 2))
        assert loop.time() - start == pytest.approx(3.0)
        await network.close()

    run(test)


def test_what_is_on_its_way_dies_with_either_end() -> None:
    async def test() -> None:
        for closing in (1, 2):
            network, endpoints, recorders = await make(latency=lambda _a, _b: 0.1)
            endpoints[1].send(2, numbered(1))
            endpoints[closing].close()
            endpoints[closing].close()
            endpoints[1].send(2, numbered(2))
            await asyncio.sleep(1)
            assert recorders[2].numbers(1) == []
            assert recorders[3 - closing].facts == [("up", closing, 0), ("down", closing, 0)]
            assert recorders[closing].facts == [("up", 3 - closing, 0)]
            assert endpoints[1].connected_peers == endpoints[2].connected_peers == frozenset()
            await network.close()

    run(test)


def test_a_node_that_comes_back_is_connected_anew() -> None:
    async def test() -> None:
        network, endpoints, recorders = await make()
        for _ in range(3):
            endpoints[2].close()
            with pytest.raises(NodeStateError, match="node 1 is on the network already"):
                network.join(1, Recorder())
            recorders[2] = Recorder()
            endpoints[2] = network.join(2, recorders[2])
            await turns()
        assert recorders[1].facts == [("up", 2, 0), *[("down", 2, 0), ("up", 2, 0)] * 3]
        endpoints[2].send(1, numbered(1))
        await turns()
        assert recorders[1].numbers(2) == [1]
        await network.close()

    run(test)


def test_a_reset_link_loses_what_is_on_its_way_and_comes_up_again() -> None:
    async def test() -> None:
        network, endpoints, recorders = await make(latency=lambda _a, _b: 0.01)
        endpoints[1].send(2, numbered(1))
        endpoints[2].reset(1)
        assert endpoints[1].connected_peers == frozenset()
        endpoints[1].send(2, numbered(2))
        await recorders[2].until_fact(("up", 1, 0), times=2)
        endpoints[1].send(2, numbered(3))
        await recorders[2].until_fact(("got", 1, 3))
        assert recorders[2].facts == [("up", 1, 0), ("down", 1, 0), ("up", 1, 0), ("got", 1, 3)]
        assert recorders[1].facts == [("up", 2, 0), ("down", 2, 0), ("up", 2, 0)]
        await network.close()

    run(test)


def test_a_cut_link_stays_up_and_loses_messages_in_the_directions_that_are_cut() -> None:
    async def test() -> None:
        network, endpoints, recorders = await make(3)

        async def exchange(number: int) -> tuple[bool, bool]:
            endpoints[1].send(2, numbered(number))
            endpoints[2].send(1, numbered(number))
            await turns()
            return number in recorders[2].numbers(1), number in recorders[1].numbers(2)

        network.cut(1, 2, both=False)
        assert await exchange(1) == (False, True)
        network.cut(1, 2)
        assert await exchange(2) == (False, False)
        network.mend(1, 2, both=False)
        assert await exchange(3) == (True, False)
        network.cut(2, 3)
        network.heal_all()
        assert await exchange(4) == (True, True)
        endpoints[1].send(2, numbered(5))
        network.cut(1, 2)  # what is on its way is lost, too
        await turns()
        assert 5 not in recorders[2].numbers(1)
        assert [fact for fact in recorders[1].facts if fact[0] == "down"] == []
        await network.close()

    run(test)


def test_a_paused_node_hears_everything_in_order_when_it_is_resumed() -> None:
    async def test() -> None:
        network, endpoints, recorders = await make(3)
        before = list(recorders[1].facts)
        endpoints[1].pause()
        for number in range(4):
            endpoints[2 + number % 2].send(1, numbered(number))
            await turns()
        endpoints[3].close()
        await turns()
        endpoints[2].send(1, numbered(4))
        endpoints[2].send(1, numbered(5))
        await turns()
        assert recorders[1].facts == before
        endpoints[1].resume()
        assert recorders[1].facts == [
            *before,
            ("got", 2, 0),
            ("got", 3, 1),
            ("got", 2, 2),
            ("got", 3, 3),
            ("down", 3, 0),
            ("got", 2, 4),
            ("got", 2, 5),
        ]
        endpoints[2].send(1, numbered(6))
        await turns()
        assert recorders[1].facts[-1] == ("got", 2, 6)
        await network.close()

    run(test)


def test_a_receiver_may_pause_and_close_while_it_is_resumed() -> None:
    async def test() -> None:
        network, endpoints, recorders = await make(3)
        endpoints[1].pause()
        for number in range(6):
            endpoints[2 + number % 2].send(1, numbered(number))
            await turns()
        recorders[1].on_fact = lambda fact: endpoints[1].pause() if fact[2] in {1, 2} else None
        endpoints[1].resume()
        assert recorders[1].numbers(2) + recorders[1].numbers(3) == [0, 1]
        endpoints[1].resume()
        assert recorders[1].facts[-1] == ("got", 2, 2)
        recorders[1].on_fact = lambda fact: endpoints[1].close() if fact[2] == 4 else None
        endpoints[1].resume()
        assert recorders[1].facts[-1] == ("got", 2, 4)
        endpoints[1].resume()
        assert 5 not in recorders[1].numbers(3)
        await network.close()

    run(test)


def test_a_paused_node_holds_back_a_bounded_number_of_messages_and_then_loses_the_link() -> None:
    async def test() -> None:
        network, endpoints, recorders = await make(3)
        endpoints[1].pause()
        endpoints[3].send(1, numbered(7))
        for number in range(MAX_PAUSED_MESSAGES):
            endpoints[2].send(1, numbered(number))
        await turns()
        assert recorders[2].facts.count(("down", 1, 0)) == 0
        endpoints[2].send(1, numbered(MAX_PAUSED_MESSAGES))
        await recorders[2].until_fact(("down", 1, 0))
        await recorders[2].until_fact(("up", 1, 0), times=2)
        endpoints[2].send(1, numbered(8))
        await turns()
        recorders[1].facts.clear()
        endpoints[1].resume()
        assert recorders[1].facts == [("got", 3, 7), ("down", 2, 0), ("up", 2, 0), ("got", 2, 8)]
        await network.close()

    run(test)


def test_links_that_flap_while_a_node_is_paused_do_not_grow_its_inbox_for_ever() -> None:
    async def test() -> None:
        network, endpoints, recorders = await make(2)
        endpoints[1].pause()
        for _ in range(MAX_PAUSED_MESSAGES + 100):
            endpoints[2].close()
            endpoints[2] = network.join(2, Recorder())
            await turns(3)
        assert len(endpoints[1].inbox._items) <= MAX_PAUSED_MESSAGES
        await asyncio.sleep(1)
        recorders[1].facts.clear()
        endpoints[1].resume()
        assert recorders[1].facts[0] == ("down", 2, 0)
        assert recorders[1].facts[-1] == ("up", 2, 0)
        await network.close()

    run(test)


def test_an_exception_of_a_receiver_is_reported_and_the_network_goes_on() -> None:
    async def test() -> None:
        network, endpoints, recorders = await make(2)
        reports: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reports.append(context))

        def fail(fact: object) -> None:
            raise ZeroDivisionError(fact)

        recorders[2].on_fact = fail
        endpoints[1].send(2, numbered(1))
        await turns()
        recorders[2].on_fact = None
        endpoints[1].send(2, numbered(2))
        await turns()
        assert recorders[2].numbers(1) == [1, 2]
        assert isinstance(reports[0]["exception"], ZeroDivisionError)
        await network.close()

    run(test)


def test_a_closed_network_delivers_nothing_and_takes_nobody() -> None:
    async def test() -> None:
        network, endpoints, recorders = await make(2, latency=lambda _a, _b: 0.1)
        endpoints[1].send(2, numbered(1))
        endpoints[1].pause()
        endpoints[2].send(1, numbered(1))
        await network.close()
        await network.close()
        endpoints[1].resume()
        endpoints[1].send(2, numbered(2))
        endpoints[1].reset(2)
        await asyncio.sleep(1)
        assert recorders[2].facts == [("up", 1, 0)]
        assert recorders[1].facts == [("up", 2, 0)]
        with pytest.raises(ClusterError, match="closed"):
            await network.attach(3, Recorder())

    run(test)
