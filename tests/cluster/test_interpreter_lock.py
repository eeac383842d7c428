"""A call into C that does not release the interpreter's lock stops every node at once: nobody is to blame."""

from __future__ import annotations

import ctypes
import sys

import pytest

from raftoral_nb import Cluster, RoleChanged, WorkflowContext
from raftoral_nb.raft.timing import Timing
from tests.cluster.helpers import PATIENCE, Watch


async def count(ctx: WorkflowContext, steps: int) -> int:
    for number in range(steps):
        await ctx.compute("step", abs, number)
    return steps


@pytest.mark.skipif(sys.platform == "win32", reason="usleep is taken from the C library")
def test_a_kernel_that_holds_the_interpreters_lock_for_longer_than_an_election_keeps_leader_and_term() -> None:
    # Four times the default times, so that a busy machine that gives no processor for a moment is not taken for the lock.
    with Cluster(3, timing=Timing(heartbeat=0.2, election_min=1.0, election_max=2.0)) as cluster:
        hold_the_lock(cluster)


def hold_the_lock(cluster: Cluster) -> None:
    # A PyDLL's functions are called with the lock held: no thread of Python runs meanwhile, the consensus thread included.
    holding = ctypes.PyDLL(None).usleep
    holding.argtypes = [ctypes.c_uint32]
    leader, term = cluster.wait_for_leader(), cluster.statistics().term
    with Watch(cluster) as watch:
        for number in range(3):
            run = cluster.start_workflow(count, 20 * number)
            assert holding(3_000_000) == 0
            # Enough of the time behind the stall for a follower that blames the leader to do something about it.
            assert run.wait_for_completion(PATIENCE) == 20 * number
            assert cluster.start_workflow(count, 200).wait_for_completion(PATIENCE) == 200
        assert (cluster.leader, cluster.statistics().term) == (leader, term)
        assert watch.of(RoleChanged) == []
