"""What the branches of runs wait for, as a table and in words. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from raftoral_nb.core.statistics import UNFINISHED

from .tables import Table

if TYPE_CHECKING:
    from raftoral_nb.core.statistics import (
        BranchWait,
        ClusterStatistics,
        ExecutionStatistics,
        RunStatistics,
        StepActivity,
    )


def waits_table(statistics: ClusterStatistics, now: float) -> Table:
    """A row per branch of the unfinished runs; `now` is the time that time left is counted from (Unix seconds)."""
    rows = []
    for run_id, run in statistics.runs.items():
        found = farthest(run, statistics)
        if found is None:
            continue
        _, execution = found
        doing = {activity.step_id: activity for activity in execution.activities}
        for wait in execution.waits:
            branch = " ".join(part for part in (wait.branch.removesuffix("."), wait.name) if part)
            rows.append((run_id, branch or "workflow", wait_words(wait, doing.get(wait.what), now)))
        if execution.more_waits:
            rows.append((run_id, "...", f"and {execution.more_waits} more"))
        if execution.stuck and run.status == "running":
            rows.append((run_id, "", "nothing can wake it"))
    return Table("runs: what their branches wait for", ("run", "branch", "waits for"), tuple(rows))


def farthest(run: RunStatistics, statistics: ClusterStatistics) -> tuple[int, ExecutionStatistics] | None:
    """The node whose running execution of a run has had most turns (the leader among equals), and that; None if there is none."""
    if run.status not in UNFINISHED:
        return None
    found = [
        (number, execution)
        for number, node in sorted(statistics.nodes.items())
        if node.role != "dead" and (execution := node.runs.get(run.run_id)) and execution.status == "running"
    ]
    return max(found, key=lambda one: (one[1].had, one[0] == (run.owner or statistics.leader)), default=None)


def wait_words(wait: BranchWait, doing: StepActivity | None, now: float) -> str:
    """What one branch waits for: `step 3/fit, attempt 2 failed with ConnectionError: away, again in 3 s`."""
    match wait.kind:
        case "step" | "signal" | "update":
            said = f"{wait.kind} {wait.what}" + (f", by a node with label {wait.label}" if wait.label else "")
        case "child":
            said = f"end of child {wait.what}"
        case "time":
            said = "a time"
        case "tasks":
            said = (
                f"tasks {', '.join(path.removesuffix('.') for path in wait.what.split(', '))}"
                if wait.what
                else "its branches"
            )
        case _:
            said = wait.what or "another branch"
    if wait.until is not None:
        left = time_left(wait.until - now)
        said += f", {left} left" if wait.kind == "time" else f", times out in {left}"
    return said + ("" if doing is None else tries_words(doing, now))


def tries_words(activity: StepActivity, now: float) -> str:
    """How often a step was tried, and how that went, to be put behind its name; "" for a first attempt."""
    if activity.again_at is not None:
        again = time_left(activity.again_at - now)
        return f", attempt {activity.attempt} failed with {activity.failure}, again in {again}"
    if activity.failure is not None:
        return f", attempt {activity.attempt}, after {activity.failure}"
    return f", attempt {activity.attempt}" if activity.attempt > 1 else ""


def time_left(seconds: float) -> str:
    """Time that is left, in whole units, at least 0 s: `4 s`, `3 min 5 s`, `2 h 10 min`."""
    whole = max(0, math.ceil(seconds))
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
