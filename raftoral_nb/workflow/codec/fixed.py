"""Facts about a value that can be told without looking into it.

They say whether a step could change it, and which names its code binds anew.
"""

from __future__ import annotations

import datetime as dt
import decimal
import dis
import enum
import fractions
import pathlib
import re
import types
import uuid
from typing import Any, Final, TypeVar

T = TypeVar("T")

_FIXED: Final = frozenset(
    {
        *(type(None), bool, int, float, complex, str, bytes, range, slice, type(...), type(NotImplemented)),
        *(dt.date, dt.datetime, dt.time, dt.timedelta, dt.timezone),
        *(decimal.Decimal, fractions.Fraction, uuid.UUID, re.Pattern),
        *(types.ModuleType, types.MethodDescriptorType, types.WrapperDescriptorType, types.ClassMethodDescriptorType),
        *(types.CodeType, types.GenericAlias, types.UnionType, property),
    }
)

# Of these modules: what has an identity that counts (contexts and steps of this package), and tables that cannot be changed, of
# which a small part may hold a large whole.
_SHARED: Final = frozenset({"raftoral_nb", "contextvars", "logging", "pyarrow", "typing", "weakref"})

# What belongs to one process and stands for something there: a lock, a task, a connection. What holds it is not copied either.
_OF_A_PROCESS: Final = frozenset(
    {
        *("anyio", "asyncio", "concurrent", "multiprocessing", "queue", "socket", "ssl", "subprocess", "threading"),
        *("_asyncio", "_queue", "_socket", "_ssl", "_thread"),
    }
)

_MAX_DEPTH: Final = 8
_MAX_CODES: Final = 4096

_bound: dict[int, tuple[types.CodeType, frozenset[str]]] = {}


def is_fixed(value: object, depth: int = 0) -> bool:
    """Return whether a step cannot change the value, or it is one that all share.

    False is no promise of the contrary.
    """
    kind = type(value)
    if kind in _FIXED:
        return True
    if kind is tuple or kind is frozenset:
        return depth < _MAX_DEPTH and all(is_fixed(part, depth + 1) for part in value)  # type: ignore[attr-defined]
    if isinstance(value, types.FunctionType):
        return value.__closure__ is None or (depth < _MAX_DEPTH and _is_fixed_closure(value, depth))
    if isinstance(value, types.BuiltinFunctionType | types.MethodType):
        owner: object = value.__self__
        return owner is None or (depth < _MAX_DEPTH and is_fixed(owner, depth + 1))
    if isinstance(value, type | enum.Enum | pathlib.PurePath):
        return True
    return _package(kind) in _SHARED or is_of_a_process(value)


def is_of_a_process(value: object) -> bool:
    """Return whether the value stands for something of this process: neither it nor what holds it can be copied."""
    return _package(type(value)) in _OF_A_PROCESS


def _package(cls: type) -> str:
    module: Any = cls.__module__
    return module.partition(".")[0] if isinstance(module, str) else ""


def rebinds(code: types.CodeType) -> frozenset[str]:
    """Return the names of its closure to which a function, or one within it, assigns (`nonlocal`)."""
    known = _bound.get(id(code))
    if known is None:
        known = (code, _rebinds(code))  # the code is kept, so that its id is not used again
        remember(_bound, id(code), known)
    return known[1]


def remember(known: dict[Any, T], key: Any, value: T) -> None:
    """Keep something about code, of which there may be more and more."""
    if len(known) >= _MAX_CODES:
        known.clear()
    known[key] = value


def _rebinds(code: types.CodeType) -> frozenset[str]:
    found = {one.argval for one in dis.get_instructions(code) if one.opname in ("STORE_DEREF", "DELETE_DEREF")}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _rebinds(constant)
    return frozenset(found.intersection(code.co_freevars))


def _is_fixed_closure(function: types.FunctionType, depth: int) -> bool:
    if rebinds(function.__code__):
        return False
    try:
        return all(is_fixed(cell.cell_contents, depth + 1) for cell in function.__closure__ or ())
    except ValueError:  # a variable that has no value yet
        return False
