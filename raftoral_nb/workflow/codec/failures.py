"""Exceptions as data: recorded so that every node and view can read them, and rebuilt where they can be."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import anyio

from ... import errors, limits
from ...core.records import Failure
from ...threads import user_code
from . import classes, exceptions, kept, sources
from .values import type_name

_ENGINE_FOLDERS: Final = tuple(
    f"{folder}{os.sep}"
    for folder in (user_code.PACKAGE, *(Path(module.__path__[0]) for module in (anyio, asyncio, concurrent.futures)))
)
_NOT_ENGINE: Final = frozenset(
    {str(user_code.PACKAGE / "cli" / "demo.py")}
)  # a workflow's own code, though within the package

_SHOWS_A_LINE: Final = '\n  File "'

_NO_SOURCES: Final[Mapping[str, str]] = MappingProxyType({})


class StepTraceback(Exception):  # noqa: N818  # no error of its own, but how one is shown
    """The text of a recorded traceback, as the cause of the rebuilt exception: where the step itself failed."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


class TracebackElsewhere(StepTraceback):
    """The same, of an attempt that ran in another process: who captures the exception again finds there what was captured first."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.traceback)
        self.failure = failure


def capture(
    exc: BaseException,
    *,
    definition_sources: Mapping[str, str] = _NO_SOURCES,
    say: Callable[[str], object] | None = None,
) -> Failure:
    """Return the record of an exception; never raises, whatever the exception's own methods do.

    The traceback is text with source lines (those of `definition_sources` where the file is not there, as after a restart),
    without the engine's own frames, with causes, notes and the members of groups. Message and traceback are each cut to
    `limits.MAX_FAILURE_TEXT`. An `Exception` itself is kept, within `limits.MAX_FAILURE_EXCEPTION_BYTES`: its class with what
    of its arguments and attributes comes back from a pickle. Each part that does not is told to `say`.
    """
    sources.show(definition_sources)
    if isinstance(exc, errors.RetryAfter) and not isinstance(exc.__cause__, TracebackElsewhere):
        exc.cause = (
            exc.__cause__
        )  # what it was raised from: as a part of the exception it travels from other processes too
    message = kept.message(exc)
    data: bytes | None = None
    parts: tuple[str, ...] = ()
    # Only Exceptions: a SystemExit, KeyboardInterrupt or cancellation must not come back to life on other threads.
    if isinstance(exc, Exception):
        data, parts = kept.encode(exc, limits.MAX_FAILURE_EXCEPTION_BYTES)
    if say is not None:
        for part in parts:
            say(
                f"an exception is recorded without {part}: keep in its attributes what pickles, such as text and numbers"
            )
    cause = exceptions.cause_of(exc)
    if isinstance(cause, TracebackElsewhere):
        return _captured_elsewhere(exc, cause, data)
    return Failure(
        type_name=_cut(type_name(type(exc))),
        message=_cut(message),
        traceback=_cut(_traceback(exc, message) + "".join(f"(not recorded: {part})\n" for part in parts)),
        exception=data,
    )


def rebuild(failure: Failure, *, step_id: str, view: classes.View = classes.NOTEBOOK) -> BaseException:
    """Return the recorded exception, to be raised where the step was awaited; its cause shows the recorded traceback.

    `view` says which classes are meant. An exception that was not kept, or does not unpickle here, becomes a `StepFailedError` with the failure in it.
    """
    rebuilt: Exception | None = None if failure.exception is None else kept.decode(failure.exception, view)
    if rebuilt is None:
        rebuilt = errors.StepFailedError(step_id, failure)
    # What the engine itself says of a step needs no second traceback. What it says of a run does: it shows the line.
    ours = isinstance(rebuilt, errors.RaftoralError) and not isinstance(rebuilt, errors.StepFailedError)
    if failure.traceback and (not ours or (not step_id and _SHOWS_A_LINE in failure.traceback)):
        exceptions.set_cause(rebuilt, StepTraceback(failure.traceback))
    return rebuilt


def raised_elsewhere(failure: Failure, *, step_id: str, view: classes.View) -> BaseException:
    """Return the exception of an attempt that ran in another process, for those who decide whether there is another attempt."""
    rebuilt = rebuild(failure, step_id=step_id, view=view)
    exceptions.set_cause(rebuilt, TracebackElsewhere(failure))
    return rebuilt


def _captured_elsewhere(exc: BaseException, cause: TracebackElsewhere, data: bytes | None) -> Failure:
    first = cause.failure
    if first.exception is None:  # what was rebuilt is only our word for it
        return first
    said = [note for note in exceptions.notes_of(exc) if note not in first.traceback]
    text = "".join(f"{line}\n" for line in (first.traceback.rstrip("\n"), *said))
    return Failure(first.type_name, first.message, _cut(text), data)


def _traceback(exc: BaseException, message: str) -> str:
    try:
        rendered = traceback.TracebackException.from_exception(exc, compact=True)
        _leave_out_engine(rendered, set())
        return "".join(rendered.format())
    except Exception:  # rendering calls the exception's own methods
        return f"{type_name(type(exc))}: {message}\n"


def _leave_out_engine(rendered: traceback.TracebackException, seen: set[int]) -> None:
    if id(rendered) in seen:
        return
    seen.add(id(rendered))
    rendered.stack = traceback.StackSummary.from_list([f for f in rendered.stack if not _is_engine(f.filename)])
    for frame in rendered.stack:
        # Its line was read already; a cell's file name says nothing to people and differs in every kernel.
        frame.filename = user_code.cell_name(frame.filename) or frame.filename
    for related in (rendered.__cause__, rendered.__context__, *(rendered.exceptions or ())):
        if related is not None:
            _leave_out_engine(related, seen)


def _is_engine(filename: str) -> bool:
    return filename.startswith(_ENGINE_FOLDERS) and filename not in _NOT_ENGINE


def _cut(text: str) -> str:
    """Return both ends of a text that is too long: a traceback's first frames and its last line matter most.

    Half surrogates, which no frame can carry, are written out.
    """
    text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) <= limits.MAX_FAILURE_TEXT:
        return text
    half = limits.MAX_FAILURE_TEXT // 2 - 50
    return f"{text[:half]}\n... ({len(text) - 2 * half:,} characters left out) ...\n{text[-half:]}"
