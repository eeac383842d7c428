"""Child workflows: runs that a run starts, as recorded steps of its own."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Generator
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_args

from ...core.records import Message, RunId
from ...core.step_ids import position_of
from ...errors import (
    BadArgumentError,
    ExecutionDropped,
    InputTypeError,
    InternalError,
    RaftoralError,
    RunConflictError,
    TooManyChildrenError,
    WorkflowDefinitionError,
    WorkflowNotFoundError,
    WrongTaskError,
    failed_error,
)
from ...limits import MAX_NAME_CHARS
from ..codec import failures, values
from ..execution import reading
from ..execution.execution import Execution
from ..execution.products import ChildStart, Made, Product
from ..shipping import input_types
from ..shipping.definitions import Workflow
from .endings import through_cancellations, to_its_end
from .unawaited import operation

if TYPE_CHECKING:
    from ...core.records import Failure, Step, StepId
    from ..execution.acting import Produce

O = TypeVar("O")  # noqa: E741 - input and output are I and O everywhere

_CHARS_KEPT = MAX_NAME_CHARS - 60


OnCancel = Literal["wait", "ask", "leave"]
"""What becomes of a child whose waiter is cancelled: asked to end and waited for, only asked to end, or left alone."""


class ChildRun(Generic[O]):
    """A child that a workflow started: `await child` gives its result, as often as asked, in any of the run's tasks."""

    def __init__(
        self,
        execution: Execution,
        run_id: RunId,
        workflow: str,
        *,
        detached: bool,
        end: asyncio.Future[Message] | None = None,
        on_cancel: OnCancel = "wait",
    ) -> None:
        self._execution = execution
        self.run_id = run_id
        self.workflow = workflow
        self.detached = detached
        self._end = end
        self._on_cancel = on_cancel

    @operation
    async def result(self) -> O:
        """Wait for the child's end, and return its result.

        If the task that waits is cancelled (by a timeout, a race, a request), the child is asked to end, and its end is waited for
        before the cancellation goes on, unless it was started with another `on_cancel`.

        Raises `WorkflowFailedError` if the child failed, `WorkflowCancelledError` or `WorkflowTerminatedError` (which are
        such errors too) if it was ended, and `WrongTaskError` if it is detached.
        """
        execution, end = self._execution, self._end
        if end is None:
            raise WrongTaskError(f"child run {self.run_id!r} is detached: nobody here waits for it")
        execution.here(f"the result of child run {self.run_id!r}")
        try:
            await asyncio.wait((end,))
        except asyncio.CancelledError:
            if self._on_cancel != "leave" and not end.done():
                await self._have_it_end(end)
            raise
        message = end.result()
        view = execution.classes
        if message.failure is not None:
            failure = message.failure
            cause = failures.rebuild(failure, step_id="", view=view) if failure.exception is not None else None
            raise failed_error(self.run_id, failure) from cause
        result: O = reading.read(execution, message.value or b"", f"the result of run {self.run_id!r}")
        return result

    async def _have_it_end(self, end: asyncio.Future[Message]) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # the one that is handled is raised afterwards
            await to_its_end(self._execution, "end of a child", lambda: self._execution.end_child(self.run_id))
        if self._on_cancel == "wait":
            await through_cancellations(end)

    def __await__(self) -> Generator[Any, Any, O]:
        return self.result().__await__()

    def __repr__(self) -> str:
        return f"<ChildRun {self.run_id!r} of {self.workflow}>"


async def start(
    execution: Execution,
    workflow: object,
    input: object,  # noqa: A002 - the word that workflows use
    run_id: RunId | None,
    version: int | None,
    detached: bool,
    on_cancel: OnCancel,
) -> ChildRun[Any]:
    """See `WorkflowContext.start_child`."""
    name = _name(workflow)
    if on_cancel not in get_args(OnCancel):
        raise BadArgumentError(f'on_cancel is "wait", "ask" or "leave", not {on_cancel!r}')
    step_id = execution.next_id("child", name)
    child_id = _child_id(execution, position_of(step_id)) if run_id is None else _checked_id(run_id)

    def produce(step_id: StepId) -> Product:
        value, failure = execution.product(step_id, child_id)
        child = execution.around.workflow(name, version)
        theirs = None
        if child is not None:
            theirs = child.classes.for_run(lambda text: execution.around.say(execution.run_id, text))
            try:
                input_types.check(child.function, input, workflow=name)
            except InputTypeError as error:
                failure = execution.fail_without_record(error)
        if failure is None:
            data, failure = execution.product(step_id, input, lambda: theirs)
            if data is not None:
                # Only who chooses an id can start the same child again.
                digest = "" if run_id is None else values.digest(input) or ""
                return Made(value, child=ChildStart(child_id, name, version, data, detached, digest))
        return None, failure

    cancelled: asyncio.CancelledError | None = None
    if detached or on_cancel != "wait":
        step = await _started(execution, step_id, child_id, produce, ends=not detached and on_cancel == "ask")
    else:
        # Whoever is cancelled may try again. So that there are never two children at work, it is known first whether this one is.
        start = execution.asked_for(step_id, "child", produce)
        cancelled = await through_cancellations(start)
        step = start.result()
    if step.failure is not None:
        if cancelled is not None:
            raise cancelled
        raise _refusal(step.failure, step.step_id)
    if execution.decode(step) != child_id:
        started, recorded = f"it starts the child {child_id!r}", f"the child {execution.decode(step)!r}"
        execution.differ(f"{started}, where {recorded} is recorded", asked=started, recorded=recorded)
        raise ExecutionDropped
    end = None if detached else execution.children.of(child_id)
    child = ChildRun[Any](execution, child_id, name, detached=detached, end=end, on_cancel=on_cancel)
    if cancelled is not None:
        if end is not None and not end.done():
            await child._have_it_end(end)
        raise cancelled
    return child


async def _started(execution: Execution, step_id: StepId, child_id: RunId, produce: Produce, *, ends: bool) -> Step:
    """Wait for a child's start. If the wait is cancelled and the child is started all the same, it is asked to end if `ends` says so."""
    try:
        return await execution.at(step_id, "child", produce)
    except asyncio.CancelledError:
        if ends:
            execution.children.abandon(step_id, child_id)
        raise


def _name(workflow: object) -> str:
    if isinstance(workflow, Workflow):
        return workflow.name
    if isinstance(workflow, str):
        return workflow
    if inspect.isfunction(workflow):
        return workflow.__name__
    raise WorkflowDefinitionError(
        f"a child is given by its workflow's name, as a Workflow or as an async function, not as {type(workflow).__name__}"
    )


def _child_id(execution: Execution, place: str) -> RunId:
    """Return `parent/3`: the same on every node and at every replay, another in each generation, and never too long."""
    own = place if execution.generation == 1 else f"{execution.generation}:{place}"
    child_id = f"{execution.run_id}/{own}"
    if len(child_id) <= MAX_NAME_CHARS:
        return child_id
    digest = blake2b(child_id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"{child_id[:_CHARS_KEPT]}.../{digest}"


def _checked_id(given: object) -> RunId:
    if isinstance(given, str) and given.strip() and given.isprintable() and len(given) <= MAX_NAME_CHARS:
        return given
    raise WorkflowDefinitionError(f"a run_id is printable text of 1 to {MAX_NAME_CHARS} characters, got {given!r}")


def _refusal(failure: Failure, step_id: StepId) -> BaseException:
    match failure.type_name:
        case "unknown_workflow":
            return WorkflowNotFoundError(f"step {step_id!r} cannot start a child: {failure.message}; register it first")
        case "run_conflict" | "run_evicted":
            return RunConflictError(f"step {step_id!r} cannot start a child: {failure.message}")
        case "too_many_children":
            return TooManyChildrenError(f"step {step_id!r} cannot start a child: {failure.message}; await some first")
    error = failures.rebuild(failure, step_id=step_id)
    return error if isinstance(error, RaftoralError) else InternalError(f"step {step_id!r}: {failure}")
