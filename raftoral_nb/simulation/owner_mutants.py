"""Owners of runs with one safeguard taken out; part of `mutants`."""

from __future__ import annotations

from typing import Any

from ..core import ownership
from ..core.events import CommandRefused, RunAssigned, StepBound
from ..core.run_record import Run
from ..core.state import State
from ..node import incarnation
from ..node.absent_nodes import AbsentNodes
from ..node.hand_over import handed_over

Patch = tuple[Any, str, Any]


def anybody_records() -> list[Patch]:
    """Records of a node that owned a run before are taken."""
    original = ownership.author_problem

    def problem(state: State, run: Run, node: int, number: int, step_id: str | None) -> CommandRefused | None:
        return None if run.owner else original(state, run, node, number, step_id)

    return [(ownership, "author_problem", problem)]


def any_start_owns() -> list[Patch]:
    """A node that replays its log acts on the assignments that it had before it was restarted."""

    def handed(event: Any, state: State, token: str = "") -> Any:
        mine = (
            isinstance(event, RunAssigned | StepBound)
            and token
            and event.token.split(".")[0] == token.split(".", maxsplit=1)[0]
        )
        return handed_over(event, state, event.token if mine else token)

    return [(incarnation, "handed_over", handed)]


def never_withdrawn() -> list[Patch]:
    """A node that is gone keeps its runs."""
    return [(AbsentNodes, "look", lambda self: None)]
