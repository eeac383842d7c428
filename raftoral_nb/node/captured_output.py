"""Output that workflows print or log, captured per execution.

It goes to the execution's sink and never to a notebook cell.

A context variable tells which execution is printing, so it covers the workflow's tasks and its synchronous steps (their
threads get a copy of the context), but not threads that user code starts by itself, nor bytes written to
`sys.stdout.buffer`, nor what is printed in the very moment in which another thread replaces `sys.stdout` (`%%capture`,
`contextlib.redirect_stdout`).
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, Literal, TypeAlias

from ..limits import MAX_OUTPUT_LINE_CHARS

Stream: TypeAlias = Literal["stdout", "stderr", "log"]
Sink: TypeAlias = Callable[[Stream, str], None]
"""A function that takes a stream's name and text. May be called from any thread that runs code of the execution."""

current_execution: ContextVar[Sink | None] = ContextVar("raftoral_nb_current_execution", default=None)
"""The sink of the running code's output; None outside of every execution."""

_ENGINE_LOGGER: Final = __name__.partition(".")[0]
_FORMATTER: Final = logging.Formatter("%(levelname)s %(name)s: %(message)s")
_logger: Final = logging.getLogger(__name__)


class LineBuffer:
    """A buffer that joins pieces of text and splits them into lines, as a terminal would.

    A bare carriage return starts the line anew.

    Keeps at most `limit` characters of a line and says how many it left out. Not safe to use from two threads at once.
    """

    def __init__(self, limit: int = MAX_OUTPUT_LINE_CHARS) -> None:
        self._limit = limit
        self._kept = ""
        self._left_out = 0
        self._return = False  # the last character was "\r": a line's end if "\n" follows

    def feed(self, text: str) -> list[str]:
        """Return the lines, without their ends, that `text` completes."""
        *complete, rest = text.split("\n")
        lines = []
        for piece in complete:
            self._add(piece)
            lines.append(self._take())
        self._add(rest)
        return lines

    def flush(self) -> list[str]:
        """Return the unfinished line, if there is one, as a list of one."""
        return [self._take()] if self._kept or self._left_out else []

    def _add(self, piece: str) -> None:
        if not piece:
            return
        ends_in_return = piece.endswith("\r")
        body = piece.rstrip("\r")
        if self._return and body:  # the earlier "\r" was not a line's end
            self._kept, self._left_out = "", 0
        _, overwrites, last = body.rpartition("\r")
        if overwrites:
            self._kept, self._left_out, body = "", 0, last
        self._return = ends_in_return or (self._return and not body)
        room = self._limit - len(self._kept)
        self._kept += body[:room]
        self._left_out += max(0, len(body) - room)

    def _take(self) -> str:
        line = self._kept + (f" … ({self._left_out} more characters)" if self._left_out else "")
        self._kept, self._left_out, self._return = "", 0, False
        return line


class LineSink:
    """A sink that passes whole lines on to another one, in order, whichever threads they come from.

    `close` passes on unfinished lines. Whole lines that come later (from an abandoned step) are passed on too. An exception of
    the other sink is logged and goes no further; what the other sink itself prints is not caught.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._lock = threading.RLock()  # reentrant: a finalizer may print while its thread is in here
        self._buffers: dict[Stream, LineBuffer] = {}

    def __call__(self, stream: Stream, text: str) -> None:
        """Take a piece of text."""
        with self._lock:
            buffer = self._buffers.get(stream)
            if buffer is None:
                buffer = self._buffers[stream] = LineBuffer()
            self._pass_on(stream, buffer.feed(text))

    def close(self) -> None:
        """Pass on the unfinished lines."""
        with self._lock:
            for stream, buffer in self._buffers.items():
                self._pass_on(stream, buffer.flush())

    def _pass_on(self, stream: Stream, lines: list[str]) -> None:
        if not lines:
            return
        token = current_execution.set(None)
        try:
            for line in lines:
                self._sink(stream, line)
        except Exception:
            _logger.exception("the sink of an execution's output failed")
        finally:
            current_execution.reset(token)


@contextmanager
def capturing(sink: Sink) -> Iterator[LineSink]:
    """Send what is printed and logged inside to `sink`, line by line; to be entered in the task that runs the workflow.

    Takes effect while a `Capture` is installed.
    """
    capture.ensure()
    lines = LineSink(sink)
    token = current_execution.set(lines)
    try:
        yield lines
    finally:
        current_execution.reset(token)
        lines.close()


class _Tee:
    """The stand-in for `sys.stdout` or `sys.stderr`.

    It routes writes by context, and otherwise is the wrapped stream.
    """

    __slots__ = ("_raftoral_capture", "_raftoral_inside", "_raftoral_name", "_raftoral_over", "_raftoral_wrapped")

    def __init__(self, owner: Capture, name: Stream, wrapped: Any) -> None:
        object.__setattr__(self, "_raftoral_capture", owner)
        object.__setattr__(self, "_raftoral_name", name)
        object.__setattr__(self, "_raftoral_wrapped", wrapped)
        object.__setattr__(self, "_raftoral_over", None)
        object.__setattr__(self, "_raftoral_inside", threading.local())

    def _raftoral_sink(self) -> Sink | None:
        sink = current_execution.get()
        return sink if sink is not None and self._raftoral_capture.installed else None

    def write(self, text: str) -> int:
        """Write as text streams do; return the number of characters taken."""
        sink = self._raftoral_sink()
        if sink is None:
            written: int = self._write_through(text)
            return written
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        sink(self._raftoral_name, text)
        return len(text)

    def _write_through(self, text: str) -> Any:
        """Write to the wrapped stream, by way of the `write` that others have set on this one.

        IPython sets one for each cell, which calls the one it found here: that call, from inside, goes straight through.
        """
        over, inside = self._raftoral_over, self._raftoral_inside
        if over is None or getattr(inside, "over", False):
            return self._raftoral_wrapped.write(text)
        inside.over = True
        try:
            return over(text)
        finally:
            inside.over = False

    def writelines(self, lines: Any) -> None:
        """Write lines as text streams do."""
        if self._raftoral_sink() is None:
            self._raftoral_wrapped.writelines(lines)
            return
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush as text streams do; lines of an execution are passed on when they are whole."""
        if self._raftoral_sink() is None:
            self._raftoral_wrapped.flush()

    def isatty(self) -> bool:
        """Return the answer of the wrapped stream.

        An execution's output is no terminal, so no progress bar should draw into it.
        """
        return self._raftoral_sink() is None and bool(self._raftoral_wrapped.isatty())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raftoral_wrapped, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "write":
            own = getattr(value, "__func__", None) is _Tee.write and getattr(value, "__self__", None) is self
            object.__setattr__(self, "_raftoral_over", None if own else value)
        else:
            setattr(self._raftoral_wrapped, name, value)

    def __delattr__(self, name: str) -> None:
        if name == "write":
            object.__setattr__(self, "_raftoral_over", None)
        else:
            delattr(self._raftoral_wrapped, name)

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # for isinstance: people ask whether it is an io.TextIOBase, or ipykernel's OutStream
        return type(self._raftoral_wrapped)

    def __dir__(self) -> list[str]:
        return dir(self._raftoral_wrapped)

    def __repr__(self) -> str:
        return repr(self._raftoral_wrapped)

    def __iter__(self) -> Any:
        return iter(self._raftoral_wrapped)

    def __next__(self) -> Any:
        return next(self._raftoral_wrapped)

    def __enter__(self) -> Any:
        self._raftoral_wrapped.__enter__()
        return self

    def __exit__(self, *exc: object) -> Any:
        return self._raftoral_wrapped.__exit__(*exc)


class Capture:
    """The router of the process's prints and log records, by context, while it is installed.

    Use the module's `capture`.

    Records of the engine's own loggers are no output of a workflow and are left alone. Records of an execution reach no
    handler at all, only its sink; every other record takes the way it takes without us. For this `Logger.callHandlers`
    is wrapped: a handler of our own on the root logger would turn `basicConfig` and logging's last resort off.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._call_handlers: Callable[[logging.Logger, logging.LogRecord], None] | None = None

    @property
    def installed(self) -> bool:
        """True if output of executions is captured."""
        return self._users > 0

    def install(self) -> None:
        """Catch output of executions; to be undone by one `uninstall`. May be called by several users."""
        with self._lock:
            self._users += 1
        self.ensure()

    def uninstall(self) -> None:
        """Undo one `install`. The last one restores what was there, or, if others wrapped or replaced it since, lets all through."""
        with self._lock:
            if self._users == 0:
                return
            self._users -= 1
            if self._users:
                return
            for name in ("stdout", "stderr"):
                stream = getattr(sys, name)
                if self._owns(stream):
                    setattr(sys, name, stream._raftoral_wrapped)
            if self._call_handlers is not None and logging.Logger.callHandlers is self._call_handlers:
                _set_call_handlers(self._call_handlers.__wrapped__)  # type: ignore[attr-defined]
                self._call_handlers = None

    def ensure(self) -> None:
        """Wrap the streams again if others have replaced them since (pytest does). Does nothing if not installed."""
        with self._lock:
            if not self._users:
                return
            self._wrap("stdout")
            self._wrap("stderr")
            if self._call_handlers is None:
                self._call_handlers = self._routing(logging.Logger.callHandlers)
                _set_call_handlers(self._call_handlers)

    def _owns(self, stream: object) -> bool:
        return type(stream) is _Tee and stream._raftoral_capture is self

    def _wrap(self, name: Literal["stdout", "stderr"]) -> None:
        stream = getattr(sys, name)
        if stream is not None and not self._owns(stream):
            setattr(sys, name, _Tee(self, name, stream))

    def _routing(
        self, wrapped: Callable[[logging.Logger, logging.LogRecord], None]
    ) -> Callable[[logging.Logger, logging.LogRecord], None]:
        def callHandlers(logger: logging.Logger, record: logging.LogRecord) -> None:  # noqa: N802 - as in logging
            sink = current_execution.get() if self._users else None
            if sink is None or logger.name.partition(".")[0] == _ENGINE_LOGGER:
                wrapped(logger, record)
            else:
                sink("log", _formatted(record) + "\n")

        callHandlers.__wrapped__ = wrapped  # type: ignore[attr-defined]
        return callHandlers


def _set_call_handlers(function: Callable[[logging.Logger, logging.LogRecord], None]) -> None:
    logging.Logger.callHandlers = function  # type: ignore[method-assign, assignment]


def _formatted(record: logging.LogRecord) -> str:
    try:
        return _FORMATTER.format(record)
    except Exception as error:
        return f"{record.levelname} {record.name}: {record.msg!r} % {record.args!r} ({type(error).__name__}: {error})"


capture: Final = Capture()
"""The process's one capture."""
