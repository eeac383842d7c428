"""The promise of a paused run, as the checker holds it: nothing of the run begins that had not begun before."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ..core.records import NodeId, RunId, StepId

if TYPE_CHECKING:
    from collections.abc import Hashable

PAUSED: Final = "a paused run begins nothing new"

Violated = Callable[[str, str, "Hashable"], None]


class Pauses:
    """The runs that are paused: by the log, and as each incarnation of a node has heard of it. `now()` gives the time.

    Unless the clock is `virtual`, what a node begins is not compared with what it was told: its threads take their time.
    """

    def __init__(self, now: Callable[[], float], violated: Violated, *, virtual: bool) -> None:
        self._now = now
        self._virtual = virtual
        self._violated = violated
        # At which index of the log each run was paused that still is.
        self._since: dict[RunId, int] = {}
        # When each incarnation of a node was handed a pause that it was not handed the end of.
        self._heard: dict[tuple[NodeId, int, RunId], float] = {}
        # The effects that each of them has begun, in which term.
        self._begun: set[tuple[NodeId, int, int, str, StepId]] = set()

    def paused(self, run_id: RunId, index: int) -> None:
        """Note that, by the log, a run is paused."""
        self._since.setdefault(run_id, index)

    def over(self, run_id: RunId) -> None:
        """Note that, by the log, a run is no longer paused, or has ended."""
        self._since.pop(run_id, None)

    def recorded(self, index: int, what: str, run_id: RunId, epoch_began: int) -> None:
        """Check a record of a run in an epoch: the epoch began before the pause, as did whatever is recorded in it."""
        since = self._since.get(run_id)
        if since is not None and since < epoch_began:
            text = f"entry {index} recorded {what} in the epoch that began at {epoch_began}, and the run is paused since {since}"
            self._violated(PAUSED, text, index)

    def handed_over(self, node: NodeId, incarnation: int, run_id: RunId, paused: bool) -> None:
        """Note that an executor was told of a pause, or of its end."""
        if paused:
            self._heard.setdefault((node, incarnation, run_id), self._now())
        else:
            self._heard.pop((node, incarnation, run_id), None)

    def effect_started(
        self, node: NodeId, incarnation: int, term: int, run_id: RunId, life: str, step_id: StepId
    ) -> None:
        """Check an effect that a node began: it may begin for the first time only if the node knew of no pause."""
        place = (node, incarnation, term, life, step_id)
        if place in self._begun:
            return  # another attempt
        self._begun.add(place)
        heard = self._heard.get((node, incarnation, run_id))
        if self._virtual and heard is not None and heard < self._now():
            text = f"node {node} began step {step_id!r} of run {run_id!r}, though it was told of its pause at {heard:.3f} s"
            self._violated(PAUSED, text, place)
