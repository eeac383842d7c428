"""What could grow with the use of a cluster has a limit."""

from __future__ import annotations

import gc
import itertools
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from raftoral_nb import Cluster, TooManyWorkflowsError, WorkflowContext, WorkflowDropped, WorkflowNotFoundError
from raftoral_nb.core.state import State
from raftoral_nb.core.validation import Limits
from raftoral_nb.hosts import observers
from raftoral_nb.node import executor
from raftoral_nb.raft import member
from raftoral_nb.raft.compaction import Compaction
from tests.cluster.helpers import PATIENCE, engine, gate


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """One node that keeps three definitions."""
    monkeypatch.setattr(member, "State", lambda: State(Limits(definitions=3)))
    with Cluster(1, network="memory") as one:
        yield one


def answering(answer: int, name: str = "answer") -> Any:
    async def answers(ctx: WorkflowContext, _: Any) -> Any:
        return answer

    answers.__name__ = name
    return answers


async def gated(ctx: WorkflowContext, name: str) -> bool:
    return await ctx.compute("gate", lambda: gate(name).enter())


def test_a_cell_that_is_changed_for_ever_leaves_its_latest_versions(cluster: Cluster) -> None:
    runs = [cluster.start_workflow(answering(number)) for number in range(8)]
    assert [run.wait_for_completion(PATIENCE) for run in runs] == list(range(8))
    assert cluster.workflows == {"answer": (6, 7, 8)}
    dropped = [event.version for _, event in cluster.history() if isinstance(event, WorkflowDropped)]
    assert dropped == [1, 2, 3, 4, 5]
    assert sorted(cluster._registry._local) == [("answer", 6), ("answer", 7), ("answer", 8)]
    with pytest.raises(WorkflowNotFoundError, match="version 2"):
        cluster.start_workflow("answer", 2, None)


def test_a_version_that_a_run_still_uses_is_kept_and_works(cluster: Cluster) -> None:
    run = cluster.start_workflow(gated, "first")
    gate("first").await_arrival()
    for number in range(5):
        cluster.register_workflow("gated", answering(number))
    assert cluster.workflows == {"gated": (1, 5, 6)}
    gate("first").open()
    assert run.wait_for_completion(PATIENCE) is True


def test_one_workflow_too_many_is_refused_by_name(cluster: Cluster) -> None:
    for number in range(3):
        cluster.register_workflow(answering(number, f"flow{number}"))
    with pytest.raises(TooManyWorkflowsError, match=r"'flow3' was not registered: 3 workflows .* MAX_DEFINITIONS"):
        cluster.register_workflow(answering(3, "flow3"))
    assert cluster.start_workflow("flow2").wait_for_completion(PATIENCE) == 2


def test_a_node_keeps_few_functions_and_loads_others_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "MAX_FUNCTIONS_KEPT", 2)
    with Cluster(1, network="memory") as cluster:
        for _ in range(2):
            for number in range(4):
                run = cluster.start_workflow(answering(number, f"flow{number}"))
                assert run.wait_for_completion(PATIENCE) == number
        incarnation = engine(cluster).incarnation(1)
        assert incarnation is not None
        assert len(incarnation.executor._functions) == 2


async def two_steps(ctx: WorkflowContext, number: int) -> int:
    variable = await ctx.var("number", number)
    await variable.set(number + 1)
    return number


def test_nothing_else_grows_with_the_number_of_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that has a limit has reached it; if one block of memory were kept of each run on one node, it would show."""
    monkeypatch.setattr(
        member, "State", lambda: State(Limits(runs_kept=10, evicted_run_ids=10, sessions=2, session_answers=60))
    )
    monkeypatch.setattr(observers, "MAX_EVENTS_KEPT", 10)
    compaction = Compaction(log_bytes=4_000, kept_bytes=1_000)
    with Cluster(3, network="memory", compaction=compaction) as cluster:

        def blocks() -> int:
            latest = cluster.start_workflow(two_steps, 1)
            latest.wait_for_completion(PATIENCE)
            for node in cluster.nodes.values():
                node.wait_until_applied(PATIENCE)
                node.result(latest.run_id, timeout=PATIENCE)
            gc.collect()
            return sys.getallocatedblocks()

        def fewest_after(runs: int) -> int:
            """The fewest over a few runs more: the log grows and is cut again in that time."""
            for number in range(runs):
                cluster.start_workflow(two_steps, number % 50).wait_for_completion(PATIENCE)
            return min(blocks() for _ in range(25))

        fewest_after(100)
        # On a busy machine the logs of three nodes may not all be short at once in a round; what is kept grows in every one.
        counts = [fewest_after(0), *(fewest_after(175) for _ in range(3))]
        assert min(after - before for before, after in itertools.pairwise(counts)) < 150, counts
