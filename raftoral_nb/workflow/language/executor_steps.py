"""Steps that run on an executor (`on=`): their attempts, and the intent of one that runs at most once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import blake2b

import anyio

from ...core.records import Step, StepId
from ...errors import LostChangeError, OutcomeUnknown
from ..codec import failures
from ..execution import step_saving
from ..execution.elsewhere import AskedElsewhere, StepsElsewhere, value_of
from ..execution.execution import Execution
from ..execution.products import Encoded, Product
from ..execution.running_step import RunningStep
from ..execution.telling import Sender
from ..shipping.step_function import StepOptions
from .step_arguments import Call
from .step_time import TimeLeft


def executors_of(execution: Execution, options: StepOptions) -> StepsElsewhere | None:
    """Return those who run the step's function; None if the node itself does, as those of tests do."""
    return None if options.on is None else execution.around.executors


def prefix_of(execution: Execution, step_id: StepId) -> str:
    """Return what the keys of a step's attempts begin with.

    The time at which the run began, to the microsecond, tells it from runs of the same id in other clusters that use the same executor.
    """
    run = (execution.run_id, execution.generation, execution.started_at, execution.definition.version)
    digest = blake2b(repr(run).encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()
    return f"{digest}/{execution.run_id}/{step_id}"


async def attempt(
    execution: Execution, executors: StepsElsewhere, step_id: StepId, call: Call, left: TimeLeft, number: int
) -> Encoded:
    """Run one attempt, and return the value as it is recorded, or the failure that no further attempt would mend.

    Raises what the function raised, and `StepTimeoutError`.
    """
    around, options = execution.around, left.options
    if (saved := around.step_state(execution.run_id, step_id)) is not None:
        await step_saving.bring(around, saved)
    timeout = left.of_attempt(around.alarms.clock())
    sender = Sender(around, execution.run_id, execution.generation, step_id)
    running = RunningStep(
        around.node, execution.run_id, step_id, number, around.timers.clock, around.tell, sender, execution
    )
    execution.effect_started(running)
    try:
        if timeout is None:
            return await _run(execution, executors, call, options, running)
        with anyio.CancelScope() as scope:
            alarm = around.timers.call_later(timeout, scope.cancel)
            try:
                return await _run(execution, executors, call, options, running)
            finally:
                alarm.cancel()
    finally:
        execution.steps_here.ended(running)
    raise left.passed(number, f"; executor {options.on!r} was told to end it")


async def _run(
    execution: Execution, executors: StepsElsewhere, call: Call, options: StepOptions, running: RunningStep
) -> Encoded:
    assert options.on is not None
    step_id = running.step_id
    asked = AskedElsewhere(
        options.on,
        prefix_of(execution, step_id),
        running,
        call,
        execution.definition.sources,
        options.at_most_once,
        None if (saved := execution.around.step_state(execution.run_id, step_id)) is None else saved.value,
        _giving_up(execution, step_id),
    )
    ran = await executors.run(asked)
    if ran.failure is not None:
        raise failures.raised_elsewhere(ran.failure, step_id=step_id, view=execution.classes)
    if ran.begun_before:
        return None, execution.fail_without_record(OutcomeUnknown(step_id, running.idempotency_key))
    if ran.lost:
        return None, execution.fail_without_record(LostChangeError(ran.lost))
    if ran.unseen:
        execution.say_once(ran.unseen)
    return value_of(ran), None


def _giving_up(execution: Execution, step_id: StepId) -> Callable[[], bool]:
    around, rights = execution.around, execution.rights
    term = rights.now(step_id)
    return lambda: term is not None and rights.now(step_id) == term and not around.closed


async def letting_go(
    execution: Execution, executors: StepsElsewhere, on: str, step_id: StepId, make: Callable[[], Awaitable[Product]]
) -> Product:
    """Return the product that `make` makes of a step; what is kept of its attempts is let go if it is given up meanwhile."""
    given_up = _giving_up(execution, step_id)
    try:
        return await make()
    except BaseException:
        if given_up():
            executors.recorded(on, prefix_of(execution, step_id))
        raise


def recorded(execution: Execution, options: StepOptions, step_id: StepId) -> None:
    """Note that a step has its record: nothing is to be kept for it any more."""
    executors = executors_of(execution, options)
    if executors is not None and options.on is not None:
        executors.recorded(options.on, prefix_of(execution, step_id))


# --- at most once


async def intend(execution: Execution, executors: StepsElsewhere, on: str, step_id: StepId) -> Product:
    """Return the product of an intent: it names what keeps the task when this node dies, if anything does."""
    try:
        place = await executors.place(on, prefix_of(execution, step_id))
    except Exception as error:  # recorded, so that it is raised where the step is awaited
        return None, execution.fail_without_record(error)
    return execution.product(step_id, place or None)


async def attached(
    execution: Execution,
    executors: StepsElsewhere,
    on: str,
    intent: Step,
    step_id: StepId,
    begin: Callable[[], Product | Awaitable[Product]],
) -> Product:
    """Return the product of a step that another node, or this one in an earlier epoch, has begun: by attaching to it, if that is safe."""
    try:
        kept_by = execution.decode(intent)
        # What keeps it knows whether it was begun, and refuses to begin it again; if it is another by now, nobody knows.
        if kept_by is not None and await executors.place(on, prefix_of(execution, step_id)) == kept_by:
            product = begin()
            return await product if isinstance(product, Awaitable) else product
    except Exception as error:
        return None, execution.fail_without_record(error)
    return None, execution.fail_without_record(OutcomeUnknown(step_id, f"{execution.run_id}/{step_id}"))
