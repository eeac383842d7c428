"""`%raftoral update`: send a run a signal, and wait for its answer."""

from __future__ import annotations

from ..message_commands import message

SUBCOMMAND = message(
    "update",
    lambda run, asked, value: run.update(asked.name, value),
    takes="NAME [VALUE-EXPRESSION]",
    does="send a run a signal, and wait for its answer",
    examples=("  %raftoral update order-1 limit 100    the same, and shows what the workflow answers",),
)
