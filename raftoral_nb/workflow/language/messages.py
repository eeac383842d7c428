"""Messages that a workflow receives from outside while it runs.

Signals, updates, which are answered, and queries, which only look.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ...core.records import Message
from ...core.step_ids import check_key
from ...errors import BadArgumentError, ReceiveTimeoutError, UpdateRefusedError, WorkflowDefinitionError
from ...threads.seconds import Seconds, as_number, is_number
from ..execution import reading
from ..execution.execution import Execution
from ..execution.mailbox import Kind
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

    def __init__(self, execution: Execution, message: Message) -> None:
        self._execution = execution
        self.name = message.name
        self.update_id = message.message_id
        """The id of the update, for ever; the sender may have chosen it."""
        self.value: Any = _value(execution, message)

    @operation
    async def answer(self, value: Any = None) -> None:
        """Record the answer, which the sender's `run.update(...)` returns. Raises `ValueNotShippableError`."""
        step = await self._answered(lambda step_id: self._execution.product(step_id, value))
        self._execution.decode(step)  # raises what kept the answer from being recorded

    @operation
    async def refuse(self, reason: str) -> None:
        """Record that the update is refused: the sender's `run.update(...)` raises `UpdateRefusedError` with the reason."""
        error = UpdateRefusedError(f"run {self._execution.run_id!r} refused the update {self.name!r}: {reason}")
        await self.fail(error)

    async def fail(self, error: BaseException) -> None:
        """Record that the update failed: the sender's `run.update(...)` raises `error`."""
        await self._answered(lambda _: (None, self._execution.fail_without_record(error)))

    async def _answered(self, make: Callable[[StepId], Encoded]) -> Step:
        def produce(step_id: StepId) -> Product:
            value, failure = make(step_id)
            return Made(value, failure, message_id=self.update_id)

        return await self._execution.step(self.name, "answer", produce)

    def __repr__(self) -> str:
        return f"Update({self.name!r}, value={self.value!r})"


async def receive(execution: Execution, names: tuple[str, ...], timeout: Seconds | None, default: Any) -> Any:
    """See `WorkflowContext.receive`."""
    message = await _received(execution, "signal", names, timeout, default is MISSING)
    if message is None:
        return default
    value = _value(execution, message)
    return value if len(names) == 1 else (message.name, value)


async def receive_update(execution: Execution, names: tuple[str, ...], timeout: Seconds | None) -> Update:
    """See `WorkflowContext.receive_update`."""
    message = await _received(execution, "update", names, timeout, True)
    assert message is not None  # or it was raised that none came
    return Update(execution, message)


def _value(execution: Execution, message: Message) -> Any:
    return reading.read(execution, message.value or b"", f"the {message.kind} {message.name!r}")


async def _received(
    execution: Execution, kind: Kind, names: tuple[str, ...], timeout: Seconds | None, raises: bool
) -> Message | None:
    """Return the first message of that kind and one of the names; after the timeout None, or raise `ReceiveTimeoutError`."""
    if not names:
        raise BadArgumentError(f"a {kind} is received by its name, or one of several names: give at least one")
    for name in names:
        check_key(name)
    execution.here(f"receive {names[0]!r}")
    patience = None if timeout is None else _patience(timeout)
    future = execution.loop.create_future
    if patience is None:
        return await execution.mailbox.take(kind, names, future)
    limit = asyncio.timeout(patience)
    try:
        async with limit:
            return await execution.mailbox.take(kind, names, future)
    except TimeoutError:
        if not limit.expired() or raises:
            wanted = " or ".join(map(repr, names))
            raise ReceiveTimeoutError(f"no {kind} {wanted} came within {patience:g} s") from None
        return None


def _patience(timeout: object) -> float:
    given = as_number(timeout)
    if not is_number(given) or not 0 <= given < float("inf"):
        raise WorkflowDefinitionError(
            f"a timeout is a number of seconds from 0 on, a timedelta, or None to wait for ever; got {timeout!r}"
        )
    number: float = given
    return number


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
