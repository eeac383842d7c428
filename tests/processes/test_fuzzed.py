"""Nodes in processes of their own, and somebody without the key who can connect to them: nothing runs, nothing grows, they go on."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from raftoral_nb import Cluster, UnauthenticatedConnectionsRefused, WorkflowContext
from raftoral_nb.core.statistics import ClusterStatistics
from raftoral_nb.discovery import key_file
from tests.cluster.helpers import Watch
from tests.cluster.intruder import Outsider
from tests.processes.helpers import PATIENCE, pids

MOST_MEMORY = 24_000_000
"""Bytes that a node's process may grow by while it is attacked, and works."""


async def works(ctx: WorkflowContext, _: int) -> int:
    return await ctx.compute("where", os.getpid)


def size(pid: int) -> dict[str, int]:
    """What a process has of all that somebody outside might make grow."""
    place = Path("/proc", str(pid))
    return {
        "descriptors": len(list((place / "fd").iterdir())),
        "threads": len(list((place / "task").iterdir())),
        "memory": int((place / "statm").read_text().split()[1]) * 4096,
    }


def counted(cluster: Cluster, wanted: int) -> ClusterStatistics:
    """The statistics, once every node has answered: one that is busy is not waited for long."""
    for _ in range(20):
        statistics = cluster.statistics()
        if statistics.refused_frames + statistics.dropped_strangers >= wanted:
            break
    return statistics


def test_whoever_can_only_connect_gets_nothing_to_run_or_to_grow_and_is_counted(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    wanted = request.config.getoption("--fuzz-attempts")
    seed = request.config.getoption("--fuzz-seed")
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    print(f"--fuzz-seed {seed}")
    trace = tmp_path / "ran"

    async def fuzz(outsider: Outsider, key: bytes) -> None:
        for _ in range(3):
            await outsider.hear_a_client(key)
        for _ in range(wanted):
            await outsider.attack()

    with Cluster(3, processes=True) as cluster, Watch(cluster) as watch:
        assert cluster.start_workflow(works, 1).wait_for_completion(PATIENCE) in pids(cluster).values()
        (held,) = [
            one.content for one in key_file.found() if one.content is not None and one.content.name == cluster.name
        ]
        addresses = []
        for place in held.nodes.values():
            host, _, port = place.address.rpartition(":")
            addresses.append((host, int(port)))
        assert len(addresses) == 3
        before = {pid: size(pid) for pid in pids(cluster).values()}
        outsider = Outsider(addresses, random.Random(seed), str(trace))
        asyncio.run(fuzz(outsider, held.key))
        assert cluster.start_workflow("works", 2).wait_for_completion(PATIENCE) in before
        statistics = counted(cluster, wanted)
        watch.until(UnauthenticatedConnectionsRefused)
        after = {pid: size(pid) for pid in pids(cluster).values()}

        assert not trace.exists(), "a pickle was run"
        assert statistics.refused_frames + statistics.dropped_strangers == outsider.attempts == wanted, outsider.tried
        assert list(after) == list(before), "a node has died"
        for pid, now in after.items():
            assert now["memory"] - before[pid]["memory"] < MOST_MEMORY
            assert now["descriptors"] <= before[pid]["descriptors"] + 2  # a client's connection comes and goes
            assert now["threads"] <= before[pid]["threads"] + 2
