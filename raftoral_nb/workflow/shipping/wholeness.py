"""The check that code which was unpickled somewhere else still has all its parts.

It is compared with what was pickled, class by class.
"""

from __future__ import annotations

import dataclasses
import enum
import types
from typing import Any

from ..codec import sources, wrappers

_MAX_NAMED = 5


def lost_parts(original: Any, copy: Any) -> str | None:
    """Return what a copy of a function lacks, as text; None if it is whole.

    Compared are all functions and classes that travel by value and are reached from it: by their names, fields, members and
    attributes. Values are not compared.
    """
    return _Comparison().of(original, copy)


class _Comparison:
    def __init__(self) -> None:
        self._seen: set[int] = set()

    def of(self, original: Any, copy: Any) -> str | None:
        """Return what was lost, in this or what it reaches."""
        pairs = [(original, copy)]
        while pairs:
            one, other = pairs.pop()
            if id(one) in self._seen or one is other:
                continue
            self._seen.add(id(one))
            if isinstance(one, type):
                if sources.importable_name(one) is not None or not isinstance(other, type):
                    continue
                if lost := _lost(one, other):
                    return lost
                pairs += _by_name(sources.members(one), sources.members(other))
            elif (parts := wrappers.parts(one)) is not None:
                pairs += zip(parts, wrappers.parts(other) or (), strict=False)
            elif sources.is_by_value(one) and isinstance(other, types.FunctionType):
                pairs += _by_name(sources.captured(one), sources.captured(other))
            elif isinstance(one, (classmethod, staticmethod, types.MethodType)) and hasattr(other, "__func__"):
                pairs.append((one.__func__, other.__func__))
            elif isinstance(one, property) and isinstance(other, property):
                pairs += [(one.fget, other.fget), (one.fset, other.fset), (one.fdel, other.fdel)]
            elif hasattr(one, "fn") and hasattr(other, "fn"):  # a step or a workflow
                pairs.append((one.fn, other.fn))
        return None


def _by_name(one: dict[str, Any], other: dict[str, Any]) -> list[tuple[Any, Any]]:
    return [(value, other[name]) for name, value in one.items() if name in other]


def _lost(cls: type, copy: type) -> str | None:
    lost = sorted(_names(cls) - _names(copy))
    if not lost:
        return None
    shown = ", ".join(lost[:_MAX_NAMED]) + (", ..." if len(lost) > _MAX_NAMED else "")
    kind = "" if type(cls) is type else f", made by {type(cls).__module__}.{type(cls).__qualname__},"
    return f"the class {cls.__qualname__}{kind} comes back without {shown}"


def _names(cls: Any) -> set[str]:
    found = {name for name, value in vars(cls).items() if not _is_dunder(name) or isinstance(value, types.FunctionType)}
    found -= sources.CLASS_INTERNALS
    if dataclasses.is_dataclass(cls):
        found |= {f"the field {field.name}" for field in dataclasses.fields(cls)}
    found |= {f"the field {name}" for name in getattr(cls, "__struct_fields__", ())}
    if issubclass(cls, enum.Enum):
        for name, member in cls.__members__.items():
            found |= {f"{name}.{own}" for own in (name, *vars(member)) if not own.startswith("_")}
    return found


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")
