"""The common part of the subcommands that end a run: `cancel`, `terminate`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from ..shown import display as shows
from .arguments import Parser
from .subcommand import Notebook, Subcommand, a_run

if TYPE_CHECKING:
    from raftoral_nb import Cluster, WorkflowRun


class OnRun(msgspec.Struct, frozen=True):
    """The run that a subcommand is for, and why."""

    run_id: str
    reason: str


def on_run(
    name: str, act: Callable[[WorkflowRun[Any], str], None], *, does: str, examples: tuple[str, ...], done: str
) -> Subcommand[OnRun]:
    """A subcommand `NAME RUN [REASON]`; `done` is said of the run afterwards."""

    def to_run(asked: OnRun, cluster: Cluster) -> str:
        act(cluster.run(asked.run_id), asked.reason)
        return f"run {asked.run_id} {done}"

    def do(asked: OnRun, notebook: Notebook) -> None:
        shows.emit(shows.notice(to_run(asked, notebook.session.cluster)))

    return Subcommand(
        name=name,
        group="Workflows and runs",
        usage=f"{name} RUN [REASON]",
        does=does,
        examples=examples,
        parse=_parse,
        do=do,
        offers=a_run,
        in_page=to_run,
    )


def _parse(rest: str, usage: str) -> OnRun:
    parser = Parser(usage)
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("reason", metavar="REASON", nargs="*")
    found = parser.read(rest)
    return OnRun(found.run, " ".join(found.reason))
