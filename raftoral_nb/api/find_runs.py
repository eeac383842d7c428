"""Finding runs, and sending them signals."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

from ..core.records import RunId
from ..core.statistics import RunStatus
from ..errors import RaftoralError
from ..hosts.backend_parts import RunsBackend
from .access import ClusterAccess
from .run import WorkflowRun

_STATUSES = get_args(RunStatus)


class RunFinder:
    """Handles on the runs of a cluster, also after it has stopped."""

    def __init__(self, access: ClusterAccess[RunsBackend]) -> None:
        self._access = access

    def run(self, run_id: RunId) -> WorkflowRun[Any]:
        """Return a handle on a run. Raises `RunNotFoundError`."""
        host = self._access.host
        record = host.run_record(run_id)
        return WorkflowRun(host, run_id, record.definition.workflow, record.definition.version)

    def runs(
        self,
        *,
        status: RunStatus | None = None,
        workflow: str | None = None,
        since: datetime | timedelta | None = None,
    ) -> tuple[WorkflowRun[Any], ...]:
        """Return the runs whose records are held, in the order they were started; all, or those that fit what is given.

            cluster.runs(status="failed", workflow="order", since=timedelta(minutes=5))

        `since` is a moment (with its time zone) or how long ago: runs that were started from then on.
        """
        if status is not None and status not in _STATUSES:
            raise RaftoralError(f"a run's status is one of {', '.join(_STATUSES)}, not {status!r}")
        earliest = _moment(since)
        host = self._access.host
        return tuple(
            WorkflowRun(host, run_id, run.definition.workflow, run.definition.version)
            for run_id, run in tuple(host.head().runs.items())
            if (status is None or run.status == status)
            and (workflow is None or run.definition.workflow == workflow)
            and (earliest is None or datetime.fromtimestamp(run.start_time, UTC) >= earliest)
        )

    def signal(self, run_id: RunId, name: str, value: Any = None, *, signal_id: str | None = None) -> str:
        """Send a signal to a run; see `WorkflowRun.signal`."""
        self._access.check_running()
        return self.run(run_id).signal(name, value, signal_id=signal_id)


def _moment(since: datetime | timedelta | None) -> datetime | None:
    given: object = since
    match given:
        case None:
            return None
        case timedelta():
            return datetime.fromtimestamp(time.time(), UTC) - given
        case datetime() if given.tzinfo is not None:
            return given
    raise RaftoralError(f"since is a timedelta or a datetime with a time zone, not {given!r}")
