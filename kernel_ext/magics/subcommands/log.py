"""`%raftoral log`: what workflows printed and logged."""

from __future__ import annotations

from typing import Final

import msgspec

from raftoral_nb.errors import NoSuchNodeError

from ...shown import display as shows
from ...shown.display import Shown
from ...shown.words import node_list
from ..arguments import Parser, count
from ..subcommand import FREE, Notebook, Subcommand, a_run_and_flags, numbers

LINES_SHOWN: Final = 200
"""Lines without `--last`."""


class Log(msgspec.Struct, frozen=True):
    """None means: of every run, of every node, as many lines as are shown by default."""

    run_id: str | None
    node: int | None
    last: int | None
    times: bool


def _parse(rest: str, usage: str) -> Log:
    parser = Parser(usage)
    parser.add_argument("run", metavar="RUN", nargs="?")
    parser.add_argument("--node", type=count)
    parser.add_argument("--last", type=count)
    parser.add_argument("--times", action="store_true")
    found = parser.read(rest)
    return Log(found.run, found.node, found.last, found.times)


def _do(asked: Log, notebook: Notebook) -> Shown:
    cluster = notebook.session.latest
    if asked.run_id is not None:
        cluster.run(asked.run_id)  # says so if there is no such run
    if asked.node is not None and asked.node not in cluster.nodes:
        raise NoSuchNodeError(f"there is no node {asked.node}: the nodes are {node_list(cluster.nodes)}")
    lines = cluster.log(run_id=asked.run_id, node=asked.node)
    last = lines[-(asked.last or LINES_SHOWN) :]
    return shows.log(last, times=asked.times, omitted=len(lines) - len(last))


SUBCOMMAND = Subcommand(
    name="log",
    group="Workflows and runs",
    usage="log [RUN] [--node N] [--last N] [--times]",
    does="what workflows printed and logged",
    examples=(
        """\
  %raftoral log                         what workflows printed and logged, by run and node
  %raftoral log order-1 --node 2 --last 20
                                        of one run, one node, only the last lines; --times adds the time of each""",
    ),
    parse=_parse,
    do=_do,
    offers=a_run_and_flags,
    flags={"--node": numbers, "--last": FREE, "--times": None},
)
