"""Pickling by value, and unpickling that never alters a class which this process already has.

cloudpickle finds a by-value class (one of a notebook's `__main__`) again through the id of an object, and then *resets its
attributes* to those of the pickle. Here a class is known by its name and code (`classes`), and one that exists is left as it is.

There are two forms. *Code* has the classes that it refers to within it, and a process that loads it gets them as they
were then. A *value* has of each class the identity, and the class itself as code of its own: that is only looked at
where the class is not known.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import threading
import types
import weakref
from collections import ChainMap
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, Final

import cloudpickle
from cloudpickle import cloudpickle as _cloudpickle

from ...limits import MAX_MODULE_VALUE_BYTES
from . import anatomy, class_parts, classes, exceptions, local_modules, quiet, reducers
from .anatomy import Identity
from .reach import Reach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Beside = Callable[[pickle.PickleBuffer], object]
    """Looks at a buffer of a value, and returns something true if it is to be in the pickle; else it keeps that itself."""

PROTOCOL: Final = 5
"""The pickle protocol of everything that is recorded or shipped."""

_CLOUDPICKLE_MODULES: Final = frozenset({"cloudpickle", "cloudpickle.cloudpickle", "cloudpickle.cloudpickle_fast"})
_OURS: Final = f"{__package__.partition('.')[0]}."
_PLAIN_BYTES: Final = 64 * 1024
"""Values up to here are first read as if they referred to nothing; of larger ones too much might have to be read twice."""
_QUIETLY: Final = contextlib.suppress(Exception)
_MAX_KEPT_BYTES: Final = 256 * 1024
"""A class whose code takes more is pickled each time."""

# Held by a load from the moment it builds a new class until it ends. Until then the class is half built (its methods' globals
# are filled last), and would already be found by other threads. Loads that build nothing hold it only
# for a look-up. Reentrant, as an object's __setstate__ may itself load something.
_building = threading.RLock()

_VIEW: Final[ContextVar[classes.View]] = ContextVar("raftoral_view", default=classes.NOTEBOOK)

# The code of classes that were in values, with the identity that they had then.
_code: Final[weakref.WeakKeyDictionary[type, tuple[Identity, bytes]]] = weakref.WeakKeyDictionary()


def forget_locks() -> None:
    """Forget, in a forked child, the locks that other threads of the parent held."""
    global _building
    _building = threading.RLock()


class TooLargeError(Exception):
    """The pickle is larger than the given limit. `size` is what it would take, in bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"{size} bytes")
        self.size = size


class BoundedBuffer(io.BytesIO):
    """A buffer that keeps what is written up to a limit, and only counts what comes after.

    A huge value costs no huge copy.
    """

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


_REDUCE: Final[tuple[Any, Any]] = (object.__reduce_ex__, object.__reduce__)


class OnlyHereError(pickle.PicklingError):
    """Something pickles as no more than its name in the notebook, which no other process has."""

    def __init__(self, kind: type, name: str) -> None:
        super().__init__(
            f"its pickle is only the name __main__.{name}, which another kernel or process does not have, and not the "
            f"{kind.__qualname__} itself"
        )


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle is not typed
    """For code: cloudpickle's pickler with our `reducers` and our form of `exceptions`, and with identities in place of its ids.

    `root` is what the value is a part of: the code that it reaches decides what goes along of a module beside the notebook. A mere name
    of `__main__` is never written.
    """

    dispatch_table: ClassVar[Any] = ChainMap(reducers.BY_TYPE, cloudpickle.Pickler.dispatch_table)

    def __init__(self, file: Any, root: object, beside: Beside | None = None) -> None:
        super().__init__(file, protocol=PROTOCOL, buffer_callback=beside)
        self._root = root
        self._names: frozenset[str] | None = None
        self._copied: dict[int, bool] = {}
        self._namespaces: dict[int, local_modules.Namespace] = {}

    def reducer_override(self, obj: Any) -> Any:
        """See `pickle.Pickler.reducer_override`."""
        kind = type(obj)
        if isinstance(obj, BaseException):
            reduced = exceptions.reduced(obj)
            if reduced is None and exceptions.registered(kind) is None:
                # Its class says it. Asked here, as the pickler would look into `copyreg` first.
                return obj.__reduce_ex__(PROTOCOL)
            return super().reducer_override(obj) if reduced is None else reduced
        if kind is types.FunctionType or issubclass(kind, type):
            reduced = reducers.of_function_or_class(obj, self._as_cloudpickle)
            if isinstance(obj, type) and isinstance(reduced, tuple) and anatomy.is_by_value(obj):
                return _identified(obj, reduced)
            return reduced
        if issubclass(kind, types.ModuleType):
            return self._module(obj)
        if (kind.__reduce_ex__, kind.__reduce__) == _REDUCE:
            return NotImplemented
        # It is asked here instead of by the pickler, once: what it answers is used as it is.
        reducer = self.dispatch_table.get(kind) or class_parts.reducer_of(obj)
        reduced = obj.__reduce_ex__(PROTOCOL) if reducer is None else reducer(obj)
        if type(reduced) is str and _cloudpickle._whichmodule(obj, reduced) == "__main__":
            raise OnlyHereError(kind, reduced)
        return reduced

    def _as_cloudpickle(self, obj: Any) -> Any:
        """Return what cloudpickle makes of a function or a class.

        Those of modules beside the notebook are pickled by value.
        """
        if local_modules.defining(obj) is None:
            return super().reducer_override(obj)
        if type(obj) is types.FunctionType:
            return self._dynamic_function_reduce(obj)
        return _cloudpickle._dynamic_class_reduce(obj)

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
        """Return the value, or what stands for it where it cannot be copied, or is too large for that."""
        if isinstance(value, _ALWAYS_COPIED):
            return value
        if id(value) not in self._copied:  # the module keeps it alive
            self._copied[id(value)] = _is_copied(value)
        if self._copied[id(value)]:
            return value
        return local_modules.Elsewhere(module.__name__, name)


_ALWAYS_COPIED: Final = (types.FunctionType, type, types.ModuleType, type(None), bool, int, float)


class _Probe(Pickler):
    """A test whether a value pickles, whatever functions, classes and modules it refers to."""

    def reducer_override(self, obj: Any) -> Any:
        """See `pickle.Pickler.reducer_override`."""
        if isinstance(obj, (types.FunctionType, type, types.ModuleType)):
            return print, ()  # anything that is known by its name
        return super().reducer_override(obj)


def _is_copied(value: object) -> bool:
    buffer = BoundedBuffer(0)
    try:
        _Probe(buffer, value).dump(value)
    except Exception:  # whatever it is that does not pickle
        return False
    return buffer.size <= MAX_MODULE_VALUE_BYTES


class ValuePickler(Pickler):
    """For values: classes are named, with their code as what may be needed. `used` gets those that the value is made of.

    `beside`, if given, is asked of raw buffers whether they are part of the pickle.
    """

    def __init__(self, buffer: Any, limit: int, used: dict[Identity, type], beside: Beside | None = None) -> None:
        super().__init__(buffer, None, beside)
        self._limit = limit
        self._used = used

    def dump(self, obj: Any) -> None:
        """Pickle a value, which is its own root."""
        self._root = obj
        super().dump(obj)

    def reducer_override(self, obj: Any) -> Any:
        """See `pickle.Pickler.reducer_override`."""
        if isinstance(obj, type) and anatomy.is_by_value(obj):
            for one in reversed(obj.__mro__):
                if one is obj or anatomy.is_by_value(one):
                    self._used[classes.identity(one)] = one
            return shipped_class, (tuple(classes.identity(obj)), _code_of(obj, self._limit))
        return super().reducer_override(obj)


def _identified(cls: type, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    make, arguments, state, items, pairs, setter = (*reduced, None, None, None, None)[:6]
    if make in (_cloudpickle._make_skeleton_class, _cloudpickle._make_skeleton_enum, class_parts.make_struct):
        arguments = (*arguments[:-2], None, arguments[-1])  # in place of the id, which is another one each time
    state = None if state is None else (setter, state)
    return made_class, (tuple(classes.identity(cls)), make, arguments), state, items, pairs, fill_class


def _code_of(cls: type, limit: int) -> bytes:
    meant = classes.identity(cls)
    kept = _code.get(cls)
    if kept is not None and kept[0] == meant and len(kept[1]) <= limit:
        return kept[1]
    data = dumps_code(cls, limit)
    if len(data) <= _MAX_KEPT_BYTES:
        _code[cls] = meant, data
    return data


def dumps_code(code: object, limit: int, root: object = None) -> bytes:
    """Return the pickle of a function or a class, with all by-value code that it reaches.

    Modules beside the notebook are included.

    `root` is the code that it is a part of, if it is not its own.

    Raises:
        TooLargeError: it takes more than `limit` bytes.
        Exception: whatever pickling raises.
    """
    buffer = BoundedBuffer(limit)
    Pickler(buffer, code if root is None else root).dump(code)
    return _whole(buffer)


def dumps(
    value: object,
    limit: int,
    used: dict[Identity, type] | None = None,
    pickler: Callable[..., ValuePickler] = ValuePickler,
    beside: Beside | None = None,
) -> bytes:
    """Return the pickle of `value`, with functions and classes of the notebook by value.

    It is made by a `ValuePickler`, or one like it. With `beside`, buffers that it takes are not in the pickle: `loads` needs them.

    The classes that it is made of are added to `used`.

    Raises:
        TooLargeError: it takes more than `limit` bytes.
        Exception: whatever pickling the value raises.
    """
    buffer = BoundedBuffer(limit)
    known = {} if used is None else used
    (pickler(buffer, limit, known) if beside is None else pickler(buffer, limit, known, beside)).dump(value)
    return _whole(buffer)


def _whole(buffer: BoundedBuffer) -> bytes:
    if buffer.size > buffer.limit:
        raise TooLargeError(buffer.size)
    return buffer.getvalue()


def loads(
    data: bytes | memoryview,
    modules: set[str] | None = None,
    *,
    view: classes.View = classes.NOTEBOOK,
    buffers: Sequence[memoryview] | None = None,
) -> Any:
    """Unpickle `data`: new copies of everything except the classes that `view` knows.

    The names of the modules that it refers to are added to `modules`. `buffers` are those that were kept beside it: what is made lives on
    them.

    Safe to call from several threads at once. `data` must come from a trusted source: unpickling runs code.

    Raises:
        ClassChangedError: `view` knows a class of that name with other code, and does not take it.
        Exception: whatever unpickling raises; classes begun by the failed load are forgotten.
    """
    if modules is None and buffers is None and len(data) <= _PLAIN_BYTES:
        # Most values are plain, and need none of what follows.
        with _QUIETLY:  # what is damaged raises again below
            return _PlainUnpickler(io.BytesIO(data)).load()
    token = _VIEW.set(view)
    try:
        return _load(_Unpickler(io.BytesIO(data), modules, view, buffers=buffers))
    finally:
        _VIEW.reset(token)


def loads_with_buffers(
    data: bytes | memoryview, buffers: Iterable[Any], *, view: classes.View = classes.NOTEBOOK
) -> tuple[Any, list[Any]]:
    """Unpickle `data`, whose raw buffers were kept apart; return the value, and all objects that the pickle refers to more than once or might.

    As `loads`: safe to call from several threads, `data` from a trusted source only, and the same exceptions.
    """
    token = _VIEW.set(view)
    try:
        unpickler = _Unpickler(io.BytesIO(data), None, view, buffers=buffers)
        value = _load(unpickler)
        return value, list(unpickler.memo.copy().values())
    finally:
        _VIEW.reset(token)


def view_of_load() -> classes.View:
    """Return the view of the `loads` that runs here: for what it calls, and has pickles of its own to read."""
    return _VIEW.get()


def loads_code(
    data: bytes, owner: str, modules: set[str] | None = None, *, stranger: bool = False
) -> tuple[Any, classes.Known]:
    """Unpickle code of `dumps_code`, knowing none of its classes; return it with the classes made.

    `owner` names it in messages.

    With `stranger` it is read as in another process: no name of `__main__` is found (`pickle.UnpicklingError`).

    As for `loads`; classes of pickles of earlier versions, which have no identities, are found again where the process
    has them.
    """
    known = classes.Known(owner)
    unpickler = (_Stranger if stranger else _Unpickler)(io.BytesIO(data), modules, known, code=True)
    code = _load(unpickler)
    for cls in unpickler.met:
        known.belongs(classes.identity(cls), cls)
    return code, known


def _load(unpickler: _Unpickler) -> Any:
    try:
        value = unpickler.load()
        class_parts.make_schemas(unpickler.new_classes())
    except BaseException:
        unpickler.forget_new_classes()
        raise
    finally:
        unpickler.release()
    return value


# --- what pickles refer to. Found by their names alone (`_Unpickler.find_class`), whichever of our modules they are in;
# called as they stand only by those who unpickle without us.


def shipped_class(meant: tuple[Any, ...], code: bytes) -> Any:
    """Note a class within a value."""
    found = classes.NOTEBOOK.find(Identity(*meant))
    return loads(code) if found is None else found


def made_class(_meant: tuple[Any, ...], make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Note a class within code, its attributes yet to be set."""
    return quiet.make(make, arguments)


def fill_class(cls: Any, state: tuple[Callable[[Any, Any], Any] | None, Any]) -> None:
    """Set the attributes of a class that was made."""
    setter, attributes = state
    if setter is not None:
        setter(cls, attributes)


class _PlainUnpickler(pickle.Unpickler):
    """An unpickler of values that refer to nothing: no class, and no function."""

    def find_class(self, module: str, name: str, /) -> Any:
        raise pickle.UnpicklingError(f"it refers to {module}.{name}")


class _Unpickler(pickle.Unpickler):
    """An unpickler for one `load`, which builds only classes that its view does not have."""

    def __init__(
        self,
        file: io.BytesIO,
        modules: set[str] | None,
        view: classes.View,
        *,
        code: bool = False,
        buffers: Iterable[Any] | None = None,
    ) -> None:
        super().__init__(file, buffers=buffers)
        self.met: list[type] = []
        """The by-value classes that came up, each once."""
        self._modules = modules
        self._view = view
        self._code = code
        self._new: list[tuple[str | None, Any]] = []
        self.made: dict[Identity, Any] = {}
        """The classes that were built, but not those within functions: several may be alike."""
        self._holds_lock = False

    def find_class(self, module: str, name: str, /) -> Any:
        if module.startswith(_OURS):
            if name in _REFERRED_TO:
                return getattr(self, _REFERRED_TO[name])
            module = _MOVED.get(module, {}).get(name.partition(".")[0], module)
        if module in _CLOUDPICKLE_MODULES:
            if name == "_make_skeleton_class":
                return self._make_class
            if name == "_make_skeleton_enum":
                return self._make_enum
            if name == "_class_setstate":
                return self._set_class_state
            if name == "subimport":
                return self._import
        elif name == local_modules.import_package.__name__ and module.startswith(_OURS):
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

    def new_classes(self) -> list[type]:
        """Return the classes that this load built."""
        return [new for _, new in self._new]

    def forget_new_classes(self) -> None:
        """Take classes of a failed load out of cloudpickle's tracker: they may be half built."""
        for tracker_id, new in self._new:
            with _cloudpickle._DYNAMIC_CLASS_TRACKER_LOCK:
                _cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.pop(tracker_id, None)
                _cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS.pop(new, None)

    def release(self) -> None:
        """Let other threads see the classes that this load built."""
        if self._holds_lock:
            self._holds_lock = False
            _building.release()

    def _shipped(self, plain: tuple[Any, ...], code: bytes) -> Any:
        meant = Identity(*plain)
        found = self._view.find(meant)
        if found is None:
            with _building:
                found = self._view.within(meant)  # meanwhile another thread may have built it
                if found is None:
                    unpickler = _Unpickler(io.BytesIO(code), self._modules, self._view)
                    found = _load(unpickler)
                    for one, new in {**unpickler.made, meant: found}.items():  # classes may refer to each other
                        self._view.add(one, new)
        return found

    def _made(self, plain: tuple[Any, ...], make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        meant = Identity(*plain)
        with _building:
            found = None if self._code else self._view.within(meant)
            if found is not None:
                return found
            if not self._holds_lock:
                _building.acquire()
                self._holds_lock = True
            if meant in self.made:  # as often as it refers to itself, or its cell was run
                return self.made[meant]
            new = quiet.make(make, arguments)
            classes.note_built(new, meant)
            if not meant.local:
                self.made[meant] = new
            self._new.append((None, new))
            self.met.append(new)
            return new

    def _fill(self, cls: Any, state: tuple[Callable[[Any, Any], Any] | None, Any]) -> None:
        if any(cls is new for _, new in self._new):
            fill_class(cls, state)

    # Of pickles that earlier versions made, the argument before the last of both of cloudpickle's functions is the id of the class.

    def _make_class(self, *args: Any) -> Any:
        return self._existing_or_new(args[-2], _cloudpickle._make_skeleton_class, args)

    def _make_enum(self, *args: Any) -> Any:
        return self._existing_or_new(args[-2], _cloudpickle._make_skeleton_enum, args)

    def _existing_or_new(self, tracker_id: str | None, make: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        if tracker_id is None:  # within `_made`
            return quiet.make(make, args)
        with _building:
            found = _cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(tracker_id)
            if found is None:
                if not self._holds_lock:
                    _building.acquire()
                    self._holds_lock = True
                found = make(*args)
                self._new.append((tracker_id, found))
            self.met.append(found)
            return found

    def _set_class_state(self, cls: Any, state: Any) -> Any:
        if any(cls is new for _, new in self._new):
            _cloudpickle._class_setstate(cls, state)
            class_parts.finish(cls, state[1])
        return cls


class _Stranger(_Unpickler):
    """An unpickler that finds nothing of the notebook."""

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


_LANGUAGE: Final = "raftoral_nb.workflow.language"
_MOVED: Final[dict[str, dict[str, str]]] = {
    "raftoral_nb.model": {"Failure": "raftoral_nb.core.records"},
    "raftoral_nb.workflow.steps": dict.fromkeys(
        ("StepFunction", "StepOptions", "Retry", "step"), "raftoral_nb.workflow.shipping.step_function"
    ),
    "raftoral_nb.workflow.definitions": dict.fromkeys(
        ("Workflow", "workflow"), "raftoral_nb.workflow.shipping.definitions"
    ),
    "raftoral_nb.workflow.context": {"WorkflowContext": f"{_LANGUAGE}.context"},
    "raftoral_nb.workflow.variables": {"ReplicatedVar": f"{_LANGUAGE}.variables"},
    "raftoral_nb.workflow.children": {"ChildRun": f"{_LANGUAGE}.child_runs"},
    "raftoral_nb.workflow.messages": {"Update": f"{_LANGUAGE}.messages"},
    "raftoral_nb.workflow.branches": dict.fromkeys(("BranchTask", "TaskGroup"), f"{_LANGUAGE}.branches"),
    "raftoral_nb.workflow.sagas": {"Saga": f"{_LANGUAGE}.sagas"},
    "raftoral_nb.workflow.running": dict.fromkeys(
        ("RunningStep", "current_step"), "raftoral_nb.workflow.execution.running_step"
    ),
}
"""The present modules of things that data directories of version 0.1.0 name by their modules of that time."""

_REFERRED_TO: Final = {"shipped_class": "_shipped", "made_class": "_made", "fill_class": "_fill"}
