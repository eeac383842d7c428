"""Details of runs that were opened in the view: their latest steps with times and values, and their code with where nodes are."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from raftoral_nb.core.cluster_events import EffectStarted
from raftoral_nb.core.events import CheckpointSet, WorkflowStarted
from raftoral_nb.errors import RaftoralError

if TYPE_CHECKING:
    from raftoral_nb import Cluster, WorkflowRun
    from raftoral_nb.core.records import RunId, Step, StepId
    from raftoral_nb.core.statistics import RunCode

MAX_RUNS_OPEN: Final = 3
"""Runs of one view whose details are kept up to date; the one opened first is closed for a further one."""

MAX_STEPS_TOLD: Final = 100
"""Steps of a run with times and values: the last ones."""

MAX_VALUE_BYTES_READ: Final = 4 * 1024
"""Encoded size of a value, in bytes, up to which it is decoded to be shown."""

MAX_VALUE_CHARS: Final = 80

MAX_LINES_SHOWN: Final = 200
"""Lines of a run's code: the first ones."""

MAX_LINE_CHARS: Final = 200


class Details:
    """The details of one cluster's opened runs. A value is decoded once. Not to be called from two threads at once."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.code: dict[str, Any] = {}
        """By run: the text of its workflow, as of the last `now`; apart from it, as it hardly ever changes."""
        self._open: dict[RunId, dict[StepId, str]] = {}

    def open(self, runs: list[RunId]) -> None:
        """From now on tell of these runs, and of no others. What is no run is told as nothing."""
        self._open = {run_id: self._open.get(run_id, {}) for run_id in runs[-MAX_RUNS_OPEN:]}

    def now(self) -> dict[str, Any]:
        """By run: its start (Unix seconds, None if that is forgotten) and its steps, as plain data."""
        self.code = {}
        if not self._open:
            return {}
        begun, recorded, started = self._times()
        found: dict[str, Any] = {}
        for run_id, values in tuple(self._open.items()):
            try:
                run = self._cluster.run(run_id)
                steps, code = run.steps, run.code()
            except RaftoralError:
                continue
            self.code[run_id] = self._text(code)
            found[run_id] = {
                "start": begun.get(run_id),
                "first": max(0, len(steps) - MAX_STEPS_TOLD),
                "steps": [
                    {
                        "id": step.step_id,
                        "op": step.operation,
                        "node": step.node,
                        "epoch": step.epoch,
                        "failed": step.failure is not None,
                        "from": started.get((run_id, step.step_id)),
                        "at": recorded.get((run_id, step.step_id)),
                        "value": self._value(run, step, values),
                    }
                    for step in steps[-MAX_STEPS_TOLD:]
                ],
                "places": self._places(code),
                "more": {str(node): count for node, count in code.more.items() if count},
            }
        return found

    @staticmethod
    def _text(code: RunCode) -> dict[str, Any]:
        lines = [line[:MAX_LINE_CHARS] for line in code.lines[:MAX_LINES_SHOWN]]
        return {"file": code.file, "first": code.first_line, "lines": lines, "left": len(code.lines) - len(lines)}

    @staticmethod
    def _places(code: RunCode) -> dict[str, list[dict[str, Any]]]:
        """By node: where each of its branches is; in code of another file than the workflow's, without a line of that."""
        return {
            str(node): [
                {
                    "branch": one.branch,
                    "line": one.line,
                    "own": one.own,
                    "where": f"{one.file}:{one.line} in {one.function}",
                }
                for one in places
            ]
            for node, places in code.places.items()
        }

    def _times(self) -> tuple[dict[RunId, float], dict[tuple[RunId, StepId], float], dict[tuple[RunId, StepId], float]]:
        """When runs began, and when steps were recorded and (last) begun to be run, as far as events are kept."""
        begun: dict[RunId, float] = {}
        recorded: dict[tuple[RunId, StepId], float] = {}
        started: dict[tuple[RunId, StepId], float] = {}
        for time, event in self._cluster.history():
            match event:
                case CheckpointSet(run_id=run_id, step=step) if run_id in self._open:
                    recorded.setdefault((run_id, step.step_id), round(time, 4))
                case EffectStarted(run_id=run_id, step_id=step_id) if run_id in self._open:
                    if (run_id, step_id) not in recorded:
                        started[run_id, step_id] = round(time, 4)
                case WorkflowStarted(run_id=run_id) if run_id in self._open:
                    begun[run_id] = round(time, 4)
                case _:
                    pass
        return begun, recorded, started

    def _value(self, run: WorkflowRun[Any], step: Step, known: dict[StepId, str]) -> str:
        if step.failure is not None:
            return run.shown_value(step, MAX_VALUE_CHARS)
        if step.step_id not in known:
            known[step.step_id] = self._decoded(run, step)
        return known[step.step_id]

    def _decoded(self, run: WorkflowRun[Any], step: Step) -> str:
        size = len(step.value or b"")
        if size > MAX_VALUE_BYTES_READ:
            return f"({size} bytes)"
        try:
            value = run.value(step)
            if type(value) is datetime:  # when a timer is due, say
                return value.astimezone().isoformat(" ", "milliseconds")
        except (Exception, SystemExit) as problem:  # the notebook's own classes may do anything
            return f"(cannot be shown: {type(problem).__name__})"
        return run.shown_value(step, MAX_VALUE_CHARS)
