"""The line of `%%durable`: its name, its help, and where in a cell it stands. Pure."""

from __future__ import annotations

import re
from typing import Final

from ..errors import MagicError
from .comments import without_comment

DURABLE_HELP: Final = """\
Run the cell once: what it binds and shows is recorded, and restored after a restart.

  %%durable features
  table = load("measurements.csv")      # an hour later ...
  model = fit(table, rate)

  %%durable NAME                        the cell has this name: in the list, and when its code changes
  %%durable                             a name is made from what the cell binds

After a crash, Run All goes through recorded cells in no time: their variables are bound again, their output and pictures are shown
again, and the cell that died runs. A cell whose code, functions or inputs changed runs again, and what depends on it. What cannot be
recorded (an open file, a generator) is named before the cell runs, where its code says so, and else when it has run.

It has to be the first line of the cell. All else in the cell works as in others: magics, `await`, plots, errors.
Recorded is in .raftoral/NOTEBOOK beside the notebook. To see it: %raftoral cells
"""

_LINE: Final = re.compile(r"%%durable(?![^\s])(?P<rest>[^\n]*)")
_NAME: Final = re.compile(r"[^\W\d][\w.-]{0,99}")
_USAGE: Final = "%%durable [NAME]"


def without_line(lines: list[str]) -> list[str]:
    """The cell without its first line, if that is `%%durable`; the others keep their numbers, so that tracebacks point at them.

    A cell magic below it has to come first, and moves up.
    """
    if not lines or _LINE.match(lines[0]) is None:
        return lines
    if len(lines) > 1 and lines[1].startswith("%%"):
        return lines[1:]
    return ["\n", *lines[1:]]


def durable_rest(raw_cell: str) -> str | None:
    """What stands behind `%%durable` in a cell's first line; None if the cell is an ordinary one."""
    found = _LINE.match(raw_cell.lstrip())
    return None if found is None else found["rest"]


def given_name(rest: str) -> str | None:
    """The name that the line gives the cell; None if it gives none. Raises `MagicError`."""
    words = without_comment(rest).split()
    if not words:
        return None
    if len(words) > 1 or _NAME.fullmatch(words[0]) is None:
        raise MagicError(
            f"a cell's name is one word that begins with a letter, not {rest.strip()!r}.\nUsage: {_USAGE}\nIts code begins in the next line."
        )
    return words[0]


def made_name(binds: list[str], cell_id: str | None, digest: str) -> str:
    """A name for a cell that has none: by what it binds, and by its id, or its code where cells have no ids."""
    mark = re.sub(r"[^0-9A-Za-z]", "", cell_id or "")[:4] or digest[:4]
    return f"{binds[0] if binds else 'cell'}-{mark}"


def folder_name(session: str, *, kernel: bool) -> str:
    """The folder for a notebook's cells: the notebook's name. `session` is what Jupyter says it is the kernel of."""
    name = re.split(r"[/\\:]", session)[-1]
    if name.endswith(".ipynb"):
        return re.sub(r"[^\w.-]", "_", name.removesuffix(".ipynb")) or "notebook"
    return "notebook" if kernel else "ipython"
