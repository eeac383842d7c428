"""The line of `%%workflow`: its arguments, its help, and what Tab offers."""

from __future__ import annotations

from typing import Final

import msgspec

from .arguments import Parser, count
from .comments import without_comment
from .known import Known

WORKFLOW_HELP: Final = """\
Run the cell, and register the workflow it defines.

  %%workflow
  async def order(ctx, item):
      await ctx.compute("charge", charge, item)
      return "done"

  %%workflow                  the last top-level `async def` of the cell, under its own name
  %%workflow order            the one of that name; if there is none, the last one, under the name `order`
  %%workflow order --version 2
  %%workflow --strict         refuses code that is not deterministic, where else it is only pointed at

The cell runs as any other. Functions, classes and imports of other cells go along. Without a cluster the workflow is kept, and
registered at the next %raftoral start. Running an unchanged cell again does nothing; a changed one without --version takes the
next version. An existing version can be replaced as long as no unfinished run uses it.
"""

_USAGE: Final = "%%workflow [NAME] [--version N] [--strict]"


class WorkflowCell(msgspec.Struct, frozen=True):
    """The arguments of `%%workflow`."""

    name: str | None
    version: int | None
    strict: bool = False


def parse_workflow_line(line: str) -> WorkflowCell:
    """Takes apart what follows `%%workflow`. Raises `MagicError`."""
    parser = Parser(_USAGE)
    parser.add_argument("name", metavar="NAME", nargs="?")
    parser.add_argument("--version", type=count)
    parser.add_argument("--strict", action="store_true")
    found = parser.read(without_comment(line))
    return WorkflowCell(found.name, found.version, found.strict)


def workflow_offers(rest: str, known: Known) -> list[str]:
    """Offers what may stand where `rest` ends: a name, and the flags."""
    before = rest.split() if not rest or rest[-1].isspace() else rest.split()[:-1]
    if before and before[-1] == "--version":
        return []
    flags = [flag for flag in ("--version", "--strict") if flag not in before]
    return [*known.workflows, *flags] if not before else flags
