"""Dice that fall alike on every Python: everything is drawn with `random()`, whose sequence for a seed never changed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")


class SeededDice:
    """A source of chance named by its parts: the same parts give the same sequence, other parts another one."""

    __slots__ = ("_random", "random")

    def __init__(self, *parts: object) -> None:
        self._random = random.Random(int.from_bytes(_digest(parts), "big"))
        self.random = self._random.random
        """A float in [0, 1)."""

    def between(self, low: float, high: float) -> float:
        """Return a float from `low` to `high`."""
        return low + (high - low) * self.random()

    def below(self, count: int) -> int:
        """Return a whole number from 0 to `count` - 1."""
        return int(self.random() * count)

    def pick(self, things: Sequence[T]) -> T:
        """Return one of them."""
        return things[self.below(len(things))]

    def happens(self, chance: float) -> bool:
        """True with this chance (0 to 1)."""
        return self.random() < chance

    def some(self, things: Sequence[T], count: int) -> tuple[T, ...]:
        """Return `count` different ones of them (all, if there are fewer), in the order given."""
        left = list(range(len(things)))
        taken = {left.pop(self.below(len(left))) for _ in range(min(count, len(things)))}
        return tuple(thing for number, thing in enumerate(things) if number in taken)


def chance_of(*parts: object) -> float:
    """Return a float in [0, 1) that depends on nothing but these parts: the same whenever and in whatever order it is asked for."""
    return int.from_bytes(_digest(parts)[:7], "big") / 2**56


def _digest(parts: tuple[object, ...]) -> bytes:
    return blake2b("\x1f".join(map(str, parts)).encode(), digest_size=16).digest()
