"""Partial records of exceptions of which not everything can be kept.

The class always is, and each part that unpickles again.

Of a group each member is kept on its own, so that one whose class is not available does not lose the others.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import cloudpickle

from ... import errors
from ...core.records import Failure
from . import classes, exceptions, pickling
from .anatomy import Identity
from .reducers import Reduced
from .values import describe, shorten, type_name

MAX_STAND_IN: Final = 1000
"""Characters of the text that stands for an argument of an exception that cannot be kept."""

MAX_ELEMENTS: Final = 1000
"""Elements of a container that does not pickle, up to which they are looked at one by one."""

_OVERHEAD: Final = 512
"""Bytes for what holds the parts together."""

_LOST: Final = object()


def encode(error: Exception, limit: int) -> tuple[bytes | None, tuple[str, ...]]:
    """Return what can be kept of an exception in at most `limit` bytes, and what was left out, as text; never raises.

    None if not even its class can be kept: it does not pickle, or is too large.
    """
    keeper = _Keeper(limit)
    return keeper.encoded(error), tuple(keeper.lost)


def decode(data: bytes, view: classes.View = classes.NOTEBOOK) -> Exception | None:
    """Return the exception that was kept, of the classes that `view` knows; None if it is not available here."""
    try:
        decoded = pickling.loads(data, view=view)
    except Exception:  # unpickling may raise anything; the failure itself still says what happened
        return None
    return decoded if isinstance(decoded, Exception) else None


def make_group(cls: type[BaseException], message: str, members: tuple[Failure, ...]) -> BaseException:
    """Return a group as `exceptions.make` makes it, of members that were kept one by one."""
    return exceptions.make(cls, message, [_member(failure) for failure in members])


def message(error: BaseException) -> str:
    """Return the message of an exception, whatever its own methods do."""
    try:
        return str(error)
    except Exception as problem:  # the user's __str__
        return f"<its __str__ raised {type_name(type(problem))}>"


def _member(failure: Failure) -> Exception:
    # Called within the load of the group: its classes are those of that load.
    decoded = None if failure.exception is None else decode(failure.exception, pickling.view_of_load())
    return errors.StepFailedError("", failure) if decoded is None else decoded


class _Pickler(pickling.ValuePickler):
    """A pickler that asks a keeper about exceptions."""

    def __init__(self, buffer: io.BytesIO, limit: int, used: dict[Identity, type], *, keeper: _Keeper) -> None:
        super().__init__(buffer, limit, used)
        self._keeper = keeper

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, BaseException):
            return super().reducer_override(obj)
        reduced = self._keeper.reduced(obj)
        return cloudpickle.Pickler.reducer_override(self, obj) if reduced is None else reduced


class _Keeper:
    """The finder of what can be kept of an exception and of those within it, each once."""

    def __init__(self, limit: int) -> None:
        self.lost: list[str] = []
        self._room = limit
        self._used: dict[Identity, type] = {}
        self._reduced: dict[int, Reduced | None] = {}
        self._groups: set[int] = set()  # those whose members are being kept
        self._alive: list[BaseException] = []  # so that no id is used again

    def encoded(self, error: BaseException) -> bytes | None:
        """Return what is kept of an exception as a whole."""
        cls = type(error)
        try:
            data = self._dumps(error, self._room)
            if type_name(type(self._loads(data))) == type_name(cls):
                return data
            why = "another class comes back"
        except Exception as problem:  # it does not come back; the text is recorded all the same
            why = describe(problem)
        self.lost.append(f"{type_name(cls)} itself ({why})")
        return None

    def reduced(self, error: BaseException) -> Reduced | None:
        """Return what pickle is to make of an exception; None if its class knows better."""
        key = id(error)
        if key in self._groups:
            raise ValueError("a member of a group refers to the group")
        if key not in self._reduced:
            self._alive.append(error)
            self._reduced[key] = None
            if exceptions.pickles_itself(type(error)) and self._comes_back(error):
                return None
            made = self._made(error)
            self._reduced[key] = made  # for parts that refer to it
            self._reduced[key] = exceptions.form(*made, self._parts(error))
        return self._reduced[key]

    def _made(self, error: BaseException) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return what makes it, without its parts."""
        if not isinstance(error, BaseExceptionGroup):
            return exceptions.make, (type(error),)
        self._groups.add(id(error))
        try:
            return make_group, (type(error), error.message, tuple(map(self._kept_member, error.exceptions)))
        finally:
            self._groups.discard(id(error))

    def _comes_back(self, error: BaseException) -> bool:
        try:
            back = self._loads(self._dumps(error, self._room))
        except Exception:  # its own way is no way
            return False
        return type_name(type(back)) == type_name(type(error)) and message(back) == message(error)

    def _kept_member(self, error: BaseException) -> Failure:
        data = self.encoded(error)
        self._room -= 0 if data is None else len(data)
        return Failure(type_name(type(error)), message(error)[:MAX_STAND_IN], "", data)

    def _parts(self, error: BaseException) -> exceptions.Parts:
        arguments, fields, attributes = parts = exceptions.parts(error)
        room = self._room - _OVERHEAD - len(self._dumps(type(error), self._room))
        if self._problem(parts, room) is None:
            return parts
        self._room, before = room, self._room
        name = type_name(type(error))
        try:
            return (
                tuple(self._instead(value, f"{name}.args[{place}]") for place, value in enumerate(arguments)),
                self._entries(fields, f"{name}."),
                self._entries(attributes, f"{name}."),
            )
        finally:
            self._room = before

    def _entries(self, entries: dict[Any, Any], prefix: str) -> dict[Any, Any]:
        """Return the values by name as far as each can be kept."""
        found = ((key, self._kept(value, f"{prefix}{key}")) for key, value in entries.items())
        return {key: value for key, value in found if value is not _LOST}

    def _instead(self, value: object, name: str) -> object:
        """Return what can be kept of a value that has its place: text, if nothing else."""
        found = self._kept(value, name)
        if found is not _LOST:
            return found
        return value[:MAX_STAND_IN] if isinstance(value, str) else shorten(value, MAX_STAND_IN)

    def _kept(self, value: object, name: str) -> object:
        """Return the value, or of a container what can be kept; `_LOST` if that is nothing."""
        problem = self._problem(value, self._room)
        if problem is None:
            self._room -= len(self._dumps(value, self._room))
            return value
        small = hasattr(value, "__len__") and len(value) <= MAX_ELEMENTS
        if small and type(value) is dict:
            return self._entries(value, f"{name}.")
        if small and isinstance(value, tuple | list):
            found = [self._instead(element, f"{name}[{place}]") for place, element in enumerate(value)]
            return getattr(type(value), "_make", type(value))(found)
        if isinstance(value, Mapping) and callable(copy := getattr(value, "copy", None)):
            # A read-only view (of HTTP headers, say), whose copy often pickles, and has the same methods.
            with contextlib.suppress(Exception):
                copied = copy()
                if self._problem(copied, self._room) is None:
                    return copied
        self.lost.append(f"{name} ({problem})")
        return _LOST

    def _problem(self, value: object, room: int) -> str | None:
        """Return why a part cannot be kept in so many bytes; None if it can."""
        try:
            self._loads(self._dumps(value, room))
        except pickling.TooLargeError as error:
            return f"{error.size:,} bytes are too many"
        except Exception as error:  # pickling and unpickling may raise anything
            return describe(error)
        return None

    def _dumps(self, value: object, room: int) -> bytes:
        return pickling.dumps(value, max(room, 0), self._used, partial(_Pickler, keeper=self))

    def _loads(self, data: bytes) -> Any:
        return pickling.loads(data, view=classes.Same(self._used))
