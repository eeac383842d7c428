"""`%raftoral watch`: the live view."""

from __future__ import annotations

from ...shown import display as shows
from ...shown.display import Shown
from ..arguments import nothing
from ..subcommand import Notebook, Subcommand, only_flags


def _do(_: None, notebook: Notebook) -> Shown | None:
    session, rate = notebook.session, notebook.settings.refresh_rate
    cluster = session.cluster
    if session.in_terminal():
        return session.watch(cluster, rate)
    view = session.view(cluster, rate)
    return shows.cluster_picture(cluster.statistics()) if view is None else view.still()


SUBCOMMAND = Subcommand(
    name="watch",
    group="Cluster",
    usage="watch",
    does="the live view",
    examples=(
        """\
  %raftoral watch                       the live view: nodes, links, logs and runs; breaks them by click and key
                                        (in a terminal: as text that follows the cluster, until Ctrl-C; needs rich)""",
    ),
    parse=nothing,
    do=_do,
    offers=only_flags,
)
