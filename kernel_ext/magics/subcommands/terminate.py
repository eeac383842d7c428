"""`%raftoral terminate`: end a run at once, without cleanup."""

from __future__ import annotations

from ..run_commands import on_run

SUBCOMMAND = on_run(
    "terminate",
    lambda run, reason: run.terminate(reason),
    does="end a run at once, without cleanup",
    examples=("  %raftoral terminate order-1           end it at once",),
    done="is terminated",
)
