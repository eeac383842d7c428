"""`%raftoral leave`: detach from a cluster that keeps running."""

from __future__ import annotations

from ...shown import display as shows
from ..arguments import nothing
from ..subcommand import Subcommand, only_flags

SUBCOMMAND = Subcommand(
    name="leave",
    group="Cluster",
    usage="leave",
    does="detach from such a cluster, which keeps running",
    examples=("  %raftoral leave                       detach from it: it keeps running",),
    parse=nothing,
    do=lambda _, notebook: shows.emit(notebook.session.leave()),
    offers=only_flags,
)
