"""Pickling by value, and unpickling that never alters a class which this process already has.

cloudpickle finds a by-value class (one of a notebook's `__main__`) again through a tracker id, and then *resets its
attributes* to those of the pickle. Within one process that would undo whatever the notebook did to its class since. Here a
class that exists is taken as it is, and only one that does not (after a restart, in another process) is built.
"""

from __future__ import annotations

import io
import pickle
import threading
from collections import ChainMap
from typing import TYPE_CHECKING, Any, ClassVar, Final

import cloudpickle
from cloudpickle import cloudpickle as _cloudpickle

from . import exceptions, reducers

if TYPE_CHECKING:
    from collections.abc import Callable

PROTOCOL: Final = 5
"""The pickle protocol of everything that is recorded or shipped."""

_CLOUDPICKLE_MODULES: Final = frozenset({"cloudpickle", "cloudpickle.cloudpickle", "cloudpickle.cloudpickle_fast"})

# Held by a load from the moment it builds a new class until it ends. Until then the class is half built (its methods' globals
# are filled last), and cloudpickle's tracker would already hand it to other threads. Loads that build nothing hold it only
# for a look-up. Reentrant, as an object's __setstate__ may itself load something.
_building = threading.RLock()


def forget_locks() -> None:
    """In a forked child: no thread holds what another one of the parent held."""
    global _building
    _building = threading.RLock()


class TooLargeError(Exception):
    """The pickle is larger than the given limit. `size` is what it would take, in bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"{size} bytes")
        self.size = size


class BoundedBuffer(io.BytesIO):
    """Keeps what is written up to a limit, and only counts what comes after: a huge value costs no huge copy."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.size = 0

    def write(self, data: Any, /) -> int:
        """See `io.BytesIO.write`."""
        size = memoryview(data).nbytes
        self.size += size
        if self.size <= self.limit:
            super().write(data)
        return size


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle is not typed
    """cloudpickle's pickler with our `reducers`, and our form of `exceptions`."""

    dispatch_table: ClassVar[Any] = ChainMap(reducers.BY_TYPE, cloudpickle.Pickler.dispatch_table)

    def reducer_override(self, obj: Any) -> Any:
        """See `pickle.Pickler.reducer_override`."""
        reduced = exceptions.reduced(obj) if isinstance(obj, BaseException) else reducers.of_function_or_class(obj)
        return super().reducer_override(obj) if reduced is None else reduced


def dumps(value: object, limit: int, pickler: Callable[..., Any] = Pickler) -> bytes:
    """The pickle of `value`, with functions and classes of the notebook by value; made by a `Pickler`, or one like it.

    Raises:
        TooLargeError: it takes more than `limit` bytes.
        Exception: whatever pickling the value raises.
    """
    buffer = BoundedBuffer(limit)
    pickler(buffer, protocol=PROTOCOL).dump(value)
    if buffer.size > limit:
        raise TooLargeError(buffer.size)
    return buffer.getvalue()


def loads(data: bytes, modules: set[str] | None = None) -> Any:
    """What `data` holds: own copies of everything, but the same class objects where this process has them.

    The names of the modules that it refers to are added to `modules`.

    Safe to call from several threads at once. `data` must come from a trusted source: unpickling runs code.

    Raises:
        Exception: whatever unpickling raises; classes begun by the failed load are forgotten.
    """
    unpickler = _Unpickler(io.BytesIO(data), modules)
    try:
        value = unpickler.load()
    except BaseException:
        unpickler.forget_new_classes()
        raise
    finally:
        unpickler.release()
    return value


class _Unpickler(pickle.Unpickler):
    """An unpickler for one `load`, which builds only classes that this process does not have."""

    def __init__(self, file: io.BytesIO, modules: set[str] | None) -> None:
        super().__init__(file)
        self._modules = modules
        self._new: list[tuple[str | None, Any]] = []
        self._holds_lock = False

    def find_class(self, module: str, name: str, /) -> Any:
        if module in _CLOUDPICKLE_MODULES:
            if name == "_make_skeleton_class":
                return self._make_class
            if name == "_make_skeleton_enum":
                return self._make_enum
            if name == "_class_setstate":
                return self._set_class_state
            if name == "subimport":
                return self._import
        elif self._modules is not None:
            self._modules.add(module)
        return super().find_class(module, name)

    def _import(self, module: str) -> Any:
        if self._modules is not None:
            self._modules.add(module)
        return _cloudpickle.subimport(module)

    def forget_new_classes(self) -> None:
        """Takes classes of a failed load out of cloudpickle's tracker: they may be half built."""
        for tracker_id, new in self._new:
            with _cloudpickle._DYNAMIC_CLASS_TRACKER_LOCK:
                _cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.pop(tracker_id, None)
                _cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS.pop(new, None)

    def release(self) -> None:
        """Lets other threads see the classes that this load built."""
        if self._holds_lock:
            self._holds_lock = False
            _building.release()

    # The argument before the last of both of cloudpickle's functions is the class' tracker id.

    def _make_class(self, *args: Any) -> Any:
        return self._existing_or_new(args[-2], _cloudpickle._make_skeleton_class, args)

    def _make_enum(self, *args: Any) -> Any:
        return self._existing_or_new(args[-2], _cloudpickle._make_skeleton_enum, args)

    def _existing_or_new(self, tracker_id: str | None, make: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        with _building:
            existing = _cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(tracker_id)
            if existing is not None:
                return existing
            if not self._holds_lock:
                _building.acquire()
                self._holds_lock = True
            new = make(*args)
            self._new.append((tracker_id, new))
            return new

    def _set_class_state(self, cls: Any, state: Any) -> Any:
        if any(cls is new for _, new in self._new):
            return _cloudpickle._class_setstate(cls, state)
        return cls
