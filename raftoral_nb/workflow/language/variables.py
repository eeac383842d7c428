"""Replicated variables: a value that every node sees alike, changed only by recorded steps."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from ...errors import ExecutionDropped, WorkflowDefinitionError
from ..codec import values
from ..execution.products import Product
from .endings import through_cancellations
from .identity import ContextIdentity
from .steps import compute
from .unawaited import operation

if TYPE_CHECKING:
    from ...core.records import Operation, StepId

T = TypeVar("T")


class ReplicatedVar(Generic[T]):
    """A variable of a workflow whose every value is a recorded step.

    Made with `await ctx.var(key, value)`, or with `with_value` or `with_computation`. `value` is read locally and costs
    nothing; mutating it in place changes nothing for the other nodes: use `set` or `update`.
    """

    def __init__(self, key: str, ctx: ContextIdentity, value: T) -> None:
        self._key = key
        self._ctx = ctx
        self._value = value
        # So that of several changes at once none is lost: each is made of what the one before it left.
        self._changing = asyncio.Lock()

    @classmethod
    @operation
    async def with_value(cls, key: str, ctx: ContextIdentity, value: T) -> ReplicatedVar[T]:
        """Make a variable that starts with `value`. Raises `ValueNotShippableError` if it does not pickle."""
        return cls(key, ctx, await _record_computed(ctx, key, "var", value))

    @overload
    @classmethod
    async def with_computation(
        cls, key: str, ctx: ContextIdentity, fn: Callable[[], Awaitable[T]]
    ) -> ReplicatedVar[T]: ...
    @overload
    @classmethod
    async def with_computation(cls, key: str, ctx: ContextIdentity, fn: Callable[[], T]) -> ReplicatedVar[T]: ...
    @classmethod
    @operation
    async def with_computation(cls, key: str, ctx: ContextIdentity, fn: Callable[[], Any]) -> ReplicatedVar[T]:
        """Make a variable from what `fn()` returns on the acting node (a step, as in `ctx.compute`)."""
        return cls(key, ctx, cast("T", await compute(ctx._execution, key, fn, (), {})))

    @property
    def key(self) -> str:
        """The variable's name."""
        return self._key

    @property
    def value(self) -> T:
        """The present value."""
        return self._value

    def get(self) -> T:
        """Return the same as `value`, under the original's name. Not to be awaited."""
        return self._value

    if not TYPE_CHECKING:  # to a type checker there are no such names

        def __getattr__(self, name: str) -> Any:
            """Nothing: says what there is."""
            if name.startswith("_"):
                raise AttributeError(name)
            raise AttributeError(
                f"the variable {self._key!r} has no {name!r}: read `variable.value`, or call `variable.get()`; change it with "
                "`await variable.set(value)` or `await variable.update(fn)`",
                name=name,
                obj=self,
            )

        def __setattr__(self, name: str, value: Any) -> None:
            """Refuse to change the value without a record."""
            if not name.startswith("_"):
                raise AttributeError(
                    f"{name!r} of the variable {self._key!r} cannot be assigned to, as no other node would know: "
                    "`await variable.set(value)` records a new value"
                )
            super().__setattr__(name, value)

    @operation
    async def set(self, value: T) -> T:
        """Record a new value, and return it. Raises `ValueNotShippableError` if it does not pickle.

        A change that is under way is made before a cancellation (by a timeout, a race, a request) goes on.
        """
        async with self._changing:
            return cast("T", await _record_computed(self._ctx, self._key, "set", value, self._take))

    @operation
    async def update(self, fn: Callable[[T], T]) -> T:
        """Record `fn(value)`, and return it. `fn` is called on the acting node only, on its loop: keep it short.

        It gets a copy of the value, which it may change and return. Changes that several branches ask for at the same time are made
        one after the other, so that none is lost. As with `set`, one that is under way is made before a cancellation goes on.
        """
        async with self._changing:
            return cast(
                "T", await _record(self._ctx, self._key, "update", lambda: _called(fn, self._value), self._take)
            )

    def _take(self, value: T) -> None:
        self._value = value

    def __repr__(self) -> str:
        return f"ReplicatedVar({self._key!r}, value={self._value!r})"


async def _record_computed(
    ctx: ContextIdentity, key: str, operation: Operation, value: Any, take: Callable[[Any], None] | None = None
) -> Any:
    """Record a value that every node has computed for itself, and look whether this one computed the same.

    Compared by canonical digest (sets and dicts without order), after the round trip that the record went through as well;
    values of types without such a digest are not compared.
    """
    made_here = False

    def make() -> Any:
        nonlocal made_here
        made_here = True
        return value

    recorded = await _record(ctx, key, operation, make, take)
    if not made_here:
        theirs = values.digest(recorded)
        if theirs is not None and values.digest(value) != theirs:
            _, mine = values.round_trip(value, what=f"the value of {key!r}")
            if values.digest(mine) not in (None, theirs):
                here, there = values.shorten(mine), values.shorten(recorded)
                ctx._execution.differ(
                    f"{operation} {key!r} is {here} here, and {there} is recorded: a value "
                    "that every node computes must not depend on time, randomness, I/O or the node; get it by ctx.compute",
                    asked=f"{operation} {key!r} = {here}",
                    recorded=f"{operation} {key!r} = {there}",
                )
                raise ExecutionDropped
    return recorded


def _called(fn: Callable[[T], T], value: T) -> T:
    # A copy, as the function may change it and then fail, or be called again when its record was not committed.
    _, copy = values.round_trip(value, what="the variable's value")
    result = fn(copy)
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise WorkflowDefinitionError(
            "update() takes a synchronous function. For an asynchronous one: "
            "`await variable.set(await ctx.compute(key, fn, variable.value))`"
        )
    return result


async def _record(
    ctx: ContextIdentity,
    key: str,
    operation: Operation,
    make: Callable[[], Any],
    take: Callable[[Any], None] | None = None,
) -> Any:
    execution = ctx._execution

    def produce(step_id: StepId) -> Product:
        try:
            value = make()
        except BaseException as error:
            return None, execution.fail_without_record(error)
        return execution.product(step_id, value)

    step_id = execution.next_id(operation, key)
    if take is None:
        return execution.decode(await execution.at(step_id, operation, produce))
    # Whoever is cancelled leaves no change on its way, which everybody would see but the run's own code: it is made, and then the
    # cancellation goes on.
    change = execution.asked_for(step_id, operation, produce)
    cancelled: asyncio.CancelledError | None = None
    try:
        await asyncio.wait((change,))
    except asyncio.CancelledError as error:
        cancelled = await through_cancellations(change) or error
    step = change.result()
    if cancelled is not None and step.failure is not None:
        raise cancelled
    value = execution.decode(step)
    take(value)
    if cancelled is not None:
        raise cancelled
    return value
