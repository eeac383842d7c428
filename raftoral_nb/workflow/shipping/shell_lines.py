"""`!cmd` and `%magic` lines in functions of a notebook: IPython makes calls of them, which work in its own kernel only."""

from __future__ import annotations

import ast
import linecache
import types
from collections.abc import Iterable, Iterator
from typing import Any, Final

from ...threads import user_code
from ..codec import sources

_SHELL: Final = {"system": "!", "getoutput": "!"}
_MAGIC: Final = {"run_line_magic": "%", "run_cell_magic": "%%"}


def refusal(functions: Iterable[types.FunctionType]) -> str | None:
    """Return why code with these functions cannot run elsewhere.

    The first `!` or `%` line, as its author wrote it, and what to do.
    """
    for function in functions:
        if not _is_kernels(function.__globals__.get("get_ipython")) or "get_ipython" not in sources.global_names(
            function.__code__
        ):
            continue
        code = function.__code__
        for line, text, advice in _lines(code):
            return f"{function.__qualname__} has the line `{text}` ({user_code.short_file_name(code.co_filename)}:{line}). {advice}"
        return (
            f"{function.__qualname__} calls get_ipython(), and IPython is in this kernel only, not on every node. Call the Python "
            "function that does the work"
        )
    return None


def _is_kernels(found: Any) -> bool:
    return isinstance(found, types.MethodType) and hasattr(found.__self__, "run_line_magic")


def _lines(code: types.CodeType) -> Iterator[tuple[int, str, str]]:
    """Return the line, what its author wrote there, and what to do about it."""
    try:
        tree = ast.parse("".join(linecache.getlines(code.co_filename)))
    except (SyntaxError, ValueError, RecursionError):
        return
    mine = {line for line in _line_numbers(code) if line is not None}
    for statement in ast.walk(tree):
        if not isinstance(statement, ast.stmt) or statement.lineno not in mine:
            continue
        for node in _own(statement):
            if isinstance(node, ast.Call) and (found := _said(node)):
                mark, said = found
                target = ast.unparse(statement.targets[0]) + " = " if isinstance(statement, ast.Assign) else ""
                yield statement.lineno, f"{target}{mark}{said}", _advice(mark, said)


def _own(statement: ast.stmt) -> Iterator[ast.AST]:
    """Return the nodes of a statement, without the statements in it."""
    yield statement
    for child in ast.iter_child_nodes(statement):
        if not isinstance(child, ast.stmt):
            yield from ast.walk(child)


def _said(call: ast.Call) -> tuple[str, str] | None:
    function = call.func
    if not isinstance(function, ast.Attribute) or not isinstance(function.value, ast.Call):
        return None
    if not isinstance(function.value.func, ast.Name) or function.value.func.id != "get_ipython":
        return None
    words = [one.value for one in call.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    if function.attr in _SHELL:
        return _SHELL[function.attr], words[0] if words else ""
    if function.attr in _MAGIC:
        return _MAGIC[function.attr], " ".join(word for word in words[:2] if word)
    return None


def _advice(mark: str, said: str) -> str:
    if mark == "!":
        return (
            "IPython runs such a line, and it is in this kernel only, not on every node. Write "
            f"`subprocess.run({said!r}, shell=True, check=True, capture_output=True, text=True).stdout` in a step instead"
        )
    return (
        "That is a magic of IPython, which is in this kernel only, not on every node. Call the Python function that does the same in a "
        "step instead, or put the line into a cell of its own"
    )


def _line_numbers(code: types.CodeType) -> Iterator[int | None]:
    for _, _, line in code.co_lines():
        yield line
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _line_numbers(constant)
