"""Interruption and renewal of a run, as its own code meets them.

They tell which branches were interrupted, and what continues.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import CancelledRunError


class ContinueAsNew(BaseException):
    """The exception that ends this execution of a run and begins the run anew.

    Made by `ctx.continue_as_new(input)`, to be raised or returned.
    """

    def __init__(self, input: Any) -> None:  # noqa: A002 - the word that workflows use
        super().__init__("the run begins anew")
        self.input = input


class Interruptions:
    """The places where the request to cancel has interrupted an execution. Each branch is interrupted once.

    A branch is left alone if it was interrupted itself, if one that it waited for was, or if it was begun by code that ran
    after an interruption: that code cleans up. Branches beside one that was interrupted are not left alone.
    """

    def __init__(self) -> None:
        self._positions: set[str] = set()

    def add(self, position: str) -> None:
        """Note that the operation at that position (a step_id without its key) was interrupted."""
        self._positions.add(position)

    def cover(self, path: str) -> bool:
        """Return whether the branch of that path is to be left alone."""
        asked = path.split(".")[:-1]
        return any(_precedes(position.split("."), asked) for position in self._positions)


def _precedes(interrupted: Sequence[str], asked: Sequence[str]) -> bool:
    # Both are ordinals and branch numbers in turn. Where they part at an ordinal, the interruption lies in an earlier operation
    # of a common ancestor; where they part at a branch number, the two run side by side.
    for place, (theirs, mine) in enumerate(zip(interrupted, asked, strict=False)):
        if theirs != mine:
            return place % 2 == 0
    # One continues where the other ends: an operation of the branch itself or below it, or one that waits for the
    # branch.
    return len(interrupted) > len(asked)


def is_cancellation(error: BaseException) -> bool:
    """Return whether nothing but the request to cancel was raised, by one branch or by several."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_cancellation(one) for one in error.exceptions)
    return isinstance(error, CancelledRunError)
