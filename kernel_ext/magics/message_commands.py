"""The common part of the subcommands that name a run and something of it: `signal`, `update`, `query`, `button`, `progress`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ..errors import MagicError
from .expressions import evaluate
from .subcommand import Notebook, Subcommand, Typed

if TYPE_CHECKING:
    from raftoral_nb import Cluster, WorkflowRun

_MESSAGE: Final = re.compile(
    r"(?P<run>[^\s]+)\s+(?:(?P<quoted>\"[^\"]+\"|'[^']+')|(?P<name>[^\s\"']\S*))(?P<expression>\s.*|)$", re.DOTALL
)


class Send(msgspec.Struct, frozen=True):
    """A run, a name, and a value as Python source, "" for nothing."""

    run_id: str
    name: str
    expression: str


def message(
    name: str,
    act: Callable[[WorkflowRun[Any], Send, Any], Any],
    *,
    takes: str,
    does: str,
    examples: tuple[str, ...],
    in_page: Callable[[Send, Cluster], str] | None = None,
) -> Subcommand[Send]:
    """A subcommand `NAME RUN NAME [EXPRESSION]`; `takes` is what follows the run in its usage. `act` is given the run, what was asked, and its value."""

    def parse(rest: str, usage: str) -> Send:
        # The name may be quoted; what stands behind it is Python, and none of ours.
        match = _MESSAGE.match(rest)
        if match is None:
            raise MagicError(f"{name} needs a run and a name.\nUsage: {usage}")
        what = match["quoted"][1:-1] if match["quoted"] else match["name"]
        return Send(match["run"], what, match["expression"].strip())

    def do(asked: Send, notebook: Notebook) -> Any:
        run = notebook.session.cluster.run(asked.run_id)
        return act(run, asked, evaluate(asked.expression, notebook.names))

    return Subcommand(
        name=name,
        group="Workflows and runs",
        usage=f"{name} RUN {takes}",
        does=does,
        examples=examples,
        parse=parse,
        do=do,
        offers=_offers,
        gives=True,
        in_page=in_page,
    )


def _offers(typed: Typed) -> list[str] | None:
    if len(typed.before) > 1:
        return None
    return [] if typed.before else list(typed.known.run_ids)
