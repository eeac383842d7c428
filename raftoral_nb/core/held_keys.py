"""What a value is of that a node holds back: its step, or the end of its run."""

from __future__ import annotations

from typing import Final

import msgspec

from .commands import CacheStep, Command, ContinueRun, EndRun, SetCheckpoint, StartChild, TellRun
from .records import RunId

THE_END: Final = ""
"""In place of a step_id: of what a run returned, or begins anew with."""


class HeldKey(msgspec.Struct, frozen=True, array_like=True):
    """What a held value is of: a step of one generation of a run, by the code of one version."""

    run_id: RunId
    generation: int
    version: int
    step_id: str


def held_key(command: Command) -> HeldKey | None:
    """Return what a command records a value of.

    None if it comes from outside of the run's code: whoever sent it is told at once that its value is too large.
    """
    match command:
        case StartChild():
            return HeldKey(command.run_id, command.generation, command.parent_version, command.step.step_id)
        case SetCheckpoint() | CacheStep() | TellRun():
            return HeldKey(command.run_id, command.generation, command.version, command.step.step_id)
        case EndRun() | ContinueRun():
            return HeldKey(command.run_id, command.generation, command.version, THE_END)
    return None
