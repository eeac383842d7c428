"""The parts of a class by name, each with a digest, so that two definitions can be told apart and compared.

Three aspects, from the least to the most: its *shape* (what its instances hold), its *code* (that, and what they do), and the
*whole* (that, and the values of class attributes, which a notebook may change as it goes). Only the class' own parts count, with those of
its bases: what its methods refer to counts by name. The digests are equal in every process of the same Python.
"""

from __future__ import annotations

import dis
import enum
import functools
import inspect
import re
import sys
import types
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any, Final, Literal, NamedTuple

from cloudpickle import cloudpickle as _cloudpickle

from . import class_parts, digests, local_modules, sources

Aspect = Literal["shape", "code", "whole"]

Part = tuple[str, str, str, str]
"""A part of a class: its kind (`field`, `method`), name, aspect and digest."""

_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")
_CONSTRUCTION: Final = frozenset(
    {"__init__", "__new__", "__getstate__", "__setstate__", "__reduce__", "__reduce_ex__", "__getnewargs_ex__"}
)
"""Methods that decide what an instance holds."""
_STORES: Final = frozenset({"STORE_ATTR", "DELETE_ATTR"})
_FLAGS: Final = (
    inspect.CO_VARARGS
    | inspect.CO_VARKEYWORDS
    | inspect.CO_GENERATOR
    | inspect.CO_COROUTINE
    | inspect.CO_ASYNC_GENERATOR
)
"""Of the flags of code, those that say what it does; others depend on the cells before."""
_MAX_SHOWN: Final = 6
_DIGITS_KEPT: Final = 8
"""Of the digests of parts: they only say what differs, once it is known that something does."""


class Identity(NamedTuple):
    """The identity of a by-value class. Pickled as a plain tuple."""

    module: str
    qualname: str
    shape: str
    code: str
    whole: str
    parts: tuple[Part, ...]

    @property
    def local(self) -> bool:
        """True if it was made within a function, which may make others of the same name."""
        return "<locals>" in self.qualname

    @property
    def name(self) -> str:
        """The name of the class in messages."""
        return self.qualname if self.module == "__main__" else f"{self.module}.{self.qualname}"


def is_by_value(cls: type) -> bool:
    """Return whether the class itself is shipped, and not its name: one of the notebook, or of a module beside it."""
    try:
        if cls in _SPECIAL:
            return False
        return not _cloudpickle._should_pickle_by_reference(cls) or local_modules.defining(cls) is not None
    except Exception:  # a metaclass that cannot be hashed or compared
        return False


_SPECIAL: Final = frozenset({type(None), type(Ellipsis), type(NotImplemented), *_cloudpickle._BUILTIN_TYPE_NAMES})


def looks(cls: type) -> int:
    """Return a number that changes when an attribute of the class, or of a base of it by value, is set; cheap."""
    seen: list[Any] = []
    for one in cls.__mro__:
        if one is object:
            continue
        for name, value in tuple(vars(one).items()):
            seen.append((name, id(value)))
            if type(value) is types.FunctionType:
                seen.append((id(value.__code__), id(value.__defaults__)))
    return hash(tuple(seen))


def identify(cls: type, identity: Callable[[type], Identity]) -> Identity:
    """Return the identity of a class; `identity` gives those of its bases."""
    parts = sorted(_Parts(cls, identity).found)
    return Identity(
        str(cls.__module__),
        cls.__qualname__,
        _of([part for part in parts if part[2] == "shape"]),
        _of([part for part in parts if part[2] != "whole"]),
        _of(parts),
        tuple((kind, name, aspect, digest[:_DIGITS_KEPT]) for kind, name, aspect, digest in parts),
    )


def differences(before: Identity, now: Identity) -> str:
    """Return what differs in the code of two classes of one name, as text."""
    found = _different(before, now, ("shape", "code"))
    fields = any(kind in ("field", "default") for kind, _ in found)
    said = []
    for (kind, name), change in found.items():
        if fields and (
            (kind in ("method", "options") and _made_from_fields(name))
            or (kind == "default" and ("field", name) in found)
        ):
            continue  # follows from a change that is said
        said.append(f"{'the default of' if kind == 'default' else kind} {name!r} {change}")
    if not said:
        return "its code changed"
    more = f" and {len(said) - _MAX_SHOWN} more" if len(said) > _MAX_SHOWN else ""
    return ", ".join(said[:_MAX_SHOWN]) + more


def other_values(before: Identity, now: Identity) -> str:
    """Describe which class attributes have other values.

    Those that look like state of their own are left out.
    """
    found = _different(before, now, ("whole",))
    return ", ".join(f"the attribute {name!r}" for kind, name in found if kind == "attribute")


def _different(before: Identity, now: Identity, aspects: tuple[str, ...]) -> dict[tuple[str, str], str]:
    old, new = ({_key(part): part[2:] for part in one.parts if part[2] in aspects} for one in (before, now))
    found: dict[tuple[str, str], str] = {}
    for key in sorted(
        old.keys() | new.keys(), key=lambda key: (_ORDER.index(key[0]) if key[0] in _ORDER else 99, key[1])
    ):
        if old.get(key) != new.get(key):
            found[key[:2]] = "was added" if key not in old else "was removed" if key not in new else "changed"
    return found


def _made_from_fields(name: str) -> bool:
    return _is_dunder(name) or name in {"tuple", "struct"}


_ORDER: Final = (
    "base",
    "metaclass",
    "member",
    "field",
    "default",
    "options",
    "method",
    "property",
    "class",
    "attribute",
)


def _key(part: Part) -> tuple[str, str, str]:
    return part[0], part[1], part[2]


class _Parts:
    """The parts of one class, as they are collected."""

    def __init__(self, cls: type, identity: Callable[[type], Identity]) -> None:
        self.found: list[Part] = []
        self._cls = cls
        self._identity = identity
        self._under_way: set[int] = set()
        self._kept: list[tuple[str, str]] = []  # values that functions keep in closures
        self._bases()
        fields = self._fields()
        self._members(fields)
        for name, digest in self._kept:
            self._add("closure", name, "whole", digest)

    def _add(self, kind: str, name: str, aspect: Aspect, *what: str) -> None:
        self.found.append((kind, name, aspect, _of(list(what))))

    def _bases(self) -> None:
        cls = self._cls
        related = [("base", str(i), base) for i, base in enumerate(cls.__bases__) if base is not object]
        if type(cls) is not type:
            related.append(("metaclass", "", type(cls)))
        for kind, place, one in related:
            if is_by_value(one):
                base = self._identity(one)
                self._add(kind, one.__qualname__, "shape", place, base.module, base.qualname, base.shape)
                self._add(kind, one.__qualname__, "code", base.code)
                self._add(kind, one.__qualname__, "whole", base.whole)
            else:
                self._add(kind, one.__qualname__, "shape", place, one.__module__, one.__qualname__)

    def _fields(self) -> dict[str, Any]:
        """Add what is annotated; return the names whose class attributes are defaults, with what is known of these."""
        cls, own = self._cls, vars(self._cls)
        annotations = _annotations(cls)
        for name, text in annotations.items():
            self._add("field", name, "shape", text)
        defaults: dict[str, Any] = {}
        if "__dataclass_params__" in own:
            self._add("options", "dataclass", "code", repr(own["__dataclass_params__"]))
            for name, field in own["__dataclass_fields__"].items():
                if name in annotations:
                    defaults[name] = field
                    options = (field.init, field.repr, field.hash, field.compare, field.kw_only)
                    self._add(
                        "default",
                        name,
                        "code",
                        self._value(field.default),
                        self._value(field.default_factory),
                        _ADDRESS.sub("", repr(options)),  # that of a ClassVar is a bare object
                    )
        elif "__pydantic_fields__" in own:
            for name, field in own["__pydantic_fields__"].items():
                defaults[name] = field
                self._add(
                    "default",
                    name,
                    "code",
                    _ADDRESS.sub("", repr(field)),
                    self._value(getattr(field, "default_factory", None)),
                )
        elif class_parts.is_struct(cls):
            given, made_with = class_parts.struct_definition(cls)
            self._add("options", "struct", "shape", repr(sorted(made_with.items())))
            for name, (how, default) in given.items():
                self._add("default", name, "code", how, self._value(default))
        elif "_fields" in own and issubclass(cls, tuple):
            for name in own["_fields"]:
                self._add("field", str(name), "shape", annotations.get(str(name), ""))
            self._add("options", "tuple", "shape", repr(own["_fields"]))
            for name, default in dict(own.get("_field_defaults", {})).items():
                self._add("default", name, "code", self._value(default))
            defaults = dict.fromkeys((*own["_fields"], "_fields", "_field_defaults"))
        return defaults

    def _members(self, defaults: dict[str, Any]) -> None:
        cls = self._cls
        is_enum = issubclass(cls, enum.Enum)
        values: dict[str, Any] = dict(getattr(cls, "__members__", {})) if is_enum else {}
        for name, member in values.items():
            self._add("member", name, "shape", member.name, self._value(member._value_))
        assigned = _assigned(cls)
        for name, value in tuple(vars(cls).items()):
            if name in _SKIPPED or name in values or name in defaults or isinstance(value, _DESCRIPTORS):
                continue
            if name == "__slots__":
                self._add("field", "__slots__", "shape", repr(sorted([value] if isinstance(value, str) else value)))
                continue
            if isinstance(value, property):
                self._add("property", name, "code", *map(self._value, (value.fget, value.fset, value.fdel)))
            elif isinstance(value, (types.FunctionType, classmethod, staticmethod)):
                shaping = name in _CONSTRUCTION and "__dataclass_params__" not in vars(cls)
                self._add("method", name, "shape" if shaping else "code", self._value(value))
            elif isinstance(value, type):
                self._add("class", name, "code", self._value(value))
            elif _is_dunder(name) or (is_enum and _is_sunder(name)):
                continue
            elif _holds_code(value):
                self._add("attribute", name, "code", self._value(value))
            else:
                # What methods assign, and private containers, is state and not a definition: it is not worth a word.
                quiet = name in assigned or (name.startswith("_") and not _is_constant(value))
                self._add("state" if quiet else "attribute", name, "whole", self._value(value))

    def _value(self, value: Any) -> str:
        """Return the digest of a default, a constant or a function.

        Classes in it count by name or, nested, by their code.
        """
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, (classmethod, staticmethod)):
            return _of([type(value).__name__, self._value(value.__func__)])
        if isinstance(value, type):
            if value.__qualname__.startswith(f"{self._cls.__qualname__}.") and is_by_value(value):
                return self._identity(value).code
            return f"{value.__module__}.{value.__qualname__}"
        if _holds_code(value):
            inside = self._inside(value)
            return _of([_type_name(value), *inside])
        return digests.digest(value) or _type_name(value)

    def _inside(self, value: Any) -> Iterator[str]:
        """Return the functions that an object holds: of a descriptor, a partial, or what else wraps one."""
        if id(value) in self._under_way:
            return
        self._under_way.add(id(value))
        try:
            held = dict(getattr(value, "__dict__", {}))
            if isinstance(value, functools.partial):
                held |= {"func": value.func, "args": value.args, "keywords": value.keywords}
            if isinstance(value, types.MethodType):
                held["func"] = value.__func__
            for name, one in sorted(held.items()):
                given = isinstance(value, _PARTIAL)
                if given or isinstance(one, (types.FunctionType, classmethod, staticmethod)) or _holds_code(one):
                    yield f"{name}:{self._value(one)}"
        finally:
            self._under_way.discard(id(value))

    def _function(self, function: types.FunctionType) -> str:
        importable = sources.importable_name(function)
        if importable is not None:
            return importable
        if id(function) in self._under_way:
            return "itself"
        self._under_way.add(id(function))
        try:
            parts = [_bytecode(function.__code__)]
            parts += [self._value(default) for default in function.__defaults__ or ()]
            parts += [
                f"{name}={self._value(default)}" for name, default in sorted((function.__kwdefaults__ or {}).items())
            ]
            for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
                try:
                    held = cell.cell_contents
                except ValueError:  # not assigned yet
                    continue
                if isinstance(held, (types.FunctionType, type)) or _holds_code(held):
                    parts.append(f"{name}:{self._value(held)}")
                else:
                    self._kept.append((f"{function.__qualname__}.{name}", self._value(held)))
            wrapped = vars(function).get("__wrapped__")
            if wrapped is not None:
                parts.append(f"wrapped:{self._value(wrapped)}")
            return _of(parts)
        finally:
            self._under_way.discard(id(function))


_PARTIAL: Final = (functools.partial, functools.partialmethod)
_DESCRIPTORS: Final = (types.MemberDescriptorType, types.GetSetDescriptorType)
_SKIPPED: Final = sources.CLASS_INTERNALS | {
    "__doc__",
    "__dataclass_fields__",
    "__dataclass_params__",
    "__match_args__",
}


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _is_sunder(name: str) -> bool:
    return name.startswith("_") and name.endswith("_")


def _type_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _is_constant(value: object) -> bool:
    try:
        hash(value)
    except Exception:  # a list, a dict, or a __hash__ of a user's that fails
        return False
    return type(value).__module__ in {"builtins", "decimal", "fractions", "datetime"} or isinstance(value, enum.Enum)


def _holds_code(value: object) -> bool:
    """Return whether it is an object around a function: a descriptor, a partial, a step."""
    if isinstance(value, (type, enum.Enum, types.ModuleType, types.BuiltinFunctionType)):
        return False
    if isinstance(value, (functools.partial, types.MethodType)):
        return True
    kind = type(value)
    return (hasattr(kind, "__get__") or callable(value)) and hasattr(value, "__dict__")


def _annotations(cls: type) -> dict[str, str]:
    """Return the annotations of the class itself, as text that is the same however they were written."""
    try:
        if sys.version_info >= (3, 14):
            import annotationlib

            found: dict[str, Any] = annotationlib.get_annotations(cls, format=annotationlib.Format.STRING)
        else:
            found = inspect.get_annotations(cls)
    except Exception:  # evaluating an annotation runs code
        return {}
    return {name: _text(annotation) for name, annotation in found.items()}


def _text(annotation: Any) -> str:
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        annotation = annotation.__qualname__
    text = annotation if isinstance(annotation, str) else _ADDRESS.sub("", repr(annotation))
    return re.sub(r"\b(typing|__main__)\.|['\"\s]", "", text)


def _assigned(cls: type) -> set[str]:
    """Return names of attributes that the class' own methods assign, of whatever object."""
    found: set[str] = set()
    for value in tuple(vars(cls).values()):
        function = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        if isinstance(function, types.FunctionType):
            found |= {one.argval for one in dis.get_instructions(function.__code__) if one.opname in _STORES}
    return found


def _bytecode(code: types.CodeType) -> str:
    """Digest bytecode without file names, lines, and what depends on the cells before."""
    code = sources.without_chance(code)
    constants = [
        _bytecode(one) if isinstance(one, types.CodeType) else digests.digest(one) or repr(one)
        for one in code.co_consts
    ]
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    numbers = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & _FLAGS)
    return _of([code.co_name, code.co_code.hex(), code.co_exceptiontable.hex(), repr(names), repr(numbers), *constants])


def _of(parts: list[Any]) -> str:
    hasher = blake2b(digest_size=8)
    for part in parts:
        data = (part if isinstance(part, str) else repr(part)).encode("utf-8", "surrogatepass")
        hasher.update(b"%d|" % len(data))
        hasher.update(data)
    return hasher.hexdigest()
