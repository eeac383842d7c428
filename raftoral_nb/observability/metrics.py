"""A cluster's statistics as OpenMetrics text. The package prometheus-client writes it, and is loaded when the first text is asked for."""

from __future__ import annotations

from typing import Final

from ..core.statistics import ClusterStatistics
from ..errors import MissingPackageError

CONTENT_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
"""What an HTTP answer with the text is declared as."""


def openmetrics(statistics: ClusterStatistics, version: str) -> str:
    """The statistics as OpenMetrics 1.0 text. `version` is that of this library.

    Needs the package `prometheus-client` (the extra `metrics`); raises `MissingPackageError` without it.
    """
    check_installed()
    from prometheus_client.openmetrics.exposition import generate_latest
    from prometheus_client.registry import CollectorRegistry

    from .metric_families import StatisticsCollector

    registry = CollectorRegistry()
    registry.register(StatisticsCollector(statistics, version))
    text: bytes = generate_latest(registry)  # type: ignore[no-untyped-call, unused-ignore]
    return text.decode()


def check_installed() -> None:
    """Raise `MissingPackageError` if the package that writes the text is not installed."""
    try:
        import prometheus_client  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(
            "metrics are written by the package prometheus-client: pip install 'raftoral-nb[metrics]'"
        ) from error
