"""Copies of values in the way of `copy.deepcopy`, but fast, and with what is needed to see later whether one was changed."""

from __future__ import annotations

import io
import pickle
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any, Final

from ... import limits
from . import exceptions, sources
from .fixed import is_fixed, is_of_a_process
from .pickling import PROTOCOL, BoundedBuffer, TooLargeError

_Reduced = Any


class ValueSnapshot:
    """A value as it is now, for copies of it.

    Classes, functions, whatever cannot change and `held` are shared with the copies. Closed-over variables of functions are copied.
    Large buffers (those of arrays) are copied once here and once for each copy, without passing through a pickle.

    Raises:
        TooLargeError: it takes more than `limits.MAX_COPIED_BYTES`.
        Exception: whatever pickling the value raises.
    """

    def __init__(self, value: object, held: Sequence[object] = ()) -> None:
        self._held = held
        self._data, self._table, buffers = _dumps(value, held)
        self._buffers = [bytearray(buffer) for buffer in buffers]

    def copy(self) -> Any:
        """Return a new copy."""
        return _Unpickler(self._data, self._table, [bytearray(buffer) for buffer in self._buffers]).load()

    def changed(self, copy: object) -> bool:
        """Return whether a copy was certainly changed, or does not pickle any more. If not, `alike` tells better."""
        try:
            data, table, buffers = _dumps(copy, self._held)
        except Exception:  # what it was given does not pickle, or is too much
            return True
        return not (data == self._data and _same(table, self._table) and _equal(self._buffers, buffers))


def alike(one: object, other: object) -> bool:
    """Return whether two copies of one snapshot are the same but for values that are computed on demand and cached."""
    try:
        mine, my_table, my_buffers = _dumps(one, (), _Normal)
        data, table, buffers = _dumps(other, (), _Normal)
    except Exception:  # see `ValueSnapshot.changed`
        return one is other
    return data == mine and _same(table, my_table) and _equal([bytearray(buffer) for buffer in my_buffers], buffers)


def _same(table: list[object], other: list[object]) -> bool:
    return len(table) == len(other) and all(map(_is, table, other))


def _is(one: object, other: object) -> bool:
    return one is other or (type(one) in _VALUES and type(one) is type(other) and one == other)


def _equal(buffers: list[bytearray], others: list[memoryview]) -> bool:
    # A bytearray compares memory; a memoryview would compare element by element.
    return len(buffers) == len(others) and all(one == other for one, other in zip(buffers, others, strict=True))


def _dumps(
    value: object, held: Sequence[object], kind: type[_Copier] | None = None
) -> tuple[bytes, list[object], list[memoryview]]:
    limit = limits.MAX_COPIED_BYTES
    stream = BoundedBuffer(limit)
    copier = (kind or (_Holding if held else _Copier))(stream, limit, held)
    copier.dump(value)
    if stream.size > limit:
        raise TooLargeError(stream.size)
    return stream.getvalue(), copier.table, copier.buffers


class _Copier(pickle.Pickler):
    """The pickler of what can change; what is shared is put into `table`, and only its place there is pickled."""

    def __init__(self, stream: io.BytesIO, limit: int, held: Sequence[object]) -> None:
        super().__init__(stream, protocol=PROTOCOL, buffer_callback=self._take_buffer)
        self.table: list[object] = []
        self.buffers: list[memoryview] = []
        self._room = limit
        self._held = {id(one) for one in held}

    def _take_buffer(self, buffer: pickle.PickleBuffer) -> None:
        raw = buffer.raw()
        self._room -= raw.nbytes
        if self._room < 0:
            raise TooLargeError(raw.nbytes)
        self.buffers.append(raw)

    def place(self, value: object) -> int:
        """Return the place of a shared value in the table."""
        self.table.append(value)
        return len(self.table) - 1

    def reducer_override(self, obj: Any) -> _Reduced:
        """See `pickle.Pickler.reducer_override`."""
        kind = type(obj)
        if kind is types.FunctionType:
            if obj in _OURS:
                return NotImplemented
            if not is_fixed(obj):
                shared = (obj.__code__, obj.__globals__, obj.__defaults__, obj.__kwdefaults__)
                names = (obj.__name__, obj.__qualname__, obj.__module__)
                return (_function, (tuple(map(self.place, shared)), names, obj.__dict__, obj.__closure__))
        if is_of_a_process(obj):
            raise TypeError(f"a {kind.__name__} cannot be copied")
        if is_fixed(obj):
            return (_shared, (self.place(obj),))
        if kind is types.CellType:
            try:
                return (_cell, (), (obj.cell_contents,), None, None, _fill)
            except ValueError:  # it has no value yet
                return (_cell, ())
        if kind is types.MethodType:
            return (types.MethodType, (obj.__func__, obj.__self__))
        if isinstance(obj, BaseException):
            return exceptions.reduced(obj) or NotImplemented
        return NotImplemented


class _Holding(_Copier):
    """The same, where some values are to be shared that would be copied."""

    def persistent_id(self, obj: Any) -> int | None:
        """See `pickle.Pickler.persistent_id`."""
        return self.place(obj) if id(obj) in self._held else None


class _Normal(_Copier):
    """For comparisons: leaves out what objects keep only to be faster."""

    def reducer_override(self, obj: Any) -> _Reduced:
        """See `pickle.Pickler.reducer_override`."""
        reduced = super().reducer_override(obj)
        if reduced is not NotImplemented:
            return reduced
        pandas = sys.modules.get("pandas")
        if pandas is not None and type(obj) in (pandas.DataFrame, pandas.Series):
            # Reading may join the blocks of a table: what counts are its columns.
            columns = list(obj.items()) if type(obj) is pandas.DataFrame else [(obj.name, obj)]
            return (tuple, ([type(obj), obj.index, obj.attrs, [(name, one.array) for name, one in columns]],))
        kind: Any = type(obj)
        reduces = kind.__reduce_ex__ is object.__reduce_ex__ and kind.__reduce__ is object.__reduce__
        if reduces and (cached := sources.cached_names(kind)):
            make, arguments, state, *rest = obj.__reduce_ex__(PROTOCOL)
            if isinstance(state, dict):  # None if there is nothing else
                state = {name: value for name, value in state.items() if name not in cached} or None
            return (make, arguments, state, *rest)
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    """The unpickler of a copy, with what is shared from the table."""

    def __init__(self, data: bytes, table: list[object], buffers: list[bytearray]) -> None:
        super().__init__(io.BytesIO(data), buffers=buffers)
        self._table = table

    def find_class(self, module: str, name: str, /) -> Any:
        if module == __name__:
            if name == _shared.__name__:
                return self.persistent_load
            if name == _function.__name__:
                return self._make_function
        return super().find_class(module, name)

    def persistent_load(self, pid: int) -> object:
        """Return what is at a place of the table."""
        return self._table[pid]

    def _make_function(self, places: Any, names: Any, attributes: Any, closure: Any) -> types.FunctionType:
        code, namespace, defaults, by_name = (self._table[place] for place in places)
        made = types.FunctionType(code, namespace, names[0], defaults, closure)
        made.__kwdefaults__ = by_name
        made.__qualname__, made.__module__ = names[1:]
        made.__dict__.update(attributes)
        return made


# They stand in a stream for what is done with them; `_Unpickler` does it.


def _shared(place: int) -> object:
    raise NotImplementedError(place)


def _function(places: Any, names: Any, attributes: Any, closure: Any) -> types.FunctionType:
    raise NotImplementedError(names, places, attributes, closure)


def _cell() -> types.CellType:
    return types.CellType()


def _fill(cell: types.CellType, contents: tuple[object]) -> None:
    cell.cell_contents = contents[0]


_OURS: Final[frozenset[Callable[..., Any]]] = frozenset({_shared, _function, _cell, _fill})
_VALUES: Final = frozenset({complex, range, slice})
