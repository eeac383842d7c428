"""The shrinking of a failing schedule: faults are left out, and what is left is shortened, while it still fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .faults import PlannedFault
from .result import Result
from .simulation import simulate

Fails = Callable[[Sequence[PlannedFault]], bool]


def shrunk(faults: Sequence[PlannedFault], fails: Fails, *, tries: int = 200) -> tuple[PlannedFault, ...]:
    """Return the smallest schedule that was found, by leaving out ever smaller pieces; at most `tries` simulations.

    `fails` says whether a schedule still fails, and must do so for `faults`.
    """
    left = list(faults)
    piece = max(1, len(left) // 2)
    while tries > 0:
        position = 0
        smaller = False
        while position < len(left) and tries > 0:
            candidate = left[:position] + left[position + piece :]
            tries -= 1
            if fails(candidate):
                left = candidate
                smaller = True
            else:
                position += piece
        if piece > 1:
            piece = max(1, piece // 2)
        elif not smaller:
            break
    return tuple(left)


def shrink(result: Result, *, tries: int = 200) -> Result:
    """Return the same seed with the fewest faults that were found to violate one of the same invariants."""
    invariants = {violation.invariant for violation in result.violations}
    found = result

    def again(faults: Sequence[PlannedFault]) -> Result:
        return simulate(
            result.seed,
            nodes=result.plan.nodes,
            schedule=result.plan.schedule,
            without=result.without,
            faults=faults,
            paths=result.paths,
        )

    def fails(faults: Sequence[PlannedFault]) -> bool:
        nonlocal found
        candidate = again(faults)
        failed = any(violation.invariant in invariants for violation in candidate.violations)
        if failed:
            found = candidate
        return failed

    shrunk(result.plan.faults, fails, tries=tries)
    return found
