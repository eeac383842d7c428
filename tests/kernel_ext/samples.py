"""Clusters as data, made by hand, for what shows them."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from raftoral_nb.core.cluster_events import LinkDelay
from raftoral_nb.core.records import Failure, Message, Step, TimersFired
from raftoral_nb.core.statistics import (
    BranchWait,
    ClusterLook,
    ClusterStatistics,
    ExecutionStatistics,
    ExecutionStatus,
    LinkStatistics,
    LoggedCommand,
    LoggedEntry,
    LogTail,
    NodeStatistics,
    RecordMark,
    RecordTail,
    RunStatistics,
    RunStatus,
    StepActivity,
    record_mark,
)


def execution(step: int, queue: int = 0, status: ExecutionStatus = "running", effects: int = 0) -> ExecutionStatistics:
    return ExecutionStatistics(
        status=status,
        step=step,
        last_step_id=f"{step - 1}/step_{step - 1}" if step else None,
        catch_up_queue=queue,
        had=step,
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
    return RunStatistics(
        run_id=name, workflow=workflow, version=1, status=status, steps=steps, records=steps, failure=failure
    )


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


def links(number: int, nodes: int) -> dict[int, LinkStatistics]:
    """Links of one of that many nodes, of which 2-5 is cut, 3-5 is cut one way and 1-2 is slow; node 4 is dead."""
    found = {}
    for peer in range(1, nodes + 1):
        pair = {number, peer}
        if peer != number:
            found[peer] = LinkStatistics(
                up=4 not in pair and pair != {2, 5},
                cut=pair == {2, 5} or (number, peer) == (3, 5),
                cut_back=pair == {2, 5} or (number, peer) == (5, 3),
                delay=LinkDelay(0.2) if pair == {1, 2} else None,
                sent={"append": 40, "heartbeat": 7} if number == 2 else {"acknowledge": 40, "vote": 1},
            )
    return found


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


def broken_cluster() -> ClusterStatistics:
    """The busy one, with links cut and slow."""
    busy = busy_cluster()
    nodes = {number: structs.replace(one, links=links(number, 5)) for number, one in busy.nodes.items()}
    return structs.replace(busy, nodes=nodes)


def waiting_look(time: float = 1_700_000_000.0) -> ClusterLook:
    """A look at three nodes: one run of plain tasks that wait for all there is, with a held node behind it, and one that is stuck."""
    records = (
        Step("0/begin", "compute", b"", None, 1, 3, time - 9),
        Step("t1.0/poll", "compute", b"", None, 1, 3, time - 8),
        Message("m", "signal", "note", b"", at=time - 7),
        TimersFired(time - 6, time - 6, 1, 3),
        Step("t5.0/check", "compute", None, Failure("ValueError", "no"), 1, 3, time - 5),
        Message("c", "child", "order-1/1", b"", at=time - 4),
    )
    waits = (
        BranchWait(branch="", name="", kind="tasks", what="t1., t2."),
        BranchWait(branch="t1.", name="poller", kind="time", what="", until=time + 10),
        BranchWait(branch="t2.", name="approval", kind="signal", what="'yes' or 'no'", until=time + 500),
        BranchWait(branch="t5.", name="", kind="step", what="t5.1/fetch", operation="compute"),
        BranchWait(branch="2.0.", name="left", kind="other", what="Lock.acquire"),
        BranchWait(branch="c1.", name="", kind="child", what="order-1/2"),
        BranchWait(branch="u1.", name="update price", kind="update", what="'price'"),
    )
    tried = StepActivity(
        step_id="t5.1/fetch", attempt=2, fraction=None, text="", failure="ConnectionError: away", again_at=time + 4
    )
    turn = RecordMark("child ended", "order-1/1")
    acting = structs.replace(execution(6), step=3, waits=waits, activities=(tried,), turn=turn)
    queue = tuple(record_mark(record) for record in records[2:])
    behind = structs.replace(execution(2, 4), queue=queue, turn=record_mark(records[1]))
    event = (BranchWait(branch="", name="", kind="other", what="Event.wait"),)
    stuck = structs.replace(execution(1), stuck=True, waits=event)
    nodes = [
        node(1, "leader", runs={"order-1": acting, "lost-1": stuck}),
        node(2, held=True, runs={"order-1": behind, "lost-1": stuck}),
        node(3, runs={"order-1": structs.replace(acting, activities=()), "lost-1": stuck}),
    ]
    runs = [structs.replace(run("order-1", "order", 3), records=6), run("lost-1", "lost", 1)]
    found = look(cluster(nodes, runs), time=time)
    return structs.replace(found, records={**found.records, "order-1": RecordTail(first=0, records=records)})


def look(statistics: ClusterStatistics, *, time: float = 1_700_000_000.0, **changes: Any) -> ClusterLook:
    """A look at that cluster, with logs and steps that fit its numbers; node 1, if it leads nobody, has an old tail."""
    logs = {}
    for number, one in statistics.nodes.items():
        entries = []
        for index in range(max(1, one.log_length - 15), one.log_length + 1):
            run_id, step_id = ("order-2", f"{index % 12}/step_{index % 12}") if index % 3 else (None, None)
            kind = "checkpoint" if index % 3 else "start"
            told = LoggedCommand(kind=kind, text=f"command {index}", run_id=run_id, step_id=step_id)
            term = 2 if index < 30 else one.term
            entries.append(LoggedEntry(index=index, term=term, kind=kind, size=90, count=1, commands=(told,)))
        logs[number] = LogTail(first_index=1, last_index=one.log_length, entries=tuple(entries))
    records = {}
    for name, one_run in statistics.runs.items():
        first = max(0, one_run.steps - 60)
        records[name] = RecordTail(
            first=first,
            records=tuple(
                Step(
                    step_id=f"{place}/step_{place}",
                    operation="compute",
                    value=b"",
                    failure=None,
                    node=2 if place % 4 else 4,
                    epoch=3,
                )
                for place in range(first, one_run.steps)
            ),
        )
    fields: dict[str, Any] = {
        "time": time,
        "statistics": statistics,
        "election_timeout": 0.5,
        "logs": logs,
        "records": records,
        "omitted": {},
    }
    return ClusterLook(**(fields | changes))


def opened(run_id: str = "order-2", steps: int = 12) -> dict[str, Any]:
    """What the page knows of a run that is open in it: `details` and `code`."""
    lines = ["async def order(ctx, item):", *(f"    await ctx.compute('step_{n}', work)" for n in range(steps))]
    told = [
        {
            "id": f"{n}/step_{n}",
            "op": "compute",
            "node": 2,
            "failed": False,
            "from": 100 + n,
            "at": 100.5 + n,
            "value": str(n),
        }
        for n in range(steps)
    ]
    place = {"branch": "", "own": True}
    places = {
        "1": [{**place, "line": 4, "where": "cell:4 in order"}],
        "2": [{**place, "line": 13, "where": "cell:13 in order"}],
        "3": [{**place, "line": 4, "own": False, "where": "tools.py:4 in work"}],
    }
    return {
        "details": {run_id: {"start": 100.0, "first": 0, "records": told, "places": places}},
        "code": {run_id: {"file": "cell", "first": 1, "lines": lines, "left": 0}},
    }
