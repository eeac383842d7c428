"""`%raftoral signal`: send a run a signal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...shown import display as shows
from ..expressions import literal
from ..message_commands import Send, message

if TYPE_CHECKING:
    from raftoral_nb import Cluster, WorkflowRun


def _send(run: WorkflowRun[Any], asked: Send, value: Any) -> None:
    run.signal(asked.name, value)
    shows.emit(shows.notice(signal_words(asked)))


def _in_page(asked: Send, cluster: Cluster) -> str:
    value = literal(asked.expression)
    cluster.run(asked.run_id).signal(asked.name, value)
    return signal_words(asked)


def signal_words(asked: Send) -> str:
    """A sentence about a signal that was sent."""
    return f"run {asked.run_id} was sent the signal {asked.name}"


SUBCOMMAND = message(
    "signal",
    _send,
    takes="NAME [VALUE-EXPRESSION]",
    does="send a run a signal",
    examples=('  %raftoral signal order-1 approve True send a signal, which `await ctx.receive("approve")` returns',),
    in_page=_in_page,
)
