"""Details of runs that were opened in the view: their latest records with times and values, and their code with where nodes are."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from raftoral_nb.core.blob_refs import reference
from raftoral_nb.core.cluster_events import EffectStarted
from raftoral_nb.core.records import CancelRecord, Message, Step
from raftoral_nb.errors import RaftoralError

from .snapshot import record_facts

if TYPE_CHECKING:
    from raftoral_nb import Cluster, WorkflowRun
    from raftoral_nb.core.records import Record, RunId, StepId
    from raftoral_nb.core.statistics import RunCode

MAX_RUNS_OPEN: Final = 3
"""Runs of one view whose details are kept up to date; the one opened first is closed for a further one."""

MAX_RECORDS_TOLD: Final = 100
"""Records of a run with times and values: the last ones."""

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
        # By run, and by the id of a step or message.
        self._open: dict[RunId, dict[str, str]] = {}

    def open(self, runs: list[RunId]) -> None:
        """From now on tell of these runs, and of no others. What is no run is told as nothing."""
        self._open = {run_id: self._open.get(run_id, {}) for run_id in runs[-MAX_RUNS_OPEN:]}

    def now(self) -> dict[str, Any]:
        """By run: its start (Unix seconds) and its records, as plain data."""
        self.code = {}
        if not self._open:
            return {}
        started = self._times()
        found: dict[str, Any] = {}
        for run_id, values in tuple(self._open.items()):
            try:
                run = self._cluster.run(run_id)
                records, code, start = run.records, run.code(), run.started_at.timestamp()
            except RaftoralError:
                continue
            self.code[run_id] = self._text(code)
            found[run_id] = {
                "start": round(start, 4),
                "first": max(0, len(records) - MAX_RECORDS_TOLD),
                "records": [
                    record_facts(record)
                    | {
                        "from": self._begun(run_id, record, started),
                        "at": round(record.at, 4),
                        "value": self._value(run, record, values),
                    }
                    for record in records[-MAX_RECORDS_TOLD:]
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

    def _times(self) -> dict[tuple[RunId, StepId], float]:
        """When steps were (last) begun to be run, as far as events are kept."""
        return {
            (event.run_id, event.step_id): round(time, 4)
            for time, event in self._cluster.history()
            if isinstance(event, EffectStarted) and event.run_id in self._open
        }

    @staticmethod
    def _begun(run_id: RunId, record: Record, started: dict[tuple[RunId, StepId], float]) -> float | None:
        """When a step's function began; not after its record, whichever clocks that is by."""
        begun = started.get((run_id, record.step_id)) if isinstance(record, Step) else None
        return None if begun is None else min(begun, round(record.at, 4))

    def _value(self, run: WorkflowRun[Any], record: Record, known: dict[str, str]) -> str:
        match record:
            case Step() | Message():
                pass
            case CancelRecord(reason=reason):
                return reason[:MAX_VALUE_CHARS]
            case _:
                return ""
        if record.failure is not None:
            return run.shown_value(record, MAX_VALUE_CHARS)
        name = record.step_id if isinstance(record, Step) else f"message {record.message_id}"
        if name not in known:
            known[name] = self._decoded(run, record)
        return known[name]

    def _decoded(self, run: WorkflowRun[Any], record: Step | Message) -> str:
        shown = self._shown(run, record)
        if isinstance(record, Step) and record.cached_from is not None:
            return f"{shown} (cached from {record.cached_from})"
        return shown

    @staticmethod
    def _shown(run: WorkflowRun[Any], record: Step | Message) -> str:
        if reference(record.value) is not None:  # its blob is not read to be shown in a line
            return run.shown_value(record, MAX_VALUE_CHARS)
        size = len(record.value or b"")
        if size > MAX_VALUE_BYTES_READ:
            return f"({size} bytes)"
        if isinstance(record, Step):
            try:
                value = run.value(record)
                if type(value) is datetime:
                    return value.astimezone().isoformat(" ", "milliseconds")
            except (Exception, SystemExit) as problem:  # the notebook's own classes may do anything
                return f"(cannot be shown: {type(problem).__name__})"
        return run.shown_value(record, MAX_VALUE_CHARS)
