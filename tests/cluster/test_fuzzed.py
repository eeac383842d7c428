"""A real cluster over TCP, and somebody without its key who tries everything: nothing runs, nothing grows, it goes on."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kernel_ext.shown.tables import counter_line
from raftoral_nb import Cluster, UnauthenticatedConnectionsRefused, WorkflowContext
from raftoral_nb.transport.connection import Connection
from raftoral_nb.transport.frames import FrameSession
from raftoral_nb.transport.tcp_network import TcpEndpoint
from tests.cluster.helpers import PATIENCE
from tests.cluster.intruder import Intruder, network_of
from tests.transport.tcp_helpers import open_sockets

EVERY = 12
"""Attempts between two runs."""

SLACK = {"tasks": 3, "timers": 12}
"""What comes and goes in a cluster that nobody attacks."""


async def twice(ctx: WorkflowContext, number: int) -> int:
    return await ctx.compute("twice", lambda: 2 * number)


def size(cluster: Cluster) -> dict[str, int]:
    """All that somebody outside might make grow."""
    network, thread = network_of(cluster), cluster._host.thread
    gc.collect()
    kinds = [type(one) for one in gc.get_objects() if isinstance(one, Connection | FrameSession)]
    return {
        "tasks": thread.call(lambda: len(asyncio.all_tasks(asyncio.get_running_loop()))),
        "timers": thread.call(_timers),
        "connections": len(network._connections),
        "unauthenticated": sum(len(endpoint._unauthenticated) for endpoint in network._endpoints.values()),
        "connections in memory": kinds.count(Connection),
        "sessions in memory": kinds.count(FrameSession),
        "sockets": len(open_sockets()),
    }


def _timers() -> int:
    loop: Any = asyncio.get_running_loop()
    return sum(not timer.cancelled() for timer in loop._scheduled)


def until_linked(cluster: Cluster) -> None:
    """Wait until every node has a link to every other, with nobody between."""
    endpoints = list(network_of(cluster)._endpoints.values())

    def linked(endpoint: TcpEndpoint, lower: TcpEndpoint) -> bool:
        link = endpoint._links.get(lower.node)
        address = None if link is None or link._transport is None else link._transport.get_extra_info("peername")
        return address == lower.address and endpoint.node in lower._links

    async def wait() -> None:
        change = asyncio.Event()

        def told(established: Callable[[Connection], None]) -> Callable[[Connection], None]:
            def also(connection: Connection) -> None:
                established(connection)
                change.set()

            return also

        for endpoint in endpoints:
            endpoint.established = told(endpoint.established)  # type: ignore[method-assign,assignment]
        async with asyncio.timeout(PATIENCE):
            while not all(linked(one, lower) for one in endpoints for lower in endpoints if lower.node < one.node):
                change.clear()
                await change.wait()
        for endpoint in endpoints:
            del endpoint.established

    cluster._host.thread.run(wait)


def test_whoever_has_no_key_gets_nothing_to_run_or_to_grow_and_is_counted(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    wanted = request.config.getoption("--fuzz-attempts")
    seed = request.config.getoption("--fuzz-seed")
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    print(f"--fuzz-seed {seed}")
    trace = tmp_path / "ran"

    async def fuzz(cluster: Cluster) -> Intruder:
        intruder = Intruder(cluster, random.Random(seed), str(trace))
        await intruder.listen_in()
        try:
            for number in range(wanted):
                await intruder.attack()
                if number % EVERY == 0:
                    run = await asyncio.to_thread(cluster.start_workflow, twice, number)
                    assert await asyncio.to_thread(run.wait_for_completion, PATIENCE) == 2 * number
        finally:
            await intruder.leave()
        return intruder

    with Cluster(3) as cluster:
        assert cluster.start_workflow(twice, 1).wait_for_completion(PATIENCE) == 2
        until_linked(cluster)
        before = size(cluster)
        intruder = asyncio.run(fuzz(cluster))
        until_linked(cluster)
        assert cluster.start_workflow(twice, 4).wait_for_completion(PATIENCE) == 8
        after = size(cluster)

        assert not trace.exists(), "a pickle was run"
        grown = {
            what: (before[what], after[what]) for what in before if after[what] > before[what] + SLACK.get(what, 0)
        }
        assert grown == {}
        statistics = cluster.statistics()
        assert statistics.refused_frames + statistics.dropped_strangers == intruder.attempts == wanted, intruder.tried
        shown = counter_line(statistics)
        assert f"refused frames {statistics.refused_frames}" in shown
        # Those that began as the very node they came to were refused at once.
        assert 0 <= statistics.dropped_strangers <= intruder.tried.get("a session cut short", 0)
        assert ("dropped unauthenticated connections" in shown) == (statistics.dropped_strangers > 0)
        assert any(isinstance(event, UnauthenticatedConnectionsRefused) for _, event in cluster.history())
        assert all(node.role != "dead" for node in statistics.nodes.values())
    told = [event.count for _, event in cluster.history() if isinstance(event, UnauthenticatedConnectionsRefused)]
    assert sum(told) == wanted
