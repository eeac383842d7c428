"""Copies that steps change, and changes that are lost, are alike on real nodes, in a replay from a data directory, and in processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raftoral_nb import Cluster, LostChangeError, WorkflowContext, WorkflowFailedError
from tests.cluster.helpers import PATIENCE


def extended(rows: list[int]) -> list[int]:
    rows.append(len(rows))
    return rows


async def returns(ctx: WorkflowContext, _: None) -> Any:
    rows = [7]
    longer = await ctx.compute("extended", extended, rows)
    return rows, await ctx.compute("again", lambda: extended(longer)), longer


async def loses(ctx: WorkflowContext, _: None) -> Any:
    rows = [7]
    await ctx.compute("append", rows.append, 1)
    return rows


RETURNED = ([7], [7, 1, 2], [7, 1])


def test_copies_and_lost_changes_are_the_same_on_every_node_and_in_a_replay(tmp_path: Path) -> None:
    with Cluster(3, data_dir=tmp_path / "lab") as cluster:
        assert cluster.start_workflow(returns, None, run_id="kept").wait_for_completion(PATIENCE) == RETURNED
        with pytest.raises(WorkflowFailedError, match="the list whose method it is"):
            cluster.start_workflow(loses, None, run_id="lost").wait_for_completion(PATIENCE)
        assert [node.result("kept", PATIENCE) for node in cluster.nodes.values()] == [RETURNED] * 3
    with Cluster(data_dir=tmp_path / "lab") as cluster:
        assert [node.result("kept", PATIENCE) for node in cluster.nodes.values()] == [RETURNED] * 3
        with pytest.raises(LostChangeError):
            cluster.run("lost").value("append")


def test_they_are_in_processes_too() -> None:
    with Cluster(3, processes=True) as cluster:
        assert cluster.start_workflow(returns, None).wait_for_completion(PATIENCE) == RETURNED
        with pytest.raises(WorkflowFailedError) as caught:
            cluster.start_workflow(loses, None).wait_for_completion(PATIENCE)
    assert isinstance(caught.value.__cause__, LostChangeError)
