"""`%raftoral attach`: drive a cluster that runs in processes of its own."""

from __future__ import annotations

from ...shown.display import Shown
from ..arguments import Parser
from ..subcommand import Notebook, Subcommand, Typed
from .start import show_start


def _parse(rest: str, usage: str) -> str:
    """The name of a cluster that runs, or the path of its key file."""
    parser = Parser(usage)
    parser.add_argument("name", metavar="NAME")
    return str(parser.read(rest).name)


def _do(name: str, notebook: Notebook) -> Shown:
    cluster, hint = notebook.session.attach(name)
    told = f"attached to cluster {cluster.name}, which keeps running without this notebook: %raftoral leave"
    return show_start(notebook, cluster, "\n".join(filter(None, (told, hint))))


def _offers(typed: Typed) -> list[str]:
    return [] if typed.before else list(typed.known.clusters)


SUBCOMMAND = Subcommand(
    name="attach",
    group="Cluster",
    usage="attach NAME",
    does="drive a cluster that runs in processes of its own",
    examples=(
        "  %raftoral attach lab                  drive such a cluster from this notebook (`raftoral-nb ps` in a shell lists them)",
    ),
    parse=_parse,
    do=_do,
    offers=_offers,
)
