"""The value codec: how inputs, step values and results become bytes, and values again.

A value is pickled by value, and the workflow continues with what came back from the pickle, so that the node which made
a value sees what the others will see. This is on the way of every checkpoint: plain scalars and small flat containers
take a short cut. Of a large value the bytes are a reference to a blob (`blobs`), which is kept beside the log.
"""

from __future__ import annotations

import inspect
import pickle
import re
import reprlib
from typing import Any, Final, NamedTuple

from ... import errors, limits
from ...core.blob_refs import reference
from ...core.sizes import size_words
from . import blobs, classes, pickling, views
from .digests import digest

__all__ = ["decode", "digest", "encode", "hand_back", "preview", "round_trip", "shorten"]

_SCALARS: Final = frozenset({type(None), bool, int, float, str, bytes})
_MAX_FLAT_LENGTH: Final = 64
_MOST_PARTS: Final = 10_000
"""Parts of a value that are looked at for what keeps it from being recorded."""
_NOT_LOOKED_INTO: Final = frozenset({"builtins", "types"})

_ADVICE: Final = (
    "Use plain data (numbers, text, lists, dicts, dataclasses, arrays); open files, connections, locks and generators "
    "belong inside the step that uses them."
)


def encode(
    value: object, *, what: str, known: classes.Lookup | None = None, whole: bool = False, most: int | None = None
) -> bytes:
    """Return the bytes under which `value` is recorded; of more than `limits.BLOB_BYTES` the reference to its blob, which carries that.

    Args:
        value: anything that pickles; classes and functions of the notebook travel by value.
        what: names the value in errors, for example `step 0/charge of run r1`.
        known: gives the classes of the workflow that the value is for, if it is to be compared with them; called only if the
            value has classes of the notebook.
        whole: of what is sent and not recorded: it is never a reference, and takes at most `limits.MAX_RECORDED_BYTES`.
        most: the largest that the cluster keeps, in bytes, where a larger one is to be refused; otherwise `limits.MAX_ENCODED_BYTES` are the
            limit, and a run waits with what the cluster does not keep. It counts what is stored, which may be compressed.

    Raises:
        ClassChangedError: the workflow knows one of these classes with other code.
        ValueNotShippableError: it does not pickle, or takes more than that.

    The bytes of equal values may differ: compare `digest`.
    """
    limit = _limit(most, whole=whole)
    if _is_plain(value):
        data = pickle.dumps(value, pickling.PROTOCOL)
        if len(data) <= limits.BLOB_BYTES:
            return data
        return _large(value, data, [], what, limit)
    return _encoded(value, what, known, limit)[0]


class _Limit(NamedTuple):
    """The most bytes that a value may take, and the name of what says so."""

    name: str
    most: int

    whole: bool = False


def _limit(most: int | None = None, *, whole: bool = False) -> _Limit:
    if whole:
        return _Limit("MAX_RECORDED_BYTES", limits.MAX_RECORDED_BYTES, whole=True)
    return _Limit("MAX_ENCODED_BYTES", limits.MAX_ENCODED_BYTES) if most is None else _Limit("max_value_bytes", most)


def _encoded(
    value: object, what: str, known: classes.Lookup | None, limit: _Limit | None = None
) -> tuple[bytes, dict[classes.Identity, type]]:
    limit = limit or _limit()
    used: dict[classes.Identity, type] = {}
    buffers: list[memoryview] = []
    try:
        most = limit.most if limit.whole else limits.MAX_ENCODED_BYTES  # it may become smaller
        data = pickling.dumps(value, most, used, beside=None if limit.whole else _Large(buffers))
    except pickling.TooLargeError as error:
        raise _too_large(value, error.size, what, limit) from None
    except Exception as error:
        raise errors.ValueNotShippableError(
            f"{what}: a value of type {type_name(type(value))} cannot be recorded, as it does not pickle "
            f"({describe(error)}). {_advice(value, error)}"
        ) from error
    theirs = known() if known is not None and used else None
    if theirs is not None:
        theirs.refuse_changed(used, what)
    if len(data) > limits.BLOB_BYTES or buffers:
        data = _large(value, data, buffers, what, limit)
    return data, used


class _Large:
    """A list of the large buffers of a value that is pickled: they are not copied into the pickle."""

    def __init__(self, buffers: list[memoryview]) -> None:
        self._buffers = buffers

    def __call__(self, buffer: pickle.PickleBuffer) -> bool:
        """Keep a buffer beside the pickle if it is large, and in one piece."""
        try:
            raw = buffer.raw()
        except BufferError:
            return True
        if raw.nbytes <= limits.BLOB_BYTES:
            return True
        self._buffers.append(raw)
        return False


def _large(value: object, data: bytes, buffers: list[memoryview], what: str, limit: _Limit) -> bytes:
    """Return what is recorded of a large value: the reference to its blob, which is made here."""
    size = len(data) + sum(buffer.nbytes for buffer in buffers)
    first = limit if limit.whole else _limit()
    if size > first.most:
        raise _too_large(value, size, what, first)
    if limit.whole:
        return data
    content = None if buffers else blobs.made(data)
    if (size := size if content is None else content.size) > limit.most:
        raise _too_large(value, size, what, limit)
    if content is None:
        # A copy: whoever made the value may change it.
        content = blobs.InMemory(blobs.Pickled(data, buffers).whole())
    return blobs.Carried.of(content, blobs.digest_of(content), shorten(value))


def decode(data: bytes, *, what: str, view: classes.View = classes.NOTEBOOK) -> Any:
    """Return the value that `data` holds.

    A new object each time, but of the classes that `view` knows, which are never altered.

    Raises:
        BlobMissingError: it is a reference, and its blob is not in this process.
        ClassChangedError: it holds an instance of a class that is known with other code.
        DamagedBlobError: what is kept of its blob is not what was written.
        ValueNotShippableError: it does not unpickle here.
    """
    return _decode(data, what, view, private=True)


def _decode(data: bytes, what: str, view: classes.View, *, private: bool) -> Any:
    try:
        ref = reference(data)
        if ref is None:
            return pickling.loads(data, view=view)
        content = data.content if isinstance(data, blobs.Carried) else blobs.find(ref)
        pickled, buffers = blobs.parts(content, private=private)
        return pickling.loads(pickled, view=view, buffers=buffers)
    except errors.ClassChangedError as error:
        raise errors.ClassChangedError(f"{what}: {error}") from None
    except (errors.BlobMissingError, errors.DamagedBlobError) as error:
        raise type(error)(f"{what}: {error}") from None
    except OSError as error:  # of a file that was removed meanwhile, or cannot be mapped
        if reference(data) is None:
            raise _unreadable(what, error) from error
        raise errors.BlobMissingError(f"{what}: {error}") from None
    except Exception as error:
        raise _unreadable(what, error) from error


def _unreadable(what: str, error: Exception) -> errors.ValueNotShippableError:
    return errors.ValueNotShippableError(
        f"{what}: the recorded value does not unpickle ({describe(error)}). If a class defines __reduce__, "
        f"__getstate__ or its own __init__ arguments (as some exceptions do), make sure that pickle.loads(pickle.dumps(x)) "
        f"works; if a module is missing, install it where the nodes run."
    )


def round_trip(value: object, *, what: str, known: classes.Lookup | None = None) -> tuple[bytes, Any]:
    """Encode `value`, and return the bytes with what they decode to.

    `known` is as for `encode`. The node that makes a value continues with the decoded one. A class may change a value
    on the way (by `__getstate__`, say): then the changed value counts, everywhere. Containers come back as copies;
    immutable scalars as they are.

    Raises:
        ValueNotShippableError: it does not pickle, does not unpickle, or is too large.
    """
    if _is_plain(value):
        data = encode(value, what=what)
        return data, value if type(value) in _SCALARS else decode(data, what=what)
    data, used = _encoded(value, what, known)
    return data, decode(data, what=what, view=classes.Same(used))


def checked(value: object, *, what: str, known: classes.Lookup | None = None) -> bytes:
    """Return what `round_trip` returns first: the bytes, known to decode. Of a large value nothing is copied to find that out."""
    if _is_plain(value):
        return encode(value, what=what)
    data, used = _encoded(value, what, known)
    _decode(data, what, classes.Same(used), private=False)
    return data


def hand_back(data: bytes, *, what: str) -> Any:
    """Decode a value for the notebook, which gets a `ClassChangedWarning` for a class that it has changed since."""
    return decode(data, what=what, view=classes.telling(what))


def preview(data: bytes, width: int = 60, *, what: str) -> str:
    """Return a recorded value as a short text. Of a large one it is what was noted when it was recorded: its blob is not read.

    Raises as `decode` does.
    """
    ref = reference(data)
    if ref is None:
        return shorten(decode(data, what=what), width)
    return shorten_text(f"{size_words(ref.size)}: {ref.shown}", width)


def shorten(value: object, width: int = 60) -> str:
    """Return a one-line `repr` of at most `width` characters for views; the same in every process, without addresses.

    Never raises: a `repr` that does is replaced by the type's name.
    """
    try:
        text = _Repr(width).repr(value)[: 20 * (width + 10)]
    except _HOSTILE:  # a view must not fail because of a user's __repr__
        text = f"<{type_name(type(value))}>"
    return shorten_text(text, width)


def shorten_text(text: str, width: int = 60) -> str:
    """Return the text on one line of at most `width` printable characters."""
    text = _UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], " ".join(text.split()))
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def type_name(cls: type) -> str:
    """Return the name of a class in messages.

    It includes its module, unless that is `builtins` or the notebook (`__main__`).
    """
    if cls.__module__ in {"builtins", "__main__"}:
        return cls.__qualname__
    return f"{cls.__module__}.{cls.__qualname__}"


def describe(error: BaseException) -> str:
    """Return one line about an exception, whatever its `__str__` does."""
    try:
        message = str(error)
    except Exception:  # the user's own exception class may be at fault
        message = ""
    name = type_name(type(error))
    return f"{name}: {message}" if message else name


def _advice(value: object, error: Exception) -> str:
    """Return what to do about a value that does not pickle."""
    if "coroutine" in str(error):
        calls = [one for one in parts(value) if inspect.iscoroutine(one)]
        for call in calls:
            if inspect.getcoroutinestate(call) == inspect.CORO_CREATED:
                call.close()  # it is asked about here: Python need not warn of it as well
        name = f"the call {calls[0].__qualname__}(...)" if calls else "a call"
        return f"It holds {name}, and not what that returns: did you forget `await`?"
    return _ADVICE


def parts(value: object) -> list[Any]:
    """Return the value itself, and what it holds, as far as that is in plain containers and attributes.

    Not too much of it.
    """
    found: list[Any] = []
    left: list[Any] = [value]
    while left and len(found) < _MOST_PARTS:
        one = left.pop()
        found.append(one)
        if isinstance(one, dict):
            left.extend(one.values())
        elif isinstance(one, list | tuple | set | frozenset):
            left.extend(one)
        elif type(one).__module__ not in _NOT_LOOKED_INTO:
            left.extend(getattr(one, "__dict__", {}).values())
    return found


def _is_plain(value: object) -> bool:
    kind = type(value)
    if kind in _SCALARS:
        return True
    if kind is list or kind is tuple:
        return len(value) <= _MAX_FLAT_LENGTH and _SCALARS.issuperset(map(type, value))  # type: ignore[arg-type,call-overload]
    if kind is dict:
        return (
            len(value) <= _MAX_FLAT_LENGTH  # type: ignore[arg-type]
            and _SCALARS.issuperset(map(type, value))  # type: ignore[call-overload]
            and _SCALARS.issuperset(map(type, value.values()))  # type: ignore[attr-defined]
        )
    return False


def _too_large(value: object, size: int, what: str, limit: _Limit) -> errors.ValueNotShippableError:
    raised = "cluster.set_max_value_bytes(...) raises the limit. " if limit.name == "max_value_bytes" else ""
    advice = views.hint(parts(value)) or "Write large data to a file or a store inside the step, and return its name."
    return errors.ValueNotShippableError(
        f"{what}: a value of type {type_name(type(value))} takes {size:,} bytes, more than {limit.name} "
        f"({limit.most:,}). {raised}{advice}"
    )


_HOSTILE: Final = (Exception, SystemExit, GeneratorExit)
"""The exceptions that the methods of a value may raise when it is only looked at; an interrupt comes from the user."""
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
"""Characters that move a terminal's cursor, turn the direction of text or cannot be encoded: shown as escapes."""


class _Repr(reprlib.Repr):
    """A `repr` that limits the work for long containers, and leaves out addresses."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = self.maxdeque = max(
            width // 3, 1
        )
        self.maxarray = self.maxlist
        self.maxstring = self.maxlong = self.maxother = max(width, 4)

    def repr_instance(self, x: Any, level: int) -> str:  # noqa: ARG002
        try:
            return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(x)[: 20 * self.maxother])
        except _HOSTILE:  # see `shorten`
            return f"<{type_name(type(x))}>"

    def repr_int(self, x: int, level: int) -> str:
        try:
            repr(x)
        except ValueError:  # more digits than Python writes out; from 3.14 on the base class says so with an address
            return "<int>"
        return super().repr_int(x, level)

    def repr_str(self, x: str, level: int) -> str:  # noqa: ARG002
        # The base class cuts out the middle; a view cuts off the end, which `shorten` does.
        return repr(x[: self.maxstring])
