"""`%raftoral events`: what happened, in order."""

from __future__ import annotations

from typing import Final

import msgspec

from ...shown import display as shows
from ...shown.display import Shown
from ..arguments import Parser, count
from ..subcommand import FREE, Notebook, Subcommand, only_flags

EVENTS_SHOWN: Final = 20
"""Events without `--last`."""


class Events(msgspec.Struct, frozen=True):
    """`last` None means: as many as are shown by default."""

    last: int | None
    times: bool


def _parse(rest: str, usage: str) -> Events:
    parser = Parser(usage)
    parser.add_argument("--last", type=count)
    parser.add_argument("--times", action="store_true")
    found = parser.read(rest)
    return Events(found.last, found.times)


def _do(asked: Events, notebook: Notebook) -> Shown:
    history = notebook.session.latest.history()
    last = history[-(asked.last or EVENTS_SHOWN) :]
    return shows.events(last, times=asked.times, omitted=len(history) - len(last))


SUBCOMMAND = Subcommand(
    name="events",
    group="Cluster",
    usage="events [--last N] [--times]",
    does="what happened, in order",
    examples=("  %raftoral events --last 10            what happened, in order; --times adds the time of each",),
    parse=_parse,
    do=_do,
    offers=only_flags,
    flags={"--last": FREE, "--times": None},
)
