"""Type aliases (`type Price = int`, from Python 3.12 on) as things that travel by value, as the notebook's classes do."""

from __future__ import annotations

import copyreg
import functools
import keyword
import pickle
import sys
import typing
from typing import Any

from . import sources

if sys.version_info >= (3, 14):
    import annotationlib


def is_alias(thing: object) -> bool:
    """Return whether it was made by a `type` statement, or is like one that was."""
    return sys.version_info >= (3, 12) and type(thing) is typing.TypeAliasType


def is_by_value(alias: Any) -> bool:
    """Return whether it, or a variable of `typing`, cannot be imported by another process.

    It is the notebook's, of a module beside it, or local to a function.
    """
    module = str(alias.__module__)
    if module == "__main__" or sources.travels_by_value(module):
        return True
    return getattr(sys.modules.get(module), alias.__name__, None) is not alias


def value(alias: Any) -> Any:
    """Return what an alias stands for; a `typing.ForwardRef` if that does not resolve.

    Evaluates it, at the first time.
    """
    try:
        return alias.__value__
    except Exception as error:  # it is code that runs only now; a name may be one that only a type checker imports
        return typing.ForwardRef(_text(alias, error), is_argument=False)


def _text(alias: Any, error: Exception) -> str:
    if sys.version_info >= (3, 14):
        try:
            return str(annotationlib.call_evaluate_function(alias.evaluate_value, annotationlib.Format.STRING))
        except Exception:
            return str(alias.__name__)
    name = getattr(error, "name", None)
    return name if isinstance(name, str) and name.isidentifier() else str(alias.__name__)


def reduced(alias: Any) -> Any:
    """Return how an alias is pickled: by name if it can be imported, else with what it stands for.

    Raises:
        pickle.PicklingError: it has parameters and stands for something with itself in it.
    """
    if not is_by_value(alias):
        return alias.__name__
    meaning = value(alias)
    name, parameters = alias.__name__, alias.__type_params__
    if parameters or not name.isidentifier() or keyword.iskeyword(name):
        if _mentions(meaning, alias, set()):
            raise pickle.PicklingError(
                f"the type alias {name} has parameters and is part of its own meaning: make it without parameters, or a class"
            )
        return copyreg.__newobj_ex__, (type(alias), (name, meaning), {"type_params": parameters})  # type: ignore[attr-defined]
    holder: list[Any] = []
    # What it stands for comes after it, as that may contain it: `type Json = str | list[Json]`.
    return _lazy, (name, holder), (holder, meaning), None, None, _fill


def _lazy(name: str, holder: list[Any]) -> Any:
    """Return an alias whose meaning is put into `holder` later."""
    space: dict[str, Any] = {"_meaning": functools.partial(holder.__getitem__, 0)}
    exec(f"type {name} = _meaning()", space)  # noqa: S102 - the statement that makes one; the name is an identifier
    return space[name]


def _fill(_alias: Any, state: tuple[list[Any], Any]) -> None:
    holder, meaning = state
    holder.append(meaning)


def _mentions(annotation: Any, alias: Any, seen: set[int]) -> bool:
    """Return whether an alias is part of an annotation, or of what another alias in it stands for."""
    if annotation is alias:
        return True
    if id(annotation) in seen:
        return False
    seen.add(id(annotation))
    parts = (
        [*annotation] if isinstance(annotation, list) else [typing.get_origin(annotation), *typing.get_args(annotation)]
    )
    if is_alias(annotation):
        parts.append(value(annotation))
    return any(_mentions(part, alias, seen) for part in parts if part is not None)
