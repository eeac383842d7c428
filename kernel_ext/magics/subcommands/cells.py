"""`%raftoral cells`: the durable cells that are recorded, and dropping one."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ...shown import cells as words
from ...shown.display import Shown
from ..arguments import Parser
from ..subcommand import FREE, Notebook, Subcommand, only_flags


class Cells(msgspec.Struct, frozen=True):
    """The cell to drop, or to let go of the folder; else all are listed."""

    forget: str | None
    close: bool


def _parse(rest: str, usage: str) -> Cells:
    parser = Parser(usage)
    parser.add_argument("--forget", metavar="NAME")
    parser.add_argument("--close", action="store_true")
    found = parser.read(rest)
    return Cells(found.forget, found.close)


def _do(asked: Cells, notebook: Notebook) -> Shown:
    durable = notebook.session.durable
    if asked.forget is not None:
        durable.opened().forget(asked.forget)
        return words.forgotten(asked.forget)
    if asked.close:
        durable.close()
        return words.closed(str(durable.folder))
    cells = durable.known()
    folder = durable.folder
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    return words.table({} if cells is None else cells.records, str(shown))


SUBCOMMAND = Subcommand(
    name="cells",
    group="Workflows and runs",
    usage="cells [--forget NAME] [--close]",
    does="the durable cells that are recorded",
    examples=(
        """\
  %raftoral cells                       the durable cells that are recorded: when, how long they ran, what they left
  %raftoral cells --forget features     drops what is recorded of one: it runs again
  %raftoral cells --close               lets another kernel have what is recorded; the next %%durable opens it again""",
    ),
    parse=_parse,
    do=_do,
    offers=only_flags,
    flags={"--forget": FREE, "--close": None},
)
