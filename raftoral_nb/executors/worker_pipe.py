"""What passes through the pipes of a worker process: to it hello and work, in parts; from it frames."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import IO, Any, Final, Literal

import msgspec

from .step_work import (
    CheckpointAnswer,
    SavedValue,
    Work,
    WorkHead,
    decoded_checkpoint_answer,
    encoded_checkpoint_answer,
)

_COUNT: Final = struct.Struct(">I")
_LENGTH: Final = struct.Struct(">Q")
_FRAME: Final = struct.Struct(">BQ")

FrameKind = Literal[1, 2, 3, 4]
BEGUN: Final = 1
"""A frame that says: from here on the function may have had effects."""
SAID: Final = 2
"""A frame with a `Said`."""
DONE: Final = 3
"""A frame with a `WorkAnswer`."""


CHECKPOINT: Final = 4
"""A frame with a `Checkpoint`. The node answers it, unless the function has ended."""


class WorkerHello(msgspec.Struct, frozen=True):
    """The first thing that a worker is told."""

    parent: int
    """The process with which it ends."""
    path: tuple[str, ...]
    """The folders where modules are looked for."""


_hellos: Final = msgspec.msgpack.Decoder(WorkerHello)
_heads: Final = msgspec.msgpack.Decoder(WorkHead)


class PipeEndedError(Exception):
    """The other end of the pipe is gone."""


def _exactly(stream: IO[bytes], size: int) -> bytearray:
    data = bytearray(size)
    view, had = memoryview(data), 0
    while had < size:
        count = stream.readinto(view[had:])  # type: ignore[attr-defined]
        if not count:
            raise PipeEndedError
        had += count
    return data


def _write_parts(stream: IO[bytes], parts: Sequence[Any]) -> None:
    views = [memoryview(part).cast("B") if memoryview(part).nbytes else b"" for part in parts]
    stream.write(_COUNT.pack(len(views)))
    for view in views:
        stream.write(_LENGTH.pack(len(view)))
        stream.write(view)
    stream.flush()


def _read_parts(stream: IO[bytes]) -> list[bytearray]:
    (count,) = _COUNT.unpack(_exactly(stream, _COUNT.size))
    return [_exactly(stream, *_LENGTH.unpack(_exactly(stream, _LENGTH.size))) for _ in range(count)]


def write_hello(stream: IO[bytes], hello: WorkerHello) -> None:
    """Write the first thing that a worker is told."""
    _write_parts(stream, [msgspec.msgpack.encode(hello)])


def read_hello(stream: IO[bytes]) -> WorkerHello:
    """Read what `write_hello` wrote. Raises `PipeEndedError`."""
    return _hellos.decode(_read_parts(stream)[0])


def write_work(stream: IO[bytes], work: Work) -> None:
    """Write an attempt, large buffers as they are."""
    saved: list[Any] = []
    if work.saved is not None:
        saved = [work.saved.value, *(() if work.saved.content is None else (work.saved.content,))]
    counts = bytes([len(saved)])
    _write_parts(stream, [msgspec.msgpack.encode(work.head), work.code, work.given, counts, *saved, *work.buffers])


def write_answer(stream: IO[bytes], answer: CheckpointAnswer) -> None:
    """Write what became of a checkpoint."""
    _write_parts(stream, [encoded_checkpoint_answer(answer)])


def read_asked(stream: IO[bytes]) -> Work | CheckpointAnswer:
    """Read what `write_work` or `write_answer` wrote. Raises `PipeEndedError`."""
    head, *parts = _read_parts(stream)
    if not parts:
        return decoded_checkpoint_answer(head)
    code, given, counts, *parts = parts
    (count,) = counts
    saved, buffers = parts[:count], parts[count:]
    value = SavedValue(bytes(saved[0]), saved[1] if count > 1 else None) if count else None
    return Work(_heads.decode(head), bytes(code), bytes(given), tuple(buffers), value)


def write_frame(stream: IO[bytes], kind: FrameKind, data: bytes = b"") -> None:
    """Write a frame. Not from two threads at once."""
    stream.write(_FRAME.pack(kind, len(data)))
    stream.write(data)
    stream.flush()


def read_frame(stream: IO[bytes]) -> tuple[int, bytes]:
    """Read what `write_frame` wrote. Raises `PipeEndedError`."""
    kind, size = _FRAME.unpack(_exactly(stream, _FRAME.size))
    return kind, bytes(_exactly(stream, size))
