"""Wrappers: callables and typing objects that pickle by name, or not at all, travel by value.

They are made anew from their parts.

Pickle takes a function with a cache or a `NewType` for something that a module of everybody has. What a
notebook defines is in no such module. One that an installed module has is found there, as pickle would have it.
"""

from __future__ import annotations

import functools
import io
import types
import typing
from collections.abc import Callable
from typing import Any, Final

from . import sources

Reduced = tuple[Any, ...]
"""The result of `object.__reduce_ex__`, if it is not a name."""

_CACHED: Final = type(functools.lru_cache(len))
_DISPATCHING: Final = functools.singledispatch(len).__code__  # type: ignore[attr-defined]  # a function, for all its typing
_OF_SINGLEDISPATCH: Final = frozenset({"register", "dispatch", "registry", "_clear_cache", "__wrapped__"})
"""The attributes that functools itself gives to such a function."""


# --- functions with a cache: each copy has a cache of its own


def _cached(function: Any) -> Reduced | str:
    if sources.importable_name(function) is not None:
        return str(function.__qualname__)
    parameters = function.cache_parameters()
    own = {name: value for name, value in vars(function).items() if name not in {"__wrapped__", "cache_parameters"}}
    return _make_cached, (function.__wrapped__, parameters["maxsize"], parameters["typed"]), own


def _make_cached(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize, typed)(function)


# --- singledispatch: what it remembers of classes is weak, and does not pickle


def is_dispatching(value: object) -> bool:
    """Return whether `value` is a function made by `functools.singledispatch`."""
    return isinstance(value, types.FunctionType) and value.__code__ is _DISPATCHING


def _dispatching(function: Any) -> Reduced:
    own = {name: value for name, value in vars(function).items() if name not in _OF_SINGLEDISPATCH}
    # The last argument is what is called for classes that nothing is registered for, even if `object` got another since.
    return functools.singledispatch, (function.__wrapped__,), (_registered(function), own), None, None, _register


def _registered(function: Any) -> list[tuple[Any, Any]]:
    first = function.__wrapped__
    return [(cls, one) for cls, one in function.registry.items() if cls is not object or one is not first]


def _register(function: Any, state: tuple[list[tuple[Any, Any]], dict[str, Any]]) -> None:
    registered, own = state
    for cls, one in registered:
        function.register(cls, one)
    vars(function).update(own)


def _dispatching_method(method: functools.singledispatchmethod[Any]) -> Reduced:
    return functools.singledispatchmethod, (method.func,), method.dispatcher, None, None, _set_dispatcher


def _set_dispatcher(method: functools.singledispatchmethod[Any], dispatcher: Any) -> None:
    method.dispatcher = dispatcher


# --- cached_property: has a lock before Python 3.12


def _cached_property(found: functools.cached_property[Any]) -> Reduced:
    state = {name: value for name, value in vars(found).items() if name not in {"func", "lock"}}
    return type(found), (found.func,), state


# --- typing


def _new_type(found: Any) -> Reduced | str:
    if sources.importable_name(found) is not None:
        return str(found.__qualname__)
    state = {"__qualname__": found.__qualname__, "__module__": found.__module__}
    return typing.NewType, (found.__name__, found.__supertype__), state


BY_TYPE: Final[dict[type, Callable[[Any], Reduced | str]]] = {
    _CACHED: _cached,
    functools.singledispatchmethod: _dispatching_method,
    functools.cached_property: _cached_property,
    typing.NewType: _new_type,
}
"""Reducers of instances of exactly these types."""


def of_function(function: types.FunctionType) -> Reduced | None:
    """Return how to pickle a function that is more than its code; None for any other."""
    if function.__code__ is _DISPATCHING and sources.importable_name(function) is None:
        return _dispatching(function)
    if sources.is_ipythons_open(function):
        return getattr, (io, "open")
    return None


def is_wrapper(value: object) -> bool:
    """Return whether it is called like a function, but is not one for Python: a function with a cache."""
    return type(value) is _CACHED


def options(value: Any) -> dict[str, Any]:
    """Return the options that a wrapper was made with."""
    return dict(value.cache_parameters()) if type(value) is _CACHED else {}


def parts(value: Any) -> list[Any] | None:
    """Return the parts of a wrapper, functions first; None if `value` is no such wrapper."""
    kind = type(value)
    if kind is _CACHED:
        return None if sources.importable_name(value) is not None else [value.__wrapped__]
    if is_dispatching(value):
        if sources.importable_name(value) is not None:
            return None
        return [value.__wrapped__, *(part for pair in _registered(value) for part in pair)]
    if kind is functools.singledispatchmethod:
        return [value.dispatcher]
    if kind is functools.cached_property:
        return [value.func]
    return None
