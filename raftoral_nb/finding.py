"""Finding runs, and sending them signals. Base class of `Cluster`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from . import asking
from .breaking import Breaking
from .model import RunId
from .run import WorkflowRun
from .statistics import RunStatus


class Finding(Breaking):
    """Handles on the runs of a cluster, also after it has stopped."""

    def run(self, run_id: RunId) -> WorkflowRun[Any]:
        """A handle on a run. Raises `RunNotFoundError`."""
        record = self._host.run_record(run_id)
        return WorkflowRun(self._host, run_id, record.definition.workflow, record.definition.version)

    def runs(
        self,
        *,
        status: RunStatus | None = None,
        workflow: str | None = None,
        since: datetime | timedelta | None = None,
    ) -> tuple[WorkflowRun[Any], ...]:
        """The runs whose records are held, in the order they were started; all, or those that fit what is given.

            cluster.runs(status="failed", workflow="order", since=timedelta(minutes=5))

        `since` is a moment (with its time zone) or how long ago: runs that were started from then on.
        """
        return asking.find(self._host, status, workflow, since)

    def signal(self, run_id: RunId, name: str, value: Any = None, *, signal_id: str | None = None) -> str:
        """Send a signal to a run; see `WorkflowRun.signal`."""
        self._check_running()
        return self.run(run_id).signal(name, value, signal_id=signal_id)
