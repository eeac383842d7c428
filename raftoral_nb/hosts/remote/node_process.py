"""The program of a node's process: starts the node, says where it is, and ends with whoever started it, unless told not to.

Whoever starts it writes a `Spec` as one line of JSON into its standard input, and keeps that open: its end is the end of the
process, or, for a node that is to outlive it, until it is told (`RELEASE`) that the whole cluster is there. The answer is one line
of JSON on standard output, `Ready` or a `Refusal`. What the process has to say otherwise goes to standard error.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Final

import cloudpickle
import msgspec

from ...discovery.process_identity import Process
from ...errors import RaftoralError
from ...node.captured_output import capture
from ...storage.shared_directory import NodeJournals
from .. import log_levels
from .messages import Address, Refusal, Spec, refusal
from .node_backend import NodeBackend
from .server import RpcServer

logger = logging.getLogger(__name__)

END_SECONDS: Final = 2.0
"""The time a node that ends waits for user code (seconds) before its process ends all the same."""


RELEASE: Final = b"\n"
"""The byte sent after the spec, to a node that is to outlive its starter: from here on it does."""


ENDING_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
"""The signals on which a node's process ends orderly."""


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The node listens."""

    address: Address
    process: Process


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The reason why the node did not start."""

    refusal: Refusal


class Ending:
    """The end of the process, its reason and time: the main thread waits for it, everybody else may ask for it."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        self._pid = os.getpid()

    def ask(self) -> None:
        """Ask for the end. From any thread, and from a signal's handler."""
        with contextlib.suppress(OSError):
            os.write(self._writing, b"x")

    @property
    def descriptor(self) -> int:
        """The descriptor that can be read once somebody has asked for the end."""
        return self._reading

    def catch_signals(self) -> None:
        """End orderly on SIGTERM and SIGINT; a forked child of user code ends at once, as other processes do."""
        for number in ENDING_SIGNALS:
            signal.signal(number, self._signalled)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_stop_catching_signals)

    def _signalled(self, _number: int, _frame: FrameType | None) -> None:
        if os.getpid() == self._pid:
            self.ask()
        else:  # a child that was forked a moment ago, and has not stopped catching them
            os._exit(1)

    def wait(self, watched: Sequence[int]) -> bool:
        """Wait for the end: True if one of these descriptors says that the process is gone with which this one ends."""
        ready, _, _ = select.select([self._reading, *watched], [], [])
        return self._reading not in ready

    def wait_for_release(self, starter: int) -> bool:
        """Wait until whoever started the process lets it run alone, or the end is asked for; False if that one ends before.

        `starter` is where that is read; it is closed.
        """
        try:
            return not self.wait([starter]) or os.read(starter, 1) == RELEASE
        finally:
            os.close(starter)


def _stop_catching_signals() -> None:
    # A handler in Python does not end a child that is about to wait for a lock: the signal is noted, the wait goes on. The
    # worker of a pool is there whenever it has given back a result, and whoever ends the pool would join it for ever.
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def watch(parent: Process) -> list[int]:
    """Return a descriptor that can be read when a process has ended, where the system has such (Linux); else nothing.

    A pipe's end would say it too, but a forked child of that process may hold it open.
    """
    opened = getattr(os, "pidfd_open", None)
    found: list[int] = []
    if opened is not None:
        with contextlib.suppress(OSError):
            found.append(opened(parent.pid))
    return found


def child() -> int:
    """Run as the child of a process that writes the spec; returns the exit code."""
    ending = Ending()
    ending.catch_signals()
    # What user code prints past Python, and what its own children do, must not be taken for our answer.
    answering = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    inherited = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    with os.fdopen(os.dup(inherited), "rb") as file:
        line = file.readline()
    if not line:
        return 1
    spec = msgspec.json.decode(line, type=Spec)
    watched = [] if spec.parent is None else watch(spec.parent)
    if spec.parent is not None and spec.parent.gone:
        _clear_away(spec.shared.data_dir if spec.shared.temporary else None)
        return 1
    if spec.piped:
        watched.append(inherited)
    elif spec.parent is not None:
        os.close(inherited)
    return run(spec, ending, answering, watched, starter=inherited if spec.parent is None else None)


def run(
    spec: Spec,
    ending: Ending,
    answering: IO[bytes] | None,
    watched: Sequence[int],
    listening: Callable[[Ready], None] | None = None,
    starter: int | None = None,
) -> int:
    """Run a node until its end; returns the exit code. `answering` gets one line, and the process ends when one of `watched` can be read.

    `listening` is called when the node can be reached; what it raises of ours ends the node, and is raised. `starter` is where the one
    that starts a node which is to outlive it says when that begins; until then the node ends with it.
    """
    shared = spec.shared
    sys.path[:0] = [folder for folder in shared.path if folder not in sys.path]
    log_levels.set_level(spec.log_level or "warning")
    capture.install()
    server = RpcServer(ending.ask)
    host = server.host = NodeBackend(spec, server.receive)
    try:
        codec = None if spec.codec is None else cloudpickle.loads(spec.codec)
        host.journals = NodeJournals(Path(shared.data_dir), spec.node, shared.durability, codec)
        host.thread.start()
        host.thread.run(host.on_open)
        address = host.thread.call(lambda: host.tcp.addresses[spec.node])
    except RaftoralError as error:
        _say(answering, Failed(refusal(error)))
        _end(host)
        if listening is not None:
            raise
        return 1
    except Exception as error:
        logger.exception("node %d could not start", spec.node)
        _say(answering, Failed(Refusal("ClusterError", f"node {spec.node} could not start: {error!r}")))
        _end(host)
        return 1
    ready = Ready(address, Process.own())
    _say(answering, ready)
    if listening is not None:
        try:
            listening(ready)
        except BaseException:
            _end(host)
            raise
    orphaned = (starter is not None and not ending.wait_for_release(starter)) or ending.wait(watched)
    left_over = shared.data_dir if orphaned and shared.temporary else None
    _end(host, left_over)
    _clear_away(left_over)
    return 0


def _say(answering: IO[bytes] | None, what: Ready | Failed) -> None:
    if answering is not None:
        with contextlib.suppress(OSError):  # nobody listens any more, which is noticed elsewhere
            answering.write(msgspec.json.encode(what) + b"\n")
            answering.flush()
            answering.close()


def _end(host: NodeBackend, left_over: str | None = None) -> None:
    """End the node; the process ends soon, whatever user code does, and not without clearing away what would be left over."""
    # Threads that user code started may keep an interpreter from exiting.
    watchdog = threading.Timer(2 * END_SECONDS, _exit, [left_over])
    watchdog.daemon = True
    watchdog.start()
    if host.thread.alive:
        with contextlib.suppress(TimeoutError, RaftoralError):
            host.thread.run(host.on_shut, timeout=END_SECONDS)
    host.end(lambda: END_SECONDS / 4)
    host.observers.close(0.1)
    capture.uninstall()


def _exit(left_over: str | None) -> None:
    _clear_away(left_over)
    os._exit(0)


def _clear_away(left_over: str | None) -> None:
    if left_over is not None:
        shutil.rmtree(left_over, ignore_errors=True)
