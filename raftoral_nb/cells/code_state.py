"""What functions, classes and modules of the notebook hold beside their code: attributes, and the variables of closures.

A cell may change that without binding a name (`Config.rate = 2`). It is recorded under names that no variable has: `Config.rate`,
`count.<n>` for a variable of a closure, `module helper.rate` for a module beside the notebook.
"""

from __future__ import annotations

import contextlib
import enum
import sys
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from ..workflow.codec import digests, local_modules, sources
from .cell_key import IMPORT
from .cell_pickles import TakenValue, is_shared, is_steady, named_arrays
from .reached import is_code

_MODULE: Final = "module "

_Place = tuple[str, Any, Callable[[Any], None]]
"""A name, the value that is there, and what puts another one there."""


class CodeState:
    """What code that the notebook knows by these names holds at one moment; the names may also be those of loaded modules."""

    def __init__(self, names: Collection[str], space: dict[str, Any]) -> None:
        self._names = frozenset(name.replace(IMPORT, _MODULE) for name in names)
        self._space = space
        self._before = {name: taken.digest for name, (_, taken) in self._held(self._names).items()}

    def changes(self, bound: Collection[str], defined: Iterable[str]) -> dict[str, Any]:
        """Return what has changed since then, as it is now, but for names that were `bound` meanwhile; and all that is held by what was `defined`."""
        now = self._held(self._names)
        own = self._held(frozenset(defined))
        roots = named_arrays(self._space)
        found = {
            name: value
            for name, (value, taken) in now.items()
            if (name.startswith(_MODULE) or code_name(name) not in bound)
            and self._before.get(name) != taken.digest
            and is_steady(taken, value, self._space, roots)
        }
        # What was only handed to the definition it is handed again.
        elsewhere = {id(value) for name, value in self._space.items() if name not in bound and is_shared(value)}
        return found | {name: value for name, (value, _) in own.items() if id(value) not in elsewhere}

    def _held(self, names: Collection[str]) -> dict[str, tuple[Any, TakenValue]]:
        roots = named_arrays(self._space)
        found: dict[str, tuple[Any, TakenValue]] = {}
        for name in sorted(names):
            for place, value, _ in _places(name, self._space):
                with contextlib.suppress(Exception):  # what cannot be pickled is not followed
                    found[place] = value, TakenValue(value, self._space, roots)
        return found


def code_name(place: str) -> str:
    """Return the name of the code that holds what was recorded under this name."""
    return place.removeprefix(_MODULE).rpartition(".")[0]


def restore_code(values: Mapping[str, Any], space: dict[str, Any]) -> None:
    """Put back what was recorded. What is not there any more, or cannot be set, is left."""
    for name in sorted({place.rpartition(".")[0] for place in values}):
        for place, value, put in list(_places(name, space, values)):
            if place in values and not _same(value, values[place]):
                with contextlib.suppress(AttributeError, TypeError):
                    put(values[place])


def _same(value: Any, other: Any) -> bool:
    """Tell whether nothing is gained by the other value; one that can be changed may be shared with other names."""
    known = None if is_shared(other) else digests.exact_digest(other)
    return known is not None and known == digests.exact_digest(value)


def _places(name: str, space: Mapping[str, Any], wanted: Iterable[str] = ()) -> Iterator[_Place]:
    """Return what the code of a name holds, and what is wanted there."""
    loaded = sys.modules.get(name.removeprefix(_MODULE))
    code = loaded if name.startswith(_MODULE) else space.get(name, loaded)
    module = local_modules.defining(code) if isinstance(code, types.ModuleType | types.FunctionType | type) else None
    if module is not None:
        code, name = module, f"{_MODULE}{module.__name__}"
    elif not isinstance(code, types.FunctionType | type) or sources.importable_name(code) is not None:
        return
    if isinstance(code, type) and issubclass(code, enum.Enum):
        return  # its members are values of itself
    attributes = dict.fromkeys(place.removeprefix(f"{name}.") for place in wanted if place.startswith(f"{name}."))
    for attribute, value in {**attributes, **vars(code)}.items():
        if not attribute.startswith(("__", "<")) and not is_code(value) and not hasattr(type(value), "__get__"):
            yield f"{name}.{attribute}", value, partial(setattr, code, attribute)
    if isinstance(code, types.FunctionType):
        for variable, cell in zip(code.__code__.co_freevars, code.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # not assigned yet
                if not is_code(cell.cell_contents):
                    yield f"{name}.<{variable}>", cell.cell_contents, partial(_fill, cell)


def _fill(cell: types.CellType, value: Any) -> None:
    cell.cell_contents = value
