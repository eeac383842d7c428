"""`%raftoral cancel`: ask a run to end; it may clean up."""

from __future__ import annotations

from ..run_commands import on_run

SUBCOMMAND = on_run(
    "cancel",
    lambda run, reason: run.cancel(reason),
    does="ask a run to end; it may clean up",
    examples=(
        "  %raftoral cancel order-1 not wanted   ask a run to end, which may clean up; the rest of the line is the reason",
    ),
    done="is asked to end",
)
