"""Pickling where cloudpickle's way does not fit.

There is a table by type, and a function that looks at functions and classes.
"""

from __future__ import annotations

import functools
import sys
import types
import typing
from collections.abc import Callable
from typing import Any, Final

from cloudpickle import cloudpickle as _cloudpickle

from . import aliases, class_parts, hints, sources, wrappers

Reduced = tuple[Any, ...]
"""The result of `object.__reduce_ex__`."""

# The arguments of `types.CodeType` from Python 3.11 on: the file name is the eleventh.
_FILE_NAME: Final = 10


def _code(code: types.CodeType) -> Reduced:
    """Keep the name of the code's file, in whose place cloudpickle 3.1.3 writes one of its own: lines are found by it."""
    make, arguments, *_ = _cloudpickle._code_reduce(code)
    return make, (*arguments[:_FILE_NAME], code.co_filename, *arguments[_FILE_NAME + 1 :])


def _forward(reference: typing.ForwardRef) -> Reduced:
    """Keep the text of a reference: its other parts hold on to everything around it, from Python 3.14 on."""
    return functools.partial(typing.ForwardRef, reference.__forward_arg__, is_class=reference.__forward_is_class__), ()


def _type_variable(variable: typing.TypeVar) -> Any:
    """Pickle as cloudpickle does, but by value from wherever code travels by value, and without what does not resolve.

    From Python 3.12 on a bound and constraints are lazy.
    """
    try:
        if aliases.is_by_value(variable):
            return _cloudpickle._make_typevar, _cloudpickle._decompose_typevar(variable)
        return _cloudpickle._typevar_reduce(variable)
    except Exception:  # evaluating them runs whatever is written there
        known_as = _cloudpickle._get_or_create_tracker_id(variable)
        kinds = variable.__covariant__, variable.__contravariant__
        return _cloudpickle._make_typevar, (variable.__name__, None, (), *kinds, known_as)


def _parameters(variable: typing.ParamSpec | typing.TypeVarTuple) -> Any:
    """Pickle by name if it can be imported.

    (cloudpickle does so with those of the notebook as well, where they are not found.)
    """
    return (type(variable), (variable.__name__,)) if aliases.is_by_value(variable) else variable.__name__


BY_TYPE: Final[dict[type, Callable[[Any], Reduced | str]]] = {
    types.CodeType: _code,
    typing.ForwardRef: _forward,
    **wrappers.BY_TYPE,
    typing.TypeVar: _type_variable,
    typing.ParamSpec: _parameters,
    typing.TypeVarTuple: _parameters,
}
"""Reducers of instances of exactly these types."""

if sys.version_info >= (3, 12):
    BY_TYPE[typing.TypeAliasType] = aliases.reduced


def of_function_or_class(obj: Any, as_cloudpickle: Callable[[Any], Any]) -> Any:
    """Return how to pickle a function or a class; `as_cloudpickle` tells what cloudpickle makes of one."""
    by_value = sources.is_by_value(obj)
    if isinstance(obj, types.FunctionType):
        wrapper = wrappers.of_function(obj)
        if wrapper is not None:
            return wrapper
        return as_cloudpickle(hints.settled(obj) if by_value and sys.version_info >= (3, 14) else obj)
    reduced = class_parts.of_class(obj) if by_value else None
    if reduced is None:
        reduced = as_cloudpickle(obj)
    if by_value:
        reduced = class_parts.with_schemas_later(obj, reduced)
    return _with_annotations_of(obj, reduced) if sys.version_info >= (3, 14) else reduced


# From Python 3.14 on annotations are code that is run on demand. cloudpickle asks for those of a function, and fails at
# a name that only a type checker imports; those of a class it leaves out. Either travels as what the annotations are
# now.


def _with_annotations_of(cls: type, reduced: Any) -> Any:
    """Return what cloudpickle made of a class that travels by value, with its annotations in its state."""
    if not isinstance(reduced, tuple) or len(reduced) < 3 or not isinstance(reduced[2], tuple):
        return reduced
    make, arguments, (attributes, slots), *rest = reduced
    attributes = {name: value for name, value in attributes.items() if name not in _LAZY}
    if found := hints.of(cls):
        attributes["__annotations__"] = found
    return make, arguments, (attributes, slots), *rest


_LAZY: Final = frozenset({"__annotate__", "__annotate_func__", "__annotations_cache__"})
