"""Sagas: what was done is undone, in reverse, when what comes after fails or is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, ParamSpec, Self

from ...core.step_ids import check_key
from ...errors import ClusterError, ExecutionDropped, WorkflowDefinitionError
from ..execution.renewal import ContinueAsNew
from .endings import to_its_end
from .identity import ContextIdentity
from .steps import compute

P = ParamSpec("P")


class Saga:
    """See `WorkflowContext.saga`."""

    def __init__(self, ctx: ContextIdentity) -> None:
        self._ctx = ctx
        self._open = False
        # Invariant: in the order in which they became due.
        self._due: list[tuple[str, Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []

    def on_failure(self, key: str, fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Undo by `fn(*args, **kwargs)` if the block fails from here on.

        Run it as the step `key`, before those that were named earlier.

        `fn` may be a step with options (`@step(retry=...)`). Records nothing now. Name it after the step that it undoes; before
        that step only if it may be called for what was never done, as after a step whose outcome is not known.
        """
        self._ctx._execution.here("saga.on_failure")
        check_key(key)
        if not self._open:
            raise ClusterError("this saga is not open: use it inside `async with ctx.saga() as saga:`")
        if not callable(fn):
            raise WorkflowDefinitionError(
                f"saga.on_failure({key!r}, ...) takes a function and its arguments, without calling it; got {type(fn).__name__}"
            )
        self._due.append((key, fn, args, kwargs))

    async def __aenter__(self) -> Self:
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open = False
        if error is None or isinstance(error, GeneratorExit | ExecutionDropped | ContinueAsNew):
            return
        failures: list[BaseException] = []
        cancelled: asyncio.CancelledError | None = None
        if self._due:
            # What was begun is undone as a whole, whatever deadline passes meanwhile.
            try:
                await to_its_end(self._ctx._execution, "saga", lambda: self._undo(failures))
            except asyncio.CancelledError as error_meanwhile:
                cancelled = error_meanwhile
        if failures:
            raise BaseExceptionGroup("a saga failed, and so did what was to undo it", [error, *failures]) from None
        if cancelled is not None:
            raise cancelled

    async def _undo(self, failures: list[BaseException]) -> None:
        while self._due:
            key, fn, args, kwargs = self._due.pop()
            try:
                await compute(self._ctx._execution, key, fn, args, kwargs)
            except (GeneratorExit, ExecutionDropped):
                raise
            except BaseException as failure:
                failures.append(failure)
