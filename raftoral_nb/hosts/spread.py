"""How the work of a cluster is spread over its nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ..core.labels import checked_labels
from ..core.records import NodeId
from ..errors import BadArgumentError, ClusterError


class Spread(msgspec.Struct, frozen=True):
    """What the nodes of a cluster offer to do; all of them are told the same."""

    runs: bool = False
    """Whether each run has an owner that does its steps, so that runs are spread over the nodes; if not, the leader does all."""
    labels: Mapping[NodeId, tuple[str, ...]] = {}
    """The labels of nodes, to which steps can be bound."""

    def labels_of(self, node: NodeId) -> tuple[str, ...]:
        """Return the labels of a node; none if it has none."""
        return self.labels.get(node, ())


NOT_SPREAD: Final = Spread()
"""The leader does the steps of all runs."""


def spread(runs: Any, labels: Any, *, processes: bool) -> Spread:
    """Return how work is spread, as it was asked for: by default over nodes that are processes. Raises `ClusterError`."""
    if runs is not None and not isinstance(runs, bool):
        raise ClusterError(f"spread_runs is True or False, or None for the default, not {runs!r}")
    return Spread(processes if runs is None else runs, _labels(labels))


def _labels(given: Any) -> Mapping[NodeId, tuple[str, ...]]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ClusterError(f'labels are given by node, such as {{3: ["gpu"]}}, not {given!r}')
    found = {}
    for node, labels in given.items():
        if isinstance(node, bool) or not isinstance(node, int) or node < 1:
            raise ClusterError(f'labels are given by the numbers of nodes, such as {{3: ["gpu"]}}, not for {node!r}')
        try:
            found[node] = checked_labels(labels, f"labels[{node}]")
        except (BadArgumentError, TypeError) as error:
            raise ClusterError(str(error)) from None
    return found
