"""Steps: functions whose result is recorded, with retries, timeouts, and at-most-once."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from hashlib import blake2b
from typing import Any

import anyio

from ...core.cluster_events import StepRetrying
from ...core.records import Step, StepId
from ...core.step_ids import path_of, position_of
from ...errors import LostChangeError, OutcomeUnknown, WorkflowDefinitionError
from ..codec import bodies, exceptions
from ..codec.values import describe
from ..execution import step_saving
from ..execution.acting import Produce, StepPlace
from ..execution.execution import Execution
from ..execution.products import Made, Product
from ..execution.running_step import STEP, RunningStep
from ..execution.telling import Sender
from ..shipping.step_function import PLAIN, StepFunction, StepOptions
from . import executor_steps, step_arguments, step_cache
from .step_time import TimeLeft
from .unawaited import argument_problem

# --- running them


async def compute(
    execution: Execution,
    key: str,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Run `ctx.compute`: return the record of a step's function, made by the acting node."""
    given: object = fn  # a notebook's code is not type-checked
    if not callable(given):
        if inspect.iscoroutine(given):
            given.close()
        if callable(key):
            name = getattr(key, "__name__", "step")
            raise WorkflowDefinitionError(
                f"ctx.compute takes a name for the step first, and then the function: write `await ctx.compute({name!r}, ...)`"
            )
        raise WorkflowDefinitionError(
            f"ctx.compute({key!r}, ...) takes a function and its arguments, got {type(given).__name__}: write "
            f"`await ctx.compute({key!r}, fn, argument)`, without calling fn yourself"
        )
    options = PLAIN
    if isinstance(fn, StepFunction):
        options, fn = fn.options, fn.fn
    call = (fn, args, kwargs)
    problem = argument_problem(execution, key, args, kwargs) if args or kwargs else None
    # No closure: a run may have thousands of open steps, and the garbage collector goes through all there is of each.
    total = options.total_timeout
    ends_at = None if total is None else execution.loop.time() + total
    produce = partial(_made, execution, call, options, ends_at, problem)
    if options.at_most_once:
        recorded = await _at_most_once(execution, key, produce, options)
    else:
        step_id = execution.next_id("compute", key)
        recorded = await execution.at(step_id, "compute", produce, _place(execution, options, step_id))
    if options.on is not None:
        executor_steps.recorded(execution, options, recorded.step_id)
    return execution.decode(recorded)


def _made(
    execution: Execution,
    call: step_arguments.Call,
    options: StepOptions,
    ends_at: float | None,
    problem: Exception | None,
    step_id: StepId,
) -> Product | Awaitable[Product]:
    if problem is not None:
        return None, execution.fail_without_record(problem)
    executors = executor_steps.executors_of(execution, options)
    if executors is None or options.on is None:
        return _attempts(execution, step_id, call, options, ends_at)
    make = partial(_attempts, execution, step_id, call, options, ends_at)
    return executor_steps.letting_go(execution, executors, options.on, step_id, make)


async def _at_most_once(execution: Execution, key: str, produce: Produce, options: StepOptions) -> Step:
    """Record the intent, then run, then record the result; a node that finds an intent of another runs nothing."""
    compute_id = execution.next_id("compute", key)
    around = execution.around
    # The term in which this very call made the intent. A record by this node and in this epoch may still not be its own:
    # the execution may have begun anew.
    made_in: int | None = None
    executors = executor_steps.executors_of(execution, options)

    def intend(step_id: StepId) -> Product | Awaitable[Product]:
        nonlocal made_in
        made_in = execution.rights.now(step_id)
        if executors is not None and options.on is not None:
            return executor_steps.intend(execution, executors, options.on, step_id)
        return execution.product(step_id, None)

    intent_id = f"{path_of(position_of(compute_id), 0)}0/intent"
    place = _place(execution, options, intent_id, compute_id)
    intent = await execution.at(intent_id, "intent", intend, place)
    begun = False

    def once(step_id: StepId) -> Product | Awaitable[Product]:
        nonlocal begun
        mine = intent.node == around.node and intent.epoch == made_in == execution.rights.now(step_id)
        if executors is not None and options.on is not None and not mine:
            return executor_steps.attached(execution, executors, options.on, intent, step_id, partial(produce, step_id))
        if begun or not mine:
            return None, execution.fail_without_record(OutcomeUnknown(step_id, f"{execution.run_id}/{step_id}"))
        begun = True
        return produce(step_id)

    return await execution.at(compute_id, "compute", once, place)


def _place(execution: Execution, options: StepOptions, *group: StepId) -> StepPlace | None:
    return None if options.where is None or not execution.around.binds else StepPlace(options.where, group)


async def _attempts(
    execution: Execution, step_id: StepId, call: step_arguments.Call, options: StepOptions, ends_at: float | None
) -> Product:
    """Call the function until it returns, or fails for good; what came of it."""
    try:
        return await _until_done(execution, step_id, call, TimeLeft(options, step_id, ends_at))
    finally:
        execution.steps_here.over(step_id)


async def _until_done(execution: Execution, step_id: StepId, call: step_arguments.Call, left: TimeLeft) -> Product:
    around = execution.around
    cached = None if left.cache is None else step_cache.look(execution, call, left.ttl)
    if isinstance(cached, Made):
        return cached
    executors = executor_steps.executors_of(execution, left.options)
    # What goes to an executor is a copy anyhow, and looked at there.
    given = step_arguments.given(call, execution.function) if executors is None else None
    attempt = 0
    while True:
        attempt += 1
        try:
            if executors is not None:
                made = await executor_steps.attempt(execution, executors, step_id, call, left, attempt)
                return Made(*made, cached=None if made[1] is not None else cached)
            copied = call if given is None else given.copy()
            if (saved := around.step_state(execution.run_id, step_id)) is not None:
                await step_saving.bring(around, saved)
            value = await _attempt(execution, step_id, copied, left, attempt)
        except BaseException as raised:
            if not around.is_outcome(raised):
                raise
            chance = _chance(execution.run_id, step_id, execution.rights.now(step_id), attempt)
            error, seconds = left.after(raised, attempt, chance, around.alarms.clock())
            if seconds is None:
                if attempt > 1 and isinstance(error, Exception):
                    exceptions.add_note(error, f"(step {step_id!r} was given up after attempt {attempt})")
                return None, execution.fail_without_record(error)
            failure = describe(error)
        else:
            if given is not None and (lost := _lost(execution, step_id, given, value)) is not None:
                return None, execution.fail_without_record(lost)
            data, failed = execution.product(step_id, value)
            return Made(data, failed, cached=None if failed is not None else cached)
        # Out of the handler: an exception is not to be kept for as long as the wait lasts.
        around.say(
            execution.run_id,
            f"step {step_id!r}: attempt {attempt} of {left.attempts} failed with {failure}; again in {seconds:.3g} s",
        )
        around.tell(StepRetrying(around.node, execution.run_id, step_id, attempt, failure[:1000], seconds))
        execution.steps_here.failed(step_id, attempt, failure[:1000], around.alarms.clock() + seconds)
        await execution.steps_here.settle(step_id)
        await around.timers.sleep(seconds)


def _lost(execution: Execution, step_id: StepId, given: step_arguments.Given, value: object) -> LostChangeError | None:
    """Return the error of a step whose changes would be lost."""
    lost, unseen = given.changed(value)
    key = step_id.partition("/")[2]
    if lost:
        return LostChangeError(step_arguments.advice(lost, key))
    if unseen:
        execution.say_once(step_arguments.advice(unseen, key))
    return None


async def _attempt(
    execution: Execution, step_id: StepId, call: step_arguments.Call, left: TimeLeft, attempt: int
) -> Any:
    around = execution.around
    timeout = left.of_attempt(around.alarms.clock())
    original, args, kwargs = call
    # A test may have put another function in its place, for this attempt or all.
    fn = around.step_function(execution.run_id, step_id, original)
    call_it = partial(fn, *args, **kwargs)
    asynchronous = inspect.iscoroutinefunction(fn)
    sender = Sender(around, execution.run_id, execution.generation, step_id)
    running = RunningStep(
        around.node, execution.run_id, step_id, attempt, around.timers.clock, around.tell, sender, execution
    )
    execution.effect_started(running)
    name = running.idempotency_key
    abandoned: list[str] = []
    run_async = partial(around.steps.run_async, name=name, abandoned=partial(abandoned.append, name))

    async def called() -> Any:
        nonlocal asynchronous
        if asynchronous:
            value = await run_async(call_it)
        else:
            value = await around.steps.run(bodies.call, call_it, name=name)
            if isinstance(value, Awaitable):
                asynchronous = True
                value = await run_async(partial(_same, value))
        await sender.settle()
        return value

    token = STEP.set(running)
    try:
        if timeout is None:
            return await called()
        with anyio.CancelScope() as scope:
            alarm = around.timers.call_later(timeout, scope.cancel)
            try:
                return await called()
            finally:
                alarm.cancel()
    finally:
        STEP.reset(token)
        execution.steps_here.ended(running)
    # Only its own cancellation ends the scope without a value.
    if asynchronous:
        behind = "; it swallowed its cancellation and was abandoned" if abandoned else ""
    else:
        behind = "; its thread was abandoned"
    behind += ", and what it still does is of no consequence here" if behind else ""
    raise left.passed(attempt, behind)


def _same(value: Awaitable[Any]) -> Awaitable[Any]:
    return value


def _chance(*parts: object) -> float:
    """Return a number from 0 to 1 that the parts decide: unlike a die it can be thrown again in a simulation."""
    digest = blake2b(repr(parts).encode("utf-8", "backslashreplace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
