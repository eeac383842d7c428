"""Taking exceptions apart and putting them together again, without calling `__init__`, whose arguments are unknown.

What makes an exception is its class, `args`, the fields that the class or a built-in base keeps in slots (`OSError.errno`,
`UnicodeError.object`), its `__dict__` (notes included), and a group's message and members. Not its traceback, cause and context.
"""

from __future__ import annotations

import copyreg
import types
from collections.abc import Callable
from typing import Any, Final

from . import bodies
from .reducers import Reduced

_HEAP_TYPE: Final = 1 << 9
"""The bit in `__flags__` of a class that was made at run time, and not by the interpreter."""

_ARGS: Final = vars(BaseException)["args"]
_DICT: Final = vars(BaseException)["__dict__"]

_LEFT_OUT: Final = {
    AttributeError: frozenset({"obj"}),  # the whole object that had no such attribute: pickle leaves it out, too
    BaseExceptionGroup: frozenset({"message", "exceptions"}),  # a group is made with them
}

Parts = tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]
"""The `args`, the fields and the attributes of an exception."""


def reduced(error: BaseException) -> Reduced | None:
    """Return what pickle is to make of an exception.

    None if its class says that itself, by `__reduce__` or the like.
    """
    if pickles_itself(type(error)):
        return None
    group = (error.message, error.exceptions) if isinstance(error, BaseExceptionGroup) else ()
    return form(make, (type(error), *group), parts(error))


def form(function: Any, arguments: tuple[Any, ...], state: Parts) -> Reduced:
    """Return what pickle is to make of an exception that `function(*arguments)` makes anew, without its parts."""
    return (function, arguments, state, None, None, restore)


def pickles_itself(cls: type[BaseException]) -> bool:
    """Return whether the class, or a base that is not built in, has its own way of being pickled."""
    if registered(cls) is not None:
        return True
    for name in ("__reduce_ex__", "__reduce__", "__setstate__"):
        owner = next(base for base in cls.__mro__ if name in vars(base))
        if owner.__flags__ & _HEAP_TYPE:
            return True
    return False


def registered(cls: type) -> Callable[[Any], Any] | None:
    """Return what `copyreg` says of how a class is pickled; None if nothing.

    What tblib registers does not count. `import distributed` has it do that for every class of exceptions there is in the process: then their
    tracebacks and causes would travel, `StopIteration.value` and the members of groups would not, and what is recorded would depend on who
    imported what.
    """
    found: Callable[[Any], Any] | None = copyreg.dispatch_table.get(cls)
    function = getattr(found, "func", found)  # a partial, if it is to take local variables along
    return None if str(getattr(function, "__module__", "")).partition(".")[0] == "tblib" else found


def parts(error: BaseException) -> Parts:
    """Return the `args`, the fields and the attributes of an exception.

    A group's `args` are among what it is made of, and so empty.
    """
    fields: dict[str, Any] = {}
    for name, descriptor in _descriptors(type(error)).items():
        try:
            value = descriptor.__get__(error)
        except AttributeError:  # a slot that is not filled
            continue
        if value is not None:
            fields[name] = value
    arguments = () if isinstance(error, BaseExceptionGroup) else _ARGS.__get__(error)
    return arguments, fields, bodies.without_connection(error, dict(_DICT.__get__(error)))


def make(cls: type[BaseException], *arguments: Any) -> BaseException:
    """Return a new exception of the class, without its parts.

    The arguments are those of a group: message and members.
    """
    built_in: Any = next(base for base in cls.__mro__ if not base.__flags__ & _HEAP_TYPE)
    made: BaseException = built_in.__new__(cls, *arguments)
    return made


def restore(error: BaseException, state: Parts) -> None:
    """Give an exception its parts, past whatever its class does when attributes are set."""
    arguments, fields, attributes = state
    if not isinstance(error, BaseExceptionGroup):
        _ARGS.__set__(error, arguments)
    descriptors = _descriptors(type(error))
    for name, value in fields.items():
        try:
            descriptors[name].__set__(error, value)
        except (
            AttributeError,
            KeyError,
            TypeError,
        ):  # read-only, as a group's members; or another version of the class
            continue
    _DICT.__get__(error).update(attributes)


def set_cause(error: BaseException, cause: BaseException) -> None:
    """Set the cause of an exception that may not let its attributes be set (a frozen dataclass)."""
    vars(BaseException)["__cause__"].__set__(error, cause)


def cause_of(error: BaseException) -> BaseException | None:
    """Return the cause of an exception, past whatever its class does when attributes are read."""
    cause: BaseException | None = vars(BaseException)["__cause__"].__get__(error)
    return cause


def notes_of(error: BaseException) -> list[str]:
    """Return the notes of an exception that are text."""
    notes = _DICT.__get__(error).get("__notes__")
    return [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an exception that may not let its attributes be set."""
    notes = _DICT.__get__(error).setdefault("__notes__", [])
    if isinstance(notes, list):
        notes.append(note)


def _descriptors(cls: type[BaseException]) -> dict[str, Any]:
    """Return the fields that a class and its bases keep elsewhere than in `__dict__`, by name."""
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        if base is BaseException or base is object:
            continue
        left_out = _LEFT_OUT.get(base, frozenset())
        for name, value in vars(base).items():
            kept = isinstance(value, (types.MemberDescriptorType, types.GetSetDescriptorType))
            if kept and name not in left_out and not (name.startswith("__") and name.endswith("__")):
                found.setdefault(name, value)
    return found
