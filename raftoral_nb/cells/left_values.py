"""What a cell left, as groups of names that share objects; stored, and loaded again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from .cell_blobs import CellBlobs
from .cell_pickles import OWN_FILE_BYTES, TakenValue, store_group
from .cell_records import StoredGroup
from .shared_parts import ArraySpan, linked_by_memory, overlapping_roots

RESULT: Final = "_"
"""The name under which the value is recorded that the cell displayed by its last line."""


def take_values(
    values: Mapping[str, Any], space: dict[str, Any], roots: frozenset[int]
) -> tuple[dict[str, TakenValue], dict[str, str]]:
    """Take values apart; return them, and why those that cannot be are not among them."""
    taken: dict[str, TakenValue] = {}
    lost: dict[str, str] = {}
    for name, value in values.items():
        try:
            taken[name] = TakenValue(value, space, roots, keep=True)
        except Exception as error:  # whatever pickling it raises
            lost[name] = why_not(value, error)
    return taken, lost


def why_not(value: Any, error: BaseException) -> str:
    """Return what a value is that cannot be recorded, in a few words."""
    text = str(error)
    if text in {"an open file", "a closed file"}:
        return text
    kind = type(value)
    name = (
        kind.__qualname__ if kind.__module__ in {"builtins", "__main__"} else f"{kind.__module__}.{kind.__qualname__}"
    )
    if kind.__name__ in {"generator", "async_generator", "coroutine"}:
        return f"a {kind.__name__.replace('_', ' ')}"
    # Most of pickle's own messages only say that again.
    return (
        f"a {name}"
        if name in text or kind.__name__ in text
        else f"a {name} ({text.splitlines()[0] if text else type(error).__name__})"
    )


def same_groups(
    ids: Mapping[str, frozenset[int]], spans: Mapping[str, Iterable[ArraySpan]] | None = None
) -> list[tuple[str, ...]]:
    """Return the names in groups that share objects, or memory; each name in one. `ids` are the objects of each, `spans` its arrays."""
    leader: dict[str, str] = {name: name for name in ids}

    def find(name: str) -> str:
        while leader[name] != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    owner: dict[int, str] = {}
    for name, objects in ids.items():
        for one in objects:
            leader[find(name)] = find(owner.setdefault(one, name))
    for one_name, other in linked_by_memory(spans or {}):
        leader[find(one_name)] = find(other)
    groups: dict[str, list[str]] = {}
    for name in ids:
        groups.setdefault(find(name), []).append(name)
    return sorted(tuple(sorted(group)) for group in groups.values())


def bundles(groups: Iterable[Sequence[str]], sizes: Mapping[str, int]) -> list[tuple[str, ...]]:
    """Return the groups as they are stored: small ones together, as each costs a file. Who is stored together need share nothing."""
    together: list[str] = []
    found: list[tuple[str, ...]] = []
    for group in groups:
        if sum(sizes[name] for name in group) < OWN_FILE_BYTES:
            together += group
        else:
            found.append(tuple(group))
    return [*found, tuple(sorted(together))] if together else found


def store_values(
    taken: Mapping[str, TakenValue],
    groups: Iterable[Sequence[str]],
    space: dict[str, Any],
    roots: frozenset[int],
    blobs: CellBlobs,
) -> tuple[StoredGroup, ...]:
    """Store values that were taken apart. Raises `OSError`.

    An array of which views are among them is stored once, be it that it has a name or not: they are views of it again.
    """
    stored = []
    for names in bundles(groups, {name: one.size for name, one in taken.items()}):
        views_of = overlapping_roots(span for name in names for span in taken[name].parts.spans) - roots
        values = tuple(taken[name].value for name in names)
        if len(names) == 1 and not views_of:
            stored.append(store_group(names, taken[names[0]], blobs))
            continue
        together = TakenValue(values if len(names) > 1 else values[0], space, roots | views_of, keep=True)
        stored.append(store_group(names, together, blobs))
    return tuple(stored)
