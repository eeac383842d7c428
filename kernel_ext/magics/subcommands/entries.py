"""`%raftoral entries`: the logs of the nodes, side by side."""

from __future__ import annotations

from typing import Final

from ...shown import display as shows
from ...shown.display import Shown
from ..arguments import Parser, count
from ..subcommand import FREE, Notebook, Subcommand, only_flags

ENTRIES_SHOWN: Final = 10
"""Entries of each log without `--last`."""


def _parse(rest: str, usage: str) -> int:
    """The number of entries that are asked for, of each log."""
    parser = Parser(usage)
    parser.add_argument("--last", type=count, default=ENTRIES_SHOWN)
    return int(parser.read(rest).last)


def _do(last: int, notebook: Notebook) -> Shown:
    cluster = notebook.session.latest
    nodes = cluster.statistics().nodes
    first = max(node.log_length for node in nodes.values()) - last
    # The same stretch of every log, however short some of them are.
    stretch = {number: max(0, node.log_length - first) for number, node in nodes.items()}
    logs = {number: cluster.nodes[number].entries(most) if most else () for number, most in stretch.items()}
    return shows.entries(logs, {number: node.snapshot_index for number, node in nodes.items()})


SUBCOMMAND = Subcommand(
    name="entries",
    group="Cluster",
    usage="entries [--last N]",
    does="the logs of the nodes, side by side",
    examples=(
        "  %raftoral entries --last 5            the logs of the nodes side by side: which entries are committed, and who has them",
    ),
    parse=_parse,
    do=_do,
    offers=only_flags,
    flags={"--last": FREE},
)
