"""A cluster's statistics as OpenMetrics text. Pure.

Names begin with `raftoral_`; counters end in `_total`, and begin anew with the cluster. Labels are nodes, statuses and the names of
workflows, never runs or steps: how many lines there are does not grow with use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, Literal, get_args

from ..core.statistics import ClusterStatistics, NodeStatistics, Role, RunStatus
from ..limits import MAX_WORKFLOWS_MEASURED

CONTENT_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
"""The content type of an HTTP answer with the text."""
OTHER_WORKFLOWS: Final = ""
"""The label of all workflows past the first `MAX_WORKFLOWS_MEASURED`, by name."""

_ESCAPED: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

Labels = Mapping[str, object]


def openmetrics(statistics: ClusterStatistics, version: str) -> str:
    """Return the statistics as OpenMetrics 1.0 text. `version` is that of this library."""
    page = _Page()
    page.one("cluster", "info", "The cluster.", {"name": statistics.name, "version": version}, 1, suffix="_info")
    page.one("running", "gauge", "1 until the cluster stops.", {}, statistics.running)
    page.one("leader", "gauge", "The node that acts as leader; 0 while there is none.", {}, statistics.leader or 0)
    page.one("term", "gauge", "The highest term of a node.", {}, statistics.term)
    page.one("epoch", "gauge", "The term of the latest leader that was granted the right to act.", {}, statistics.epoch)
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
        page.one(name, "counter", words, {}, count, suffix="_total")
    _nodes(page, statistics)
    _links(page, statistics)
    _runs(page, statistics)
    return page.text()


def _nodes(page: _Page, statistics: ClusterStatistics) -> None:
    nodes = sorted(statistics.nodes.items())

    def each(name: str, words: str, value: Mapping[int, object], unit: str = "") -> None:
        page.family(
            name, "gauge", words, (({"node": node}, value[node]) for node, _ in nodes if node in value), unit=unit
        )

    each("node_up", "1 if the node is alive.", {n: one.role != "dead" for n, one in nodes})
    page.family(
        "node_role",
        "stateset",
        "What the node is.",
        (
            ({"node": number, "raftoral_node_role": role}, one.role == role)
            for number, one in nodes
            for role in get_args(Role)
        ),
    )
    each("node_paused", "1 while the node is frozen.", {n: one.paused for n, one in nodes})
    each("node_held", "1 while the node executes nothing.", {n: one.held for n, one in nodes})
    each(
        "node_blocked", "1 while a workflow blocks the node's thread.", {n: one.blocked is not None for n, one in nodes}
    )
    each(
        "node_disk_failed",
        "1 while the node's disk does not take what is to be stored.",
        {n: one.storage_error is not None for n, one in nodes},
    )
    each("node_term", "The node's term.", {n: one.term for n, one in nodes})
    each(
        "node_commit_index",
        "The last log entry that the node knows to be committed.",
        {n: one.commit_index for n, one in nodes},
    )
    each("node_applied_index", "The last log entry that the node applied.", {n: one.applied_index for n, one in nodes})
    each("node_log_index", "The last entry of the node's log.", {n: one.log_length for n, one in nodes})
    each(
        "node_snapshot_index",
        "The last log entry that the node's snapshot stands for.",
        {n: one.snapshot_index for n, one in nodes},
    )
    each(
        "node_entries_behind",
        "Log entries that the leader knows to be committed and the node has not applied.",
        {n: one.entries_behind for n, one in nodes},
    )
    each(
        "node_catch_up_steps",
        "Recorded steps that the node's execution has not taken, of all its runs.",
        {n: _queues(one) for n, one in nodes},
    )
    each("node_starts", "How often the node was started.", {n: one.incarnation for n, one in nodes})
    each(
        "node_silence_seconds",
        "Time since a follower last heard from a leader.",
        {n: one.silence for n, one in nodes if one.silence is not None},
        unit="seconds",
    )


def _queues(node: NodeStatistics) -> int:
    return sum(run.catch_up_queue for run in node.runs.values())


def _links(page: _Page, statistics: ClusterStatistics) -> None:
    links = [(a, b, link) for a, node in sorted(statistics.nodes.items()) for b, link in sorted(node.links.items())]
    page.family(
        "link_up",
        "gauge",
        "1 while a connection from the node to its peer stands.",
        (({"node": a, "peer": b}, link.up) for a, b, link in links),
    )
    page.family(
        "link_cut",
        "gauge",
        "1 while what the node sends to its peer is made to vanish.",
        (({"node": a, "peer": b}, link.cut) for a, b, link in links),
    )


def _runs(page: _Page, statistics: ClusterStatistics) -> None:
    names = sorted(statistics.workflows)
    own = frozenset(names[:MAX_WORKFLOWS_MEASURED])
    counts = Counter(
        (run.workflow if run.workflow in own else OTHER_WORKFLOWS, run.status) for run in statistics.runs.values()
    )
    labels = [*names[:MAX_WORKFLOWS_MEASURED], *((OTHER_WORKFLOWS,) if any(not name for name, _ in counts) else ())]
    page.family(
        "runs",
        "gauge",
        "Runs whose records are held, by status; the workflow is left empty for those that are not listed.",
        (
            ({"workflow": name, "status": status}, counts[name, status])
            for name in labels
            for status in get_args(RunStatus)
        ),
    )
    held = sum(run.held is not None for run in statistics.runs.values())
    page.one(
        "runs_held", "gauge", "Runs that stand still: their code differs from their record on every node.", {}, held
    )


class _Page:
    """Families of metrics, one below the other."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def one(
        self,
        name: str,
        kind: Literal["gauge", "counter", "info"],
        words: str,
        labels: Labels,
        value: object,
        *,
        suffix: str = "",
    ) -> None:
        """A family with a single sample."""
        self.family(name, kind, words, [(labels, value)], suffix=suffix)

    def family(
        self,
        name: str,
        kind: Literal["gauge", "counter", "info", "stateset"],
        words: str,
        samples: Iterable[tuple[Labels, object]],
        *,
        suffix: str = "",
        unit: str = "",
    ) -> None:
        """A family; its samples are labels and value."""
        full = f"raftoral_{name}"
        self._lines.append(f"# TYPE {full} {kind}")
        if unit:
            self._lines.append(f"# UNIT {full} {unit}")
        self._lines.append(f"# HELP {full} {words.translate(_ESCAPED)}")
        self._lines += (f"{full}{suffix}{_labels(labels)} {_number(value)}" for labels, value in samples)

    def text(self) -> str:
        """Return all of them, with the mark that nothing is missing."""
        return "\n".join([*self._lines, "# EOF", ""])


def _labels(labels: Labels) -> str:
    inside = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inside}}}" if inside else ""


def _escaped(value: object) -> str:
    return str(value).translate(_ESCAPED)


def _number(value: object) -> str:
    assert isinstance(value, int | float)
    return f"{value:.6f}" if isinstance(value, float) else str(int(value))
