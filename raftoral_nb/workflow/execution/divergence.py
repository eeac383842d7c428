"""Descriptions of an execution that differs from the record: both sides, the line that asked, and the likely cause."""

from __future__ import annotations

import linecache
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...core.records import CancelRecord, Difference, Message, MoveRecord, Record, Step, TimersFired
from ...errors import ValueNotShippableError
from ...threads import user_code
from ..codec import values
from ..lint import checker

if TYPE_CHECKING:
    from types import FrameType


def place(waits: object = None) -> tuple[str, int, str, str]:
    """Return the innermost frame of the user's code that waits for what is called here, or that the coroutine `waits` is at.

    File, line, function and the line's text.
    """
    frame: FrameType | None
    if waits is not None:
        frame = next((one for one in reversed(tuple(user_code.awaiting_frames(waits))) if _is_users(one)), None)
    else:
        frame = sys._getframe(1)
        while frame is not None and not _is_users(frame):
            frame = frame.f_back
    if frame is None:
        return "", 0, "", ""
    file, line = frame.f_code.co_filename, frame.f_lineno
    return file, line, frame.f_code.co_name, linecache.getline(file, line).strip()


def code_of(path: str, branches: Mapping[str, Any]) -> Any:
    """Return the coroutine of the branch of that path; of the one that made it, if there is no code of the user's in it."""
    makers = sorted((one for one in branches if path.startswith(one)), key=len, reverse=True)
    shown = (branches[one] for one in makers if place(branches[one])[0])
    return next(shown, branches.get(path))


def _is_users(frame: FrameType) -> bool:
    return user_code.is_users(frame.f_code.co_filename)


def explain(
    reason: str,
    function: Callable[..., Any] | None,
    waits: object,
    *,
    asked: str = "",
    recorded: str = "",
    python: str | None = None,
) -> Difference:
    """Return the difference, with the line of the workflow that runs now or that `waits` is at, and the likely cause.

    The cause is what the code suggests, and the version of Python, if the workflow was registered with another (`python`) than this.
    """
    file, line, name, text = place(waits)
    where = f"{user_code.short_file_name(file)}:{line} in {name}" if file else ""
    found = checker.findings(function) if function is not None else ()
    return Difference(reason, recorded, asked, where, text, _cause(found, file, line) + _other_python(python))


def _other_python(made: str | None) -> str:
    here = platform.python_version()
    if made is None or made == here:
        return ""
    return f". Besides, the workflow was registered with Python {made}, and this node runs {here}, whose asyncio may order things otherwise"


def unreadable(reason: str) -> Difference:
    """Describe why an execution cannot continue.

    It cannot read its code, or a value recorded for the line that asked.
    """
    file, line, name, text = place()
    where = f"{user_code.short_file_name(file)}:{line} in {name}" if file else ""
    return Difference(reason, where=where, line=text)


def described(record: Record) -> str:
    """Return a record as text; a step with its value, shortened."""
    match record:
        case Message(kind="child"):
            return f"the end of the child {record.name!r}"
        case Message():
            return f"{record.kind} {record.name!r}"
        case TimersFired():
            return "timers that fired"
        case CancelRecord():
            return "the request to cancel the run"
        case MoveRecord():
            return f"the move to version {record.version}"
        case Step():
            return _step(record)


def _step(step: Step) -> str:
    what = f"{step.operation} {step.step_id!r}"
    if step.failure is not None:
        return f"{what}, which failed with {step.failure}"
    try:
        return f"{what} = {values.preview(step.value or b'', what=what)}"
    except ValueNotShippableError:
        return what


def _cause(found: Sequence[checker.Finding], file: str, line: int) -> str:
    """Return what the check of the code points at, the last before the line that asked first.

    Then what it cannot see.
    """
    if not found:
        return (
            "nothing in the code that the check knows of. Look for what differs from node to node or from run to run: the "
            "clock, chance, files, networks, global variables, the order of a set, code in modules that changed since"
        )
    before = [one for one in found if (one.file, one.line) <= (file, line) and one.file == file]
    return str(before[-1] if before else found[0])
