"""`%raftoral progress`: a bar of how far a run is, by a variable of its."""

from __future__ import annotations

from ...widgets.bars import progress_bar
from ..message_commands import message

SUBCOMMAND = message(
    "progress",
    lambda run, asked, value: progress_bar(run, asked.name, value),
    takes="VARIABLE [TOTAL-EXPRESSION]",
    does="a bar of how far a run is, by a variable of its",
    examples=(
        "  %raftoral progress train-1 epoch 10   a bar that follows the variable `epoch` up to 10, until the run ends",
    ),
)
