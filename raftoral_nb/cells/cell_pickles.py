"""Values of the notebook as bytes: taken apart with their raw buffers kept out of the pickle, and put together again.

A function of the notebook gets the notebook's globals when it is loaded, as they are then, and takes none along: what it reads
of them is recorded under its own name.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
import enum
import fractions
import io
import pathlib
import pickle
import re
import sys
import types
import uuid
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from typing import Any, Final

from cloudpickle import cloudpickle as _cloudpickle

from ..limits import MAX_CODE_BYTES
from ..workflow.codec import classes, digests, local_modules, pickling
from ..workflow.codec.blobs import new_hasher
from . import figure_states
from .cell_blobs import CellBlobs, aligned
from .cell_records import StoredBuffer, StoredGroup
from .library_state import named_method, of_module
from .shared_parts import ArraySpan, SharedParts, root_of, span_of

OWN_FILE_BYTES: Final = 1024 * 1024
"""Buffers from here on get a file of their own: what did not change in a value is not written again."""

CANONICAL_BYTES: Final = 1024 * 1024
"""Values up to here are known by their canonical digest, whatever their pickle looks like; larger ones by the pickle."""

_ROOTS_FACTOR: Final = 4
"""A view of an array takes the whole array along if that is at most so much larger."""

_SPACE: Final[ContextVar[dict[str, Any]]] = ContextVar("raftoral_cells_space")

_IMMUTABLE: Final = (
    *(str, bytes, int, float, complex, bool, type(None), tuple, frozenset, range, slice, type, enum.Enum, property),
    *(types.FunctionType, types.BuiltinFunctionType, types.ModuleType, types.CodeType, types.MethodType),
    *(types.MethodDescriptorType, types.WrapperDescriptorType, types.EllipsisType, types.GenericAlias),
    *(dt.date, dt.time, dt.timedelta, dt.tzinfo, decimal.Decimal, fractions.Fraction),
    *(pathlib.PurePath, uuid.UUID, re.Pattern),
)
"""What two names may share without being one thing."""

_IMMUTABLE_MODULES: Final = ("pyarrow.", "pandas._libs.", "numpy.dtypes")


_IN_MEMORY: Final = (io.BytesIO, io.StringIO)


def notebook_space() -> dict[str, Any]:
    """Return the globals of the notebook into which values are being loaded."""
    return _SPACE.get()


class _Space:
    """The globals of the notebook, within a pickle."""

    def __reduce__(self) -> Any:
        return notebook_space, ()


class CellPickler(pickling.ValuePickler):
    """For values of a notebook: their raw buffers apart, its functions without its globals, views with the array that they are of.

    `roots` are the arrays that have a name: a view of one of them stays one.
    """

    def __init__(
        self, file: Any, space: dict[str, Any], buffers: list[pickle.PickleBuffer], roots: frozenset[int]
    ) -> None:
        self.used: dict[Any, type] = {}
        super().__init__(file, MAX_CODE_BYTES, self.used, buffers.append)
        self._space = space
        self._roots = roots
        self._marker = _Space()
        self._apart: dict[int, Any] = {}
        """Views that are pickled as arrays on their own, whatever they are of."""
        self.spans: list[ArraySpan] = []
        """The memory of all arrays that are pickled, but not of those that are views of others here, nor of tables."""

    def reducer_override(self, obj: Any) -> Any:
        """See `pickle.Pickler.reducer_override`."""
        kind = type(obj)
        if kind.__module__ == "numpy" and kind.__name__ == "ndarray":
            if id(obj) in self._apart:
                return _array(obj)
            reduced = None if obj.base is None else self._view(obj)
            if reduced is None:
                self.spans.append(span_of(obj))
            return reduced or _array(obj)
        if kind.__module__ == "pandas.core.internals.blocks" or _is_index(obj):
            return self._on_its_own(super().reducer_override(obj))
        if kind.__module__.startswith("matplotlib."):
            state = figure_states.state_of(obj)
            if state is not None:
                return state
        if isinstance(obj, io.IOBase) and kind not in _IN_MEMORY:
            raise pickle.PicklingError("an open file" if not obj.closed else "a closed file")
        if (named := named_method(obj)) is not None:
            return of_module, named
        try:
            return super().reducer_override(obj)
        except pickling.TooLargeError:
            if not isinstance(obj, type):
                raise
            # The class is not stored with the value: it is found where its cell has run.
            return pickling.shipped_class, (tuple(classes.identity(obj)), b"")

    def _view(self, array: Any) -> Any:
        """Return how to make a view of the array that it is a view of; None to pickle it as if it were on its own."""
        root = root_of(array)
        contiguous = array.flags.c_contiguous or array.flags.f_contiguous
        if root is array or root.dtype.hasobject or not (root.flags.c_contiguous or root.flags.f_contiguous):
            return None
        named = id(root) in self._roots
        if not named and (contiguous or root.nbytes > _ROOTS_FACTOR * array.nbytes):
            return None
        place = array.__array_interface__["data"][0] - root.__array_interface__["data"][0]
        return view_of, (root, array.dtype, array.shape, array.strides, place, array.flags.writeable)

    def _on_its_own(self, reduced: Any) -> Any:
        """Give a table's block of columns, or its index, values of its own.

        Tables share them until one of them is changed, and pandas would not know that of the tables which are loaded.
        """
        if not isinstance(reduced, tuple):
            return reduced
        make, arguments, *rest = reduced
        return (make, tuple(map(self._fresh, arguments)), *rest)

    def _fresh(self, part: Any) -> Any:
        if type(part) is dict:
            return {name: self._fresh(one) for name, one in part.items()}
        if hasattr(part, "dtype") and hasattr(part, "view"):
            with contextlib.suppress(TypeError, NotImplementedError):
                # A view of one of pandas' own arrays would have its values within it.
                fresh = part.view() if type(part).__module__ == "numpy" else part.copy()
                self._apart[id(fresh)] = fresh
                return fresh
        return part

    def _dynamic_function_reduce(self, func: Any) -> Any:
        reduced = super()._dynamic_function_reduce(func)
        if func.__globals__ is not self._space:
            return reduced
        make, arguments, (state, slots), *_ = reduced
        arguments = tuple(self._marker if type(one) is dict else one for one in arguments)
        make = make_function if make is _cloudpickle._make_function else make
        slots = {name: value for name, value in slots.items() if name not in _LEFT_OUT}
        return make, arguments, (state, slots), None, None, fill_function


def _array(array: Any) -> Any:
    """Return how to make an array. It is not a view of another one then, which numpy's own way of loading it makes it."""
    reduced = array.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    arguments = reduced[1]
    if len(arguments) == _ARRAYS_PARTS and isinstance(arguments[0], pickle.PickleBuffer):
        return array_of, arguments
    return reduced


_ARRAYS_PARTS: Final = 4
"""A buffer, the type of its elements, the shape, and the order of the axes: there is no other way to call `array_of`."""


_LEFT_OUT: Final = frozenset({"__globals__", "_cloudpickle_submodules"})


def make_function(code: types.CodeType, space: dict[str, Any], name: Any, defaults: Any, closure: Any) -> Any:
    """Return a function of the notebook, its attributes yet to be set."""
    return types.FunctionType(code, space, name, defaults, closure)


def array_of(buffer: Any, dtype: Any, shape: Any, order: Any) -> Any:
    """Return an array that lies in a buffer, and is a view of no other array."""
    return sys.modules["numpy"].ndarray(shape, dtype, buffer, 0, None, order)


def view_of(root: Any, dtype: Any, shape: Any, strides: Any, place: int, writeable: bool) -> Any:
    """Return a view of an array, `place` bytes into it."""
    made = type(root)(shape, dtype, root if root.flags.c_contiguous else root.T, place, strides)
    if not writeable:
        made.flags.writeable = False
    return made


def fill_function(function: Any, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Set the attributes of a function of the notebook, but none of its globals."""
    attributes, slots = state
    closure = slots.pop("__closure__", None) or ()
    function.__dict__.update(attributes)
    for cell, held in zip(function.__closure__ or (), closure, strict=False):
        with contextlib.suppress(ValueError):  # not assigned yet
            cell.cell_contents = held.cell_contents
    for name, value in slots.items():
        setattr(function, name, value)


# --- values taken apart


class _Sink(io.BytesIO):
    """What a pickler writes to: hashes, and keeps what it hashes if that is wanted."""

    def __init__(self, *, keep: bool) -> None:
        super().__init__()
        self.hasher = new_hasher()
        self.size = 0
        self._keep = keep

    def write(self, data: Any, /) -> int:
        """See `io.BytesIO.write`."""
        self.hasher.update(data)
        size = memoryview(data).nbytes
        self.size += size
        if self._keep:
            super().write(data)
        return size


class TakenValue:
    """One value, taken apart: its digest, and the objects that it is made of."""

    def __init__(self, value: Any, space: dict[str, Any], roots: frozenset[int], *, keep: bool = False) -> None:
        """Take a value apart, which does not change it; `keep` keeps the pickle. Raises whatever pickling it raises."""
        sink = _Sink(keep=keep)
        raw: list[pickle.PickleBuffer] = []
        pickler = CellPickler(sink, space, raw, roots)
        pickler.dump(value)
        self.buffers = [one.raw() for one in raw]
        for buffer in self.buffers:
            sink.hasher.update(b"|%d|" % buffer.nbytes)
            sink.hasher.update(buffer)
        self.value = value
        self.pickled = sink.getvalue() if keep else b""
        self.size = sink.size + sum(buffer.nbytes for buffer in self.buffers)
        self.digest: str = sink.hasher.hexdigest()
        """Of the pickle: equal within one process for a value that did not change. Equal values may differ in it."""
        memo = pickler.memo.copy()
        self.parts = SharedParts(_changeable(entry[1] for entry in memo.values()), pickler.spans)
        """All in it by which it may be one with another value."""
        self.packages = {kind.__module__.partition(".")[0] for kind in {type(entry[1]) for entry in memo.values()}}
        """The packages that its objects are of."""
        self._memo = memo  # as long as it is kept, no id of a temporary is used again
        self.classes: list[type] = list(pickler.used.values())

    def forget(self) -> None:
        """Let go of the value, and of all that it is made of; what was found of it stays."""
        self.value = self._memo = None
        self.parts = SharedParts()
        self.buffers, self.pickled = [], b""

    def content(self) -> str:
        """Return a digest of the value and of its classes that is the same in another process, as far as there is one."""
        known = digests.exact_digest(self.value) if self.size <= CANONICAL_BYTES else None
        parts = [known or f"pickle {self.digest}", *sorted(digests.code_digest(one) for one in self.classes)]
        hasher = new_hasher()
        hasher.update("|".join(parts).encode())
        return hasher.hexdigest()


def is_steady(taken: TakenValue, value: Any, space: dict[str, Any], roots: frozenset[int]) -> bool:
    """Tell whether a value that nobody has changed since is the same when it is taken apart once more. Raises as `TakenValue` does."""
    return taken.packages <= _STEADY or TakenValue(value, space, roots).digest == taken.digest


_STEADY: Final = frozenset(
    [
        "builtins",
        "numpy",
        "pandas",
        "pyarrow",
        "collections",
        "datetime",
        "decimal",
        "fractions",
        "pathlib",
        "uuid",
        "re",
        "functools",
        "types",
        "zoneinfo",
    ]
)
"""Packages of which no object counts how often it is pickled, or the like."""


class _Nowhere(io.BytesIO):
    """What a pickler writes to if only the objects count."""

    def write(self, data: Any, /) -> int:
        """See `io.BytesIO.write`."""
        return memoryview(data).nbytes


def shared_parts(value: Any, space: dict[str, Any], roots: frozenset[int]) -> SharedParts:
    """Return all in a value by which it may be one with another one. None, if it cannot be taken apart."""
    if not is_shared(value) and not isinstance(value, _HOLDS_OTHERS):
        return SharedParts()
    pickler = CellPickler(_Nowhere(), space, [], roots)
    try:
        pickler.dump(value)
    except Exception:  # whatever pickling it raises
        return SharedParts()
    return SharedParts(_changeable(entry[1] for entry in pickler.memo.copy().values()), pickler.spans)


_CONTAINERS: Final = frozenset({list, dict, set, bytearray})

_HOLDS_OTHERS: Final = (tuple, frozenset, types.MethodType, types.BuiltinMethodType)
"""What cannot be changed itself, and may hold what can."""


def _changeable(objects: Iterable[Any]) -> list[Any]:
    """Return the objects that can be changed, but not those of a function, or of a library's class: whoever has that refers to them."""
    found = list(objects)
    belong: set[int] = set()
    kinds = set(map(type, found))
    for kind in kinds:
        for owner in kind.__mro__:
            if owner.__module__ != "__main__" and not local_modules.is_local(owner.__module__):
                for held in vars(owner).values():
                    belong.add(id(held))
                    if isinstance(held, kind) and type(getattr(held, "__dict__", None)) is dict:
                        belong.add(id(vars(held)))
    if types.FunctionType in kinds:
        for function in (one for one in found if type(one) is types.FunctionType):
            with contextlib.suppress(Exception):  # annotations may be code that fails
                belong.update((id(vars(function)), id(function.__annotations__), id(function.__kwdefaults__)))
    if any(kind.__module__ == "numpy.dtypes" for kind in kinds):
        for dtype in (one for one in found if type(one).__module__ == "numpy.dtypes" and one.fields):
            belong.update(id(part) for part in dtype.__reduce__()[2] if type(part) is dict)
    return [one for one in found if is_shared(one) and id(one) not in belong]


def is_shared(one: Any) -> bool:
    """Tell whether an object can be changed, so that it matters who else has it."""
    kind = type(one)
    if kind in _CONTAINERS:  # most of what there is many of
        return True
    if isinstance(one, _IMMUTABLE):
        return False
    if kind.__module__.startswith(_IMMUTABLE_MODULES) or kind.__name__.lower().endswith("dtype"):
        return False
    if callable(one) and hasattr(one, "__qualname__"):  # functions of compiled modules
        return False
    return not (_is_index(one) or (kind.__module__ == "numpy" and isinstance(one, sys.modules["numpy"].generic)))


def _is_index(one: Any) -> bool:
    """Tell whether it is an index of pandas, which nobody can change."""
    return type(one).__module__.startswith("pandas") and isinstance(one, sys.modules["pandas"].Index)


def named_arrays(space: dict[str, Any]) -> frozenset[int]:
    """Return the ids of the arrays that have a name in the notebook, and of those that such an array is all of, in another shape."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return frozenset()
    named = [value for value in list(space.values()) if type(value) is numpy.ndarray]
    roots = ((root_of(value), value.nbytes) for value in named if value.base is not None)
    return frozenset([*map(id, named), *(id(root) for root, size in roots if root.nbytes == size)])


# --- groups, stored and loaded


def store_group(names: Sequence[str], taken: TakenValue, blobs: CellBlobs) -> StoredGroup:
    """Store a value that was taken apart with `keep`: that of one name, or a tuple of those of several. Raises `OSError`."""
    small = [one for one in taken.buffers if one.nbytes < OWN_FILE_BYTES]
    pack, places = aligned([memoryview(taken.pickled), *small])
    where = iter(places[1:])
    stored = [
        StoredBuffer(next(where), one.nbytes)
        if one.nbytes < OWN_FILE_BYTES
        else StoredBuffer(-1, one.nbytes, blobs.put([one]))
        for one in taken.buffers
    ]
    return StoredGroup(tuple(names), blobs.put(pack), len(taken.pickled), tuple(stored))


def load_group(group: StoredGroup, blobs: CellBlobs, space: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """Return the values of a group by name, and the objects that they are made of.

    Raises whatever unpickling raises, and `OSError` if a file is not there.
    """
    pack = blobs.load(group.pack)
    buffers = [_buffer(one, pack, blobs) for one in group.buffers]
    token = _SPACE.set(space)
    try:
        value, objects = pickling.loads_with_buffers(pack[: group.pickled], buffers)
    finally:
        _SPACE.reset(token)
    values = (value,) if len(group.names) == 1 else value
    return dict(zip(group.names, values, strict=True)), objects


def _buffer(one: StoredBuffer, pack: memoryview, blobs: CellBlobs) -> memoryview:
    if one.blob is None:
        return pack[one.at : one.at + one.size]
    return blobs.load(one.blob)
