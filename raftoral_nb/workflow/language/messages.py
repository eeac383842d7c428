"""Messages that a workflow receives from outside while it runs.

Signals, updates, which are answered, and queries, which only look.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args

from ...core.records import Message
from ...core.step_ids import check_key
from ...errors import (
    BadArgumentError,
    ExecutionDropped,
    ReceiveTimeoutError,
    UpdateRefusedError,
    WorkflowDefinitionError,
)
from ...threads.seconds import Seconds, as_number, is_number
from ..codec import values
from ..execution import reading
from ..execution.execution import Execution
from ..execution.mailbox import Kind, Unfinished, UpdateHandler
from ..execution.products import Encoded, Made, Product
from ..execution.renewal import ContinueAsNew
from ..shipping import arithmetic
from .unawaited import operation

if TYPE_CHECKING:
    from ...core.records import Failure, Step, StepId

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
    async def reject(self, reason: str) -> None:
        """Record that the update is rejected: the sender's `run.update(...)` raises `UpdateRefusedError` with the reason."""
        await self.fail(_refused(self._execution, self.name, reason))

    async def fail(self, error: BaseException) -> None:
        """Record that the update failed: the sender's `run.update(...)` raises `error`."""
        await self._answered(lambda _: (None, self._execution.fail_without_record(error)))

    async def _answered(self, make: Callable[[StepId], Encoded]) -> Step:
        def produce(step_id: StepId) -> Product:
            value, failure = make(step_id)
            return Made(value, failure, message_id=self.update_id)

        return await self._execution.step(self.name, "answer", produce)

    if not TYPE_CHECKING:  # to a type checker there is no such name

        def __getattr__(self, name: str) -> Any:
            """Nothing: says what an earlier name is called now."""
            if name == "refuse":
                raise AttributeError(
                    "update.refuse is called reject: `await update.reject(reason)`", name=name, obj=self
                )
            raise AttributeError(f"an update has no {name!r}", name=name, obj=self)

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


def _refused(execution: Execution, name: str, reason: str) -> UpdateRefusedError:
    return UpdateRefusedError(f"run {execution.run_id!r} refused the update {name!r}: {reason}")


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


# --- updates that have a handler


def on_update(
    execution: Execution,
    name: str,
    handler: Callable[[Any], Any],
    validator: Callable[[Any], object] | None,
    unfinished: Unfinished,
) -> None:
    """See `WorkflowContext.on_update`."""
    execution.here(f"on_update {name!r}")
    check_key(name)
    given: tuple[object, object] = (handler, validator)  # a notebook's code is not type-checked
    if not callable(given[0]):
        raise WorkflowDefinitionError(
            f"ctx.on_update({name!r}, ...) takes a function, which is called with the update's value; got {type(handler).__name__}"
        )
    if given[1] is not None and (not callable(given[1]) or inspect.iscoroutinefunction(validator)):
        raise WorkflowDefinitionError(
            f"the validator of ctx.on_update({name!r}, ...) is a function that is not async: it looks at the value and at what the "
            "workflow knows, may await nothing, and raises what is against it"
        )
    if unfinished not in get_args(Unfinished):
        raise BadArgumentError(f'unfinished is "wait" or "cancel", not {unfinished!r}')
    here = contextvars.copy_context()
    handlers = execution.mailbox.handlers

    def start(message: Message) -> None:
        handlers.begun += 1
        coroutine = _handled(execution, Update(execution, message), handler, validator)
        path = f"u{handlers.begun}."
        task = execution.loop.create_branch(coroutine, path=path, name=f"update {name}", context=here.copy())
        handlers.running(task, unfinished)

    execution.mailbox.handle(name, UpdateHandler(start, validator))


async def _handled(
    execution: Execution, update: Update, handler: Callable[[Any], Any], validator: Callable[[Any], object] | None
) -> None:
    """Call a handler, and answer its update with what it returns or raises. A task of the run's."""
    failure: BaseException | None = None
    cancelled: asyncio.CancelledError | None = None
    answer: Any = None
    try:
        execution.mailbox.handlers.begins(asyncio.current_task())
        if validator is not None:
            _validate(execution, update.name, validator, update.value)
        answer = handler(update.value)
        if inspect.isawaitable(answer):
            answer = await answer
    except (GeneratorExit, ExecutionDropped):
        raise
    except asyncio.CancelledError as error:
        cancelled = error
        failure = _refused(execution, update.name, "its handler was cancelled before it had an answer")
    except ContinueAsNew:
        failure = WorkflowDefinitionError(
            f"the handler of the update {update.name!r} cannot begin the run anew: have it tell the workflow's function, which can"
        )
    except BaseException as error:
        failure = error
    execution.mailbox.handlers.has_outcome(asyncio.current_task())
    if failure is not None:
        await update.fail(failure)
    else:
        await update._answered(lambda step_id: execution.product(step_id, answer))
    if cancelled is not None:
        raise cancelled


def _validate(execution: Execution, name: str, validator: Callable[[Any], object], value: Any) -> None:
    try:
        arithmetic.call(execution.definition.arithmetic or {}, validator, value)
    except UpdateRefusedError:
        raise
    except Exception as error:
        raise _refused(execution, name, str(error) or type(error).__name__) from error


def objection(execution: Execution, name: str, value: Any) -> Failure | None:
    """Call an update's validator, before anything is recorded: what it says against the value, or None."""
    handler = execution.mailbox.handlers.by_name[name]
    assert handler.validator is not None
    try:
        _validate(execution, name, handler.validator, value)
    except BaseException as error:
        return execution.fail_without_record(error)
    return None


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
    try:
        return values.encode(
            value, what=f"the answer to the query {name!r} of run {execution.run_id!r}", whole=True
        ), None
    except Exception as error:
        return None, execution.fail_without_record(error)
