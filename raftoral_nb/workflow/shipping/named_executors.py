"""The executors that a workflow's steps name, as far as its code says so before it runs."""

from __future__ import annotations

import ast
import types
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from ...threads.user_code import short_file_name
from ..codec import sources
from ..lint.names import node_of
from .step_function import StepFunction, step

_NOWHERE: Final = object()


class NamedExecutor(msgspec.Struct, frozen=True):
    """A step that names an executor."""

    on: str
    step: str
    """The step's key."""
    place: str
    """Where the workflow's code says it."""


def named_executors(function: Callable[..., Any]) -> tuple[NamedExecutor, ...]:
    """Return the steps with `on=` that a workflow's code refers to, and those that it makes with a literal name.

    Looked into are the workflow, and the functions beside it that it reaches. Of names that are made when it runs nothing is known here. Never raises.
    """
    target = getattr(function, "__func__", function)
    found: list[NamedExecutor] = []
    waiting: list[Any] = [target]
    seen: set[types.CodeType] = set()
    while waiting:
        one = waiting.pop()
        if not isinstance(one, types.FunctionType) or one.__code__ in seen:
            continue
        seen.add(one.__code__)
        for value in _referred(one):
            if isinstance(value, StepFunction) and value.options.on is not None:
                found.append(NamedExecutor(value.options.on, value.key, one.__qualname__))
            elif isinstance(value, types.FunctionType) and (
                value.__module__ == target.__module__ or sources.is_by_value(value)
            ):
                waiting.append(value)
        found += _made(one)
    return tuple(dict.fromkeys(found))


def _referred(function: types.FunctionType) -> Iterator[Any]:
    """Yield what the names in a function's code stand for, and in those of the functions within it."""
    codes = [function.__code__]
    names: dict[str, None] = {}
    while codes:
        code = codes.pop()
        names |= dict.fromkeys(code.co_names)
        codes += [one for one in code.co_consts if isinstance(one, types.CodeType)]
    for name in (*names, *function.__code__.co_freevars):
        value = _lookup(function, name)
        if value is not _NOWHERE:
            yield value


def _lookup(function: types.FunctionType, name: str) -> Any:
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    if name in cells:
        try:
            return cells[name].cell_contents
        except ValueError:  # not assigned yet
            return _NOWHERE
    return function.__globals__.get(name, _NOWHERE)


def _made(function: types.FunctionType) -> Iterator[NamedExecutor]:
    """Yield the steps that a function makes in place: `step(fit, on="pool")`, `fit.with_options(on="pool")`."""
    node = node_of(function)
    for call in ast.walk(node) if node is not None else ():
        if not isinstance(call, ast.Call):
            continue
        options = {keyword.arg: keyword.value for keyword in call.keywords}
        match options.get("on"):
            case ast.Constant(value=str(on)):
                pass
            case _:
                continue
        made: ast.expr | None = None
        match call.func:
            case ast.Name(id=name) if _lookup(function, name) is step:
                made = call.args[0] if call.args else None
            case ast.Attribute(attr="step", value=ast.Name(id=name)) if _is_ours(_lookup(function, name)):
                made = call.args[0] if call.args else None
            case ast.Attribute(attr="with_options", value=ast.Name(id=name) as made) if isinstance(
                _lookup(function, name), StepFunction
            ):
                pass
            case _:
                continue
        match options.get("key"):
            case ast.Constant(value=str(key)):
                pass
            case _:
                key = "" if made is None else ast.unparse(made)
        yield NamedExecutor(on, key, f"{short_file_name(function.__code__.co_filename)}:{call.lineno}")


def _is_ours(module: object) -> bool:
    return isinstance(module, types.ModuleType) and getattr(module, "step", None) is step
