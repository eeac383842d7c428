"""`%raftoral register`: register a workflow of the notebook."""

from __future__ import annotations

import msgspec

from ...shown import display as shows
from ..arguments import Parser, count
from ..cells import resolve
from ..pending import Definition
from ..subcommand import FREE, Notebook, Subcommand, Typed


class Register(msgspec.Struct, frozen=True):
    """`version` None means: the workflow's own, or the next one. `strict` refuses what is not deterministic."""

    workflow: str
    version: int | None
    strict: bool = False


def _parse(rest: str, usage: str) -> Register:
    parser = Parser(usage)
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--version", type=count)
    parser.add_argument("--strict", action="store_true")
    found = parser.read(rest)
    return Register(found.name, found.version, found.strict)


def _do(asked: Register, notebook: Notebook) -> None:
    target = resolve(asked.workflow, notebook.names)
    shows.emit(notebook.session.register(Definition(asked.workflow, asked.version, target, asked.strict)))


def _offers(typed: Typed) -> list[str]:
    return list(typed.flags) if typed.before else list(typed.known.functions)


SUBCOMMAND = Subcommand(
    name="register",
    group="Workflows and runs",
    usage="register NAME [--version N] [--strict]",
    does="register a workflow of the notebook",
    examples=(
        """\
  %raftoral register order              register a function or Workflow that the notebook already has
  %raftoral register order --version 2  ... under that version; --strict refuses what is not deterministic""",
    ),
    parse=_parse,
    do=_do,
    offers=_offers,
    flags={"--version": FREE, "--strict": None},
)
