"""Clusters as data, made by hand, for what shows them."""

from __future__ import annotations

from typing import Any

from raftoral_nb.statistics import (
    ClusterStatistics,
    ExecutionStatistics,
    ExecutionStatus,
    NodeStatistics,
    RunStatistics,
    RunStatus,
)


def execution(step: int, queue: int = 0, status: ExecutionStatus = "running", effects: int = 0) -> ExecutionStatistics:
    return ExecutionStatistics(
        status=status,
        step=step,
        last_step_id=f"{step - 1}/step_{step - 1}" if step else None,
        catch_up_queue=queue,
        effects_run=effects,
    )


def node(number: int, role: Any = "follower", **changes: Any) -> NodeStatistics:
    dead = role == "dead"
    fields: dict[str, Any] = {
        "node": number,
        "role": role,
        "paused": False,
        "held": False,
        "acting": role == "leader",
        "term": 3,
        "epoch": 0 if dead else 3,
        "commit_index": 0 if dead else 42,
        "applied_index": 0 if dead else 42,
        "log_length": 42,
        "entries_behind": 0,
        "blocked": None,
        "incarnation": 1,
        "effects_run": 12 if role == "leader" else 0,
        "runs": {},
    }
    return NodeStatistics(**(fields | changes))


def run(
    name: str, workflow: str, steps: int, status: RunStatus = "running", failure: str | None = None
) -> RunStatistics:
    return RunStatistics(run_id=name, workflow=workflow, version=1, status=status, steps=steps, failure=failure)


def cluster(nodes: list[NodeStatistics], runs: list[RunStatistics] | None = None, **changes: Any) -> ClusterStatistics:
    fields: dict[str, Any] = {
        "name": "cluster-1",
        "running": True,
        "leader": next((one.node for one in nodes if one.acting), None),
        "term": 3,
        "epoch": 3,
        "nodes": {one.node: one for one in nodes},
        "runs": {one.run_id: one for one in runs or []},
        "workflows": {"order": (1, 2), "sweep": (1,)} if runs else {},
        "commands": 40,
        "entries": 38,
        "checkpoints": 31,
        "effects_run": 33,
        "leader_changes": 1,
        "refused_frames": 0,
        "events": 120,
    }
    return ClusterStatistics(**(fields | changes))


def quiet_cluster() -> ClusterStatistics:
    """Three nodes that have just started."""
    nodes = [node(1), node(2, "leader"), node(3)]
    return cluster(nodes)


def busy_cluster() -> ClusterStatistics:
    """Five nodes in every state there is, and runs likewise."""
    done = execution(6, status="completed")
    nodes = [
        node(1, held=True, runs={"order-1": done, "order-2": execution(2, 10), "sweep-1": execution(60, 90)}),
        node(
            2,
            "leader",
            runs={
                "order-1": done,
                "order-2": execution(12, effects=4),
                "sweep-1": execution(150),
                "bad-1": execution(1, status="failed"),
            },
        ),
        node(
            3,
            applied_index=37,
            entries_behind=5,
            paused=True,
            runs={
                "order-1": done,
                "order-2": execution(9, 3),
                "sweep-1": execution(149, 1),
                "bad-1": execution(1, status="failed"),
            },
        ),
        node(4, "dead", term=2, log_length=31),
        node(
            5,
            "candidate",
            blocked="In[4]:7 in fit",
            runs={
                "order-1": execution(3, status="diverged"),
                "order-2": execution(12),
                "sweep-1": execution(150),
                "bad-1": execution(1, status="failed"),
            },
        ),
    ]
    runs = [
        run("order-1", "order", 6, "completed"),
        run("bad-1", "order", 1, "failed", "ValueError: the card <1234> was refused"),
        run("order-2", "order", 12),
        run("sweep-1", "sweep", 150),
    ]
    return cluster(nodes, runs)
