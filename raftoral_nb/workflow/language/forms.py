"""Branch or step? What parallel operations are given is told apart by how it can be called, and by nothing else.

A branch takes a context first: `async def branch(ctx, item)`. Any other function, and every `@step`, is one step, which gets
the arguments alone: `def measure(item)`. What could be called either way is a branch if its first parameter is named or
annotated as a context, or takes whatever comes; `def load(path, encoding="utf-8")` is none.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from ...errors import WorkflowDefinitionError
from ..codec.values import type_name
from ..execution.execution import Execution
from ..shipping.step_function import StepFunction

CONTEXT_NAMES: Final = frozenset({"ctx", "_ctx", "context", "_context", "c", "_", "__"})
"""The names that branches give to their first parameter, where that is all there is to go by."""

Branch = Callable[..., Awaitable[Any]]
"""Called with a context and the arguments."""


def as_branch(what: str, execution: Execution, fn: Any, given: int) -> Branch:
    """Return the function to run as a branch for `fn`.

    It is to get `given` arguments (and a context, if it is a branch itself).

    Raises `WorkflowDefinitionError`, which names the operation `what`, if it can be called neither way.
    """
    if inspect.iscoroutine(fn):
        name = next((one.name for one in execution.called if one.coroutine is fn), f"{fn.__qualname__}(...)")
        fn.close()
        raise WorkflowDefinitionError(
            f"{what} was given a coroutine, the call {name}, where it takes functions: it calls them itself. For a @step, or any "
            "other function f, give it functools.partial(f, ...); else an `async def branch(ctx): ...` that awaits the call"
        )
    if not callable(fn):
        raise WorkflowDefinitionError(
            f"{what} takes functions: branches, which are called with a context of their own, such as "
            f"`async def branch(ctx): ...`, and steps; got {type(fn).__name__}"
        )
    if not _is_step(what, fn, given):
        return _checked(what, fn)
    if _step_function(fn) is not None:
        # Called in the branch's own task, it finds the context by itself.
        return lambda _, *args: fn(*args)
    return lambda ctx, *args: ctx.compute(name_of(fn), fn, *args)


def name_of(fn: Any) -> str:
    """Return the key of a function's steps, where none is given."""
    while isinstance(fn, partial):
        fn = fn.func
    return str(getattr(fn, "__name__", None) or type(fn).__name__)


def _step_function(fn: Any) -> StepFunction[..., Any] | None:
    while isinstance(fn, partial):
        fn = fn.func
    return fn if isinstance(fn, StepFunction) else None


def _is_step(what: str, fn: Any, given: int) -> bool:
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # a class or a function of C that does not say: such a one takes no context
        return True
    alone, with_context = _takes(signature, given), _takes(signature, given + 1)
    step = _step_function(fn) is not None
    if not alone and (step or not with_context):
        takes = "no arguments" if not given else f"{given} argument{'s' if given > 1 else ''}"
        form = "" if step else ", or a context and these"
        raise WorkflowDefinitionError(
            f"{what} calls its functions with {takes}{form}; {name_of(fn)}{signature} takes others"
        )
    if step or not with_context:
        return True
    if not alone:
        return False
    first = next(iter(signature.parameters.values()))
    annotation = first.annotation if isinstance(first.annotation, str) else getattr(first.annotation, "__name__", "")
    named = first.name in CONTEXT_NAMES or annotation.rpartition(".")[2] == "WorkflowContext"
    return not (named or first.kind is first.VAR_POSITIONAL)


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*(None,) * count)
    except TypeError:
        return False
    return True


def _checked(what: str, fn: Branch) -> Branch:
    """Return the branch as it is; one that returns what cannot be awaited is told so."""

    def call(ctx: Any, *args: Any) -> Awaitable[Any]:
        made: Any = fn(ctx, *args)
        if not inspect.isawaitable(made):
            raise WorkflowDefinitionError(
                f"a branch of {what}, {name_of(fn)}, returned a {type_name(type(made))}, where it must be awaited: write "
                f"`async def {name_of(fn)}(ctx, ...)`, or leave out the context if it is to be a step"
            )
        return made

    return call
