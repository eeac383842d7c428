"""How classes travel that are more than their attributes: msgspec structs, enums whose members have attributes or aliases, slots.

cloudpickle makes a bare class and sets its attributes. A struct's fields, an enum's members and slots are made with the class.
"""

from __future__ import annotations

import enum
import inspect
import sys
import types
from typing import Any, Final

import msgspec
from cloudpickle import cloudpickle as _cloudpickle

Reduced = tuple[Any, ...]
"""What `object.__reduce_ex__` returns."""

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
    """How a class that travels by value is pickled, if cloudpickle would lose part of it; None for any other."""
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
    members = {name: member.value for name, member in cls.__members__.items()}
    attributes = {name: own for name, member in cls.__members__.items() if (own := _own(member))}
    clsdict = {name: value for name, value in state[0].items() if name not in members}
    bases, name, qualname, _, *others = arguments
    extra = {"members": attributes} if attributes else {}
    return make, (bases, name, qualname, members, *others), (clsdict, {**state[1], **extra}), *rest


def _own(member: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(member).items() if name not in _OF_EVERY_MEMBER}


# --- structs


def _struct(cls: Any) -> Reduced:
    config, namespace = cls.__struct_config__, dict(vars(cls))
    annotations = _annotations(cls)
    own = [name for name in cls.__struct_fields__ if name in annotations and name in namespace]
    names = dict(zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True))
    first = len(cls.__struct_fields__) - len(cls.__struct_defaults__)
    defaults = dict(zip(cls.__struct_fields__[first:], cls.__struct_defaults__, strict=True))
    options = {name: getattr(config, name) for name in _OPTIONS}
    options["rename"] = {name: names[name] for name in own}
    options["kw_only"] = any(name not in cls.__match_args__ for name in own)
    if config.tag is not None:
        options.update(tag=config.tag, tag_field=config.tag_field)
    body = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__annotations__": annotations}
    if "__post_init__" in namespace:  # looked up once, when the class is made
        body["__post_init__"] = namespace["__post_init__"]
    given = {
        name: _default(defaults[name]) for name in own if defaults.get(name, msgspec.NODEFAULT) is not msgspec.NODEFAULT
    }
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
    """A struct with its fields; like the functions of cloudpickle it is known by the class' tracker id, the last but one."""
    namespace = dict(body)
    for field, (how, default) in defaults.items():
        namespace[field] = default if how == "is" else msgspec.field(default_factory=default)
    made = types.new_class(name, bases, {"metaclass": metaclass, **options}, lambda found: found.update(namespace))
    return _cloudpickle._lookup_class_or_track(tracker_id, made)


def _default(default: Any) -> tuple[str, Any]:
    factory = getattr(default, "factory", None)
    return ("made by", factory) if type(default).__name__ == "Factory" and callable(factory) else ("is", default)


def _annotations(cls: type) -> dict[str, Any]:
    """The class' own annotations, unresolved."""
    if sys.version_info >= (3, 14):
        import annotationlib  # there from Python 3.14 on

        return annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF)
    return inspect.get_annotations(cls)
