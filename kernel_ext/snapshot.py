"""What the live view is drawn from: a cluster's statistics as plain JSON data. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, get_args

from raftoral_nb.statistics import UNFINISHED, RunStatus

from .words import link_state

if TYPE_CHECKING:
    from raftoral_nb.statistics import ClusterStatistics, NodeStatistics, RunStatistics

FORMAT: Final = 1
"""Grows when the page's code of an older version could not draw the snapshot."""

MAX_RUNS_SHOWN: Final = 12
"""Runs drawn with their lanes. The view says how many more there are, by status."""


def snapshot(statistics: ClusterStatistics, number: int, *, stopped: bool = False) -> dict[str, Any]:
    """The snapshot with this sequence number; `stopped` says that the cluster has ended, whatever the statistics say."""
    shown = _runs_to_show(list(statistics.runs.values()))
    names = {run.run_id for run in shown}
    omitted: dict[str, int] = dict.fromkeys(get_args(RunStatus), 0)
    for run in statistics.runs.values():
        if run.run_id not in names:
            omitted[run.status] += 1
    running = statistics.running and not stopped
    return {
        "format": FORMAT,
        "seq": number,
        "name": statistics.name,
        "state": "running" if running else "stopped",
        "leader": statistics.leader if running else None,
        "term": statistics.term,
        "epoch": statistics.epoch,
        "nodes": [_node(node) for _, node in sorted(statistics.nodes.items())],
        "runs": [_run(run, statistics) for run in shown],
        "omitted": omitted,
        "counters": {
            "commands": statistics.commands,
            "checkpoints": statistics.checkpoints,
            "effects run": statistics.effects_run,
            "leader changes": statistics.leader_changes,
            "refused frames": statistics.refused_frames,
        },
    }


def unsettled(statistics: ClusterStatistics) -> bool:
    """True while something will soon look different without an event: a queue drains, a log catches up, a thread is blocked."""
    return statistics.running and any(_unsettled_node(node, statistics) for node in statistics.nodes.values())


def _unsettled_node(node: NodeStatistics, statistics: ClusterStatistics) -> bool:
    if node.role == "dead" or node.paused or link_state(node) == ("isolated",):
        return False
    if node.entries_behind or node.blocked is not None:
        return True
    if node.held:
        return False
    for run_id, run in statistics.runs.items():
        execution = node.runs.get(run_id)
        if execution is None:
            if run.status in UNFINISHED:
                return True
        elif execution.status == "running" and (execution.catch_up_queue or run.status not in UNFINISHED):
            return True
    return False


def _runs_to_show(runs: list[RunStatistics]) -> list[RunStatistics]:
    """All if they fit; else the unfinished and the latest finished ones, in the order they were started."""
    if len(runs) <= MAX_RUNS_SHOWN:
        return runs
    latest_first = sorted(enumerate(runs), key=lambda pair: (pair[1].status not in UNFINISHED, -pair[0]))
    return [run for _, run in sorted(latest_first[:MAX_RUNS_SHOWN], key=lambda pair: pair[0])]


def _node(node: NodeStatistics) -> dict[str, Any]:
    return {
        "node": node.node,
        "role": node.role,
        "acting": node.acting,
        "paused": node.paused,
        "held": node.held,
        "blocked": node.blocked,
        "term": node.term,
        "epoch": node.epoch,
        "commit": node.commit_index,
        "applied": node.applied_index,
        "length": node.log_length,
        "behind": node.entries_behind,
        "effects": node.effects_run,
        "links": list(link_state(node)),
    }


def _run(run: RunStatistics, statistics: ClusterStatistics) -> dict[str, Any]:
    lanes = []
    for number, node in sorted(statistics.nodes.items()):
        execution = None if node.role == "dead" else node.runs.get(run.run_id)
        lanes.append(
            {
                "node": number,
                "status": "none" if execution is None else execution.status,
                "step": 0 if execution is None else execution.step,
                "queue": 0 if execution is None else execution.catch_up_queue,
                "last": None if execution is None else execution.last_step_id,
                "effects": 0 if execution is None else execution.effects_run,
            }
        )
    return {
        "run": run.run_id,
        "workflow": run.workflow,
        "version": run.version,
        "status": run.status if run.held is None else "held",
        "steps": run.steps,
        "failure": run.failure,
        "lanes": lanes,
    }
