"""`%raftoral history`: what is recorded of a run."""

from __future__ import annotations

import msgspec

from ...shown import display as shows
from ...shown.display import Shown
from ..arguments import Parser
from ..subcommand import Notebook, Subcommand, a_run_and_flags


class History(msgspec.Struct, frozen=True):
    """A run; `times` adds the time of each event."""

    run_id: str
    times: bool


def _parse(rest: str, usage: str) -> History:
    parser = Parser(usage)
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--times", action="store_true")
    found = parser.read(rest)
    return History(found.run, found.times)


def _do(asked: History, notebook: Notebook) -> Shown:
    return shows.events(notebook.session.latest.run(asked.run_id).history(), times=asked.times)


SUBCOMMAND = Subcommand(
    name="history",
    group="Workflows and runs",
    usage="history RUN [--times]",
    does="what is recorded of a run",
    examples=(
        "  %raftoral history order-1             everything that is recorded of a run; --times adds the time of each",
    ),
    parse=_parse,
    do=_do,
    offers=a_run_and_flags,
    flags={"--times": None},
)
