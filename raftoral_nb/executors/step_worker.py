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
from typing import IO, NoReturn

from .calling import run_work
from .step_work import Said, Work, WorkAnswer, encoded_answer
from .worker_pipe import (
    BEGUN,
    DONE,
    SAID,
    FrameKind,
    PipeEndedError,
    encoded_said,
    read_hello,
    read_work,
    write_frame,
)


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
    threading.Thread(target=_read, args=(asking, come), name="raftoral-work", daemon=True).start()
    lock = threading.Lock()

    def tell(kind: FrameKind, data: bytes = b"") -> None:
        try:
            with lock:
                write_frame(answering, kind, data)
        except OSError:  # nobody is there any more
            _end()

    def hear(said: Said) -> None:
        tell(SAID, encoded_said(said))

    while True:
        work = come.get()
        tell(BEGUN)
        answer = encoded_answer(WorkAnswer(run_work(work, hear)))
        del work
        tell(DONE, answer)
        del answer


def _read(asking: IO[bytes], come: queue.SimpleQueue[Work]) -> None:
    try:
        while True:
            come.put(read_work(asking))
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
