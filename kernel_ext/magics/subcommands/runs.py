"""`%raftoral runs`: all runs, or some."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, get_args

import msgspec

from raftoral_nb.core.statistics import RunStatus

from ...shown import display as shows
from ...shown.display import Shown
from ...shown.tables import retained_line
from ..arguments import Parser
from ..subcommand import Notebook, Subcommand, one_of, only_flags, workflow_names
from ..times import ago


class Runs(msgspec.Struct, frozen=True):
    """None means: whatever it is. `since` is how long ago, in seconds."""

    status: RunStatus | None
    workflow: str | None
    since: float | None


def _parse(rest: str, usage: str) -> Runs:
    parser = Parser(usage)
    parser.add_argument("--status", choices=get_args(RunStatus))
    parser.add_argument("--workflow")
    parser.add_argument("--since", type=ago)
    found = parser.read(rest)
    return Runs(found.status, found.workflow, found.since)


def _do(asked: Runs, notebook: Notebook) -> Shown:
    since = None if asked.since is None else timedelta(seconds=asked.since)
    cluster = notebook.session.latest
    found: Any = cluster.runs(status=asked.status, workflow=asked.workflow, since=since)
    known = cluster.statistics().runs
    held = {run_id: why for run_id, run in known.items() if (why := run.why_held) is not None}
    missing = {run_id: label for run_id, run in known.items() if (label := run.missing_label) is not None}
    return shows.runs(found, held, retained_line(cluster.retention), missing)


SUBCOMMAND = Subcommand(
    name="runs",
    group="Workflows and runs",
    usage="runs [--status STATUS] [--workflow NAME] [--since TIME]",
    does="all runs, or some",
    examples=(
        """\
  %raftoral runs                        every run with its status and recorded steps
  %raftoral runs --status failed --workflow order --since 5m
                                        those that fit; a time is 200ms, 30s, 5m, 2h or 1d""",
    ),
    parse=_parse,
    do=_do,
    offers=only_flags,
    flags={
        "--status": one_of(*get_args(RunStatus)),
        "--workflow": workflow_names,
        "--since": one_of("5m", "1h", "1d"),
    },
)
