"""How things are pickled where cloudpickle's way does not fit: a table by type, and functions that look at functions and classes."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, Final

from cloudpickle import cloudpickle as _cloudpickle

from . import class_parts, sources, wrappers

Reduced = tuple[Any, ...]
"""What `object.__reduce_ex__` returns."""

# The arguments of `types.CodeType` from Python 3.11 on: the file name is the eleventh.
_FILE_NAME: Final = 10


def _code(code: types.CodeType) -> Reduced:
    """Keep the name of the code's file, in whose place cloudpickle 3.1.3 writes one of its own: lines are found by it."""
    make, arguments, *_ = _cloudpickle._code_reduce(code)
    return make, (*arguments[:_FILE_NAME], code.co_filename, *arguments[_FILE_NAME + 1 :])


BY_TYPE: Final[dict[type, Callable[[Any], Reduced | str]]] = {
    types.CodeType: _code,
    **wrappers.BY_TYPE,
}
"""Reducers of instances of exactly these types."""


def of_function_or_class(obj: Any) -> Reduced | None:
    """How a function or a class is pickled; None if as cloudpickle does it."""
    if isinstance(obj, types.FunctionType):
        return wrappers.of_function(obj)
    if isinstance(obj, type) and sources.importable_name(obj) is None:
        return class_parts.of_class(obj)
    return None
