"""Python expressions in a line of `%raftoral`: inputs of runs, values of signals."""

from __future__ import annotations

import ast
import re
from typing import Any, Final

from ..errors import MagicError

_FILLED_IN: Final = re.compile(r"--(?:id|version)[\s=]+\S*[${]")
"""An id that IPython was expected to put together."""


def evaluate(expression: str, names: dict[str, Any]) -> Any:
    """The value of the input expression; None for an empty one. Raises `MagicError`."""
    if not expression:
        return None
    try:
        code = compile(expression, "<input of the run>", "eval")
    except (SyntaxError, ValueError) as problem:
        why = problem.msg if isinstance(problem, SyntaxError) else str(problem)
        advice = 'Flags stand directly after the workflow\'s name, or last. Example: %raftoral run order {"item": "A1"}'
        if _FILLED_IN.search(expression):
            advice = (
                "$name and {name} are not replaced in a line of %raftoral. Such an id is given in Python: "
                'cluster.start_workflow("order", "A1", run_id=f"order-{n}")'
            )
        raise MagicError(f"the input is not one Python expression ({why}): {expression}\n{advice}") from None
    try:
        return eval(code, names)  # noqa: S307 - it is the user's own expression
    except Exception as problem:
        raise MagicError(
            f"the input expression raised {type(problem).__name__}: {problem}\n  {expression}"
        ) from problem


def literal(expression: str) -> Any:
    """A value written in Python; nothing of the notebook is evaluated for a page. Raises `MagicError`."""
    try:
        return ast.literal_eval(expression) if expression else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise MagicError(
            f"{expression[:80]} is not a Python literal such as True, 3, 'yes' or {{'ok': 1}}; "
            "to use names of the notebook, send the signal in a cell"
        ) from None
