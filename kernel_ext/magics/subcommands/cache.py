"""`%raftoral cache`: results of steps that all runs share."""

from __future__ import annotations

import time

import msgspec

from ...shown import display as shows
from ...shown.display import Shown
from ..arguments import Parser
from ..subcommand import FREE, Notebook, Subcommand, only_flags


class Cache(msgspec.Struct, frozen=True):
    """Whether to clear it, and of which function: None for all."""

    clear: bool
    name: str | None


def _parse(rest: str, usage: str) -> Cache:
    parser = Parser(usage)
    parser.add_argument("--clear", nargs="?", const="", metavar="NAME")
    found = parser.read(rest)
    return Cache(found.clear is not None, found.clear or None)


def _do(asked: Cache, notebook: Notebook) -> Shown:
    if not asked.clear:
        return shows.cached_steps(notebook.session.latest.cached_steps(), time.time())
    # Which functions there are is asked before; what is recorded in between is dropped all the same.
    cached = sorted({one.name for one in notebook.session.cluster.cached_steps()})
    notebook.session.cluster.clear_cache(asked.name)
    if asked.name is None or asked.name in cached:
        of = "" if asked.name is None else f" of {asked.name}"
        return shows.notice(f"the cache of steps{of} was cleared")
    there_are = f"cached are steps of {', '.join(cached)}" if cached else "no step is cached"
    return shows.notice(f"nothing is cached of {asked.name}; {there_are}")


SUBCOMMAND = Subcommand(
    name="cache",
    group="Workflows and runs",
    usage="cache [--clear [NAME]]",
    does="results of steps that are cached",
    examples=(
        """\
  %raftoral cache                       results of steps with cache="inputs": of which function, from what, how old, how often used
  %raftoral cache --clear fit           drop what is cached of a function; of all without a name""",
    ),
    parse=_parse,
    do=_do,
    offers=only_flags,
    flags={"--clear": FREE},
)
