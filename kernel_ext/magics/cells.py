"""Running the body of a `%%workflow` cell as IPython would, and finding the workflow in it."""

from __future__ import annotations

import ast
import inspect
import traceback
from typing import Any

import raftoral_nb

from ..errors import MagicError, did_you_mean


def async_functions(source: str) -> list[str]:
    """The names of the top-level `async def`s, in order. `source` is plain Python; raises SyntaxError otherwise."""
    return [node.name for node in ast.parse(source).body if isinstance(node, ast.AsyncFunctionDef)]


def choose(names: list[str], wanted: str | None) -> str:
    """The function that a `%%workflow` cell registers. Raises `MagicError` if it has none."""
    if not names:
        raise MagicError(
            "this cell defines no workflow: a %%workflow cell needs an `async def name(ctx, input)` at its top level.\n"
            "Is it defined in another cell? Then: %raftoral register NAME"
        )
    return wanted if wanted in names else names[-1]


def run_cell(shell: Any, cell: str) -> str:
    """Runs the cell in the notebook of this `InteractiveShell`, the last expression displayed; returns its source as plain Python.

    What the cell raises comes out of here with a traceback that shows the cell's own lines only. It is not run through
    `shell.run_cell`: that one shows an error and returns, so that the outer cell would count as a success.
    """
    # IPython hides all frames of a traceback down to the one that has this name.
    __tracebackhide__ = "__ipython_bottom__"
    # One line down, where the notebook shows it: the cell's first line is the magic's.
    source = "\n" + str(shell.transform_cell(cell))
    if shell.should_run_async(cell, transformed_cell=source):
        raise MagicError("a %%workflow cell cannot `await` at its top level: do that in a cell of its own.")
    # The compiler's cache gives the cell a file name of its own: tracebacks and `inspect.getsource` find its text.
    number = len(shell.history_manager.input_hist_parsed) - 1
    filename = shell.compile.cache(source, number, raw_code=cell)
    try:
        parsed = shell.compile.ast_parse(source, filename=filename)
    except SyntaxError as problem:
        # IPython would show every frame of ours above it.
        error = _for_the_whole_cell(problem, source)
        shown = "".join(traceback.format_exception_only(error)).partition("\n")[2].rstrip()
        line = "" if error.lineno is None else f"line {error.lineno} of the cell:\n"
        raise MagicError(f"{line}{shown}") from None
    tree = shell.transform_ast(parsed)
    body = list(tree.body)
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    steps: list[tuple[ast.Module | ast.Interactive, str]] = [(ast.Module(body=body, type_ignores=[]), "exec")]
    if last is not None:
        steps.append((ast.Interactive(body=[last]), "single"))
    for step, mode in steps:
        exec(shell.compile(step, filename, mode), shell.user_global_ns, shell.user_ns)  # noqa: S102 - it is the user's cell
    return source


def _for_the_whole_cell(problem: SyntaxError, source: str) -> SyntaxError:
    """The error as Python words it for a file: IPython's compiler expects more input, and says only `incomplete input`."""
    try:
        ast.parse(source)
    except SyntaxError as plain:
        return plain
    return problem


def resolve(name: str, namespace: dict[str, Any]) -> Any:
    """The workflow of that name in the notebook: a `Workflow` or an `async def`. Raises `MagicError`."""
    if name not in namespace:
        known = [key for key, value in namespace.items() if not key.startswith("_") and is_workflow(value)]
        raise MagicError(
            f"the notebook has no {name!r}.{did_you_mean(name, known)}\n"
            "A workflow is an `async def name(ctx, input)`; define it in a %%workflow cell, or register one by its name."
        )
    found = namespace[name]
    if not is_workflow(found):
        raise MagicError(
            f"{name!r} is {_described(found)}, not a workflow: write `async def {name}(ctx, input)`, optionally with @workflow."
        )
    return found


def is_workflow(value: Any) -> bool:
    """True for what can be registered: a `Workflow` or an `async def`."""
    return isinstance(value, raftoral_nb.Workflow) or inspect.iscoroutinefunction(value)


def _described(value: Any) -> str:
    if inspect.isclass(value):
        return "a class"
    if inspect.isfunction(value):
        return "a plain function (`def`, without `async`)"
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
