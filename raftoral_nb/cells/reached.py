"""What code of the notebook reaches: data by name, and functions, classes and modules, whose own reads are followed."""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import Any

import msgspec

from ..workflow.codec import digests, local_modules, wrappers
from .cell_code import global_reads
from .cell_key import IMPORT
from .library_state import named_method


class Reached(msgspec.Struct, frozen=True):
    """What names stand for, and what is reached from there."""

    data: tuple[str, ...]
    """Names of values, sorted."""
    code: dict[str, str]
    """Digests of functions, classes and modules, by name. What these reach is part of the digest, but no data of the notebook."""


def reach(names: Iterable[str], space: dict[str, Any], user: types.CodeType) -> Reached:
    """Return what these names of the notebook reach; those that it does not have are left out.

    `user` is the code that has them. Modules beside the notebook that it imports are loaded.
    """
    pending = sorted(set(names))
    seen = set(pending)
    data: set[str] = set()
    code: dict[str, str] = {}
    mentions = types.FunctionType(user, {})
    # What the code itself imports, it reads: after a restart it is not there yet.
    for name, module in local_modules.imported(mentions).items():
        code[f"{IMPORT}{name}"], read = digests.code_apart(module, space, mentions)
        pending += sorted(read - seen)
        seen |= read
    while pending:
        name = pending.pop()
        if name not in space:
            continue
        value = space[name]
        if not is_code(value):
            data.add(name)
            continue
        if (named := named_method(value)) is not None:
            code[name] = ".".join(named)
            continue
        code[name], read = digests.code_apart(value, space, mentions)
        new = sorted(read - seen)
        seen.update(new)
        pending += new
    return Reached(tuple(sorted(data)), code)


def data_names(names: Iterable[str], space: dict[str, Any]) -> set[str]:
    """Return the names of the data that these names reach, without any digest."""
    pending = list(names)
    seen = set(pending)
    data: set[str] = set()
    while pending:
        name = pending.pop()
        if name not in space:
            continue
        value = space[name]
        if not is_code(value):
            data.add(name)
            continue
        new = {read for function in _functions(value) for read in global_reads(function.__code__)} - seen
        seen |= new
        pending += new
    return data


def _functions(value: Any) -> list[types.FunctionType]:
    """Return the functions of the notebook within a function, a class or a wrapper, at whatever depth."""
    found: list[types.FunctionType] = []
    seen: set[int] = set()
    pending = [value]
    while pending:
        one = pending.pop()
        if id(one) in seen or isinstance(one, types.ModuleType):
            continue
        seen.add(id(one))
        if isinstance(one, types.FunctionType):
            if one.__module__ == "__main__":
                found.append(one)
            pending += [cell.cell_contents for cell in one.__closure__ or () if _holds(cell)]
            pending += [held for held in vars(one).values() if isinstance(held, types.FunctionType)]
        elif isinstance(one, type):
            if one.__module__ == "__main__":
                pending += [*vars(one).values(), *one.__bases__]
        elif isinstance(one, classmethod | staticmethod):
            pending.append(one.__func__)
        elif isinstance(one, property):
            pending += [one.fget, one.fset, one.fdel]
        elif (inside := wrappers.parts(one)) is not None:
            pending += inside
    return found


def _holds(cell: types.CellType) -> bool:
    try:
        return isinstance(cell.cell_contents, types.FunctionType | type)
    except ValueError:  # not assigned yet
        return False


def is_code(value: Any) -> bool:
    """Tell whether a value is a function, a class, a module or a wrapper of a function: what it does counts, not what it is made of.

    A method is data, as the object is that it is of.
    """
    if isinstance(value, types.FunctionType | type | types.ModuleType):
        return True
    if isinstance(value, types.BuiltinFunctionType) and isinstance(value.__self__, types.ModuleType | type | None):
        return True
    return named_method(value) is not None or wrappers.parts(value) is not None
