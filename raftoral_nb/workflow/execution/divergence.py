"""Descriptions of an execution that differs from the record: both sides, the line that asked, and the likely cause."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ...core.records import Difference, Step
from ...errors import ValueNotShippableError
from ...threads.user_code import is_users, short_file_name
from ..codec import values
from ..lint import checker

if TYPE_CHECKING:
    from types import FrameType

    from ...core.replay import Diverged


def place() -> tuple[str, int, str, str]:
    """Return the innermost frame of the user's code that waits for what is called here.

    File, line, function and the line's text.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if is_users(code.co_filename):
            text = linecache.getline(code.co_filename, frame.f_lineno).strip()
            return code.co_filename, frame.f_lineno, code.co_name, text
        frame = frame.f_back
    return "", 0, "", ""


def explain(reason: str, function: Callable[..., Any] | None, *, asked: str = "", recorded: str = "") -> Difference:
    """Return the difference, with the line of the workflow that runs now, and the cause that its code suggests."""
    file, line, name, text = place()
    where = f"{short_file_name(file)}:{line} in {name}" if file else ""
    found = checker.findings(function) if function is not None else ()
    return Difference(reason, recorded, asked, where, text, _cause(found, file, line))


def unreadable(reason: str) -> Difference:
    """Describe why an execution cannot continue.

    It cannot read its code, or a value recorded for the line that asked.
    """
    file, line, name, text = place()
    where = f"{short_file_name(file)}:{line} in {name}" if file else ""
    return Difference(reason, where=where, line=text)


def sides(answer: Diverged) -> tuple[str, str]:
    """Return what was asked for and what is recorded, of a replay that met another step."""
    return f"{answer.asked_operation} {answer.asked_id!r}", "" if answer.recorded is None else described(
        answer.recorded
    )


def described(step: Step) -> str:
    """Return a recorded step with its value, shortened."""
    what = f"{step.operation} {step.step_id!r}"
    if step.failure is not None:
        return f"{what}, which failed with {step.failure}"
    try:
        return f"{what} = {values.shorten(values.decode(step.value or b'', what=what))}"
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
