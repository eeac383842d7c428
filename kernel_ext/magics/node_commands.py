"""The common part of the subcommands for one node: `kill`, `restart`, `pause`, `resume`, `hold`, `release`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from ..errors import MagicError
from ..shown import display as shows
from .arguments import Parser
from .run_commands import OnRun
from .subcommand import Notebook, Subcommand, Typed

if TYPE_CHECKING:
    from raftoral_nb import Cluster, WorkflowRun

NodeWord = Literal["leader", "follower", "dead", "paused", "held"]
NodeName = int | NodeWord


class OnNode(msgspec.Struct, frozen=True):
    """A subcommand for a node, and that node."""

    name: str
    node: NodeName


def on_node(
    name: str,
    words: tuple[NodeWord, ...],
    *,
    does: str,
    examples: tuple[str, ...],
    done: str,
    run: Callable[[WorkflowRun[Any]], None] | None = None,
    done_to_run: str = "",
) -> Subcommand[OnNode | OnRun]:
    """A subcommand that calls the method of `Cluster` of its name.

    `words` are what it takes in place of a number (the first node that is so); a command that undoes something takes what was
    done. `done` is said of the node afterwards. With `run` it can be done to a run too: nothing else than a node is named by a
    number or by one of the words of nodes.
    """

    def parse(rest: str, usage: str) -> OnNode | OnRun:
        parser = Parser(usage)
        parser.add_argument("node", metavar="NODE")
        given: str = parser.read(rest).node
        if run is not None and given != "leader" and given not in words and not given.isdigit():
            return OnRun(given, "")
        return OnNode(name, _node(name, given, words))

    def do(asked: OnNode | OnRun, notebook: Notebook) -> None:
        cluster = notebook.session.cluster
        if isinstance(asked, OnRun):
            return shows.emit(shows.notice(to_run(asked, cluster)))
        act: Callable[[NodeName], int] = getattr(cluster, name)
        number = act(asked.node)
        who = f"node {number}, the {asked.node}," if asked.node in ("leader", "follower") else f"node {number}"
        return shows.emit(shows.notice(f"{who} {done}"))

    def to_run(asked: OnRun, cluster: Cluster) -> str:
        assert run is not None
        run(cluster.run(asked.run_id))
        return f"run {asked.run_id} {done_to_run}"

    def in_page(asked: OnNode | OnRun, cluster: Cluster) -> str | None:
        return to_run(asked, cluster) if isinstance(asked, OnRun) else None

    def offers(typed: Typed) -> list[str]:
        runs = () if run is None else typed.known.run_ids
        return [] if typed.before else [*typed.nodes, *words, *runs]

    return Subcommand(
        name=name,
        group="Break it",
        usage="|".join((f"{name} NODE", *words, *([] if run is None else ["RUN"]))),
        does=does,
        examples=examples,
        parse=parse,
        do=do,
        offers=offers,
        in_page=None if run is None else in_page,
        caused=lambda fault: f"node {fault.places[0]} {done}",
    )


def _node(command: str, text: str, words: tuple[NodeWord, ...]) -> NodeName:
    for word in words:
        if text == word:
            return word
    either = f" or {' or '.join(map(repr, words))}"
    if text == "leader":
        raise MagicError(f"{command} takes a node's number{either}: %raftoral {command} 1. Which one: %raftoral status")
    if not text.isascii() or not text.isdigit():
        raise MagicError(f"{command} takes a node's number{either}, not {text!r}. Example: %raftoral {command} 1")
    return int(text)
