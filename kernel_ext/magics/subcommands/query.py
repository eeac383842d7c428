"""`%raftoral query`: ask a run something."""

from __future__ import annotations

from ..message_commands import message

SUBCOMMAND = message(
    "query",
    lambda run, asked, value: run.query(asked.name, *((value,) if asked.expression else ())),
    takes="NAME [ARGUMENT-EXPRESSION]",
    does="ask a run something",
    examples=("  %raftoral query order-1 progress      what the workflow gave to ctx.on_query says",),
)
