"""`%raftoral run`: start a run."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from raftoral_nb.errors import WorkflowNotFoundError

from ...errors import MagicError, did_you_mean
from ..arguments import count, workflow_and_rest
from ..expressions import evaluate
from ..subcommand import FREE, Notebook, Subcommand, Typed

if TYPE_CHECKING:
    from raftoral_nb import WorkflowRun

_FLAG: Final = r"--(?P<flag>version|id)(?:\s+|\s*=\s*)(?P<value>[\w.:/@+-]+)"
_FLAG_FIRST: Final = re.compile(rf"\s*{_FLAG}(?=\s|$)")
_FLAG_LAST: Final = re.compile(rf"(?:^|(?<=\s)){_FLAG}\s*$")
_KNOWN: Final = ("--version", "--id")


class Run(msgspec.Struct, frozen=True):
    """`expression` is Python source, "" for no input."""

    workflow: str
    expression: str
    version: int | None
    run_id: str | None


def _parse(rest: str, usage: str) -> Run:
    workflow, text = workflow_and_rest("run", rest, usage)
    flags: dict[str, str] = {}

    def take(found: re.Match[str]) -> None:
        if found["flag"] in flags:
            raise MagicError(f"--{found['flag']} is given twice.\nUsage: {usage}")
        flags[found["flag"]] = found["value"]

    while first := _FLAG_FIRST.match(text):
        take(first)
        text = text[first.end() :]
    while last := _FLAG_LAST.search(text):
        take(last)
        text = text[: last.start()].rstrip()
    expression = text.strip()
    if expression.startswith("--"):
        flag = expression.split()[0].partition("=")[0]
        why = f"{flag} needs a value" if flag in _KNOWN else f"run has no flag {flag}.{did_you_mean(flag, _KNOWN)}"
        raise MagicError(f"{why.rstrip('.')}{'' if why.endswith('?') else '.'}\nUsage: {usage}")
    version = flags.get("version")
    return Run(workflow, expression, None if version is None else _version(version, usage), flags.get("id"))


def _version(text: str, usage: str) -> int:
    try:
        return count(text)
    except argparse.ArgumentTypeError as problem:
        raise MagicError(f"--version: {problem}.\nUsage: {usage}") from None


def _do(asked: Run, notebook: Notebook) -> WorkflowRun[Any]:
    cluster = notebook.session.cluster
    if asked.workflow not in cluster.workflows:
        known = ", ".join(cluster.workflows) or "none yet"
        how = (
            f" Register it first: %raftoral register {asked.workflow}"
            if asked.workflow in notebook.names
            else did_you_mean(asked.workflow, cluster.workflows)
        )
        raise WorkflowNotFoundError(f"no workflow {asked.workflow!r} is registered (there are: {known}).{how}")
    value = evaluate(asked.expression, notebook.names)
    return cluster.start_workflow(asked.workflow, value, version=asked.version, run_id=asked.run_id)


def _offers(typed: Typed) -> list[str] | None:
    # Behind the name, and any flags with their values, stands Python.
    return None if typed.before else list(typed.known.workflows)


SUBCOMMAND = Subcommand(
    name="run",
    group="Workflows and runs",
    usage="run NAME [INPUT-EXPRESSION] [--version N] [--id ID]",
    does="start a run",
    examples=(
        """\
  run = %raftoral run order {"item": "A1"}
                                        start a run; the rest of the line is one Python expression, None if left out
  run = %raftoral run order Order(item="A1") --id order-1
                                        a run id of your own: doing it again gives the same run, not a second one
  run = %raftoral run order --version 2 {"item": "A1"}
                                        flags stand directly after the name or last
  run.wait_for_completion(timeout=10)   wait for the result; so does: await run""",
    ),
    parse=_parse,
    do=_do,
    offers=_offers,
    flags={"--version": FREE, "--id": FREE},
    gives=True,
)
