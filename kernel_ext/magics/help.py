"""The text of `%raftoral?`, and what `%raftoral` alone shows: both made from what the subcommands say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from typing import Any, Final, get_args

from ..shown import html
from ..shown.display import Shown
from .subcommand import Group, Subcommand
from .table import TABLE

_LEAD: Final = """\
Durable workflows on a Raft cluster inside this kernel.

  A line may end with a comment behind a `#` that stands by itself, or with `;`, which keeps it from showing a value.
"""

_PAGE: Final[dict[Group, str]] = {
    "Cluster": """\
{start[0]}
{attach[0]}
{leave[0]}
{start[1]}
{stop[0]}
{status[0]}
{entries[0]}
{watch[0]}

{metrics[0]}

  The running cluster is `cluster` in the notebook (if that name is free), and raftoral_nb.current_cluster().
""",
    "Workflows and runs": """\
  %%workflow                            a cell magic: runs the cell, registers its last `async def` (see %%workflow?)
{register[0]}
{run[0]}
{check[0]}
{move[0]}
{runs[0]}
{history[0]}
  %%durable                             a cell magic: runs the cell once, and restores it after a restart (see %%durable?)
{cells[0]}
{signal[0]}
{update[0]}
{query[0]}
{progress[0]}
{button[0]}
{cancel[0]}
{terminate[0]}
{pause[1]}
{log[0]}
{events[0]}

  A workflow takes copies of what it needs along when it is registered: the line printed then says what, and how large.
  Later changes of those values are seen in neither direction; register it again to take them along anew.
""",
    "Break it": """\
{kill[0]}
{restart[0]}
{pause[0]}
{resume[0]}
{hold[0]}
{release[0]}
{partition[0]}
{isolate[0]}
{cut[0]}
{slow[0]}
{heal[0]}
{transfer[0]}
{campaign[0]}

{add[0]}
{remove[0]}

  `follower` is the first follower, as in: cut leader-follower. What undoes something takes what it was done to:
  restart dead, resume paused, release held.

{scenario[0]}
""",
}
"""The places of the examples of each subcommand; those of one that is not named here come last in its group."""

_END: Final = """\
Defaults
  %config RaftoralMagics                nodes, log_level, refresh_rate (of the view, in Hz)
"""


def page(table: Mapping[str, Subcommand[Any]]) -> str:
    """The text of `%raftoral?` for these subcommands."""
    examples = {name: one.examples for name, one in table.items()}
    placed = {
        (field or "").partition("[")[0] for template in _PAGE.values() for _, field, _, _ in Formatter().parse(template)
    }
    parts = [_LEAD]
    for group, template in _PAGE.items():
        late = [
            line for name, one in table.items() if one.group == group and name not in placed for line in one.examples
        ]
        parts.append("\n".join([group + "\n" + template.format_map(examples).rstrip("\n"), *late, ""]))
    return "\n".join([*parts, _END])


RAFTORAL_HELP: Final = page(TABLE)

_FIRST: Final = (
    *("start", "attach", "leave", "stop", "status", "entries", "events", "watch", "metrics"),
    *("register", "run", "check", "move", "runs", "history", "cells", "cache", "log"),
    *("signal", "update", "query", "button", "progress", "cancel", "terminate"),
)
"""The order in which subcommands are listed; those that are not named here come behind them, as the table has them."""

GROUPS: Final[dict[Group, tuple[str, ...]]] = {
    group: tuple(
        sorted(
            (name for name, one in TABLE.items() if one.group == group),
            key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST),
        )
    )
    for group in get_args(Group)
}
"""The subcommands, as `%raftoral` alone lists them."""

_ALL: Final = "Examples of each: %raftoral?"
_NAMES_WIDTH: Final = 38
"""Columns of what is typed; where that is longer, what it does stands in the next line."""


def short_help() -> Shown:
    """A list of all subcommands, for `%raftoral` alone."""
    return Shown(short_help_text(), _short_help_html())


def short_help_text() -> str:
    """The same as text."""
    lines = [f"%raftoral SUBCOMMAND. {_ALL}"]
    for group, names in GROUPS.items():
        lines += ["", group]
        for name in names:
            usage = f"  {TABLE[name].usage}"
            if len(usage) > _NAMES_WIDTH:
                lines.append(usage)
                usage = ""
            lines.append(f"{usage:<{_NAMES_WIDTH}}  {TABLE[name].does}")
    return "\n".join(lines)


def _short_help_html() -> str:
    groups: dict[str, list[tuple[str, str, str]]] = {
        group: [(f"%raftoral {name}", TABLE[name].usage.removeprefix(name).strip(), TABLE[name].does) for name in names]
        for group, names in GROUPS.items()
    }
    return html.commands_html(_ALL, groups)
