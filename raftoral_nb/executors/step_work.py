"""One attempt at a step as bytes, and what becomes of it: what passes between a node and whatever runs its steps' functions."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, Protocol

import msgspec

from .. import errors, limits
from ..core import blob_refs
from ..core.records import NodeId, RunId, StepId
from ..workflow.codec import blobs, classes, pickling
from ..workflow.codec.values import describe
from ..workflow.execution.elsewhere import AskedElsewhere, RanElsewhere
from ..workflow.shipping import arithmetic

MIN_BUFFER_BYTES: Final = 64 * 1024
"""A buffer of an argument (an array's, say) that is at least this large travels beside the pickle, without a copy of it."""


class ChannelName(msgspec.Struct, frozen=True):
    """The name of an attempt's way back to its node (`node_channel`)."""

    token: str
    process: int
    """The node's process."""
    address: str
    """The node's socket; "" if it has none."""
    secret: bytes


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
    channel: ChannelName | None = None
    """The attempt's way back to its node, if its executor has none of its own."""


class SavedValue(msgspec.Struct, frozen=True):
    """A checkpoint's value, encoded. Of a large one `value` is the reference, and `content` has the bytes of its blob."""

    value: bytes
    content: Any = None


class Checkpoint(msgspec.Struct, frozen=True):
    """What a running function saves for the next attempt."""

    saved: SavedValue
    least: float
    """The least time between two that are recorded (seconds)."""


class CheckpointAnswer(msgspec.Struct, frozen=True):
    """What became of a checkpoint: recorded, or not due yet, or why it was not saved."""

    refused: str = ""
    may_commit: bool = False
    """Whether it may be saved after all."""


class Work(msgspec.Struct, frozen=True):
    """An attempt at a step, as it travels."""

    head: WorkHead
    code: bytes
    """The function, by value."""
    given: bytes
    """Its arguments. They refer to classes of the code."""
    buffers: tuple[Any, ...] = ()
    """Large buffers of the arguments, bytes of some kind."""
    saved: SavedValue | None = None
    """What an attempt before saved last."""

    def packed(self) -> bytes:
        """Return it as bytes, for `calling.call`."""
        return _packed.encode(self)


class Said(msgspec.Struct, frozen=True, array_like=True):
    """Something that a running function says: what it prints or logs, how far it is, or that it continues from its last checkpoint."""

    kind: Literal["stdout", "stderr", "log", "progress", "continues"]
    text: str
    fraction: float = 0.0


class WorkAnswer(msgspec.Struct, frozen=True):
    """What became of an attempt, with what it said if that was not told at once."""

    ran: RanElsewhere
    said: tuple[Said, ...] = ()
    checkpoint: Checkpoint | None = None
    """The latest one of an attempt that failed, unless it was told that this one is saved."""


Answered = Callable[[CheckpointAnswer], None]
"""Takes what became of a checkpoint. From any thread; does not wait."""


class Hear(Protocol):
    """Takes what a running function says, and saves, where its node is. From any thread; does not wait."""

    def __call__(self, said: Said, /) -> None:
        """Take something that it said."""
        ...

    def save(self, checkpoint: Checkpoint, answered: Answered, /) -> None:
        """Save a checkpoint; `answered` is called once."""
        ...


class Channel(Hear, Protocol):
    """The way from where a function runs to its node, as the function's side has it."""

    spacing: float
    """The least time between two checkpoints that are passed on (seconds), if the step asks for no shorter one."""

    def kept(self) -> SavedValue | None:
        """Return what an earlier run of this very attempt saved, if the executor runs attempts again by itself and kept it."""
        ...


_packed: Final = msgspec.msgpack.Encoder()
_works: Final = msgspec.msgpack.Decoder(Work)
_answers: Final = msgspec.msgpack.Decoder(WorkAnswer)
_checkpoints: Final = msgspec.msgpack.Decoder(Checkpoint)
_checkpoint_answers: Final = msgspec.msgpack.Decoder(CheckpointAnswer)
_saids: Final = msgspec.msgpack.Decoder(Said)


def unpacked(data: bytes) -> Work:
    """Return what `Work.packed` gave."""
    return _works.decode(data)


def encoded_answer(answer: WorkAnswer) -> bytes:
    """Return an answer as bytes."""
    return _packed.encode(answer)


def encoded_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Return a checkpoint as bytes."""
    return _packed.encode(checkpoint)


def decoded_checkpoint(data: bytes) -> Checkpoint:
    """Return what `encoded_checkpoint` was given."""
    return _checkpoints.decode(data)


def encoded_checkpoint_answer(answer: CheckpointAnswer) -> bytes:
    """Return what became of a checkpoint as bytes."""
    return _packed.encode(answer)


def decoded_checkpoint_answer(data: bytes | bytearray) -> CheckpointAnswer:
    """Return what `encoded_checkpoint_answer` was given."""
    return _checkpoint_answers.decode(data)


def encoded_said(said: Said) -> bytes:
    """Return something that was said as bytes."""
    return _packed.encode(said)


def decoded_said(data: bytes) -> Said:
    """Return what `encoded_said` was given."""
    return _saids.decode(data)


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
    return Work(head, code, given, tuple(buffers), None if asked.saved is None else saved_value(asked.saved))


def saved_value(data: bytes) -> SavedValue:
    """Return an encoded value as it travels: a large one with the bytes of its blob. Raises `BlobMissingError` if they are not here."""
    ref = blob_refs.reference(data)
    if ref is None:
        return SavedValue(data)
    content = data.content if isinstance(data, blobs.Carried) else blobs.find(ref)
    return SavedValue(bytes(data), content.view(private=False))


def saved_bytes(saved: SavedValue) -> bytes:
    """Return what `saved_value` was given; a large value carries its blob. Raises `DamagedBlobError`."""
    return saved.value if saved.content is None else blobs.carry(saved.value, blobs.InMemory(saved.content))


def arguments_of(given: bytes, buffers: Sequence[Any], view: classes.View) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of an attempt, of classes that `view` knows. Arrays can be written to."""
    writeable = [memoryview(one if isinstance(one, bytearray) else bytearray(one)) for one in buffers]
    found: tuple[tuple[Any, ...], dict[str, Any]] = pickling.loads(given, view=view, buffers=writeable)
    return found
