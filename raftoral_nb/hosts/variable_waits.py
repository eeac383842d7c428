"""Those who wait for another value of a run's replicated variable. Belongs to the consensus loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ..core.records import Record, RunId, Step
from ..core.run_record import Run

VARIABLES: Final = frozenset({"var", "set", "update"})
"""The operations whose records hold a variable's value."""


class LookedAt:
    """How much of what is recorded of a run was looked at: its first `records`, in a generation."""

    __slots__ = ("generation", "records")

    def __init__(self, generation: int, records: int) -> None:
        self.generation = generation
        self.records = records


def values_behind(run: Run, variable: str, place: LookedAt | None) -> tuple[list[bytes], LookedAt]:
    """Return the recorded values of a variable behind a place (None: all), and the place up to which that is. From any thread."""
    generation = run.generation
    records: Sequence[Record] = run.records  # after it: at worst, what is new is looked at twice
    begin = place.records if place is not None and place.generation == generation else 0
    end = len(records)
    steps = (one for one in records[begin:end] if isinstance(one, Step) and one.operation in VARIABLES)
    found = [step.value for step in steps if step.key == variable and step.value is not None]
    return found, LookedAt(generation, end)


class VariableWaits:
    """The waiters, by run_id and variable; each is told once, and looks for itself."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[RunId, str], list[Callable[[], None]]] = {}

    def watch(self, run_id: RunId, variable: str, callback: Callable[[], None]) -> None:
        """Call `callback()` when a value of the variable is recorded."""
        self._waiting.setdefault((run_id, variable), []).append(callback)

    def forget(self, run_id: RunId, variable: str, callback: Callable[[], None]) -> None:
        """Undo `watch`."""
        waiting = self._waiting.get((run_id, variable), [])
        if callback in waiting:
            waiting.remove(callback)
        if not waiting:
            self._waiting.pop((run_id, variable), None)

    def recorded(self, run_id: RunId, step: Step) -> None:
        """Tell the waiters, if the recorded step is a value of theirs."""
        if self._waiting and step.operation in VARIABLES:
            for callback in self._waiting.pop((run_id, step.key), ()):
                callback()

    def skipped(self) -> None:
        """Tell all of them: entries were skipped, as a state has replaced them."""
        waiting, self._waiting = self._waiting, {}
        for callbacks in waiting.values():
            for callback in callbacks:
                callback()
