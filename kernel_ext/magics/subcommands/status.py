"""`%raftoral status`: nodes and runs, as a table."""

from __future__ import annotations

from ...shown import display as shows
from ..arguments import nothing
from ..subcommand import Subcommand, only_flags

SUBCOMMAND = Subcommand(
    name="status",
    group="Cluster",
    usage="status",
    does="nodes and runs, as a table",
    examples=("  %raftoral status                      nodes and runs as they are now, as a table",),
    parse=nothing,
    do=lambda _, notebook: shows.cluster_picture(notebook.session.latest.statistics()),
    offers=only_flags,
)
