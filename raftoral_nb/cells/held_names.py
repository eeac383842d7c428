"""What is known of the notebook's names: with which content a cell left them, and whether that still holds.

Invariant: a name that is held and was not exposed is what its cell left. An ordinary cell that may reach a value exposes it: its
digest is taken before that cell runs, and compared when a durable cell reads it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

import msgspec

from .cell_pickles import TakenValue, is_shared, is_steady, named_arrays, shared_parts
from .left_values import why_not
from .shared_parts import SharedParts


class HeldName(msgspec.Struct):
    """A name as a cell left it."""

    identity: int
    content: str
    """See `TakenValue.content`: the same in every process."""
    peers: frozenset[str]
    """Names that shared objects with it then."""
    cell: str
    base: str | None = None
    """Digest of the pickle, of this process; None as long as nobody needed it."""
    exposed: bool = False


class ReadValue(msgspec.Struct, frozen=True):
    """A value that a cell reads, before it runs."""

    content: str
    parts: SharedParts | None
    """None for what is as its cell left it, as for what cannot be taken apart."""
    taken: TakenValue | None = None
    problem: str = ""
    """Why it cannot be compared; empty if it can."""


class HeldNames:
    """The names of one notebook."""

    def __init__(self, space: dict[str, Any]) -> None:
        self._space = space
        self._held: dict[str, HeldName] = {}
        self._origin: dict[str, tuple[str, int]] = {}

    # --- what cells leave

    def keep(self, name: str, held: HeldName) -> None:
        """Note what a cell left under a name."""
        self._held[name] = held

    def bound_by(self, cell: str, names: Iterable[str]) -> None:
        """Note that a cell bound these names, whatever to."""
        for name in names:
            self._origin[name] = cell, id(self._space.get(name))

    def forget(self, names: Iterable[str]) -> None:
        """Note that nothing is known of these names any more."""
        for name in names:
            self._held.pop(name, None)
            self._origin.pop(name, None)

    def origin(self, name: str) -> str | None:
        """Return the durable cell that bound the name last, if it is still bound to that."""
        cell, identity = self._origin.get(name, (None, 0))
        return cell if id(self._space.get(name)) == identity else None

    def get(self, name: str) -> HeldName | None:
        """Return what is known of a name, if it is still bound to what its cell left."""
        held = self._held.get(name)
        if held is None or name not in self._space or id(self._space[name]) != held.identity:
            return None
        return held

    def cell(self, name: str) -> str | None:
        """Return the cell that left what the name is bound to; None if that is not known, or it was bound by other code since."""
        held = self.get(name)
        return None if held is None else held.cell

    # --- what reaches them

    def expose(self, names: Iterable[str]) -> None:
        """Note that code which nobody compares may change what these names are bound to, or make other names for it."""
        pending = list(names)
        seen: set[str] = set()
        roots = named_arrays(self._space)
        while pending:
            name = pending.pop()
            held = self.get(name)
            if name in seen or held is None:
                continue
            seen.add(name)
            if held.base is None:
                taken = self._take(name, roots)
                if taken is None:
                    continue
                held.base = taken.digest
                taken.forget()
            held.exposed = True
            pending += held.peers

    def read(self, name: str, roots: frozenset[int]) -> ReadValue:
        """Return what is read under a name. Nothing is computed for what is as its cell left it."""
        held = self.get(name)
        if held is not None and not held.exposed:
            return ReadValue(held.content, None)
        value = self._space[name]
        try:
            taken = TakenValue(value, self._space, roots)
            if held is not None and taken.digest == held.base:
                return ReadValue(held.content, taken.parts, taken)
            steady = is_steady(taken, value, self._space, roots)
        except Exception as error:  # whatever pickling it raises
            return _not_compared(value, error)
        if not steady:
            words = f"{_kind(value)}, whose pickle is another one each time: taken to be the same each time"
            return ReadValue(f"type {_kind(value)}" if held is None else held.content, None, None, words)
        return ReadValue(taken.content(), taken.parts, taken)

    def sharers(self, names: Iterable[str], among: Iterable[str], roots: frozenset[int]) -> set[str]:
        """Return which names of `among` share objects with these names, at any remove: what is done to one is done to the others.

        A name that was not exposed shares them only with its peers. Of the others the objects are compared.
        """
        found = set(names)
        pending = list(found)
        loose = [name for name in among if (held := self.get(name)) is None or held.exposed]
        parts: dict[str, SharedParts] = {}
        while pending:
            name = pending.pop()
            held = self.get(name)
            if held is not None and not held.exposed:
                more = {
                    peer for peer in held.peers if (other := self.get(peer)) is not None and other.cell == held.cell
                }
            else:
                mine = self._parts(name, parts, roots)
                more = {one for one in loose if one not in found and mine.meets(self._parts(one, parts, roots))}
            pending += more - found
            found |= more
        return found.difference(names)

    def _parts(self, name: str, known: dict[str, SharedParts], roots: frozenset[int]) -> SharedParts:
        if name not in known:
            known[name] = shared_parts(self._space[name], self._space, roots)
        return known[name]

    def same_objects(self, names: Iterable[str], read: dict[str, ReadValue]) -> list[tuple[str, ...]]:
        """Return which of the names share objects, as sorted groups of more than one."""
        ordered = sorted(names)
        groups: dict[str, set[str]] = {name: {name} for name in ordered}
        for at, one in enumerate(ordered):
            for other in ordered[at + 1 :]:
                if groups[one] is not groups[other] and self._share(one, other, read):
                    joined = groups[one] | groups[other]
                    for name in joined:
                        groups[name] = joined
        return sorted({tuple(sorted(group)) for group in groups.values() if len(group) > 1})

    def _share(self, one: str, other: str, read: dict[str, ReadValue]) -> bool:
        if self._space.get(one) is self._space.get(other):
            return is_shared(self._space.get(one))
        first, second = self.get(one), self.get(other)
        if (first is not None and not first.exposed) or (second is not None and not second.exposed):
            together = first is not None and second is not None and first.cell == second.cell
            return together and first is not None and other in first.peers
        left, right = read[one].parts, read[other].parts
        return left is not None and right is not None and left.meets(right)

    def _take(self, name: str, roots: frozenset[int]) -> TakenValue | None:
        try:
            return TakenValue(self._space[name], self._space, roots)
        except Exception:  # it was recorded, and cannot be now: it is not what it was
            self.forget([name])
            return None


def _not_compared(value: Any, error: Exception) -> ReadValue:
    name = _kind(value)
    if hasattr(value, "__next__") or hasattr(value, "readable"):
        # Each read of it changes it, and where it is cannot be told.
        return ReadValue(
            f"never {secrets.token_hex(8)}", None, None, f"{why_not(value, error)}: the cell runs each time"
        )
    return ReadValue(f"type {name}", None, None, f"{name}: taken to be the same each time")


def _kind(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
