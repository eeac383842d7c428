"""`%raftoral assign`: give a run to another owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ...shown import display as shows
from ..arguments import Parser, count
from ..subcommand import Notebook, Subcommand, a_run

if TYPE_CHECKING:
    from raftoral_nb import Cluster


class Assign(msgspec.Struct, frozen=True):
    """A run, and the node that is to own it; None: any other."""

    run_id: str
    node: int | None


def _parse(rest: str, usage: str) -> Assign:
    parser = Parser(usage)
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("node", metavar="NODE", type=count, nargs="?")
    found = parser.read(rest)
    return Assign(found.run, found.node)


def _to_run(asked: Assign, cluster: Cluster) -> str:
    run = cluster.run(asked.run_id)
    run.assign(asked.node)
    return f"run {asked.run_id} is owned by node {run.owner}, which does its steps from here on"


def _do(asked: Assign, notebook: Notebook) -> None:
    shows.emit(shows.notice(_to_run(asked, notebook.session.cluster)))


SUBCOMMAND = Subcommand(
    name="assign",
    group="Workflows and runs",
    usage="assign RUN [NODE]",
    does="have another node do the steps of a run",
    examples=("  %raftoral assign order-1 2            node 2 owns the run from here on; without a node: any other",),
    parse=_parse,
    do=_do,
    offers=a_run,
    in_page=_to_run,
)
