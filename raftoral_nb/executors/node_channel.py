"""The way from functions on an executor to their node, where the executor itself has none: within the process, or through a local socket.

A socket is opened only for an executor whose functions run in other processes, and used by those on the node's machine: its folder is
for this user alone, and both sides prove a key. Frames have a kind and what is encoded; nothing from there is unpickled.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Final

import msgspec

from .step_work import (
    Answered,
    ChannelName,
    Checkpoint,
    CheckpointAnswer,
    Hear,
    Said,
    SavedValue,
    Work,
    decoded_checkpoint,
    decoded_checkpoint_answer,
    decoded_said,
    encoded_checkpoint,
    encoded_checkpoint_answer,
    encoded_said,
)
from .without_channel import WithoutChannel

END_SECONDS: Final = 5.0
"""The time that a node may take to say that it has heard everything (seconds)."""

LEAVE_SECONDS: Final = 1.0
"""The time that closing waits for the threads of a node (seconds)."""

CHECKPOINT_SECONDS: Final = 0.05
"""The least time between two checkpoints that go through a socket (seconds)."""

_SAID, _CHECKPOINT, _END = b"S", b"C", b"E"
_BROKEN: Final = (OSError, EOFError, AuthenticationError, ValueError)

_GONE: Final = CheckpointAnswer("a checkpoint was not acknowledged: its node is not there any more", may_commit=True)

_here: Final[dict[str, Hear]] = {}
"""Attempts whose node is in this process, by token."""


class NodeChannels:
    """The ways to one node, for one executor. From any thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._secret = secrets.token_bytes(16)
        self._lock = threading.Lock()
        self._closed = False
        self._listener: Listener | None = None
        self._folder = ""
        self._threads: list[threading.Thread] = []
        self._connections: set[Connection] = set()
        # Invariant: those that are listened to, and those of them to which a way leads, by key.
        self._hears: dict[str, Hear] = {}
        self._tokens: dict[str, str] = {}

    def listen(self, key: str, hear: Hear) -> None:
        """Have `hear` told what an attempt says."""
        self._hears[key] = hear

    def lead(self, key: str, work: Work, *, socket: bool) -> Work:
        """Return an attempt that knows the way here, if it is listened to; through a socket too, if it may run in another process."""
        hear = self._hears.get(key)
        if hear is None:
            return work
        self.forget(key)
        token = self._tokens[key] = secrets.token_hex(16)
        self._hears[key] = _here[token] = hear
        name = ChannelName(token, os.getpid(), self._address() if socket else "", self._secret)
        return msgspec.structs.replace(work, head=msgspec.structs.replace(work.head, channel=name))

    def forget(self, key: str) -> None:
        """Hear nothing more of an attempt."""
        self._hears.pop(key, None)
        token = self._tokens.pop(key, None)
        if token is not None:
            _here.pop(token, None)

    def close(self) -> None:
        """Let go of everything. Waits a moment."""
        for key in tuple(self._tokens):
            self.forget(key)
        with self._lock:
            self._closed = True
            listener, self._listener = self._listener, None
            connections = tuple(self._connections)
        if listener is None:
            return
        with contextlib.suppress(*_BROKEN):  # accepting is interrupted by nothing else
            Client(listener.address, authkey=self._secret).close()
        for connection in connections:
            with contextlib.suppress(*_BROKEN):
                connection.send_bytes(_END)
        with contextlib.suppress(OSError):
            listener.close()
        for thread in tuple(self._threads):
            if thread is not threading.current_thread():
                thread.join(LEAVE_SECONDS)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _address(self) -> str:
        """Return where the socket is; "" if there can be none."""
        with self._lock:
            if self._listener is None and not self._closed:
                try:
                    self._folder = tempfile.mkdtemp(prefix="raftoral-")
                    address = None if sys.platform == "win32" else str(Path(self._folder, "node"))
                    self._listener = Listener(address, authkey=self._secret)
                except OSError:
                    return ""
                self._start(self._accept, self._listener)
            return "" if self._listener is None else str(self._listener.address)

    def _start(self, fn: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=fn, args=args, name=f"{self._name}-channel", daemon=True)
        self._threads = [one for one in self._threads if one.is_alive() or one.ident is None]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: Listener) -> None:
        while not self._closed:
            try:
                connection = listener.accept()
            except _BROKEN:  # somebody without the key, or who has gone
                continue
            if not self._taken(connection):
                connection.close()

    def _taken(self, connection: Connection) -> bool:
        with self._lock:
            if self._closed:
                return False
            self._connections.add(connection)
            self._start(self._hear, connection)
            return True

    def _hear(self, connection: Connection) -> None:
        """Take what one attempt says."""
        lock = threading.Lock()

        def answered(answer: CheckpointAnswer) -> None:
            with lock, contextlib.suppress(*_BROKEN):
                connection.send_bytes(_CHECKPOINT + encoded_checkpoint_answer(answer))

        with contextlib.suppress(*_BROKEN):
            token = connection.recv_bytes().decode()
            while True:
                frame = connection.recv_bytes()
                kind, data = frame[:1], frame[1:]
                hear = _here.get(token)
                if hear is None:
                    break  # nobody waits for it any more
                if kind == _SAID:
                    hear(decoded_said(data))
                elif kind == _CHECKPOINT:
                    hear.save(decoded_checkpoint(data), answered)
                elif kind == _END:
                    connection.send_bytes(_END)
                    break
        with self._lock:
            self._connections.discard(connection)
        with lock:
            connection.close()


class HereChannel:
    """The `Channel` of an attempt whose node is in this process."""

    spacing = 0.0

    def __init__(self, hear: Hear) -> None:
        self._hear = hear

    def __call__(self, said: Said) -> None:
        """Tell the node something."""
        self._hear(said)

    def save(self, checkpoint: Checkpoint, answered: Answered) -> None:
        """Save a checkpoint."""
        self._hear.save(checkpoint, answered)

    def kept(self) -> SavedValue | None:
        """Nothing is kept: the node says it with the work."""
        return None


class SocketChannel(WithoutChannel):
    """The `Channel` of an attempt in another process than its node. Where that cannot be reached there is none."""

    spacing = CHECKPOINT_SECONDS

    def __init__(self, name: ChannelName) -> None:
        super().__init__()
        self._name = name
        self._tried = False
        self._reached = False
        # ^ whether the node was there once: then it has ended since, which is no fault of the function's
        self._connection: Connection | None = None
        self._using = threading.Lock()
        self._answered: Answered | None = None
        self._heard = threading.Event()

    def __call__(self, said: Said) -> None:
        """Tell the node something, or keep it for the outcome."""
        if not self._sent(_SAID + encoded_said(said)):
            super().__call__(said)

    def save(self, checkpoint: Checkpoint, answered: Answered) -> None:
        """Pass a checkpoint on; there is one at a time. Raises `WrongTaskError` if the node cannot be reached from here."""
        self._answered = answered
        if self._sent(_CHECKPOINT + encoded_checkpoint(checkpoint)):
            return
        if not self._reached:
            super().save(checkpoint, answered)
        self._answer(_GONE)

    def close(self) -> None:
        """Wait until the node has heard everything, if it was told anything."""
        if self._connection is not None and self._sent(_END):
            self._heard.wait(END_SECONDS)
        with self._using:
            self._tried = True
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _sent(self, frame: bytes) -> bool:
        with self._using:
            if not self._tried:
                self._tried = True
                self._connection = self._connect()
            if self._connection is None:
                return False
            try:
                self._connection.send_bytes(frame)
            except _BROKEN:
                self._connection = None
                return False
            return True

    def _connect(self) -> Connection | None:
        try:
            connection: Connection = Client(self._name.address, authkey=self._name.secret)
            connection.send_bytes(self._name.token.encode())
        except _BROKEN:
            return None
        self._reached = True
        threading.Thread(target=self._read, args=(connection,), name="raftoral-channel", daemon=True).start()
        return connection

    def _read(self, connection: Connection) -> None:
        with contextlib.suppress(*_BROKEN):
            while True:
                frame = connection.recv_bytes()
                if frame[:1] == _END:
                    break
                self._answer(decoded_checkpoint_answer(frame[1:]))
        with self._using:  # what comes from now on is kept here
            if self._connection is connection:
                self._connection = None
        connection.close()
        self._heard.set()
        self._answer(_GONE)

    def _answer(self, answer: CheckpointAnswer) -> None:
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(answer)


def hear_of(name: ChannelName) -> Hear | None:
    """Return who hears an attempt, if its node is in this process."""
    return _here.get(name.token) if name.process == os.getpid() else None
