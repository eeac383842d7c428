"""Canonical digests of values and of code: equal in every process, whatever the hash seed and the order of a set.

A digest is made from a value's structure, never from its pickle's bytes (which differ between equal values). Values are taken
apart as pickle would do it, by `__reduce_ex__`. What cannot be taken apart has no digest, and is not compared.
"""

from __future__ import annotations

import dataclasses
import dis
import enum
import math
import struct
import sys
import types
import typing
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any, Final

from . import aliases, class_parts, exceptions, hints, local_modules, sources, wrappers
from .reach import Reach

MAX_DIGEST_PARTS: Final = 200_000
"""Parts (elements, attributes) of one value; larger values have no digest, as making one would take too long."""

MAX_EXACT_PARTS: Final = 20_000
"""The same for `exact_digest`, which is asked about all kinds of objects: of those that refer to each other a lot, parts are met again and again."""

MAX_DIGEST_DEPTH: Final = 120
"""Parts within parts; deeper values have no digest. A fixed number: Python's own limit depends on who calls."""

_SIZE: Final = 16


def digest(value: object) -> str | None:
    """Return a hex digest of `value`: the same wherever and however an equal value was made; None if there is none.

    Sets and dicts count without order, all NaN are alike, `1`, `1.0` and `True` differ. Dataclasses count by their compared
    fields, instances by what pickle would take from them, classes by name, functions by their code (not its source, which only
    some processes know) and what they captured. Never raises.
    """
    try:
        return _Walker(code=False).of(value).hex()
    except Exception:  # a user's __reduce__ may raise anything; the answer is then "not compared"
        return None


def exact_digest(value: object) -> str | None:
    """Return a digest as `digest` does, but of all that code could see: the order of dicts counts, and every field of a dataclass."""
    try:
        return _Walker(code=False, exact=True).of(value).hex()
    except Exception:  # see `digest`
        return None


def code_apart(code: Any, space: dict[str, Any], user: Callable[..., Any]) -> tuple[str, frozenset[str]]:
    """Return the digest of a function, class or module as `code_digest` does, but without the data that it reads in `space`.

    Returned with it are the names of that data: whoever asks knows better than to digest it again. `space` are the
    globals of the notebook. Of a module beside the notebook counts what `user`, a function, mentions.
    """
    walker = _Walker(code=True, by_source=True, apart=space)
    walker.names = Reach([user, code]).names
    parts = [walker.of(code)]
    for reached in walker.reached:  # grows meanwhile
        parts.append(walker.definition(reached))  # noqa: PERF401  # see `code_digest`
    return _hash(b"code", *parts).hex(), frozenset(walker.data)


def code_digest(function: Callable[..., Any], *, by_source: bool = True) -> str:
    """Return a hex digest of a function with all by-value code and values that it reaches; never raises for odd values.

    Unlike in `digest`, classes count by their structure, and a value without a digest by the name of its type. Where a file's
    text is known, functions of it count by their normalised source, unless `by_source` is false. The names of files never count.
    """
    walker = _Walker(code=True, by_source=by_source)
    walker.names = Reach(function).names
    parts = [walker.of(function)]
    for reached in walker.reached:  # grows meanwhile
        parts.append(walker.definition(reached))  # noqa: PERF401  # a loop over a growing list should look like one
    return _hash(b"code", *parts).hex()


def strict_code_digest(function: Callable[..., Any]) -> tuple[str, frozenset[str]] | None:
    """Return a hex digest of a function as `code_digest` does, by its bytecode, with the names of the modules that it refers to.

    None if anything that it captured has no digest: then two functions could not be told apart.
    """
    walker = _Walker(code=True, strict=True)
    try:
        walker.names = Reach(function).names
        parts = [walker.of(function)]
        for reached in walker.reached:  # grows meanwhile
            parts.append(walker.definition(reached))  # noqa: PERF401  # see `code_digest`
    except Exception:  # a user's __reduce__ may raise anything
        return None
    return _hash(b"code", *parts).hex(), frozenset(walker.modules)


class _NoDigestError(Exception):
    """The value cannot be taken apart."""


class _Walker:
    """One walk over a value's parts. `code` chooses how classes and undigestible parts count, `by_source` functions (see above).

    With `exact` more of a value counts (`exact_digest`); a `strict` one takes no part that has no digest (`strict_code_digest`); of the globals
    `apart` no data counts (`code_apart`).
    """

    def __init__(
        self,
        *,
        code: bool,
        by_source: bool = False,
        exact: bool = False,
        strict: bool = False,
        apart: dict[str, Any] | None = None,
    ) -> None:
        self._exact = exact
        self._strict = strict
        self._most = MAX_EXACT_PARTS if exact else MAX_DIGEST_PARTS
        self._apart = apart
        self.data: set[str] = set()
        """The names of the data in `apart` that functions read."""
        self._code = code
        self._by_source = by_source
        self._depths: dict[int, int] = {}  # id of what is being walked -> its depth
        self._done: dict[int, bytes] = {}
        self._kept: list[object] = []  # so that no id of a temporary part is used again
        self._lowest = sys.maxsize  # the lowest depth that a cycle reached back to, within the part being walked
        self._parts = 0
        # By-value functions and classes of a code walk, each walked once, on its own: notebook code may refer to itself in
        # more ways than could be followed along every path. They are referred to by their place here.
        self.reached: list[types.FunctionType | type] = []
        self._places: dict[int, int] = {}
        self.modules: set[str] = set()
        """The modules that were met, or are imported by bytecode that was; gathered by a strict walk alone."""
        self.names: frozenset[str] = frozenset()
        """The names that the code mentions: what of a module beside the notebook counts."""

    def of(self, value: Any) -> bytes:
        """Return the digest of one part."""
        scalar = _scalar(value)
        if scalar is not None:
            return scalar
        key = id(value)
        known = self._done.get(key)
        if known is not None:
            return known
        depth = self._depths.get(key)
        if depth is not None:
            # A cycle: what counts is how far up it leads, which does not depend on the order of walking.
            self._lowest = min(self._lowest, depth)
            return _hash(b"cycle", str(len(self._depths) - depth).encode())
        self._parts += 1
        if self._parts > self._most or len(self._depths) >= MAX_DIGEST_DEPTH:
            raise _NoDigestError
        depth = self._depths[key] = len(self._depths)
        outer, self._lowest = self._lowest, sys.maxsize
        try:
            found = self._compound(value)
        finally:
            del self._depths[key]
        if self._lowest >= depth:  # nothing inside leads out of it: the digest holds wherever the part appears again
            self._done[key] = found
            self._kept.append(value)
            self._lowest = sys.maxsize
        self._lowest = min(outer, self._lowest)
        return found

    def _compound(self, value: Any) -> bytes:
        if not self._code or self._strict:
            return self._part(value)
        try:
            return self._part(value)
        except Exception:  # see `code_digest`
            return _hash(b"opaque", _name(type(value)))

    def _part(self, value: Any) -> bytes:
        kind = type(value)
        if kind is list or kind is tuple:
            return _hash(kind.__name__.encode(), *map(self.of, value))
        if kind is dict:
            if self._exact:
                return _hash(b"dict", *(self.of(key) + self.of(item) for key, item in value.items()))
            return self._mapping(b"dict", value.items())
        if isinstance(value, (set, frozenset)):
            attributes = getattr(value, "__dict__", None)
            # In the order of names where there are any: a code walk numbers what it reaches.
            parts = sorted(value, key=lambda part: str(getattr(part, "__qualname__", "")))
            return _hash(b"set", _name(kind), *sorted(map(self.of, parts)), self.of(attributes))
        if (inside := wrappers.parts(value)) is not None:
            # Without what it remembers, which is no part of the code.
            return _hash(b"wrapper", _name(kind), *map(self.of, inside), self.of(wrappers.options(value)))
        if isinstance(value, (types.FunctionType, type)):
            return self._reference(value)
        if isinstance(value, types.CodeType):
            return self._bytecode(value)
        if isinstance(value, types.ModuleType):
            if not self._code or local_modules.defining(value) is None:
                self.modules.add(value.__name__)
                return _hash(b"module", value.__name__.encode())
            names = self.names - local_modules.state_names(value)
            named = {
                name: one for name, one in sorted(vars(value).items()) if name in names and not name.startswith("__")
            }
            return _hash(b"local module", value.__name__.encode(), self._mapping(b"names", named.items()))
        if isinstance(value, enum.Enum):
            return _hash(b"enum", self.of(kind), value.name.encode())
        if isinstance(value, types.MappingProxyType):
            return self._mapping(b"proxy", value.items())
        if isinstance(value, (classmethod, staticmethod)):
            return _hash(_name(kind), self.of(value.__func__))
        if isinstance(value, property):
            return _hash(b"property", self.of((value.fget, value.fset, value.fdel)))
        if isinstance(value, (typing.TypeVar, typing.ParamSpec, typing.TypeVarTuple)):
            return _hash(b"typevar", value.__name__.encode())
        if isinstance(value, typing.ForwardRef):  # the rest of it changes when it is looked at
            return _hash(b"forward", value.__forward_arg__.encode())
        if aliases.is_alias(value) and self._code and aliases.is_by_value(value):
            return _hash(
                b"alias", value.__name__.encode(), self.of(value.__type_params__), self.of(aliases.value(value))
            )
        numpy = sys.modules.get("numpy")
        if numpy is not None and kind is numpy.ndarray and not value.dtype.hasobject:
            # Not by __reduce_ex__: equal arrays may differ in their memory layout.
            return _hash(b"ndarray", str(value.dtype.descr).encode(), str(value.shape).encode(), value.tobytes())
        pandas = sys.modules.get("pandas")
        if pandas is not None and (kind is pandas.DataFrame or kind is pandas.Series):
            # Not by __reduce_ex__: reading may join the blocks of a table. What counts are its columns.
            columns = value.items() if kind is pandas.DataFrame else [(value.name, value)]
            held = value.index, value.attrs, [(name, one.array) for name, one in columns]
            return _hash(b"pandas", _name(kind), *map(self.of, held), self.of(value.flags.allows_duplicate_labels))
        if not self._exact and _is_plain_dataclass(kind):
            return self._fields(value)
        return self._reduced(value)

    def _mapping(self, tag: bytes, items: Iterable[tuple[Any, Any]]) -> bytes:
        return _hash(tag, *sorted(self.of(key) + self.of(item) for key, item in items))

    def _fields(self, value: Any) -> bytes:
        parts = [
            part
            for field in dataclasses.fields(value)
            if field.compare and not _is_pydantics_reference(value, field.name)
            for part in (field.name.encode(), self.of(getattr(value, field.name)))
        ]
        return _hash(b"dataclass", self.of(type(value)), *parts)

    def _reduced(self, value: Any) -> bytes:
        reducer = exceptions.registered(type(value))
        reduced: Any = reducer(value) if reducer is not None else value.__reduce_ex__(4)
        self._kept.append(reduced)
        if isinstance(reduced, str):
            return _hash(b"global", str(getattr(value, "__module__", "")).encode(), reduced.encode())
        make, arguments, *rest = reduced
        state, items, pairs = (*rest, None, None, None)[:3]
        state = _without_caches(value, state)
        return _hash(
            b"object",
            self.of(make),
            self.of(arguments),
            self.of(state),
            *(map(self.of, items) if items is not None else ()),
            self._mapping(b"items", pairs if pairs is not None else ()),
        )

    def _reference(self, value: types.FunctionType | type) -> bytes:
        name = sources.importable_name(value)
        if name is not None:
            self.modules.add(value.__module__)
            return _hash(b"global", name.encode())
        if not self._code:
            return (
                _hash(b"global", _name(value))
                if isinstance(value, type)
                else bytes.fromhex(code_digest(value, by_source=False))
            )
        place = self._places.get(id(value))
        if place is None:
            place = self._places[id(value)] = len(self.reached)
            self.reached.append(value)
        return _hash(b"reached", str(place).encode())

    def definition(self, value: types.FunctionType | type) -> bytes:
        """Return the digest of a by-value function or class itself, with references to others."""
        return self._class(value) if isinstance(value, type) else self._function(value)

    def _function(self, function: types.FunctionType) -> bytes:
        module = local_modules.of_globals(function.__globals__)
        # The file of a module may have been edited since it was loaded; a cell's text stays.
        source = sources.normalised(function) if self._by_source and module is None else None
        state = frozenset() if module is None else local_modules.state_names(module)
        captured = {name: value for name, value in sources.captured(function).items() if name not in state}
        if function.__globals__ is self._apart:
            captured = self._without_data(function, captured)
        code = _hash(b"source", source.encode()) if source is not None else self._bytecode(function.__code__)
        return _hash(b"function", code, self.of(captured), *self._imported(function))

    def _without_data(self, function: types.FunctionType, captured: dict[str, Any]) -> dict[str, Any]:
        read = function.__globals__.keys() & set(sources.global_names(function.__code__))
        data = {name for name in read if not isinstance(function.__globals__[name], _CODE)}
        self.data |= data
        return {name: value for name, value in captured.items() if name not in data}

    def _imported(self, function: types.FunctionType) -> list[bytes]:
        return [self.of(module) for module in local_modules.imported(function).values()]

    def _bytecode(self, code: types.CodeType) -> bytes:
        """Digest bytecode without file names and line numbers."""
        code = sources.without_chance(code)
        if self._strict:
            self.modules.update(one.argval for one in dis.get_instructions(code) if one.opname == "IMPORT_NAME")
        names = [code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars]
        numbers = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags]
        return _hash(
            b"code",
            code.co_name.encode(),
            code.co_code,
            repr(names).encode(),
            repr(numbers).encode(),
            self.of(code.co_consts),
        )

    def _class(self, cls: type) -> bytes:
        values = {member.name: member.value for member in cls} if issubclass(cls, enum.Enum) else {}
        found = {key: value for key, value in sources.members(cls).items() if key.rpartition(".")[2] not in values}
        made_with = [self.of(class_parts.struct_definition(cls))] if class_parts.is_struct(cls) else []
        parts = self.of(cls.__bases__), self.of(hints.of(cls)), self.of(values), self.of(found)
        return _hash(b"class", _name(cls), *parts, *made_with)


def _scalar(value: Any) -> bytes | None:
    kind = type(value)
    if kind is str:
        return _hash(b"str", value.encode("utf-8", "surrogatepass"))
    if kind is int:
        return _hash(b"int", b"%x" % value)
    if kind is float:
        return _hash(b"float", b"nan" if math.isnan(value) else struct.pack(">d", value))
    if kind is complex:
        return _hash(b"complex", _scalar(value.real) or b"", _scalar(value.imag) or b"")
    if kind is bytes or kind is bytearray:
        return _hash(kind.__name__.encode(), value)
    if value is None or kind is bool or value is Ellipsis or value is NotImplemented:
        return _hash(b"constant", repr(value).encode())
    return None


def _is_plain_dataclass(cls: type) -> bool:
    """Return whether it is a dataclass that pickle would not treat specially: its fields say it all."""
    return (
        dataclasses.is_dataclass(cls)
        and cls.__reduce_ex__ is object.__reduce_ex__
        and cls.__reduce__ is object.__reduce__
        and not issubclass(cls, (dict, list, tuple, str, bytes, int, float))
    )


def _without_caches(value: object, state: Any) -> Any:
    """Return what an object is made of, without what it has worked out from that so far."""
    if type(value).__module__.startswith("pandas."):
        if type(state) is tuple:  # of arrays, with attributes if there are any
            parts = ((part, _without(part, _PANDAS_CACHE)) for part in state)
            return tuple(left for part, left in parts if left is part or left is not None)
        return _without(state, _PANDAS_CACHE)
    return _without(state, sources.cached_names(type(value)))


def _without(state: Any, names: frozenset[str]) -> Any:
    if type(state) is not dict or names.isdisjoint(state):
        return state
    return {name: part for name, part in state.items() if name not in names} or None


_CODE: Final = (types.FunctionType, types.BuiltinFunctionType, type, types.ModuleType)
_PANDAS_CACHE: Final = frozenset({"_cache"})


def _is_pydantics_reference(value: object, name: str) -> bool:
    """Return whether an attribute is the name that pydantic has for a class, with the class' address in it."""
    return name == "cls_ref" and type(value).__module__.startswith("pydantic.")


def _name(cls: type) -> bytes:
    return f"{cls.__module__}.{cls.__qualname__}".encode()


def _hash(tag: bytes, *parts: bytes | bytearray) -> bytes:
    """Hash every part with its length, so that no two lists of parts look alike."""
    hasher = blake2b(tag, digest_size=_SIZE)
    for part in parts:
        hasher.update(b"|%d|" % len(part))
        hasher.update(part)
    return hasher.digest()
