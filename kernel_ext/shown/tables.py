"""Tables of strings about a cluster: the text and the HTML form are both made from these. Pure."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import msgspec

from raftoral_nb.core.sizes import size_words
from raftoral_nb.core.statistics import STUCK, UNFINISHED
from raftoral_nb.errors import RunNotFoundError

from .words import counted, link_state

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from raftoral_nb import WorkflowRun
    from raftoral_nb.core.statistics import (
        ClusterStatistics,
        ExecutionStatistics,
        LogEntry,
        LogTail,
        NodeStatistics,
        RetentionStatistics,
        RunStatus,
        StepActivity,
    )


class Table(msgspec.Struct, frozen=True):
    """`rows` of as many strings as `header`; `numbers` are the columns that are aligned to the right."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()


def node_state(node: NodeStatistics) -> str:
    """In words what keeps a node from working: paused, held, blocked, its links; `running` if nothing does, `-` if it is dead."""
    if node.role == "dead":
        return ", ".join(("-", *link_state(node)))
    parts = []
    if node.paused:
        parts.append("paused")
    if node.held:
        parts.append("held")
    if node.blocked is not None:
        parts.append(f"blocked at {node.blocked}")
    parts += link_state(node)
    return ", ".join(parts) or "running"


def cluster_line(statistics: ClusterStatistics) -> str:
    """The cluster in one line."""
    if not statistics.running:
        return f"cluster {statistics.name}: stopped"
    leads = "no leader" if statistics.leader is None else f"node {statistics.leader} leads"
    return (
        f"cluster {statistics.name}: running, {counted(len(statistics.nodes), 'node')}; "
        f"{leads}, term {statistics.term}, epoch {statistics.epoch}"
    )


def counter_line(statistics: ClusterStatistics) -> str:
    """The counters since the cluster was started, in one line."""
    counters = {
        "commands": statistics.commands,
        "entries": statistics.entries,
        "checkpoints": statistics.checkpoints,
        "effects run": statistics.effects_run,
        "leader changes": statistics.leader_changes,
        "refused frames": statistics.refused_frames,
        **(
            {"dropped unauthenticated connections": statistics.dropped_strangers}
            if statistics.dropped_strangers
            else {}
        ),
    }
    return ", ".join(f"{name} {value}" for name, value in counters.items())


def workflow_line(statistics: ClusterStatistics) -> str:
    """The registered workflows with their versions, in one line."""
    if not statistics.workflows:
        return "no workflows registered"
    named = (
        f"{name} ({'version' if len(versions) == 1 else 'versions'} {', '.join(map(str, versions))})"
        for name, versions in sorted(statistics.workflows.items())
    )
    return f"workflows: {', '.join(named)}"


def nodes_table(statistics: ClusterStatistics) -> Table:
    """A row per node."""
    header = ("node", "role", "state", "term", "epoch", "commit", "applied", "behind", "effects run")
    rows = tuple(
        (
            str(number),
            node.role,
            node_state(node),
            *(str(value) for value in (node.term, node.epoch, node.commit_index, node.applied_index)),
            str(node.entries_behind),
            str(node.effects_run),
        )
        for number, node in sorted(statistics.nodes.items())
    )
    return Table("nodes", header, rows, frozenset({0, 3, 4, 5, 6, 7, 8}))


def lane(execution: ExecutionStatistics | None, *, dead: bool = False) -> str:
    """The progress of a node's execution of a run: `12`, `2 (10 in queue)`, `4 (diverged)`, `-` if there is none."""
    if execution is None or dead:
        return "-"
    notes = []
    if execution.catch_up_queue:
        notes.append(f"{execution.catch_up_queue} in queue")
    if execution.status in {*STUCK, "superseded"}:
        notes.append(execution.status)
    return f"{execution.step} ({', '.join(notes)})" if notes else str(execution.step)


def runs_table(statistics: ClusterStatistics) -> Table:
    """A row per run, in the order they were started, with a column per node: steps consumed, and its catch-up queue."""
    numbers = sorted(statistics.nodes)
    header = ("run", "workflow", "version", "status", "steps", *(f"node {number}" for number in numbers))
    rows = tuple(
        (
            run_id,
            run.workflow,
            str(run.version),
            "held"
            if run.why_held is not None
            else run.status
            if run.failure is None
            else f"{run.status}: {run.failure}",
            str(run.steps),
            *(
                lane(statistics.nodes[number].runs.get(run_id), dead=statistics.nodes[number].role == "dead")
                for number in numbers
            ),
        )
        for run_id, run in statistics.runs.items()
    )
    return Table("runs: steps recorded, and consumed by each node", header, rows, frozenset({2, 4}))


def notes(statistics: ClusterStatistics) -> tuple[str, ...]:
    """Sentences about what does not fit into the tables: what nodes run now, why they stopped, and how runs hang together."""
    said = []
    for number, node in sorted(statistics.nodes.items()):
        if node.storage_error is not None:
            said.append(f"node {number}: its disk accepts no writes: {node.storage_error}")
        if node.problem is not None:
            said.append(f"node {number} is not followed from here: {node.problem}")
    for run_id, run in statistics.runs.items():
        if run.why_held is not None:
            said.append(f"run {run_id} is held: {run.why_held}")
        if run.owner is not None and run.status in UNFINISHED:
            said.append(f"run {run_id} is owned by node {run.owner}")
        if run.parent is not None:
            said.append(f"run {run_id} is a child of run {run.parent}")
        if run.status == "running" and any(
            one.stuck and one.had == run.records for node in statistics.nodes.values() if (one := node.runs.get(run_id))
        ):
            said.append(f"run {run_id}: nothing can wake it: it waits for no step, no message, no child and no time")
        if run.waiting:
            said.append(f"run {run_id}: {counted(run.waiting, 'message')} not received yet")
        for number, node in sorted(statistics.nodes.items()):
            execution = None if node.role == "dead" else node.runs.get(run_id)
            if execution is None:
                continue
            if execution.problem is not None and execution.status in {*STUCK, "superseded"}:
                said.append(f"run {run_id}: node {number} {execution.status}: {execution.problem}")
            said += [f"run {run_id}: node {number} {activity_words(one)}" for one in execution.activities]
    return tuple(said)


def activity_words(activity: StepActivity) -> str:
    """`runs step 3/fit, attempt 2, 40 %: epoch 4`, or `tries step 3/fit again: attempt 1 failed with ...`."""
    if activity.again_at is not None:
        return f"tries step {activity.step_id} again: attempt {activity.attempt} failed with {activity.failure}"
    again = f", attempt {activity.attempt}" if activity.attempt > 1 else ""
    share = "" if activity.fraction is None else f", {activity.fraction:.0%}"
    return f"runs step {activity.step_id}{again}{share}{': ' if activity.text else ''}{activity.text}"


def run_list(runs: Sequence[WorkflowRun[object]], held: Collection[str] = ()) -> Table:
    """A row per run, without what differs between nodes; `held` are those that stand still. Runs that are gone by now have none."""
    rows = []
    for run in runs:
        with contextlib.suppress(RunNotFoundError):
            status = "held" if run.run_id in held else run.status
            rows.append((run.run_id, run.workflow, str(run.version), status, str(len(run.steps))))
    return Table("runs", ("run", "workflow", "version", "status", "steps"), tuple(rows), frozenset({2, 4}))


def retained_line(retention: RetentionStatistics) -> str:
    """How many older runs were evicted, and which options say so; "" if none was."""
    if not retention.evicted:
        return ""
    were = "was" if retention.evicted == 1 else "were"
    options = f"keep_runs={retention.keep_runs}, keep_bytes='{size_words(retention.keep_bytes)}'"
    return f"{counted(retention.evicted, 'older run')} {were} evicted: {options}"


def entries_table(logs: Mapping[int, Sequence[LogEntry]], snapshots: Mapping[int, int]) -> Table:
    """A row per entry, in the order of the log, with what each node has of it.

    That is `committed`, `in its log`, `in its snapshot` (committed, and no more in the log), or `-`. Two rows of one index
    are two entries that different leaders put there: one of them will go.
    """
    known: dict[tuple[int, int], LogEntry] = {}
    held: dict[tuple[int, int], dict[int, str]] = {}
    for node, entries in logs.items():
        for entry in entries:
            place = (entry.index, entry.term)
            known.setdefault(place, entry)
            held.setdefault(place, {})[node] = "committed" if entry.committed else "in its log"
    numbers = sorted(logs)
    rows = tuple(
        (
            str(index),
            str(term),
            ", ".join(known[index, term].commands) or "(empty)",
            *(
                held[index, term].get(number, "in its snapshot" if index <= snapshots.get(number, 0) else "-")
                for number in numbers
            ),
        )
        for index, term in sorted(known)
    )
    header = ("index", "term", "entry", *(f"node {number}" for number in numbers))
    return Table("logs: the last entries, and who has them", header, rows, frozenset({0, 1}))


def log_tails(logs: Mapping[int, LogTail], statistics: ClusterStatistics, last: int) -> Table:
    """A row per entry that one of the logs has among its last ones, with how far each node has come with it.

    That is `applied`, `committed`, `in its log`, `in its snapshot`, or `-`. Two rows of one index are two entries that different
    leaders put there.
    """
    end = max((tail.last_index for tail in logs.values()), default=0)
    known = {
        (entry.index, entry.term): entry for tail in logs.values() for entry in tail.entries if entry.index > end - last
    }
    numbers = sorted(logs)

    def progress(number: int, index: int, term: int) -> str:
        node, tail = statistics.nodes[number], logs[number]
        if index < tail.first_index:
            return "in its snapshot" if index <= node.snapshot_index else "-"
        if all((entry.index, entry.term) != (index, term) for entry in tail.entries):
            return "-"
        if node.role == "dead":
            return "in its log"
        return "applied" if index <= node.applied_index else "committed" if index <= node.commit_index else "in its log"

    rows = tuple(
        (
            str(index),
            str(term),
            ", ".join(command.text for command in known[index, term].commands) or f"({known[index, term].kind})",
            *(progress(number, index, term) for number in numbers),
        )
        for index, term in sorted(known)
    )
    header = ("index", "term", "entry", *(f"node {number}" for number in numbers))
    return Table("logs: the last entries, and who has them", header, rows, frozenset({0, 1}))


def omitted_line(omitted: Mapping[RunStatus, int]) -> str:
    """The runs that are not shown, in one line; "" if there are none."""
    parts = [f"{count} {status}" for status, count in omitted.items() if count]
    return f"and {', '.join(parts)}" if parts else ""


def scenario_list(descriptions: Mapping[str, str]) -> Table:
    """A row per scenario."""
    return Table("scenarios: %raftoral scenario NAME", ("scenario", "what it shows"), tuple(descriptions.items()))
