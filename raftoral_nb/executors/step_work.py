"""One attempt at a step as bytes, and what becomes of it: what passes between a node and whatever runs its steps' functions."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from .. import errors, limits
from ..core.records import NodeId, RunId, StepId
from ..workflow.codec import classes, pickling
from ..workflow.codec.values import describe
from ..workflow.execution.elsewhere import AskedElsewhere, RanElsewhere
from ..workflow.shipping import arithmetic

MIN_BUFFER_BYTES: Final = 64 * 1024
"""A buffer of an argument (an array's, say) that is at least this large travels beside the pickle, without a copy of it."""


class WorkHead(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of an attempt but its code and its arguments."""

    key: str
    node: NodeId
    run_id: RunId
    step_id: StepId
    attempt: int
    once: bool
    place: str
    """If it runs at most once, what keeps it: the only place where it may be begun (`StepAdapter.place`)."""
    sources: Mapping[str, str]
    """The text of the workflow's cells, so that tracebacks show its lines."""
    arithmetic: Mapping[str, str]
    """See `workflow.shipping.arithmetic`."""


class Work(msgspec.Struct, frozen=True):
    """An attempt at a step, as it travels."""

    head: WorkHead
    code: bytes
    """The function, by value."""
    given: bytes
    """Its arguments. They refer to classes of the code."""
    buffers: tuple[Any, ...] = ()
    """Large buffers of the arguments, bytes of some kind."""

    def packed(self) -> bytes:
        """Return it as bytes, for `calling.call`."""
        return _packed.encode(self)


class Said(msgspec.Struct, frozen=True, array_like=True):
    """Something that a running function says: what it prints or logs, or how far it is."""

    kind: Literal["stdout", "stderr", "log", "progress"]
    text: str
    fraction: float = 0.0


class WorkAnswer(msgspec.Struct, frozen=True):
    """What became of an attempt, with what it said if that was not told at once."""

    ran: RanElsewhere
    said: tuple[Said, ...] = ()


Hear = Callable[[Said], None]
"""Takes what a running function says. From any thread."""

_packed: Final = msgspec.msgpack.Encoder()
_works: Final = msgspec.msgpack.Decoder(Work)
_answers: Final = msgspec.msgpack.Decoder(WorkAnswer)


def unpacked(data: bytes) -> Work:
    """Return what `Work.packed` gave."""
    return _works.decode(data)


def encoded_answer(answer: WorkAnswer) -> bytes:
    """Return an answer as bytes."""
    return _packed.encode(answer)


def decoded_answer(data: bytes) -> WorkAnswer:
    """Return what `encoded_answer` was given."""
    return _answers.decode(data)


def pack(asked: AskedElsewhere, place: str = "") -> Work:
    """Return an attempt as it travels; `place` is that of one which runs at most once.

    Raises:
        CodeNotShippableError: its function does not pickle.
        ValueNotShippableError: its arguments do not, or take more than `limits.MAX_COPIED_BYTES`.
    """
    fn, args, kwargs = asked.call
    running = asked.running
    buffers: list[memoryview] = []
    room = limits.MAX_COPIED_BYTES

    def beside(buffer: pickle.PickleBuffer) -> bool:
        nonlocal room
        raw = buffer.raw()
        if raw.nbytes < MIN_BUFFER_BYTES:
            return True  # within
        room -= raw.nbytes
        if room < 0:
            raise pickling.TooLargeError(limits.MAX_COPIED_BYTES - room)
        buffers.append(raw)
        return False

    what = f"step {running.step_id!r} of run {running.run_id!r}, for executor {asked.on!r}"
    try:
        code = pickling.dumps_code(fn, limits.MAX_CODE_BYTES)
    except Exception as error:
        raise errors.CodeNotShippableError(
            f"{what}: its function cannot be shipped ({describe(error)}). Give it what it needs as arguments, or make that in the function"
        ) from error
    try:
        given = pickling.dumps((args, kwargs), limits.MAX_COPIED_BYTES, beside=beside)
    except pickling.TooLargeError as error:
        raise errors.ValueNotShippableError(
            f"{what}: its arguments take {error.size:,} bytes, more than MAX_COPIED_BYTES ({limits.MAX_COPIED_BYTES:,}). Write large "
            "data to a file or a store, and pass its name"
        ) from None
    except Exception as error:
        raise errors.ValueNotShippableError(
            f"{what}: its arguments do not pickle ({describe(error)}). Open files, connections and locks belong inside the function"
        ) from error
    head = WorkHead(
        key=asked.key,
        node=running.node,
        run_id=running.run_id,
        step_id=running.step_id,
        attempt=running.attempt,
        once=asked.once,
        place=place,
        sources=asked.sources,
        arithmetic=arithmetic.settings(),
    )
    return Work(head, code, given, tuple(buffers))


def arguments_of(given: bytes, buffers: Sequence[Any], view: classes.View) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of an attempt, of classes that `view` knows. Arrays can be written to."""
    writeable = [memoryview(one if isinstance(one, bytearray) else bytearray(one)) for one in buffers]
    found: tuple[tuple[Any, ...], dict[str, Any]] = pickling.loads(given, view=view, buffers=writeable)
    return found
