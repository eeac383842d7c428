"""Scopes: parts of a run that a recorded decision ends: the losers of a race, what a deadline encloses, a failed task group.

**How a branch is interrupted at the same place on every node.** A decision is a record like any other, so it has its place in
the log, the same on every node. A branch that it concerns takes every step of its own that was recorded *before* the decision,
and is interrupted at its first operation that was not, wherever it happens to be when the decision arrives: a node that lags
first consumes what precedes. What is recorded behind the decision at that very position was on its way when the decision was
made; it does not count, and every node drops it. An interruption is delivered once per branch and decision: what the branch
does afterwards, to clean up, are ordinary operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...core.records import Operation
from ...core.replay import Replay
from ...errors import CancelledRunError, Interrupted
from ..codec.values import describe, shorten_text
from .branch_state import Scope

if TYPE_CHECKING:
    from .branch_state import BranchState

DECISIONS: Final[frozenset[Operation]] = frozenset({"race", "group", "expiry"})
"""The operations whose records interrupt others."""

UNINTERRUPTED: Final[frozenset[Operation]] = frozenset({"group", "expiry", "patched"})
"""Decisions that are made in a moment, and that others rely on: a request to cancel the run does not come between."""

STOPS: Final[tuple[type[BaseException], ...]] = (Interrupted, CancelledRunError)
"""The exceptions that are raised at an operation from outside, and are no failure of the branch that they are raised
in.
"""


CAUSE_CHARS: Final = 300
"""Length of what a group of failures says of the first of them, in characters."""


def inherited(state: BranchState) -> tuple[Scope, ...]:
    """Return the scopes that branches which `state` starts now are in: those that may yet interrupt it."""
    return () if state.shielded else tuple(scope for scope in state.scopes if scope not in state.delivered)


def pending(replay: Replay, state: BranchState, position: str) -> Scope | None:
    """Return the scope whose decision interrupts the branch's operation at `position`; None if it continues.

    The earliest decision that was not delivered to this branch, unless the operation was recorded before it.
    """
    if not state.scopes or state.shielded:
        return None
    earliest: tuple[int, Scope] | None = None
    for scope in state.scopes:
        if scope not in state.delivered:
            place = scope.interrupts_from(replay)
            if place is not None and (earliest is None or place < earliest[0]):
                earliest = (place, scope)
    if earliest is None:
        return None
    own = replay.recorded_at(position)
    return earliest[1] if own is None or own[0] > earliest[0] else None


def without(error: BaseException, scope: Scope | None) -> tuple[bool, BaseException | None]:
    """Take the interruptions by `scope` (None: by anything) out of an exception or a group: were there any, what is left."""

    def is_it(one: BaseException) -> bool:
        return isinstance(one, STOPS) if scope is None else isinstance(one, Interrupted) and one.scope is scope

    if is_it(error):
        return True, None
    if not isinstance(error, BaseExceptionGroup):
        return False, error
    taken, left = error.split(is_it)
    return taken is not None, left


def raise_together(message: str, found: list[BaseException]) -> None:
    """Raise what parallel branches ended with, as one group; if all of them were only interrupted, the first interruption.

    The first failure, in the order of the branches, is named, and is the group's cause: often it is all that one wants to know.
    Does nothing if `found` is empty.
    """
    if not found:
        return
    if all(without(error, None)[1] is None for error in found):
        raise _first(found[0])
    first = next(_first(left) for error in found if (left := without(error, None)[1]) is not None)
    raise BaseExceptionGroup(f"{message}, first {shorten_text(describe(first), CAUSE_CHARS)}", found) from first


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
