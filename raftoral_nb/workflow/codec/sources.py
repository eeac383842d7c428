"""The origin of code: what is importable and what must travel by value, the globals it reads, and its source text."""

from __future__ import annotations
import __future__

import ast
import copy
import dis
import functools
import io
import linecache
import operator
import sys
import threading
import types
import warnings
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from cloudpickle import cloudpickle as _cloudpickle

from ...limits import MAX_SOURCES_SHOWN
from . import local_modules

_GLOBAL_OPS: Final = frozenset({"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL"})
# `from __future__ import annotations`, which IPython hands on to later cells; the same bit in co_flags and for compile().
_FUTURE_ANNOTATIONS: Final = __future__.annotations.compiler_flag
_ANY_FUTURE: Final = functools.reduce(
    operator.or_,
    (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names if name != "nested_scopes"),
)
_PARSING: Final = threading.Lock()
_ATTEMPTS: Final = 20
_TEXTS_KEPT: Final = 32


def importable_name(obj: Any) -> str | None:
    """Return `module.qualname` of a function or class that every node can import, None if it must travel by value.

    Nothing of `__main__` is importable: after a restart the notebook's cells have not run.
    """
    module_name = getattr(obj, "__module__", None)
    qualname = getattr(obj, "__qualname__", None)
    if not isinstance(module_name, str) or not isinstance(qualname, str) or module_name == "__main__":
        return None
    if is_ipythons_open(obj):
        return "io.open"
    found: Any = sys.modules.get(module_name)
    if found is None or travels_by_value(module_name):
        return None
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return f"{module_name}.{qualname}" if found is obj else None


def is_by_value(obj: object) -> bool:
    """Return whether `obj` is a function or class that travels by value (one of the notebook, or a local one)."""
    return isinstance(obj, (types.FunctionType, type)) and importable_name(obj) is None


def is_ipythons_open(obj: object) -> bool:
    """Return whether `obj` is what IPython puts into the notebook in the place of `open`.

    It refuses three numbers, and opens.
    """
    return (
        isinstance(obj, types.FunctionType)
        and getattr(obj, "__wrapped__", None) is io.open
        and str(obj.__globals__.get("__name__")).startswith("IPython.")
    )


def travels_by_value(module_name: str) -> bool:
    """Return whether functions and classes of the module are shipped, and not looked up where they are needed."""
    if local_modules.is_local(module_name):
        return True
    registered = _cloudpickle.list_registry_pickle_by_value()
    return any(module_name == name or module_name.startswith(f"{name}.") for name in registered)


def global_names(code: types.CodeType) -> list[str]:
    """Return the names of the globals that a code object and those nested in it use, sorted."""
    try:
        return list(_known_global_names(code))
    except TypeError:  # a constant that cannot be hashed: no compiler made this
        return sorted(set(_global_names(code)))


@functools.lru_cache(maxsize=1024)
def _known_global_names(code: types.CodeType) -> tuple[str, ...]:
    return tuple(sorted(set(_global_names(code))))


def _global_names(code: types.CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname in _GLOBAL_OPS:
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)


def without_chance(code: types.CodeType) -> types.CodeType:
    """Return the code, without what differs in every process and from cell to cell.

    attrs writes a random number into each `__hash__` that it makes, and `from __future__` in one cell holds for those after it.
    """
    flags = code.co_flags & ~_ANY_FUTURE
    if _is_attrs_hash(code):
        constants = tuple(0 if type(one) is int else one for one in code.co_consts)
        return code.replace(co_flags=flags, co_consts=constants)
    return code if flags == code.co_flags else code.replace(co_flags=flags)


def _is_attrs_hash(code: types.CodeType) -> bool:
    return code.co_name == "__hash__" and code.co_filename.startswith("<attrs generated ")


def captured(function: types.FunctionType) -> dict[str, Any]:
    """Return what a function takes along: the globals it uses, what it closes over, and its defaults, by name."""
    found: dict[str, Any] = {}
    for name in global_names(function.__code__):
        if name in function.__globals__:
            found[name] = function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    code = function.__code__
    defaults = function.__defaults__ or ()
    positional = code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount]
    found.update((f"{name} (default)", value) for name, value in zip(positional, defaults, strict=True))
    found.update((f"{name} (default)", value) for name, value in (function.__kwdefaults__ or {}).items())
    # A decorated function keeps the one it wraps here.
    found.update({f"{function.__name__}.{name}": value for name, value in vars(function).items()})
    return found


def members(cls: type) -> dict[str, Any]:
    """Return what a by-value class takes along: its bases and its functions, properties and attributes, by name."""
    found: dict[str, Any] = {base.__qualname__: base for base in cls.__bases__}
    for name, value in vars(cls).items():
        if name in CLASS_INTERNALS or isinstance(value, (types.MemberDescriptorType, types.GetSetDescriptorType)):
            continue
        found[f"{cls.__qualname__}.{name}"] = value
    return found


def cached_names(cls: type) -> frozenset[str]:
    """Return the names of the class' cached properties.

    What its instances keep by them is worked out from the rest of them.
    """
    known = _cached_names.get(cls)
    if known is None:
        found = (vars(base).items() for base in cls.__mro__)
        known = frozenset(name for one in found for name, value in one if isinstance(value, functools.cached_property))
        _cached_names[cls] = known
    return known


_cached_names: Final[weakref.WeakKeyDictionary[type, frozenset[str]]] = weakref.WeakKeyDictionary()


CLASS_INTERNALS: Final = frozenset(
    {
        "__dict__",
        "__weakref__",
        "__module__",
        "__qualname__",
        "__firstlineno__",
        "__static_attributes__",  # a tuple made from a set: its order depends on the hash seed
        "__annotate__",
        "__annotate_func__",
        "__annotations_cache__",
        "__annotations__",  # looked at on its own: it may be evaluated lazily
        "__abstractmethods__",
        "_abc_impl",
        "_member_names_",
        "_member_map_",
        "_value2member_map_",
        "_unhashable_values_",
        "_hashable_values_",
        "_unhashable_values_map_",
        # Remembered on the class by those who use it: by pickle, msgspec and pydantic.
        "__slotnames__",
        "__msgspec_cache__",
        "__pydantic_setattr_handlers__",
        # Made by pydantic from the fields, validators and options, which count; they hold addresses, and may be made later.
        "__pydantic_complete__",
        "__pydantic_core_schema__",
        "__pydantic_fields_complete__",
        "__pydantic_serializer__",
        "__pydantic_validator__",
    }
)
"""Attributes of classes that are made with the class, or while it is used, and say nothing of what its author wrote."""


def parsed(text: str) -> ast.Module:
    """Return the syntax tree of a text. Raises SyntaxError, ValueError or RecursionError for what is none.

    CPython before 3.13 counts the depth of all trees that are being made in one place: if another thread makes one meanwhile, as
    `traceback` does for the marks below a line, it raises SystemError, and the tree is asked for again.
    """
    for _ in range(_ATTEMPTS):
        try:
            return ast.parse(text)
        except SystemError:
            continue
    return ast.parse(text)


def normalised(function: types.FunctionType) -> str | None:
    """Return the function's source without comments, layout and our own decorator; None where it is not certain.

    Certain means: the text that linecache has for the function's file compiles to exactly this function's code. So a file
    that was edited since, a lambda, or code made by exec has none.
    """
    code = function.__code__
    text = "".join(linecache.getlines(code.co_filename))
    if not text or code.co_name == "<lambda>" or _is_attrs_hash(code):
        return None
    found = _read(text, code.co_filename, code.co_flags & _FUTURE_ANNOTATIONS)
    if found is None or not any(one == code for one in found.codes):
        return None
    for node in found.functions:
        if node.name == code.co_name:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if first == code.co_firstlineno:
                kept = copy.copy(node)
                kept.decorator_list = [d for d in node.decorator_list if not _is_ours(d, function.__globals__)]
                return ast.unparse(kept)
    return None


class _Text(NamedTuple):
    """A text that was read: the functions in it, and all code that it compiles to. Read only: it is kept."""

    functions: tuple[ast.FunctionDef | ast.AsyncFunctionDef, ...]
    codes: tuple[types.CodeType, ...]


@functools.lru_cache(maxsize=_TEXTS_KEPT)
def _read(text: str, filename: str, future: int) -> _Text | None:
    """Read a text once, however often runs of its workflows are started; None if it is no code."""
    try:
        # The parser's depth count and the list of warning filters are one for all threads (CPython before 3.13 and 3.14).
        with _PARSING, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the notebook saw them when it ran the cell
            tree = parsed(text)
            flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | future
            compiled = compile(text, filename, "exec", flags=flags, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError):
        return None
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return _Text(tuple(functions), tuple(_nested(compiled)))


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _nested(constant)


def _is_ours(decorator: ast.expr, namespace: Mapping[str, Any]) -> bool:
    """Return whether a decorator is `workflow`, under whatever name: its name and version are not part of the code."""
    if isinstance(decorator, ast.Call):
        decorator = decorator.func
    path = ast.unparse(decorator).split(".")
    if path[-1] == "workflow":
        return True
    found: Any = namespace.get(path[0])
    for part in path[1:]:
        found = getattr(found, part, None)
    return getattr(found, "__name__", None) == "workflow" and str(getattr(found, "__module__", "")).startswith(
        "raftoral_nb."
    )


def texts(functions: list[types.FunctionType]) -> dict[str, str]:
    """Return the text of each file that the functions are from, where a node could not read it itself.

    Cells and scripts.
    """
    found: dict[str, str] = {}
    for function in functions:
        name = function.__code__.co_filename
        if name in found or (not _is_notebooks(function) and Path(name).exists()):
            continue
        text = "".join(linecache.getlines(name))
        if text:
            found[name] = text
    return found


def is_generated(function: types.FunctionType) -> bool:
    """Return whether the function was generated rather than written in the notebook.

    Dataclasses' methods, and what importable decorators return.
    """
    return function.__code__.co_filename == "<string>" or not _is_notebooks(function)


def _is_notebooks(function: types.FunctionType) -> bool:
    # Not its __module__, which functools.wraps takes from what is wrapped.
    module = function.__globals__.get("__name__")
    return module == "__main__" or module not in sys.modules or travels_by_value(module)


_shown: Final[dict[str, None]] = {}
_SHOWING: Final = threading.Lock()


def show(files: Mapping[str, str]) -> None:
    """Let tracebacks show the lines of `files` (name to text), unless the lines of such a file are there already.

    Of those that were put there by this, the latest `MAX_SOURCES_SHOWN` stay.
    """
    for name, text in files.items():
        if linecache.getlines(name):
            continue
        with _SHOWING:
            # Without a modification time, linecache never throws the lines away.
            linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
            _shown.pop(name, None)
            _shown[name] = None
            if len(_shown) > MAX_SOURCES_SHOWN:
                oldest = next(iter(_shown))
                del _shown[oldest]
                linecache.cache.pop(oldest, None)
