"""`%raftoral resume`: end a pause."""

from __future__ import annotations

from ..node_commands import on_node

SUBCOMMAND = on_node(
    "resume",
    ("paused",),
    does="end a pause",
    examples=("  %raftoral resume 3                    ... and let it continue",),
    done="resumed",
    run=lambda run: run.resume(),
    done_to_run="continues",
)
