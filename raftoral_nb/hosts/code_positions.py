"""The code of a run, and the line of it that each node is at: what `WorkflowRun.code` returns."""

from __future__ import annotations

import inspect
import linecache
import tokenize
from collections.abc import Mapping
from types import CodeType, MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from ..core.records import Definition, NodeId
from ..core.statistics import CodePlace, RunCode
from ..threads.user_code import awaiting_frames, is_users, short_file_name

if TYPE_CHECKING:
    from ..workflow.execution.execution import Execution

MAX_CODE_LINES: Final = 300
"""Lines of a workflow that are given: the first ones."""

MAX_PLACES: Final = 16
"""Branches of one execution whose places are given: the first ones."""


def code(definition: Definition, executions: Mapping[NodeId, Execution]) -> RunCode:
    """See `WorkflowRun.code`: the code of a definition, and where each node's execution of a run is in it."""
    executions = {number: one for number, one in executions.items() if one.definition.digest == definition.digest}
    root = next((code for one in executions.values() if (code := _code_of(one.function)) is not None), None)
    file, first, lines = ("", 0, ()) if root is None else _text(root, definition.sources)
    places = {number: _places(one, "" if root is None else root.co_filename) for number, one in executions.items()}
    return RunCode(
        workflow=definition.workflow,
        version=definition.version,
        file=short_file_name(file),
        first_line=first,
        lines=lines,
        places=MappingProxyType(places),
        more=MappingProxyType({number: max(0, len(one.branches) - MAX_PLACES) for number, one in executions.items()}),
    )


def _code_of(function: Any) -> CodeType | None:
    found = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    return found if isinstance(found, CodeType) else None


def _text(root: CodeType, sources: dict[str, str]) -> tuple[str, int, tuple[str, ...]]:
    """Return the file of a function, the line at which it begins, and its lines, which may be none."""
    file, first = root.co_filename, root.co_firstlineno
    text = sources.get(file)
    rest = (linecache.getlines(file) if text is None else text.splitlines(keepends=True))[first - 1 :]
    try:
        block = inspect.getblock(rest)
    except (tokenize.TokenError, SyntaxError):  # the file is another one by now
        block = rest
    return file, first, tuple(line.rstrip() for line in block[:MAX_CODE_LINES])


def _places(execution: Execution, file: str) -> tuple[CodePlace, ...]:
    """Return where the execution is in each of its branches, outermost first."""
    branches = sorted(execution.branches.items(), key=lambda one: _order(one[0]))[:MAX_PLACES]
    return tuple(found for path, waits in branches if (found := _place(path, waits, file)) is not None)


def _order(path: str) -> list[tuple[str, int]]:
    """Return what sorts branches as they were made: ordinals as numbers, those of plain tasks behind those of operations."""
    return [(part.rstrip("0123456789"), int(part.lstrip("ctgu") or 0)) for part in path.split(".") if part]


def _place(path: str, waits: Any, file: str) -> CodePlace | None:
    """Return the innermost line of the user's that is being awaited. What runs at this moment may be a line further on already."""
    found: CodePlace | None = None
    for frame in awaiting_frames(waits):
        name, line = frame.f_code.co_filename, frame.f_lineno
        if line is not None and (name == file or is_users(name)):
            shown = short_file_name(name)
            found = CodePlace(branch=path, function=frame.f_code.co_name, file=shown, line=line, own=name == file)
    return found
