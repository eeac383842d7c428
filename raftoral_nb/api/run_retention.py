"""How much a cluster keeps of runs that have ended: asked for, changed and read."""

from __future__ import annotations

from ..core.commands import Rejected, SetRetention
from ..core.statistics import RetentionStatistics
from ..errors import InternalError
from ..hosts import options
from ..hosts.backend_parts import RetentionBackend
from .access import ClusterAccess


class RunRetention:
    """The bounds of one cluster's finished runs: part of its replicated state, so all nodes and handles have the same."""

    def __init__(self, access: ClusterAccess[RetentionBackend], asked: SetRetention | None) -> None:
        self._access = access
        self._asked = asked

    def set_retention(self, *, keep_runs: int | None = None, keep_bytes: int | str | None = None) -> None:
        """Change how many finished runs are kept (`keep_runs`), and how many bytes of them (`keep_bytes`); what is not given stays.

        `keep_bytes` is a number, or text such as `"500MB"`.

        Applies to the whole cluster, now and after every restart, until it is changed again. Runs that are too many by then are evicted at
        once: their records are dropped, those that ended, or were last asked for as a child, longest ago first. The last one always stays.
        Raises `ClusterError` for what is no number from 1 (of runs at most `MAX_KEEP_RUNS`), and `NotAcknowledgedError`.

        >>> from raftoral_nb.testing import workflow_test
        >>> async def order(ctx, item):
        ...     return item
        >>> with workflow_test() as test:
        ...     test.cluster.set_retention(keep_runs=2)
        ...     runs = test.cluster.start_many(order, ["tea", "coffee", "cake"])
        ...     results = [run.wait_for_completion() for run in runs]
        ...     results, [run.run_id for run in test.cluster.runs()], test.cluster.retention.evicted
        (['tea', 'coffee', 'cake'], ['order-2', 'order-3'], 1)
        """
        self._access.check_running()
        self._propose(options.retention(keep_runs, keep_bytes))

    def begin(self) -> None:
        """Ask for what the cluster was made with, once it has a leader. Raises `NotAcknowledgedError`."""
        if self._asked is not None:
            self._propose(self._asked)

    def read(self) -> RetentionStatistics:
        """Return the bounds, and what there is, as the most advanced node knows it."""
        state = self._access.host.head()
        keeps = state.keeps
        return RetentionStatistics(
            keep_runs=keeps.keep_runs,
            keep_bytes=keeps.keep_bytes,
            runs=len(state.finished),
            bytes=state.finished_bytes,
            evicted=len(state.evicted),
        )

    def _propose(self, command: SetRetention | None) -> None:
        if command is None:
            return
        what = "setting how much is kept of finished runs"
        answer = self._access.host.propose(command, what)
        if isinstance(answer, Rejected):
            raise InternalError(f"{what} was refused: {answer.reason}")
