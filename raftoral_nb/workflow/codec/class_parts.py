"""Pickling of classes that are more than their attributes.

These are msgspec structs, enums whose members have attributes or aliases, slots.

cloudpickle makes a bare class and sets its attributes. A struct's fields, an enum's members and slots are made with the
class.
"""

from __future__ import annotations

import enum
import inspect
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
from cloudpickle import cloudpickle as _cloudpickle

Reduced = tuple[Any, ...]
"""The result of `object.__reduce_ex__`."""

_STRUCT_META: Final = type(msgspec.Struct)
_OPTIONS: Final = (
    "frozen",
    "eq",
    "order",
    "array_like",
    "gc",
    "weakref",
    "dict",
    "cache_hash",
    "omit_defaults",
    "repr_omit_defaults",
    "forbid_unknown_fields",
)
_MADE_WITH_THE_STRUCT: Final = frozenset(
    {"__module__", "__annotations__", "__slots__", "__orig_bases__", "__parameters__", "__post_init__", "__qualname__"}
)
_OF_EVERY_MEMBER: Final = frozenset({"_value_", "_name_", "__objclass__", "_sort_order_", "_hashable_"})


def of_class(cls: type) -> Reduced | None:
    """Return how to pickle a class that travels by value, if cloudpickle would lose part of it; None for any other."""
    if isinstance(cls, _STRUCT_META):
        return _struct(cls)
    if issubclass(cls, enum.Enum):
        return _enum(cls)
    if "__slots__" in vars(cls) and not issubclass(
        cls, tuple
    ):  # a tuple has none but (), and a NamedTuple sets that itself
        return _slotted(cls)
    return None


def finish(cls: Any, extra: dict[str, Any]) -> None:
    """Give a class that was just made what its state has beside attributes (the second part of cloudpickle's state)."""
    for name, attributes in extra.get("members", {}).items():
        vars(cls.__members__[name]).update(attributes)


# --- pydantic


class Later:
    """A placeholder for a validator or serializer of pydantic until all classes of a pickle have their attributes.

    It is made from a schema, which refers to models; of models that refer to each other one would be made from half a schema.
    """

    def __init__(self, make: Any, arguments: tuple[Any, ...]) -> None:
        self.make = make
        self.arguments = arguments


def with_schemas_later(cls: type, reduced: Any) -> Any:
    """Return what pickle makes of a class, without validators that could be made too early."""
    if not isinstance(reduced, tuple) or "__pydantic_validator__" not in vars(cls):
        return reduced
    make, arguments, (attributes, slots), *rest = reduced
    later = {name: Later(*value.__reduce__()) for name, value in _schemas(cls) if _is_of_pydantic(type(value))}
    return make, arguments, ({**attributes, **later}, slots), *rest


def make_schemas(classes: Iterable[type]) -> None:
    """Put validators and serializers where the classes have what stands for them."""
    for cls in classes:
        for name, value in _schemas(cls):
            if isinstance(value, Later):
                setattr(cls, name, value.make(*value.arguments))


def _schemas(cls: type) -> list[tuple[str, Any]]:
    own = vars(cls)
    return [(name, own[name]) for name in ("__pydantic_validator__", "__pydantic_serializer__") if name in own]


def _is_of_pydantic(kind: type) -> bool:
    return kind.__module__.startswith("pydantic_core.") and kind.__name__ in {"SchemaValidator", "SchemaSerializer"}


# --- slots


def _slotted(cls: type) -> Reduced:
    make, (metaclass, name, bases, made_with, *others), *rest = _cloudpickle._dynamic_class_reduce(cls)
    slots: Any = vars(cls)["__slots__"]
    names = slots if isinstance(slots, str) else tuple(slots)
    return make, (metaclass, name, bases, {**made_with, "__slots__": names}, *others), *rest


# --- enums


def _enum(cls: Any) -> Reduced:
    make, arguments, state, *rest = _cloudpickle._dynamic_class_reduce(cls)
    # All of them: iterating leaves out aliases, and the combinations of flags that have a name.
    members = {name: _as_member(member.value) for name, member in cls.__members__.items()}
    attributes = {name: own for name, member in cls.__members__.items() if (own := _own(member))}
    clsdict = {name: value for name, value in state[0].items() if name not in members}
    bases, name, qualname, _, *others = arguments
    extra = {"members": attributes} if attributes else {}
    return make, (bases, name, qualname, members, *others), (clsdict, {**state[1], **extra}), *rest


def reducer_of(value: object) -> Callable[[Any], Reduced] | None:
    """Return how to pickle a member of an enum whose value is a function, as no copy of it is equal.

    None for anything else.
    """
    if not isinstance(value, enum.Enum) or not callable(value.value) or value.name not in type(value).__members__:
        return None
    return _by_name


def _by_name(member: enum.Enum) -> Reduced:
    return getattr, (type(member), member.name)


def _as_member(value: Any) -> Any:
    """Return what makes a member of a value: of a function, or what else is a descriptor, only if that is said."""
    kind = type(value)
    return enum.member(value) if any(hasattr(kind, name) for name in ("__get__", "__set__", "__delete__")) else value


def _own(member: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(member).items() if name not in _OF_EVERY_MEMBER}


# --- structs


def struct_definition(cls: Any) -> tuple[dict[str, tuple[str, Any]], dict[str, Any]]:
    """Return what a struct is made with, besides the annotations of its own fields.

    Their defaults by name, and its options.

    A default is a pair: `is` and the value, or `made by` and what makes it.
    """
    config = cls.__struct_config__
    own = _own_fields(cls)
    names = dict(zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True))
    first = len(cls.__struct_fields__) - len(cls.__struct_defaults__)
    defaults = dict(zip(cls.__struct_fields__[first:], cls.__struct_defaults__, strict=True))
    options = {name: getattr(config, name) for name in _OPTIONS}
    options["rename"] = {name: names[name] for name in own}
    options["kw_only"] = any(name not in cls.__match_args__ for name in own)
    if config.tag is not None:
        options.update(tag=config.tag, tag_field=config.tag_field)
    given = {
        name: _default(defaults[name]) for name in own if defaults.get(name, msgspec.NODEFAULT) is not msgspec.NODEFAULT
    }
    return given, options


def is_struct(cls: type) -> bool:
    """Return whether a class is a struct of msgspec."""
    return isinstance(cls, _STRUCT_META)


def _own_fields(cls: Any) -> list[str]:
    annotations, namespace = _annotations(cls), vars(cls)
    return [name for name in cls.__struct_fields__ if name in annotations and name in namespace]


def _struct(cls: Any) -> Reduced:
    namespace, own = vars(cls), _own_fields(cls)
    given, options = struct_definition(cls)
    body = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__annotations__": _annotations(cls)}
    if "__post_init__" in namespace:  # looked up once, when the class is made
        body["__post_init__"] = namespace["__post_init__"]
    made = (type(cls), cls.__name__, _cloudpickle._get_bases(cls), body, given, options)
    clsdict, extra = _cloudpickle._class_getstate(cls)
    clsdict = {name: value for name, value in clsdict.items() if name not in _MADE_WITH_THE_STRUCT and name not in own}
    tracker_id = _cloudpickle._get_or_create_tracker_id(cls)
    return make_struct, (*made, tracker_id, None), (clsdict, extra), None, None, _cloudpickle._class_setstate


def make_struct(
    metaclass: type,
    name: str,
    bases: tuple[Any, ...],
    body: dict[str, Any],
    defaults: dict[str, tuple[str, Any]],
    options: dict[str, Any],
    tracker_id: str | None,
    _extra: object,
) -> Any:
    """Return a struct with its fields.

    Like the functions of cloudpickle it is known by the class' tracker id, the last but one.
    """
    namespace = dict(body)
    for field, (how, default) in defaults.items():
        namespace[field] = default if how == "is" else msgspec.field(default_factory=default)
    made = types.new_class(name, bases, {"metaclass": metaclass, **options}, lambda found: found.update(namespace))
    return _cloudpickle._lookup_class_or_track(tracker_id, made)


def _default(default: Any) -> tuple[str, Any]:
    factory = getattr(default, "factory", None)
    return ("made by", factory) if type(default).__name__ == "Factory" and callable(factory) else ("is", default)


def _annotations(cls: type) -> dict[str, Any]:
    """Return the class' own annotations, unresolved."""
    if sys.version_info >= (3, 14):
        import annotationlib  # there from Python 3.14 on

        return annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF)
    return inspect.get_annotations(cls)
