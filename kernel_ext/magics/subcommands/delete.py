"""`%raftoral delete`: drop what is recorded of a finished run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ...shown import display as shows
from ..arguments import Parser
from ..subcommand import Notebook, Subcommand, a_run

if TYPE_CHECKING:
    from raftoral_nb import Cluster


class Delete(msgspec.Struct, frozen=True):
    """The run to delete."""

    run_id: str


def _parse(rest: str, usage: str) -> Delete:
    parser = Parser(usage)
    parser.add_argument("run", metavar="RUN")
    return Delete(parser.read(rest).run)


def _to_run(asked: Delete, cluster: Cluster) -> str:
    cluster.run(asked.run_id).delete()
    return f"run {asked.run_id} is deleted; its id is free"


def _do(asked: Delete, notebook: Notebook) -> None:
    shows.emit(shows.notice(_to_run(asked, notebook.session.cluster)))


SUBCOMMAND = Subcommand(
    name="delete",
    group="Workflows and runs",
    usage="delete RUN",
    does="drop all that is recorded of a finished run",
    examples=("  %raftoral delete order-1              drop what is recorded of a finished run; its id is free then",),
    parse=_parse,
    do=_do,
    offers=a_run,
    in_page=_to_run,
)
