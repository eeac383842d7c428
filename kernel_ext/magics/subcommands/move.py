"""`%raftoral move`: move a run to another version of its workflow."""

from __future__ import annotations

import msgspec

from ...shown import display as shows
from ...shown.display import Shown
from ..arguments import Parser, count
from ..subcommand import Notebook, Subcommand, a_run


class Move(msgspec.Struct, frozen=True):
    """A run, and the version it is to continue with."""

    run_id: str
    version: int


def _parse(rest: str, usage: str) -> Move:
    parser = Parser(usage)
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("version", metavar="VERSION", type=count)
    found = parser.read(rest)
    return Move(found.run, found.version)


def _do(asked: Move, notebook: Notebook) -> Shown:
    notebook.session.cluster.run(asked.run_id).move_to_version(asked.version)
    return shows.notice(
        f"run {asked.run_id} was moved to version {asked.version}: every node executes it anew, with its steps"
    )


SUBCOMMAND = Subcommand(
    name="move",
    group="Workflows and runs",
    usage="move RUN VERSION",
    does="move a run to another version of its workflow",
    examples=(
        "  %raftoral move order-1 2              have an unfinished run continue with version 2, if that fits its record",
    ),
    parse=_parse,
    do=_do,
    offers=a_run,
)
