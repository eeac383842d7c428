"""A check that one order of all operations, within real time, explains what clients were told and saw.

Two models, each with what the engine offers: a list (runs are started in an order that every reader sees; `append` returns
the list up to the new element) and registers (a definition that is replaced by each registration; starting a run reads
which one is in force). Elements and written values are unique.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec


class Append(msgspec.Struct, frozen=True):
    """One append of a list: `seen` is the list up to and including the element, None if the answer never came."""

    element: str
    began: float
    ended: float
    outcome: Literal["done", "unknown", "refused"]
    seen: tuple[str, ...] = ()


def list_problem(history: Sequence[Append]) -> str | None:
    """Return why no order explains these appends; None if one does.

    Elements are unique, so what an answer shows is the order itself: all answers must be prefixes of the longest one.
    """
    done = [append for append in history if append.outcome == "done"]
    if not done:
        return None
    longest = max(done, key=lambda append: len(append.seen)).seen
    place = {element: number for number, element in enumerate(longest)}
    if len(place) != len(longest):
        return "an element is in the list twice"
    by_element = {append.element: append for append in history}
    for append in done:
        length = len(append.seen)
        if append.seen != longest[:length]:
            return f"the list that {append.element!r} was appended to is no prefix of the longest one seen"
        if not length or append.seen[-1] != append.element:
            return f"{append.element!r} was acknowledged and is not in the list"
    # Real time: whoever ended before another began comes before it.
    earliest_end_behind = math.inf
    for element in reversed(longest):
        known = by_element.get(element)
        if known is None:
            continue
        if known.outcome == "refused":
            return f"{element!r} was refused as certainly not applied, and is in the list"
        if known.began > earliest_end_behind:
            return f"{element!r} stands before an element whose append had ended before it began"
        if known.outcome == "done":
            earliest_end_behind = min(earliest_end_behind, known.ended)
    # And what an answer does not show began after that answer, or was not done before it began.
    for append in done:
        if append.element not in place:
            return f"{append.element!r} was acknowledged and is not in the longest list"
    return None


class Access(msgspec.Struct, frozen=True):
    """One access to a register: a write of `value`, or a read that found `value` (None: nothing was written yet)."""

    kind: Literal["write", "read"]
    value: str | None
    began: float
    ended: float
    """The time when the answer came; infinite if it never did."""


def register_problem(history: Sequence[Access]) -> str | None:
    """Return why no order explains these accesses (whose written values are unique); None if one does.

    A search for the next access in the order, as Wing and Gong do it, remembering the dead ends. An unanswered write
    counts only if its value was read.
    """
    read = {access.value for access in history if access.kind == "read" and access.ended < math.inf}
    accesses = sorted(
        (access for access in history if access.ended < math.inf or (access.kind == "write" and access.value in read)),
        key=lambda access: access.began,
    )
    written = {access.value for access in accesses if access.kind == "write"}
    for value in sorted(read - {None}, key=str):
        if value not in written:
            return f"{value!r} was read and never written"
    needed = sum(1 << number for number, access in enumerate(accesses) if access.ended < math.inf)
    dead: set[tuple[int, str | None]] = set()
    stack: list[tuple[int, str | None]] = [(0, None)]
    while stack:
        taken, value = stack.pop()
        if taken & needed == needed:
            return None
        if (taken, value) in dead:
            continue
        dead.add((taken, value))
        limit = math.inf
        for number, access in enumerate(accesses):
            if taken >> number & 1:
                continue
            if access.began > limit:
                break
            limit = min(limit, access.ended)
            if access.kind == "write":
                stack.append((taken | 1 << number, access.value))
            elif access.value == value:
                stack.append((taken | 1 << number, value))
    return f"no order of {len(accesses)} reads and writes explains what was read"
