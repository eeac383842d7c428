"""The effects of the steps of simulated workflows: they take their time, and give a value that no other effect has."""

from __future__ import annotations

from typing import Final, Protocol

import anyio

from ..workflow.execution.running_step import current_step
from .dice import chance_of

LABEL: Final = "fast"
"""The label of nodes that some steps name."""

ONCE: Final = " at most once"
"""The suffix of the name of an effect that may occur once in a simulation."""

HANGS: Final = 1.0
"""A step that takes so many seconds or more is one that hangs: leaders die meanwhile, and whoever is patient is not any more."""
LONGEST_HEALED_STEP: Final = 0.4
"""The longest time of a step once everything is healed (seconds)."""


PIECES: Final = 4
"""The pieces of a long step."""
CONTINUES: Final = "an attempt continues from what was saved"


class Violations(Protocol):
    """Who is told what must never be."""

    def violated(self, invariant: str, text: str, place: object = None) -> None:
        """Note a violation."""
        ...


class Effects(Protocol):
    """The world that a step's function acts on."""

    def new_value(self, what: str) -> int:
        """Note an effect; a number that no other effect of this simulation got."""
        ...

    def seconds(self, what: str) -> float:
        """Return how long an asynchronous step takes now."""
        ...

    def continued(self, what: str, piece: int) -> None:
        """Note that an attempt at a long step begins behind a piece that is said to be done; 0 if none is."""
        ...

    def saved(self, what: str, piece: int) -> None:
        """Note that a long step was told that a piece is saved."""
        ...


current: list[Effects] = []
"""The effects of the simulation that is running, last. Workflows are shipped by name, so they find it here."""


def effect(what: str) -> int:
    """A synchronous step."""
    return current[-1].new_value(what)


async def slow_effect(what: str) -> int:
    """An asynchronous step."""
    await anyio.sleep(current[-1].seconds(what))
    return current[-1].new_value(what)


async def long_effect(what: str) -> int:
    """An asynchronous step of several pieces, each of which is saved before the next; it continues behind the last that was."""
    running, effects = current_step(), current[-1]
    done = running.last or 0
    effects.continued(what, done)
    for piece in range(done + 1, PIECES + 1):
        await anyio.sleep(effects.seconds(what) / PIECES)
        await running.checkpoint(piece, every=0)
        effects.saved(what, piece)
    return effects.new_value(what)


def effect_seconds(seed: int, what: str, attempt: int) -> float:
    """Return how long a step takes at its nth attempt: mostly moments, sometimes long, rarely so long that it seems to hang."""
    chance = chance_of(seed, "seconds", what, attempt)
    if chance < 0.5:
        return 0.002 + chance * 0.02
    if chance < 0.93:
        return (chance - 0.5) * 0.8
    return HANGS + (chance - 0.93) * 70.0


class SeededEffects:
    """The effects of one seed. When all is `healed` no step hangs any more: what recovery takes then is the engine's own."""

    def __init__(self, seed: int, checker: Violations) -> None:
        self.healed = False
        self.hung = 0
        """The number of steps that hung before that."""
        self._seed = seed
        self._checker = checker
        self._values = 0
        self._attempts: dict[str, int] = {}
        self._done_once: set[str] = set()
        # Invariant: the highest piece of each long step that was acknowledged.
        self._saved: dict[str, int] = {}

    def new_value(self, what: str) -> int:
        """Return a number that no other effect got."""
        if what.endswith(ONCE):
            if what in self._done_once:
                self._checker.violated("at most once", f"the effect {what!r} was there twice", what)
            self._done_once.add(what)
        self._values += 1
        return self._values

    def seconds(self, what: str) -> float:
        """Return how long a step takes at this attempt."""
        attempt = self._attempts[what] = self._attempts.get(what, 0) + 1
        seconds = effect_seconds(self._seed, what, attempt)
        if self.healed:
            return min(seconds, LONGEST_HEALED_STEP)
        self.hung += seconds >= HANGS
        return seconds

    def continued(self, what: str, piece: int) -> None:
        """Check that no attempt at a long step begins before what was acknowledged."""
        saved = self._saved.get(what, 0)
        if piece < saved:
            text = f"an attempt at {what!r} begins behind piece {piece}, and piece {saved} was acknowledged"
            self._checker.violated(CONTINUES, text, what)

    def saved(self, what: str, piece: int) -> None:
        """Note that a piece was acknowledged."""
        self._saved[what] = max(piece, self._saved.get(what, 0))
