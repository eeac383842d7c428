"""`python -m raftoral_nb.executors.step_worker`: a worker of a node, which runs one step's function at a time.

It ends with the process that started it, however that ends: its standard input ends then.
"""

from __future__ import annotations

import os
import queue
import select
import signal
import sys
import threading
from typing import IO, Final, NoReturn

from .calling import run_work
from .step_work import (
    Answered,
    Checkpoint,
    CheckpointAnswer,
    Said,
    SavedValue,
    Work,
    encoded_answer,
    encoded_checkpoint,
    encoded_said,
)
from .worker_pipe import (
    BEGUN,
    CHECKPOINT,
    DONE,
    SAID,
    FrameKind,
    PipeEndedError,
    read_asked,
    read_hello,
    write_frame,
)

CHECKPOINT_SECONDS: Final = 0.05
"""The least time between two checkpoints that go to the node (seconds): what a worker that dies has not passed on yet is no older."""


def main() -> NoReturn:
    """Run what comes, until the pipe ends."""
    # What user code prints past Python, and what its own children do, must not be taken for our answers.
    answering = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    asking = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    try:
        hello = read_hello(asking)
    except PipeEndedError:
        _end()
    sys.path[:0] = [folder for folder in hello.path if folder not in sys.path]
    _end_with(hello.parent)
    come: queue.SimpleQueue[Work] = queue.SimpleQueue()
    pipe = _Pipe(answering)
    threading.Thread(target=_read, args=(asking, come, pipe), name="raftoral-work", daemon=True).start()
    while True:
        work = come.get()
        pipe.tell(BEGUN)
        answer = encoded_answer(run_work(work, pipe.attempt()))
        del work
        pipe.tell(DONE, answer)
        del answer


class _Pipe:
    """The way to the node."""

    def __init__(self, answering: IO[bytes]) -> None:
        self._answering = answering
        self._lock = threading.Lock()
        self.channel: _PipeChannel | None = None
        """That of the attempt that runs."""

    def tell(self, kind: FrameKind, data: bytes = b"") -> None:
        """Write a frame. From any thread."""
        try:
            with self._lock:
                write_frame(self._answering, kind, data)
        except OSError:  # nobody is there any more
            _end()

    def attempt(self) -> _PipeChannel:
        """Return the channel of another attempt."""
        self.channel = _PipeChannel(self)
        return self.channel


class _PipeChannel:
    """The `Channel` of one attempt."""

    spacing = CHECKPOINT_SECONDS

    def __init__(self, pipe: _Pipe) -> None:
        self._pipe = pipe
        self._answered: Answered | None = None

    def __call__(self, said: Said) -> None:
        """Tell the node something."""
        if self._pipe.channel is self:  # else it is a thread that the function of an earlier task left behind
            self._pipe.tell(SAID, encoded_said(said))

    def save(self, checkpoint: Checkpoint, answered: Answered) -> None:
        """Pass a checkpoint on; there is one at a time."""
        self._answered = answered
        self._pipe.tell(CHECKPOINT, encoded_checkpoint(checkpoint))

    def answer(self, answer: CheckpointAnswer) -> None:
        """Take the node's answer to it."""
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(answer)

    def kept(self) -> SavedValue | None:
        """Nothing is kept: the node says it with the work."""
        return None


def _read(asking: IO[bytes], come: queue.SimpleQueue[Work], pipe: _Pipe) -> None:
    try:
        while True:
            asked = read_asked(asking)
            if isinstance(asked, Work):
                come.put(asked)
            elif pipe.channel is not None:
                pipe.channel.answer(asked)
    except (PipeEndedError, OSError):
        _end()


def _end_with(parent: int) -> None:
    """End when that process does. A forked child of it may hold the pipe open."""
    opened = getattr(os, "pidfd_open", None)
    if opened is None:
        return
    try:
        descriptor = opened(parent)
    except ProcessLookupError:
        _end()
    except OSError:  # the system has none
        return

    def wait() -> None:
        select.select([descriptor], [], [])
        _end()

    threading.Thread(target=wait, name="raftoral-parent", daemon=True).start()


def _end() -> NoReturn:
    """End at once, with the processes that the function has started and that are still of this group."""
    if hasattr(os, "getpgrp") and os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main()
