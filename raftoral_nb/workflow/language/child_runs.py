"""Child workflows: runs that a run starts, as recorded steps of its own."""

from __future__ import annotations

import inspect
from collections.abc import Generator
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ...core.records import RunId
from ...errors import (
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
from ..execution.branch_state import BranchState
from ..execution.execution import Execution
from ..execution.products import ChildStart, Made, Product
from ..shipping import input_types
from ..shipping.definitions import Workflow
from .unawaited import operation

if TYPE_CHECKING:
    from ...core.records import Failure, StepId

O = TypeVar("O")  # noqa: E741 - input and output are I and O everywhere

_CHARS_KEPT = MAX_NAME_CHARS - 60


class ChildRun(Generic[O]):
    """A child that a workflow started: `await child` gives its result, as often as asked."""

    def __init__(
        self, execution: Execution, state: BranchState, run_id: RunId, workflow: str, *, detached: bool
    ) -> None:
        self._execution = execution
        self._state = state
        self.run_id = run_id
        self.workflow = workflow
        self.detached = detached
        self._ended: tuple[bytes | None, Failure | None] | None = None

    @operation
    async def result(self) -> O:
        """Wait for the child's end (a recorded step, the first time), and return its result.

        Raises `WorkflowFailedError` if the child failed, `WorkflowCancelledError` or `WorkflowTerminatedError` (which are
        such errors too) if it was ended, and `WrongTaskError` if it is detached, or was started by another branch.
        """
        if self.detached:
            raise WrongTaskError(f"child run {self.run_id!r} is detached: nobody here waits for it")
        if self._ended is None:

            async def produce(_: StepId) -> Product:
                message = await self._execution.mailbox.first("child", self.run_id)
                return Made(b"", message_id=message.message_id)

            step = await self._execution.step(self._state, self.workflow, "join", produce)
            self._ended = step.value, step.failure
        value, failure = self._ended
        view = self._execution.classes
        if failure is not None:
            cause = failures.rebuild(failure, step_id="", view=view) if failure.exception is not None else None
            raise failed_error(self.run_id, failure) from cause
        result: O = reading.read(self._execution, value or b"", f"the result of run {self.run_id!r}")
        return result

    def __await__(self) -> Generator[Any, Any, O]:
        return self.result().__await__()

    def __repr__(self) -> str:
        return f"<ChildRun {self.run_id!r} of {self.workflow}>"


async def start(
    execution: Execution,
    state: BranchState,
    workflow: object,
    input: object,  # noqa: A002 - the word that workflows use
    run_id: RunId | None,
    version: int | None,
    detached: bool,
) -> ChildRun[Any]:
    """See `WorkflowContext.start_child`."""
    name = _name(workflow)
    place = state.branch.peek_id(name).partition("/")[0]
    child_id = _child_id(execution, place) if run_id is None else _checked_id(run_id)

    async def produce(step_id: StepId) -> Product:
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

    step = await execution.step(state, name, "child", produce)
    if step.failure is not None:
        raise _refusal(step.failure, step.step_id)
    if execution.decode(step) != child_id:
        await execution.diverge(f"it starts the child {child_id!r}, where {execution.decode(step)!r} is recorded")
    return ChildRun(execution, state, child_id, name, detached=detached)


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
