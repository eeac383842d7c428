"""`%raftoral leave`: let go of a cluster that goes on."""

from __future__ import annotations

from ...shown import display as shows
from ..arguments import nothing
from ..subcommand import Subcommand, only_flags

SUBCOMMAND = Subcommand(
    name="leave",
    group="Cluster",
    usage="leave",
    does="let go of such a cluster, which goes on",
    examples=("  %raftoral leave                       let go of it: it goes on",),
    parse=nothing,
    do=lambda _, notebook: shows.emit(notebook.session.leave()),
    offers=only_flags,
)
