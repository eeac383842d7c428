"""The data that a cluster gives to monitoring systems: metrics and traces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ClusterError
from ..hosts.backend_parts import NodesBackend
from .access import ClusterAccess

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..core.statistics import ClusterStatistics
    from ..observability.metrics_server import MetricsServer
    from ..observability.tracing import Tracing


class Telemetry:
    """Metrics as OpenMetrics text, in hand or served; spans for OpenTelemetry, if it is set up when the cluster starts."""

    def __init__(self, access: ClusterAccess[NodesBackend], statistics: Callable[[], ClusterStatistics]) -> None:
        self._access = access
        self._statistics = statistics
        self._metrics_server: MetricsServer | None = None
        self._tracing: Tracing | None = None

    def metrics(self) -> str:
        """Return the statistics as OpenMetrics text, which Prometheus and others read; also of a stopped cluster.

        Labels are nodes, statuses and the first `MAX_WORKFLOWS_MEASURED` workflows, never runs or steps. Counters begin anew with
        the cluster; one that is read off the most advanced node (`raftoral_commands_total`) may fall when that node dies.
        Needs the package prometheus-client (the extra `metrics`), and raises `MissingPackageError` without it.
        """
        from ..core.version import __version__
        from ..observability.metrics import openmetrics

        return openmetrics(self._statistics(), __version__)

    def serve_metrics(self, port: int = 0) -> MetricsServer:
        """Serve `metrics` as `http://127.0.0.1:PORT/metrics` to programs of this machine, until `stop` of the server or the cluster.

        `port` 0 takes any that is free; `server.address` says which. Whoever may use this machine may read them.
        Raises `PortInUseError`, `BadArgumentError` for what is no port, and `ClusterError` if they are served already, or the
        cluster does not run; `MissingPackageError` as `metrics` does.
        """
        from ..observability.metrics import check_installed
        from ..observability.metrics_server import MetricsServer

        self._access.check_running()
        check_installed()
        served = self._metrics_server
        if served is not None and served.running:
            raise ClusterError(f"the metrics are served already, at {served.address}; stop() that server first")
        self._metrics_server = MetricsServer(self.metrics, port, self._access.host.name)
        return self._metrics_server

    @property
    def server(self) -> MetricsServer | None:
        """The server of the metrics, or the last one; None if there was none."""
        return self._metrics_server

    def begin(self) -> None:
        """Make spans of the events that come from here on, if OpenTelemetry is set up."""
        from ..observability.tracing import Tracing

        self._tracing = Tracing.begin(self._access.host.name, self._access.host.observers)

    def end(self, timeout: float) -> list[str]:
        """End the spans when the cluster stops, after the last event; returns what is still in the way, by name."""
        left = []
        if self._metrics_server is not None and not self._metrics_server.stop(timeout):
            left.append("a request for metrics")
        if self._tracing is not None and not self._tracing.end(timeout):
            left.append("an exporter of OpenTelemetry")
        return left
