"""Snapshots that the live view is drawn from: a look at a cluster as plain JSON data. Pure.

Log entries are told once (`entries`, by "index:term") and named by each node's `tail`: the same index and term is the same
entry in every log. Of a run, `tail` are the latest records, and `first` is how many came before them; `waits` is what its branches
wait for on the acting node, or on the one that has come farthest.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, get_args

from raftoral_nb.core.records import Message, RunId, Step, StepId, TimersFired
from raftoral_nb.core.statistics import UNFINISHED, RunStatus, record_mark

from ..shown.waiting import farthest
from ..shown.words import link_state

if TYPE_CHECKING:
    from raftoral_nb import Cluster
    from raftoral_nb.core.records import Record
    from raftoral_nb.core.statistics import (
        BranchWait,
        ClusterLook,
        ClusterStatistics,
        ExecutionStatistics,
        LoggedEntry,
        LogTail,
        NodeStatistics,
        RecordMark,
        RunStatistics,
        StepActivity,
    )

FORMAT: Final = 4
"""Grows when the page's code of an older version could not draw the snapshot."""

MAX_RUNS_SHOWN: Final = 12
"""Runs drawn with their lanes. The view says how many more there are, by status."""

MAX_ENTRIES_SHOWN: Final = 24
"""Log entries drawn per node: the last ones."""

MAX_RECORDS_SHOWN: Final = 60
"""Records of a run that are drawn one by one: the last ones."""

SILENCE: Final = 0.15
"""Seconds without a word of a leader, from which on a node's election timer is watched: more than two heartbeats."""

MAX_ACTIVITIES_SHOWN: Final = 8
"""Steps that one node runs now, of one run, drawn one by one."""

_NO_ATTEMPTS: Final[Mapping[tuple[RunId, StepId], int]] = MappingProxyType({})

MAX_TEXT: Final = 200
"""Characters of a failure or problem in the picture."""

MAX_MARK: Final = 48
"""Characters of a record's name, and of what is said of an attempt, in the lane of each node."""


def taken(cluster: Cluster) -> ClusterLook:
    """A look at the cluster, as large as the picture is."""
    return cluster.look(runs=MAX_RUNS_SHOWN, entries=MAX_ENTRIES_SHOWN, records=MAX_RECORDS_SHOWN)


def snapshot(
    look: ClusterLook,
    number: int,
    *,
    stopped: bool = False,
    attempts: Mapping[tuple[RunId, StepId], int] = _NO_ATTEMPTS,
) -> dict[str, Any]:
    """The snapshot with this sequence number; `stopped` says that the cluster has ended, whatever the look says.

    `attempts` are those of steps whose function was called more than once.
    """
    statistics = look.statistics
    running = statistics.running and not stopped
    entries = {f"{entry.index}:{entry.term}": _entry(entry) for tail in look.logs.values() for entry in tail.entries}
    return {
        "format": FORMAT,
        "seq": number,
        "time": round(look.time, 3),
        "name": statistics.name,
        "state": "running" if running else "stopped",
        "leader": statistics.leader if running else None,
        "term": statistics.term,
        "epoch": statistics.epoch,
        "timeout": look.election_timeout,
        "nodes": [_node(node, look.logs.get(number)) for number, node in sorted(statistics.nodes.items())],
        "links": _links(statistics),
        "entries": entries,
        "runs": [_run(run, look, attempts) for run in statistics.runs.values()],
        "omitted": {status: look.omitted.get(status, 0) for status in get_args(RunStatus)},
        "counters": {
            "commands": statistics.commands,
            "checkpoints": statistics.checkpoints,
            "effects run": statistics.effects_run,
            "leader changes": statistics.leader_changes,
            "refused frames": statistics.refused_frames,
            **(
                {"dropped unauthenticated connections": statistics.dropped_strangers}
                if statistics.dropped_strangers
                else {}
            ),
        },
    }


def unsettled(statistics: ClusterStatistics) -> bool:
    """True while something will soon look different without an event: a queue drains, a log catches up, a thread is blocked."""
    if not statistics.running:
        return False
    able = [node for node in statistics.nodes.values() if node.role != "dead" and not node.paused]
    return (statistics.leader is None and bool(able)) or any(_unsettled_node(node, statistics) for node in able)


def _counts_down(node: NodeStatistics) -> bool:
    """True if it has missed a leader for so long that its election timer is worth watching."""
    return node.election_timer is not None and (node.silence is None or node.silence > SILENCE)


def _unsettled_node(node: NodeStatistics, statistics: ClusterStatistics) -> bool:
    if link_state(node) == ("isolated",):
        return False
    if node.entries_behind or node.blocked is not None or _counts_down(node):
        return True
    if node.held:
        return False
    for run_id, run in statistics.runs.items():
        execution = node.runs.get(run_id)
        if execution is None:
            if run.status in UNFINISHED:
                return True
        elif execution.status == "running" and (
            execution.catch_up_queue or execution.in_turn or run.status not in UNFINISHED
        ):
            return True
    return False


def _short(text: str | None, most: int = MAX_TEXT) -> str | None:
    return text if text is None or len(text) <= most else f"{text[: most - 1]}…"


def _node(node: NodeStatistics, log: LogTail | None) -> dict[str, Any]:
    return {
        "node": node.node,
        "role": node.role,
        "acting": node.acting,
        "paused": node.paused,
        "held": node.held,
        "blocked": node.blocked,
        "term": node.term,
        "epoch": node.epoch,
        "voted": node.voted_for,
        "silence": None if node.silence is None else round(node.silence, 3),
        "timer": round(node.election_timer, 3) if node.election_timer is not None and _counts_down(node) else None,
        "commit": node.commit_index,
        "applied": node.applied_index,
        "length": node.log_length,
        "snapshot": node.snapshot_index,
        "behind": node.entries_behind,
        "storage": _short(node.storage_error),
        "problem": _short(node.problem),
        "effects": node.effects_run,
        "incarnation": node.incarnation,
        "links": list(link_state(node)),
        "first": 1 if log is None else log.first_index,
        "tail": [] if log is None else [[entry.index, entry.term] for entry in log.entries],
    }


def _links(statistics: ClusterStatistics) -> list[dict[str, Any]]:
    """Each link once, from the lower number to the higher: `cut` is "both", "out" (a to b), "back" or None.

    `out` and `back` are the messages sent so far each way, by kind.
    """
    found = []
    for a, node in sorted(statistics.nodes.items()):
        for b, link in sorted(node.links.items()):
            if b not in statistics.nodes or b < a:
                continue
            back = statistics.nodes[b].links.get(a)
            found.append(
                {
                    "a": a,
                    "b": b,
                    "up": link.up and (back is None or back.up),
                    "cut": {(True, True): "both", (True, False): "out", (False, True): "back"}.get(
                        (link.cut, link.cut_back)
                    ),
                    "slow": max(
                        (one.delay.seconds for one in (link, back) if one is not None and one.delay is not None),
                        default=None,
                    ),
                    "out": dict(link.sent),
                    "back": {} if back is None else dict(back.sent),
                }
            )
    return found


def _entry(entry: LoggedEntry) -> dict[str, Any]:
    return {
        "kind": entry.kind,
        "size": entry.size,
        "count": entry.count,
        "commands": [
            {"kind": one.kind, "text": _short(one.text), "run": one.run_id, "step": one.step_id}
            for one in entry.commands
        ],
    }


def record_facts(record: Record) -> dict[str, Any]:
    """A record as plain data: a step has an `id`, all others a `name`; `node` is 0 where no node in particular made it."""
    named = record_mark(record)
    told = {
        "id": record.step_id if isinstance(record, Step) else None,
        "op": named.kind,
        "node": record.node if isinstance(record, Step | TimersFired) else 0,
        "failed": isinstance(record, Step | Message) and record.failure is not None,
    }
    return told if isinstance(record, Step) else told | {"name": _short(named.name)}


def _record(record: Record, run_id: RunId, attempts: Mapping[tuple[RunId, StepId], int]) -> dict[str, Any]:
    tried = attempts.get((run_id, record.step_id), 1) if isinstance(record, Step) else 1
    return record_facts(record) | ({"attempts": tried} if tried > 1 else {})


def _mark(named: RecordMark) -> dict[str, Any]:
    return {"op": named.kind, "name": _short(named.name, MAX_MARK)}


def _run(run: RunStatistics, look: ClusterLook, attempts: Mapping[tuple[RunId, StepId], int]) -> dict[str, Any]:
    tail = look.records.get(run.run_id)
    records = () if tail is None else tail.records
    ahead = farthest(run, look.statistics)
    return {
        "run": run.run_id,
        "workflow": run.workflow,
        "version": run.version,
        "status": run.status if run.why_held is None else "held",
        "steps": run.steps,
        "records": run.records,
        "failure": _short(run.failure if run.why_held is None else run.why_held),
        "first": run.records if tail is None else tail.first,
        "tail": [_record(record, run.run_id, attempts) for record in records],
        "waits": None if ahead is None else _waits(*ahead),
        "stuck": ahead is not None and run.status == "running" and ahead[1].stuck,
        "parent": run.parent,
        "owner": run.owner,
        "waiting": run.waiting,
        "lanes": [_lane(number, node, run) for number, node in sorted(look.statistics.nodes.items())],
    }


def _waits(number: int, execution: ExecutionStatistics) -> dict[str, Any]:
    """What a run waits for, as this node has it."""
    doing = {activity.step_id: activity for activity in execution.activities}
    return {
        "node": number,
        "had": execution.had,
        "branches": [_wait(one, doing.get(one.what) if one.kind == "step" else None) for one in execution.waits],
        "more": execution.more_waits,
    }


def _wait(wait: BranchWait, doing: StepActivity | None) -> dict[str, Any]:
    told = {
        "branch": wait.branch.removesuffix("."),
        "name": _short(wait.name),
        "kind": wait.kind,
        "what": _short(wait.what),
        "op": wait.operation,
        "label": _short(wait.label, MAX_MARK),
        "until": None if wait.until is None else round(wait.until, 3),
    }
    return told if doing is None else told | _activity(doing, MAX_TEXT)


def _lane(number: int, node: NodeStatistics, run: RunStatistics) -> dict[str, Any]:
    execution = None if node.role == "dead" else node.runs.get(run.run_id)
    if execution is None:
        return {
            "node": number,
            "status": "none",
            "step": 0,
            "had": 0,
            "queue": 0,
            "next": [],
            "turn": None,
            "effects": 0,
            "problem": None,
            "doing": [],
            "more": 0,
        }
    return {
        "node": number,
        "status": execution.status,
        "step": execution.step,
        "had": execution.had,
        "queue": execution.catch_up_queue,
        "next": [_mark(one) for one in execution.queue],
        "turn": None if execution.turn is None else _mark(execution.turn),
        "effects": execution.effects_run,
        "problem": _short(execution.problem),
        "doing": [_activity(one) for one in execution.activities[:MAX_ACTIVITIES_SHOWN]],
        "more": max(0, len(execution.activities) - MAX_ACTIVITIES_SHOWN),
    }


def _activity(activity: StepActivity, most: int = MAX_MARK) -> dict[str, Any]:
    return {
        "id": activity.step_id,
        "attempt": activity.attempt,
        "fraction": activity.fraction,
        "text": _short(activity.text, most),
        "failure": _short(activity.failure, most),
        "again": None if activity.again_at is None else round(activity.again_at, 3),
    }
