"""Pickling by value, and unpickling that never alters a class which this process already has.

cloudpickle finds a by-value class (one of a notebook's `__main__`) again through a tracker id, and then *resets its
attributes* to those of the pickle. Within one process that would undo whatever the notebook did to its class since. Here a
class that exists is taken as it is, and only one that does not (after a restart, in another process) is built.
"""

from __future__ import annotations

import io
import pickle
import threading
import types
from collections import ChainMap
from typing import TYPE_CHECKING, Any, ClassVar, Final

import cloudpickle
from cloudpickle import cloudpickle as _cloudpickle

from ..limits import MAX_MODULE_VALUE_BYTES
from . import class_parts, local_modules, reducers
from .reach import Reach

if TYPE_CHECKING:
    from collections.abc import Callable

PROTOCOL: Final = 5
"""The pickle protocol of everything that is recorded or shipped."""

_CLOUDPICKLE_MODULES: Final = frozenset({"cloudpickle", "cloudpickle.cloudpickle", "cloudpickle.cloudpickle_fast"})

# Held by a load from the moment it builds a new class until it ends. Until then the class is half built (its methods' globals
# are filled last), and cloudpickle's tracker would already hand it to other threads. Loads that build nothing hold it only
# for a look-up. Reentrant, as an object's __setstate__ may itself load something.
_building = threading.RLock()


class TooLargeError(Exception):
    """The pickle is larger than the given limit. `size` is what it would take, in bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"{size} bytes")
        self.size = size


class _BoundedBuffer(io.BytesIO):
    """Keeps what is written up to a limit, and only counts what comes after: a huge value costs no huge copy."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.size = 0

    def write(self, data: Any, /) -> int:
        size = memoryview(data).nbytes
        self.size += size
        if self.size <= self.limit:
            super().write(data)
        return size


_REDUCE: Final[tuple[Any, Any]] = (object.__reduce_ex__, object.__reduce__)


class OnlyHereError(pickle.PicklingError):
    """Something pickles as no more than its name in the notebook, which no other process has."""

    def __init__(self, kind: type, name: str) -> None:
        super().__init__(
            f"its pickle is only the name __main__.{name}, which another kernel or process does not have, and not the "
            f"{kind.__qualname__} itself"
        )


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle is not typed
    """cloudpickle's pickler with our `reducers`, which never writes a mere name of `__main__`."""

    dispatch_table: ClassVar[Any] = ChainMap(reducers.BY_TYPE, cloudpickle.Pickler.dispatch_table)

    def __init__(self, file: Any, root: object) -> None:
        super().__init__(file, protocol=PROTOCOL)
        self._root = root
        self._names: frozenset[str] | None = None
        self._copied: dict[int, bool] = {}
        self._namespaces: dict[int, local_modules.Namespace] = {}

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is types.FunctionType or issubclass(kind, type):
            reduced = reducers.of_function_or_class(obj)
            if reduced is None and local_modules.defining(obj) is not None:
                reduced = (
                    self._dynamic_function_reduce(obj)
                    if kind is types.FunctionType
                    else _cloudpickle._dynamic_class_reduce(obj)
                )
            return super().reducer_override(obj) if reduced is None else reduced
        if issubclass(kind, types.ModuleType):
            return self._module(obj)
        if (kind.__reduce_ex__, kind.__reduce__) == _REDUCE:
            return NotImplemented
        # It is asked here instead of by the pickler, once: what it answers is used as it is.
        reducer = self.dispatch_table.get(kind)
        reduced = obj.__reduce_ex__(PROTOCOL) if reducer is None else reducer(obj)
        if type(reduced) is str and _cloudpickle._whichmodule(obj, reduced) == "__main__":
            raise OnlyHereError(kind, reduced)
        return reduced

    # --- modules beside the notebook, and what of them travels by value

    def _dynamic_function_reduce(self, func: Any) -> Any:
        reduced = super()._dynamic_function_reduce(func)
        module = local_modules.of_globals(func.__globals__)
        imported = local_modules.imported(func)
        if module is None and not imported:
            return reduced
        make, (code, namespace, *others), (state, slots), *rest = reduced
        if module is not None:
            namespace = self._namespace(module)
            used = slots["__globals__"]
            slots["__globals__"] = {name: self._portable(module, name, value) for name, value in used.items()}
        if imported:
            make, code = local_modules.make_importing, (imported, code)
            return make, (*code, namespace, *others), (state, slots), *rest
        return make, (code, namespace, *others), (state, slots), *rest

    def _module(self, module: types.ModuleType) -> Any:
        if local_modules.defining(module) is None:
            inside = local_modules.submodules(module)
            return (local_modules.import_package, (module.__name__, inside)) if inside else NotImplemented
        if self._names is None:
            self._names = Reach(self._root).names
        state = local_modules.module_state(module, self._names, self._portable)
        return local_modules.module_of, (self._namespace(module),), state, None, None, local_modules.fill

    def _namespace(self, module: types.ModuleType) -> local_modules.Namespace:
        return self._namespaces.setdefault(id(module), local_modules.Namespace(module))

    def _portable(self, module: types.ModuleType, name: str, value: Any) -> Any:
        """The value, or what stands for it where it cannot be copied, or is too large for that."""
        if isinstance(value, _ALWAYS_COPIED):
            return value
        if id(value) not in self._copied:  # the module keeps it alive
            self._copied[id(value)] = _is_copied(value)
        if self._copied[id(value)]:
            return value
        return local_modules.Elsewhere(module.__name__, name)


_ALWAYS_COPIED: Final = (types.FunctionType, type, types.ModuleType, type(None), bool, int, float)


class _Probe(_Pickler):
    """Finds out whether a value pickles, whatever functions, classes and modules it refers to."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, (types.FunctionType, type, types.ModuleType)):
            return print, ()  # anything that is known by its name
        return super().reducer_override(obj)


def _is_copied(value: object) -> bool:
    buffer = _BoundedBuffer(0)
    try:
        _Probe(buffer, value).dump(value)
    except Exception:  # whatever it is that does not pickle
        return False
    return buffer.size <= MAX_MODULE_VALUE_BYTES


def dumps(value: object, limit: int, root: object = None) -> bytes:
    """The pickle of `value`, with functions and classes of the notebook, and of modules beside it, by value.

    `root` is what the value is a part of: the code that it reaches decides what of such a module goes along.

    Raises:
        TooLargeError: it takes more than `limit` bytes.
        Exception: whatever pickling the value raises.
    """
    buffer = _BoundedBuffer(limit)
    _Pickler(buffer, value if root is None else root).dump(value)
    if buffer.size > limit:
        raise TooLargeError(buffer.size)
    return buffer.getvalue()


def loads_as_stranger(data: bytes, modules: set[str] | None = None) -> Any:
    """What another process would make of `data`: one that has no class, no function and no value of the notebook.

    Classes that travel by value are built anew, and known to nobody afterwards; no name of `__main__` is found.

    Raises:
        Exception: as `loads`; `pickle.UnpicklingError` for a name of `__main__`.
    """
    return _Stranger(io.BytesIO(data), modules).load()


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
        elif module == class_parts.__name__ and name == class_parts.make_struct.__name__:
            return self._make_struct
        elif module == local_modules.__name__ and name == local_modules.import_package.__name__:
            return self._import_package
        elif self._modules is not None:
            self._modules.add(module)
        return super().find_class(module, name)

    def _import(self, module: str) -> Any:
        if self._modules is not None:
            self._modules.add(module)
        return _cloudpickle.subimport(module)

    def _import_package(self, name: str, inside: str) -> Any:
        if self._modules is not None:
            self._modules.add(name)
        return local_modules.import_package(name, inside)

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

    # The argument before the last of these functions is the class' tracker id.

    def _make_class(self, *args: Any) -> Any:
        return self._existing_or_new(args[-2], _cloudpickle._make_skeleton_class, args)

    def _make_enum(self, *args: Any) -> Any:
        return self._existing_or_new(args[-2], _cloudpickle._make_skeleton_enum, args)

    def _make_struct(self, *args: Any) -> Any:
        return self._existing_or_new(args[-2], class_parts.make_struct, args)

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
            _cloudpickle._class_setstate(cls, state)
            class_parts.finish(cls, state[1])
        return cls


class _Stranger(_Unpickler):
    """Has nothing of the notebook. Builds classes for this load alone, so that it holds no lock."""

    def __init__(self, file: io.BytesIO, modules: set[str] | None) -> None:
        super().__init__(file, modules)
        self._built: dict[str, Any] = {}

    def find_class(self, module: str, name: str, /) -> Any:
        if module == "__main__":
            raise pickle.UnpicklingError(
                f"it refers to {name!r} of the notebook (__main__), which no other process has"
            )
        return super().find_class(module, name)

    def _import(self, module: str) -> Any:
        if module == "__main__":
            raise pickle.UnpicklingError("it refers to the module __main__, which is another one in every process")
        return super()._import(module)

    def _existing_or_new(self, tracker_id: str | None, make: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        if tracker_id is not None and tracker_id in self._built:
            return self._built[tracker_id]
        new = make(*args[:-2], None, args[-1])
        self._new.append((None, new))
        if tracker_id is not None:
            self._built[tracker_id] = new
        return new
