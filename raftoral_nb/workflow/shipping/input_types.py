"""Checks of an input against the annotation of the workflow's second parameter, before anything is proposed.

The check looks, and changes nothing: no conversion, no defaults. It knows the types that inputs are made of
(dataclasses, msgspec structs, TypedDicts, NamedTuples, containers, unions, literals); what it does not know it lets
pass.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import inspect
import sys
import types
import typing
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from ... import errors
from ..codec import aliases, classes, hints
from ..codec.values import shorten, type_name

_UNKNOWN: Final = object()
"""The mark of an annotation that says nothing, or nothing that can be found out here."""

# What each function's annotation meant when it was first looked at (at registration). A class that the notebook defines again
# later is then recognised as another one, also where annotations are text (`from __future__ import annotations`).
_resolved: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
# Looked at once for each function: for a start it takes longer than all the rest of the check.
_parameters: weakref.WeakKeyDictionary[Any, inspect.Parameter | None] = weakref.WeakKeyDictionary()


def check(fn: Callable[..., Any], value: object, *, workflow: str) -> None:
    """Check that `value` is what the second parameter of `fn` is annotated with; an `int` passes for a `float`.

    An annotation that is missing, `Any`, or cannot be resolved is not checked; neither are parts that it says nothing about.

    Raises:
        InputTypeError: it is not; the message names the field (`order.items[2].price: expected int, got str`). Also for an
            instance of a class that the notebook defined again since the workflow was registered.
    """
    parameter = _parameter(fn)
    if parameter is None:
        return
    expected = resolve(fn)
    if expected is _UNKNOWN or value is parameter.default:
        return
    checker = _Checker(getattr(_plain(fn), "__globals__", {}))
    problem = checker.problem(value, expected, parameter.name)
    if problem is not None:
        raise errors.InputTypeError(f"the input of workflow {workflow!r} is not what it asks for: {problem}")


def resolve(fn: Callable[..., Any]) -> Any:
    """Resolve the annotation of the second parameter as it is now; remembered, so that later redefinitions are noticed.

    Returns an object for `check` alone.
    """
    function = _plain(fn)
    try:
        known = _resolved.get(function, _UNKNOWN)
    except TypeError:  # a callable that takes no weak references
        known = _UNKNOWN
    if known is not _UNKNOWN:
        return known
    found = _annotation(fn)
    if found is not _UNKNOWN and isinstance(function, types.FunctionType):
        _resolved[function] = found
    return found


def _plain(fn: Callable[..., Any]) -> Any:
    return fn.__func__ if isinstance(fn, types.MethodType) else fn


def _parameter(fn: Callable[..., Any]) -> inspect.Parameter | None:
    if not isinstance(fn, types.FunctionType):
        return _parameter_of(fn)
    if fn not in _parameters:
        _parameters[fn] = _parameter_of(fn)
    return _parameters[fn]


def _parameter_of(fn: Callable[..., Any]) -> inspect.Parameter | None:
    try:
        parameters = list(hints.signature(fn).parameters.values())
    except (TypeError, ValueError):
        return None
    return parameters[1] if len(parameters) > 1 else None


def _annotation(fn: Callable[..., Any]) -> Any:
    parameter = _parameter(fn)
    if parameter is None or parameter.annotation is inspect.Parameter.empty:
        return _UNKNOWN
    function = _plain(fn)
    closure = inspect.getclosurevars(function).nonlocals if isinstance(function, types.FunctionType) else {}
    return _evaluate(parameter.annotation, getattr(function, "__globals__", {}), closure)


def _evaluate(annotation: Any, *namespaces: Mapping[str, Any]) -> Any:
    # One annotation at a time: another one's name that is missing (as WorkflowContext under TYPE_CHECKING) is no hindrance.
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    names = {name: value for namespace in namespaces for name, value in namespace.items()}
    try:
        return typing.get_type_hints(holder, globalns=names, include_extras=True)["it"]
    except Exception:  # evaluating an annotation runs code; what cannot be evaluated is not checked
        return _UNKNOWN


class _Checker:
    """One check. `problem` returns the first problem found, as text, or None."""

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self._namespace = namespace
        self._under_way: set[tuple[int, int]] = set()  # values may contain themselves

    def problem(self, value: Any, expected: Any, path: str) -> str | None:
        if expected is _UNKNOWN or expected is Any or isinstance(expected, (str, typing.TypeVar, typing.ForwardRef)):
            return None
        if expected is None:
            expected = type(None)
        key = (id(value), id(expected))
        if key in self._under_way:
            return None
        self._under_way.add(key)
        try:
            return self._of(value, expected, path)
        except RecursionError:
            return None
        finally:
            self._under_way.discard(key)

    def _of(self, value: Any, expected: Any, path: str) -> str | None:
        if isinstance(expected, typing.NewType):
            return self.problem(value, expected.__supertype__, path)
        if aliases.is_alias(expected):
            return self.problem(value, aliases.value(expected), path)
        origin = typing.get_origin(expected)
        if origin is None:
            return self._of_class(value, expected, (), path) if isinstance(expected, type) else None
        arguments = typing.get_args(expected)
        if origin in {typing.Annotated, typing.Required, typing.NotRequired, typing.Final, typing.ClassVar}:
            return self.problem(value, arguments[0], path)
        if origin is typing.Union or origin is types.UnionType:
            problems = [self.problem(value, one, path) for one in arguments]
            if None in problems:
                return None
            # A problem deep inside says more than that the whole does not fit; it comes from the member that fits best.
            deep = [text for text in problems if text is not None and not text.startswith(f"{path}: ")]
            redefined = [text for text in problems if text is not None and _REDEFINED in text]
            return next(iter(redefined or deep), _mismatch(value, expected, path))
        if origin is typing.Literal:
            fits = any(_is_literal(value, one) for one in arguments)
            return None if fits else f"{path}: expected one of {', '.join(map(repr, arguments))}, got {shorten(value)}"
        if origin is type:
            return None if isinstance(value, type) else _mismatch(value, expected, path)
        return self._of_class(value, origin, arguments, path) if isinstance(origin, type) else None

    def _of_class(self, value: Any, cls: type, arguments: tuple[Any, ...], path: str) -> str | None:
        if typing.is_typeddict(cls):
            return self._of_typed_dict(value, cls, path)
        if not _is_instance(value, cls):
            shown = cls.__class_getitem__(arguments) if arguments and cls in _SHOWN_WITH_ARGUMENTS else cls  # type: ignore[attr-defined]
            return _redefined(value, cls, path) or _mismatch(value, shown, path)
        for name, annotation in self._fields(cls):
            part = getattr(value, name, _UNKNOWN)
            problem = None if part is _UNKNOWN else self.problem(part, annotation, f"{path}.{name}")
            if problem is not None:
                return problem
        if not arguments:
            return None
        for part, annotation, where in _elements(value, cls, arguments):
            problem = self.problem(part, annotation, f"{path}{where}")
            if problem is not None:
                return problem
        if isinstance(value, tuple) and cls is tuple and Ellipsis not in arguments and len(value) != len(arguments):
            wanted = 0 if arguments == ((),) else len(arguments)
            return f"{path}: expected {wanted} elements, got {len(value)}"
        return None

    def _of_typed_dict(self, value: Any, cls: Any, path: str) -> str | None:
        if not isinstance(value, dict):
            return _mismatch(value, cls, path)
        wanted = dict(self._annotations(cls))
        for key, annotation in wanted.items():
            # Where annotations are text, __required_keys__ does not know about Required and NotRequired.
            mark = typing.get_origin(annotation)
            needed = mark is typing.Required or (mark is not typing.NotRequired and key in cls.__required_keys__)
            if needed and key not in value:
                return f"{path}: the key {key!r} of {type_name(cls)} is missing"
        for key, part in value.items():
            if key not in wanted:
                return f"{path}: {type_name(cls)} has no key {key!r}"
            problem = self.problem(part, wanted[key], f"{path}[{key!r}]")
            if problem is not None:
                return problem
        return None

    def _fields(self, cls: type) -> Iterator[tuple[str, Any]]:
        """Return the annotated fields of a class whose annotations are meant to be kept."""
        if dataclasses.is_dataclass(cls):
            names = {field.name for field in dataclasses.fields(cls)}
        elif issubclass(cls, msgspec.Struct):
            names = set(cls.__struct_fields__)
        elif issubclass(cls, tuple) and hasattr(cls, "_fields"):
            names = set(cls._fields)
        else:
            return
        for name, annotation in self._annotations(cls):
            if name in names:
                yield name, annotation

    def _annotations(self, cls: type) -> Iterator[tuple[str, Any]]:
        seen: set[str] = set()
        for base in cls.__mro__ if not typing.is_typeddict(cls) else (cls,):
            module = sys.modules.get(base.__module__)
            namespaces = (self._namespace, vars(module) if module is not None else {}, {base.__name__: base})
            for name, annotation in hints.of(base).items():
                if name not in seen:
                    seen.add(name)
                    yield name, _evaluate(annotation, *namespaces)


def _is_literal(value: Any, one: Any) -> bool:
    if isinstance(one, enum.Enum) and isinstance(value, enum.Enum):
        return classes.same(type(value), type(one)) and value.name == one.name
    return type(one) is type(value) and bool(one == value)


_SHOWN_WITH_ARGUMENTS: Final = frozenset({list, dict, set, frozenset, tuple})
_REDEFINED: Final = "the notebook has defined"


def _is_instance(value: object, cls: type) -> bool:
    if cls is float:  # as for type checkers: an int will do
        return isinstance(value, (float, int)) and not isinstance(value, bool)
    if cls is complex:
        return isinstance(value, (complex, float, int)) and not isinstance(value, bool)
    if cls is int and isinstance(value, bool):
        return False
    try:
        return isinstance(value, cls) or _is_meant(value, cls)
    except TypeError:  # a protocol that cannot be checked
        return True


def _is_meant(value: object, cls: type) -> bool:
    """Return whether the value's class, or a base of it, is `cls` as made by another run of the same cell."""
    return any(classes.same(one, cls) for one in type(value).__mro__)


def _elements(value: Any, cls: type, arguments: tuple[Any, ...]) -> Iterator[tuple[Any, Any, str]]:
    """Return the parts of a container that its arguments speak of: part, annotation, where it is."""
    if issubclass(cls, tuple):
        if cls is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
            yield from ((part, arguments[0], f"[{index}]") for index, part in enumerate(value))
        elif cls is tuple:
            yield from ((part, one, f"[{i}]") for i, (part, one) in enumerate(zip(value, arguments, strict=False)))
    elif issubclass(cls, collections.abc.Mapping) and len(arguments) == 2:
        for key, part in value.items():
            yield key, arguments[0], f" (the key {shorten(key)})"
            yield part, arguments[1], f"[{shorten(key)}]"
    elif (
        len(arguments) == 1 and (issubclass(cls, _COLLECTIONS) or cls in _ITERABLES) and isinstance(value, _COLLECTIONS)
    ):
        # Iterators are left alone: looking would use them up.
        ordered = isinstance(value, collections.abc.Sequence)
        for index, part in enumerate(value):
            yield part, arguments[0], f"[{index}]" if ordered else f" (the element {shorten(part)})"


_COLLECTIONS: Final = (collections.abc.Sequence, collections.abc.Set)
_ITERABLES: Final = frozenset({collections.abc.Iterable, collections.abc.Collection})


def _redefined(value: object, cls: type, path: str) -> str | None:
    """Return whether the value's class has the name of the expected one, but is another object."""
    for actual in type(value).__mro__:
        if actual is cls:
            return None
        if actual.__module__ == cls.__module__ and actual.__qualname__ == cls.__qualname__:
            name = cls.__qualname__
            changed = classes.differences(classes.identity(cls), classes.identity(actual))
            return (
                f"{path}: {_REDEFINED} the class {name} again since the workflow was registered, and it is not the same: {changed}. "
                f"Run the cell of the workflow again, and make the input with the current {name}."
            )
    return None


def _mismatch(value: object, expected: Any, path: str) -> str:
    name = type_name(expected) if type(expected) is type or isinstance(expected, type(typing.Protocol)) else None
    if name is None:
        name = type_name(expected) if isinstance(expected, type) and not typing.get_args(expected) else _shown(expected)
    text = f"{path}: expected {name}, got {type_name(type(value))}"
    if value is not None:
        text += f" ({shorten(value, 40)})"
    if isinstance(value, dict) and isinstance(expected, type) and not typing.is_typeddict(expected):
        text += f"; make it with {expected.__name__}(**...)"
    return text


def _shown(expected: Any) -> str:
    return str(expected).replace("typing.", "").replace("__main__.", "")
