"""Formatters: they tell IPython how to show the engine's own objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..shown import display as shows

if TYPE_CHECKING:
    from raftoral_nb import Cluster, Progress, Registration, WorkflowRun
    from raftoral_nb.core.statistics import ClusterStatistics


def formatters() -> dict[str, Any]:
    """The formatters, by the full name of the type: each is a function that gives the MIME bundle.

    By name, because the modules are loaded when they are needed, and not with the extension.
    """

    def progress_bundle(progress: Progress, **_: Any) -> Any:
        from ..widgets import bars

        return bars.shown(progress)._repr_mimebundle_()

    def cluster_bundle(cluster: Cluster, **_: Any) -> dict[str, Any]:
        return shows.cluster_picture(cluster.statistics())._repr_mimebundle_()

    def statistics_bundle(statistics: ClusterStatistics, **_: Any) -> dict[str, Any]:
        return shows.cluster_picture(statistics)._repr_mimebundle_()

    def run_bundle(one: WorkflowRun[object], **_: Any) -> dict[str, Any]:
        return shows.run(one)._repr_mimebundle_()

    def registration_bundle(registration: Registration, **_: Any) -> dict[str, Any]:
        return shows.registered(registration)._repr_mimebundle_()

    return {
        "raftoral_nb.api.cluster.Cluster": cluster_bundle,
        "raftoral_nb.api.progress.Progress": progress_bundle,
        "raftoral_nb.core.statistics.ClusterStatistics": statistics_bundle,
        "raftoral_nb.api.run.WorkflowRun": run_bundle,
        "raftoral_nb.api.registry.Registration": registration_bundle,
    }
