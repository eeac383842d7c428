"""Messages that a workflow receives from outside while it runs.

Signals, updates, which are answered, and queries, which only look.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import anyio

from ...core.replay import check_key
from ...errors import InternalError, ReceiveTimeoutError, UpdateRefusedError, WorkflowDefinitionError
from ...threads.seconds import Seconds, as_number, is_number
from ..execution.branch_state import BranchState
from ..execution.execution import Execution
from ..execution.products import Encoded, Made, Product
from ..shipping import arithmetic
from .unawaited import operation

if TYPE_CHECKING:
    from ...core.records import Step, StepId

F = TypeVar("F", bound=Callable[..., Any])


class _Missing:
    """The mark that no default was given, which is not the same as None."""


MISSING: Final = _Missing()


class Update:
    """An update that a workflow received, and now answers, once: `value` is what was sent."""

    def __init__(self, execution: Execution, state: BranchState, name: str, step: Step) -> None:
        if step.message_id is None:
            raise InternalError(f"step {step.step_id!r} took no update")
        self._execution = execution
        self._state = state
        self.name = name
        self.update_id: str = step.message_id
        """The id of the update, for ever; the sender may have chosen it."""
        self.value: Any = execution.decode(step)

    @operation
    async def answer(self, value: Any = None) -> None:
        """Record the answer, which the sender's `run.update(...)` returns. Raises `ValueNotShippableError`."""
        step = await self._answered(lambda step_id: self._execution.product(step_id, value))
        self._execution.decode(step)  # raises what kept the answer from being recorded

    @operation
    async def refuse(self, reason: str) -> None:
        """Record that the update is refused: the sender's `run.update(...)` raises `UpdateRefusedError` with the reason."""
        error = UpdateRefusedError(f"run {self._execution.run_id!r} refused the update {self.name!r}: {reason}")
        await self._answered(lambda _: (None, self._execution.fail_without_record(error)))

    async def _answered(self, make: Callable[[StepId], Encoded]) -> Step:
        async def produce(step_id: StepId) -> Product:
            value, failure = make(step_id)
            return Made(value, failure, message_id=self.update_id)

        return await self._execution.step(self._state, self.name, "answer", produce)

    def __repr__(self) -> str:
        return f"Update({self.name!r}, value={self.value!r})"


async def receive(execution: Execution, state: BranchState, name: str, timeout: Seconds | None, default: Any) -> Any:
    """See `WorkflowContext.receive`."""
    step = await _received(execution, state, "signal", name, timeout)
    if step.message_id is None and default is not MISSING:
        return default
    return execution.decode(step)


async def receive_update(execution: Execution, state: BranchState, name: str, timeout: Seconds | None) -> Update:
    """See `WorkflowContext.receive_update`."""
    step = await _received(execution, state, "update", name, timeout)
    if step.message_id is None:
        execution.decode(step)  # raises the timeout
    return Update(execution, state, name, step)


async def _received(
    execution: Execution, state: BranchState, kind: Literal["signal", "update"], name: str, timeout: Seconds | None
) -> Step:
    """Return the step that took the first message of that kind and name in the log, or says that none came."""
    check_key(name)
    patience = None if timeout is None else _patience(timeout)
    due = None if patience is None else await _due(execution, state, name, patience)

    async def produce(step_id: StepId) -> Product:
        message = None
        with anyio.CancelScope() as scope:
            alarm = None if due is None else execution.around.alarms.call_at(due, scope.cancel)
            try:
                message = await execution.mailbox.first(kind, name)
            finally:
                if alarm is not None:
                    alarm.cancel()
        if message is not None:
            return Made(b"", message_id=message.message_id)
        error = ReceiveTimeoutError(f"step {step_id!r}: no {kind} {name!r} came within {patience:g} s")
        return None, execution.fail_without_record(error)

    return await execution.step(state, name, "receive", produce)


def _patience(timeout: object) -> float:
    given = as_number(timeout)
    if not is_number(given) or not 0 <= given < float("inf"):
        raise WorkflowDefinitionError(
            f"a timeout is a number of seconds from 0 on, a timedelta, or None to wait for ever; got {timeout!r}"
        )
    number: float = given
    return number


async def _due(execution: Execution, state: BranchState, name: str, timeout: float) -> float:
    """Return when the time will be up, in Unix seconds.

    Recorded, so that a new leader waits for what is left of it, not anew.
    """

    async def produce(step_id: StepId) -> Product:
        return execution.product(step_id, execution.around.alarms.clock() + timeout)

    due: float = execution.decode(await execution.step(state, name, "due", produce))
    return due


# --- queries


def on_query(execution: Execution, name: str, fn: Any) -> None:
    """See `WorkflowContext.on_query`."""
    check_key(name)
    if not callable(fn) or inspect.iscoroutinefunction(fn):
        raise WorkflowDefinitionError(
            f"ctx.on_query({name!r}, ...) takes a function that is not async: it looks at what the workflow knows, and may "
            "await nothing"
        )
    execution.queries.register(name, fn)


def answer_query(execution: Execution, name: str, args: tuple[Any, ...]) -> Encoded:
    """Call a query's function: its encoded value or its failure."""
    try:
        value = arithmetic.call(execution.definition.arithmetic or {}, execution.queries.functions[name], *args)
        if inspect.iscoroutine(value):
            value.close()
            raise WorkflowDefinitionError(f"query {name!r} returned a coroutine: its function may await nothing")
    except BaseException as error:
        return None, execution.fail_without_record(error)
    return execution.product(f"query/{name}", value)
