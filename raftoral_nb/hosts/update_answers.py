"""The tasks that wait for the answer to an update of a run. Belongs to the consensus loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..core.records import RunId, Step

if TYPE_CHECKING:
    from ..core.state import State

Answered = Callable[[Step], None]


class Answers:
    """The waiters, by run_id and the update's id; each is told once."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[RunId, str], list[Answered]] = {}

    def watch(self, state: State, run_id: RunId, update_id: str, callback: Answered) -> None:
        """Call `callback(step)` as soon as the update is answered; at once if it was."""
        self._waiting.setdefault((run_id, update_id), []).append(callback)
        self.look(state)

    def forget(self, run_id: RunId, update_id: str, callback: Answered) -> None:
        """Undo `watch`."""
        waiting = self._waiting.get((run_id, update_id), [])
        if callback in waiting:
            waiting.remove(callback)
        if not waiting:
            self._waiting.pop((run_id, update_id), None)

    def recorded(self, run_id: RunId, step: Step) -> None:
        """Tell the waiter, if the recorded step is an answer."""
        if step.operation == "answer" and step.message_id is not None:
            for callback in self._waiting.pop((run_id, step.message_id), ()):
                callback(step)

    def look(self, state: State) -> None:
        """Tell of the answers that are recorded already."""
        for run_id in {run_id for run_id, _ in self._waiting}:
            record = state.runs.get(run_id)
            for step in () if record is None else tuple(record.steps):
                self.recorded(run_id, step)
