"""A cluster's statistics as families of metrics for prometheus-client. Pure.

Names begin with `raftoral_`; counters end in `_total`, and begin anew with the cluster. Labels are nodes, statuses and the names of
workflows, never runs or steps: how many lines there are does not grow with use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final, get_args

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
)

from ..core.statistics import ClusterStatistics, NodeStatistics, Role, RunStatus
from ..limits import MAX_WORKFLOWS_MEASURED

OTHER_WORKFLOWS: Final = ""
"""The label of all workflows past the first `MAX_WORKFLOWS_MEASURED`, by name."""

Samples = Iterable[tuple[tuple[object, ...], float]]
"""The values of a family's labels, and what is measured there."""


class StatisticsCollector:
    """Gives a registry of prometheus-client what one look at a cluster found."""

    def __init__(self, statistics: ClusterStatistics, version: str) -> None:
        self._statistics = statistics
        self._version = version

    def collect(self) -> Iterator[Metric]:
        """The families, each with its samples."""
        yield from _cluster(self._statistics, self._version)
        yield from _nodes(self._statistics)
        yield from _links(self._statistics)
        yield from _runs(self._statistics)


def _cluster(statistics: ClusterStatistics, version: str) -> Iterator[Metric]:
    yield InfoMetricFamily("raftoral_cluster", "The cluster.", {"name": statistics.name, "version": version})
    yield _gauge("running", "1 until the cluster stops.", statistics.running)
    yield _gauge("leader", "The node that acts as leader; 0 while there is none.", statistics.leader or 0)
    yield _gauge("term", "The highest term of a node.", statistics.term)
    yield _gauge("epoch", "The term of the latest leader that was granted the right to act.", statistics.epoch)
    for name, words, count in (
        ("commands", "Commands applied.", statistics.commands),
        ("entries", "Log entries applied that carried commands.", statistics.entries),
        ("checkpoints", "Steps recorded.", statistics.checkpoints),
        ("effects", "Functions of steps that were run.", statistics.effects_run),
        ("leader_changes", "Times another node than before was granted the right to act.", statistics.leader_changes),
        (
            "refused_frames",
            "Network frames that were not authentic, too long, or malformed.",
            statistics.refused_frames,
        ),
        (
            "dropped_strangers",
            "Connections that were closed because they never proved the cluster's key.",
            statistics.dropped_strangers,
        ),
        ("events", "Events published.", statistics.events),
    ):
        yield CounterMetricFamily(f"raftoral_{name}", words, count)


_OF_EACH_NODE: Final[tuple[tuple[str, str, Callable[[NodeStatistics], float]], ...]] = (
    ("paused", "1 while the node is frozen.", lambda node: node.paused),
    ("held", "1 while the node executes nothing.", lambda node: node.held),
    ("blocked", "1 while a workflow blocks the node's thread.", lambda node: node.blocked is not None),
    (
        "disk_failed",
        "1 while the node's disk does not take what is to be stored.",
        lambda node: node.storage_error is not None,
    ),
    ("term", "The node's term.", lambda node: node.term),
    ("commit_index", "The last log entry that the node knows to be committed.", lambda node: node.commit_index),
    ("applied_index", "The last log entry that the node applied.", lambda node: node.applied_index),
    ("log_index", "The last entry of the node's log.", lambda node: node.log_length),
    (
        "snapshot_index",
        "The last log entry that the node's snapshot stands for.",
        lambda node: node.snapshot_index,
    ),
    (
        "entries_behind",
        "Log entries that the leader knows to be committed and the node has not applied.",
        lambda node: node.entries_behind,
    ),
    (
        "catch_up_steps",
        "Recorded steps that the node's execution has not taken, of all its runs.",
        lambda node: sum(run.catch_up_queue for run in node.runs.values()),
    ),
    ("starts", "How often the node was started.", lambda node: node.incarnation),
)


def _nodes(statistics: ClusterStatistics) -> Iterator[Metric]:
    nodes = sorted(statistics.nodes.items())
    label = ["node"]
    yield _gauges("node_up", "1 if the node is alive.", label, (((n,), node.role != "dead") for n, node in nodes))
    roles = StateSetMetricFamily("raftoral_node_role", "What the node is.", labels=label)
    for number, node in nodes:
        roles.add_metric([str(number)], {role: node.role == role for role in get_args(Role)})
    yield roles
    for name, words, measure in _OF_EACH_NODE:
        yield _gauges(f"node_{name}", words, label, [((number,), measure(node)) for number, node in nodes])
    yield _gauges(
        "node_silence_seconds",
        "Time since a follower last heard from a leader.",
        label,
        (((number,), node.silence) for number, node in nodes if node.silence is not None),
        "seconds",
    )


def _links(statistics: ClusterStatistics) -> Iterator[Metric]:
    links = [(a, b, link) for a, node in sorted(statistics.nodes.items()) for b, link in sorted(node.links.items())]
    ends = ["node", "peer"]
    yield _gauges(
        "link_up",
        "1 while a connection from the node to its peer stands.",
        ends,
        (((a, b), link.up) for a, b, link in links),
    )
    yield _gauges(
        "link_cut",
        "1 while what the node sends to its peer is made to vanish.",
        ends,
        (((a, b), link.cut) for a, b, link in links),
    )


def _runs(statistics: ClusterStatistics) -> Iterator[Metric]:
    names = sorted(statistics.workflows)
    own = frozenset(names[:MAX_WORKFLOWS_MEASURED])
    counts = Counter(
        (run.workflow if run.workflow in own else OTHER_WORKFLOWS, run.status) for run in statistics.runs.values()
    )
    labels = [*names[:MAX_WORKFLOWS_MEASURED], *((OTHER_WORKFLOWS,) if any(not name for name, _ in counts) else ())]
    yield _gauges(
        "runs",
        "Runs whose records are held, by status; the workflow is left empty for those that are not listed.",
        ["workflow", "status"],
        (((name, status), counts[name, status]) for name in labels for status in get_args(RunStatus)),
    )
    held = sum(run.why_held is not None for run in statistics.runs.values())
    yield _gauge(
        "runs_held",
        "Runs that stand still: their code differs from their record on every node, or a value is not kept.",
        held,
    )


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(f"raftoral_{name}", words, value)


def _gauges(name: str, words: str, labels: list[str], samples: Samples, unit: str = "") -> Metric:
    family = GaugeMetricFamily(f"raftoral_{name}", words, labels=labels, unit=unit)
    for values, measured in samples:
        family.add_metric([str(value) for value in values], measured)
    return family
