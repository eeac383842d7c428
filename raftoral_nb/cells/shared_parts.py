"""By which parts two values are one thing: objects that can be changed, and memory of arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class ArraySpan(NamedTuple):
    """The memory in which an array lies; of a strided one all from its first byte to its last."""

    start: int
    """An address."""
    stop: int
    root: Any
    """The array that it is a view of, at whatever remove; itself, if it is none."""


class SharedParts:
    """The parts of one value. They are kept as long as this is: no id and no address of them is used for something else meanwhile."""

    def __init__(self, objects: Iterable[Any] = (), spans: Iterable[ArraySpan] = ()) -> None:
        self._objects = list(objects)
        self.ids = frozenset(map(id, self._objects))
        # Invariant: sorted by their starts.
        self.spans = sorted(spans, key=_place)

    def meets(self, other: SharedParts) -> bool:
        """Tell whether what is done to one value may be done to the other."""
        return not self.ids.isdisjoint(other.ids) or _meet(self.spans, other.spans)


def span_of(array: Any) -> ArraySpan:
    """Return the memory of an array of numpy."""
    start = stop = array.__array_interface__["data"][0]
    if array.nbytes:
        for length, stride in zip(array.shape, array.strides, strict=True):
            reach = (length - 1) * stride
            start, stop = start + min(reach, 0), stop + max(reach, 0)
        stop += array.itemsize
    return ArraySpan(start, stop, root_of(array))


def root_of(array: Any) -> Any:
    """Return the array of which this one is a view, at whatever remove; itself, if it is none."""
    while type(array.base) is type(array):
        array = array.base
    return array


def overlapping_roots(spans: Iterable[ArraySpan]) -> set[int]:
    """Return the ids of the roots of all arrays that lie in the memory of another one of these."""
    found: set[int] = set()
    last: ArraySpan | None = None
    for span in sorted(spans, key=_place):
        if last is not None and span.start < last.stop and span.start < span.stop:
            found |= {id(last.root), id(span.root)}
        if last is None or span.stop > last.stop:
            last = span
    return found


def linked_by_memory(spans: Mapping[str, Iterable[ArraySpan]]) -> Iterable[tuple[str, str]]:
    """Return pairs of names whose arrays overlap, at least as many as it takes to find all that are linked."""
    last: tuple[int, str] | None = None
    for start, stop, name in sorted((one.start, one.stop, name) for name, held in spans.items() for one in held):
        if last is not None and start < last[0] and start < stop:
            yield last[1], name
        if last is None or stop > last[0]:
            last = stop, name


def _place(span: ArraySpan) -> tuple[int, int]:
    return span.start, span.stop


def _meet(one: list[ArraySpan], other: list[ArraySpan]) -> bool:
    at = there = 0
    while at < len(one) and there < len(other):
        first, second = one[at], other[there]
        if max(first.start, second.start) < min(first.stop, second.stop):
            return True
        if first.stop <= second.stop:
            at += 1
        else:
            there += 1
    return False
