"""`%raftoral stop`: stop the cluster."""

from __future__ import annotations

from ...shown import display as shows
from ..arguments import nothing
from ..subcommand import Subcommand, only_flags

SUBCOMMAND = Subcommand(
    name="stop",
    group="Cluster",
    usage="stop",
    does="stop it",
    examples=("  %raftoral stop                        stop it; names user code that is still running",),
    parse=nothing,
    do=lambda _, notebook: shows.emit(notebook.session.stop()),
    offers=only_flags,
)
