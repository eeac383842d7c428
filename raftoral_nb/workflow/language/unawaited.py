"""Operations that were called and never awaited: a forgotten `await` is asked about, with the operation and its line.

Such an operation does nothing, and Python says so only when it collects the garbage. So an execution remembers what was called
and not awaited yet; what is left of that when the run ends is what was forgotten.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Coroutine, Iterable
from functools import wraps
from types import CoroutineType
from typing import Any, Final, TypeVar, cast

from ...errors import NotAwaitedError
from ...threads import user_code
from ..codec.values import describe
from ..execution.branch_state import Call
from ..execution.execution import Execution
from ..loop.run_loop import RunLoop
from .identity import ContextIdentity

F = TypeVar("F", bound=Callable[..., Coroutine[Any, Any, Any]])

_HERE: Final = str(user_code.PACKAGE / "workflow")
_NO_AWAIT: Final = re.compile(r"can't be (used in 'await' expression|awaited)")
"""The messages of Python about an `await` of something that cannot be awaited, before 3.14 and since."""
_AT_ONCE: Final = (
    "(Not everything is awaited: ctx.random(), ctx.rng, ctx.uuid4(), ctx.on_query(...), ctx.on_update(...), ctx.progress(...), "
    "ctx.idempotency_key(...), a variable's value, and a @step that is called inside of a step. Leave out that `await`.)"
)


def operation(fn: F) -> F:
    """Decorate an operation of a context, or of what belongs to one.

    Its calls are remembered until they are awaited.
    """

    @wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        coroutine = fn(*args, **kwargs)
        execution = _execution(args)
        # Elsewhere (in a step, which one node runs; in a query) what is forgotten is forgotten on this node only.
        if execution is not None and execution.in_task:
            execution.called = [one for one in execution.called if one.waits]
            execution.called.append(_call(coroutine, fn, args, sys._getframe(1)))
        return coroutine

    return cast("F", call)


def _execution(args: Iterable[Any]) -> Execution | None:
    """Return the execution of the context that is among the first arguments, or that what is there belongs to."""
    for one in args:
        found = getattr(one, "_execution", None) or getattr(getattr(one, "_ctx", None), "_execution", None)
        if isinstance(found, Execution):
            return found
    return None


def _call(coroutine: Any, fn: Any, args: tuple[Any, ...], frame: Any) -> Call:
    key = args[1] if len(args) > 1 and isinstance(args[1], str) else None
    shown = "..." if key is None else f"{key!r}, ..."
    owner = "ctx" if isinstance(args[0], ContextIdentity) else getattr(args[0], "__name__", type(args[0]).__name__)
    name = f"{owner}.{fn.__name__}({shown})"
    if frame.f_code.co_name == "__call__" and frame.f_code.co_filename.startswith(_HERE):
        name = f"{key}(...)"  # a @step, called by its own name
    while frame is not None and frame.f_code not in RunLoop.DRIVER:
        if user_code.is_users(frame.f_code.co_filename):
            return Call(coroutine, name, frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return Call(coroutine, name, "", 0)


# --- asking


def _forgotten(execution: Execution) -> list[Call]:
    """Return what was called and is left: nothing awaits it, and it was not given to a task that has yet to begin."""
    given = {id(task.get_coro()) for task in execution.loop.tasks()}
    return [one for one in execution.called if one.waits and id(one.coroutine) not in given]


def argument_problem(execution: Execution, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Exception | None:
    """Return what is wrong with the arguments of `ctx.compute` if one of them is a coroutine, which is closed then."""
    problem: Exception | None = None
    for place, value in enumerate((*args, *kwargs.values())):
        if not isinstance(value, CoroutineType):
            continue
        name = f"argument {place + 1}" if place < len(args) else list(kwargs)[place - len(args)]
        which = next((str(one) for one in execution.called if one.coroutine is value), f"{value.__qualname__}(...)")
        value.close()
        problem = problem or NotAwaitedError(
            f"ctx.compute({key!r}, ...) was given no value as {name}, but a coroutine: {which} was called and not awaited: did you forget `await`?"
        )
    return problem


def check_end(execution: Execution) -> None:
    """Raise `NotAwaitedError` if the workflow has returned and forgotten to await something."""
    left = _forgotten(execution)
    if left:
        others = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
        raise NotAwaitedError(
            f"{left[0]} was called and not awaited{others}: did you forget `await`? Without it nothing was done, and nothing "
            "is recorded"
        )


def explained(execution: Execution, error: BaseException) -> BaseException:
    """Return the error that the workflow failed with; one that came of a forgotten `await` asks about that."""
    if isinstance(error, NotAwaitedError):
        return error
    if isinstance(error, TypeError) and _NO_AWAIT.search(str(error)):
        error.add_note(_AT_ONCE)
    left = _forgotten(execution)
    if not left:
        return error
    question = f"{left[0]} was called and not awaited: did you forget `await`?"
    if isinstance(error, Exception) and "coroutine" in describe(error):
        asked = NotAwaitedError(f"{question} What came of it: {describe(error)}")
        asked.__cause__ = error
        return asked
    error.add_note(f"({question})")
    return error


def let_go(execution: Execution) -> None:
    """Close what was forgotten: it was asked about, or will never be, and Python need not warn of it as well."""
    for one in _forgotten(execution):
        one.coroutine.close()
    execution.called = []
