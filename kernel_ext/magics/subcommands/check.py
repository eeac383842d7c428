"""`%raftoral check`: run a workflow with a failover at every step."""

from __future__ import annotations

import warnings

import msgspec

import raftoral_nb
from raftoral_nb.errors import NonDeterminismWarning

from ...shown import display as shows
from ...shown.display import Shown
from ..arguments import workflow_and_rest
from ..cells import resolve
from ..expressions import evaluate
from ..subcommand import Notebook, Subcommand, Typed


class Check(msgspec.Struct, frozen=True):
    """`expression` is Python source, "" for no input."""

    workflow: str
    expression: str


def _parse(rest: str, usage: str) -> Check:
    workflow, text = workflow_and_rest("check", rest, usage)
    return Check(workflow, text.strip())


def _do(asked: Check, notebook: Notebook) -> Shown:
    target = resolve(asked.workflow, notebook.names)
    with warnings.catch_warnings():
        # This looks at what it does, not at how it is written.
        warnings.simplefilter("ignore", NonDeterminismWarning)
        checked = raftoral_nb.check_determinism(target, evaluate(asked.expression, notebook.names))
    return shows.notice(str(checked))


def _offers(typed: Typed) -> list[str] | None:
    return None if typed.before else [*dict.fromkeys((*typed.known.functions, *typed.known.workflows))]


SUBCOMMAND = Subcommand(
    name="check",
    group="Workflows and runs",
    usage="check NAME [INPUT-EXPRESSION]",
    does="run a workflow with a failover at every step",
    examples=(
        """\
  %raftoral check order {"item": "A1"}  is the workflow deterministic? runs it on a virtual clock, with a failover at every step
                                        (its steps have their effects each time, in this process)""",
    ),
    parse=_parse,
    do=_do,
    offers=_offers,
)
