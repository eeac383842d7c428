"""The things that code which travels by value can reach.

The names that it mentions, and the modules beside the notebook that it uses.
"""

from __future__ import annotations

import functools
import types
from typing import Any

from . import local_modules, sources, wrappers


class Reach:
    """All that is reached from a function, or from a value with functions in it.

    `names` are all names of attributes, globals and imports in the code, and texts that could be such names. Of a local module that is
    reached as a whole, what has one of these names is reached. `used` has what is reached of each local module, by its name.
    """

    def __init__(self, root: object) -> None:
        self.used: dict[str, list[Any]] = {}
        self._names: set[str] = set()
        self._seen: set[int] = set()
        self._kept: list[object] = []  # so that no id of a temporary is used again
        self._open: list[types.ModuleType] = []  # reached as a whole
        self._pending: list[Any] = [root]
        self._taken: set[tuple[str, str]] = set()
        while self._pending:
            self._visit(self._pending.pop())
            if not self._pending:
                self._look_into_modules()
        self.names = frozenset(self._names)

    def _look_into_modules(self) -> None:
        for module in self._open:
            for name in self._names & vars(module).keys():
                if (module.__name__, name) not in self._taken:
                    self._taken.add((module.__name__, name))
                    value = vars(module)[name]
                    self._pending.append(value)
                    if not isinstance(value, (types.FunctionType, type, types.ModuleType)):
                        self.used.setdefault(module.__name__, []).append(value)

    def _visit(self, value: Any) -> None:
        if value is None or isinstance(value, (str, bytes, int, float)) or id(value) in self._seen:
            return
        self._seen.add(id(value))
        self._kept.append(value)
        module = local_modules.defining(value)
        if module is value:
            self._open.append(module)
            return
        if module is not None:
            self.used.setdefault(module.__name__, []).append(value)
        self._pending += self._within(value)

    def _within(self, value: Any) -> list[Any]:
        if isinstance(value, (types.FunctionType, type)):
            if sources.importable_name(value) is not None:
                return []
            if isinstance(value, type):
                return [type(value), *sources.members(value).values()]
            if (parts := wrappers.parts(value)) is not None:
                return parts
            self._names |= _mentioned(value.__code__)
            return [*sources.captured(value).values(), *local_modules.imported(value).values()]
        if isinstance(value, (list, tuple, set, frozenset)):
            return list(value)
        if isinstance(value, dict):
            return [*value.keys(), *value.values()]
        if isinstance(value, (classmethod, staticmethod)):
            return [value.__func__]
        if isinstance(value, types.MethodType):
            return [value.__func__, value.__self__]
        if isinstance(value, property):
            return [value.fget, value.fset, value.fdel]
        if isinstance(value, functools.partial):
            return [value.func, value.args, value.keywords]
        if isinstance(value, types.ModuleType):
            return []
        if (parts := wrappers.parts(value)) is not None:
            return parts
        attributes = getattr(value, "__dict__", None)
        return [type(value), *(attributes.values() if isinstance(attributes, dict) else ())]


def _mentioned(code: types.CodeType) -> set[str]:
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _mentioned(constant)
        elif isinstance(constant, str) and constant.isidentifier():
            found.add(constant)
        elif isinstance(constant, tuple):
            found |= {one for one in constant if isinstance(one, str)}
    return found
