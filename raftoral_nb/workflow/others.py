"""What a run has to do with others: messages from outside, and child workflows. Part of `context`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

from ..model import RunId
from ..seconds import Seconds
from . import children, messages
from .children import ChildRun
from .definitions import Workflow
from .identity import Identity
from .messages import MISSING, Update
from .unawaited import operation

I = TypeVar("I")  # noqa: E741 - input and output are I and O everywhere
O = TypeVar("O")  # noqa: E741
F = TypeVar("F", bound=Callable[..., Any])


class Others(Identity):
    """The operations of a context that reach beyond its run."""

    # --- messages

    @operation
    async def receive(self, name: str, *, timeout: Seconds | None = None, default: Any = MISSING) -> Any:
        """Wait for the signal `name`, and return what was sent with it (`run.signal(name, value)`).

        Signals of one name are received in the order in which they were recorded, each once, whoever leads; one that came
        before is there at once. After `timeout` seconds (or a `timedelta`; counted from this call, through changes of leader and restarts, by
        the clocks of the nodes that act) it returns `default`, or raises `ReceiveTimeoutError` if none was given; that is
        recorded as well. A signal that comes later waits for the next `receive`.

        >>> async def order(ctx, item):
        ...     return item if await ctx.receive("approve", timeout=60, default=False) else "not approved"
        >>> id = cluster.start_workflow(order, "tea", run_id="tea").signal("approve", True)
        >>> cluster.run("tea").wait_for_completion()
        'tea'
        """
        return await messages.receive(self._execution, self._state, name, timeout, default)

    @operation
    async def receive_update(self, name: str, *, timeout: Seconds | None = None) -> Update:
        """Wait for the update `name`: a signal whose sender waits for an answer (`run.update(name, value)`).

        As `receive` otherwise. Answer every update, or `refuse` it: until then, or until the run's end, its sender waits.

        >>> async def account(ctx, limit):
        ...     update = await ctx.receive_update("set limit")
        ...     await update.answer(f"{limit} before, {update.value} now")
        >>> cluster.start_workflow(account, 10).update("set limit", 20)
        '10 before, 20 now'
        """
        return await messages.receive_update(self._execution, self._state, name, timeout)

    @overload
    def on_query(self, name: str, fn: None = None) -> Callable[[F], F]: ...
    @overload
    def on_query(self, name: str, fn: F) -> F: ...
    def on_query(self, name: str, fn: Any = None) -> Any:
        """Have `run.query(name)` call `fn()` on the node that is asked, and return what it returns; also as a decorator.

        Every node answers from its own execution, so a lagging one answers what it knows. `fn` must not be async, change
        anything or take long: it runs between two steps, on the node's own loop. Records nothing.

        >>> async def counting(ctx, count):
        ...     ctx.on_query("count", lambda: count)
        ...     await ctx.receive("end")
        >>> cluster.start_workflow(counting, 3).query("count")
        3
        """
        if fn is None:
            return lambda function: self.on_query(name, function)
        messages.on_query(self._execution, name, fn)
        return fn

    # --- child workflows

    @overload
    async def start_child(
        self,
        workflow: Workflow[I, O],
        input: I,
        *,
        run_id: RunId | None = None,
        version: int | None = None,
        detached: bool = False,
    ) -> ChildRun[O]: ...
    @overload
    async def start_child(
        self,
        workflow: str | Callable[..., Awaitable[Any]],
        input: Any = None,
        *,
        run_id: RunId | None = None,
        version: int | None = None,
        detached: bool = False,
    ) -> ChildRun[Any]: ...
    @operation
    async def start_child(
        self,
        workflow: Any,
        input: Any = None,  # noqa: A002
        *,
        run_id: RunId | None = None,
        version: int | None = None,
        detached: bool = False,
    ) -> ChildRun[Any]:
        """Start another workflow, and go on; `await child` waits for its result.

        `workflow` must be registered; without a `version` the latest is taken. The child's run_id is `parent/place`, the same
        whoever leads, so that it is started once; with a `run_id` of its own, a run of that id that was started with the same
        input is waited for. A child is cancelled when its parent is, or ends, or begins anew; a `detached` one is not, and
        cannot be awaited. Raises `WorkflowNotFoundError`, `RunConflictError`, `TooManyChildrenError`, `ValueNotShippableError`,
        and `InputTypeError` if the input is not what the child's annotation asks for, before anything is started.

        >>> async def ship(ctx, item):
        ...     return f"{item} shipped"
        >>> shipping = cluster.register_workflow("ship", ship)
        >>> async def order(ctx, item):
        ...     parcel = await ctx.start_child("ship", item)
        ...     return [await ctx.compute("charge", lambda: "charged"), await parcel]
        >>> run(order, "tea")
        ['charged', 'tea shipped']
        """
        return await children.start(self._execution, self._state, workflow, input, run_id, version, detached)

    @overload
    async def run_child(
        self, workflow: Workflow[I, O], input: I, *, run_id: RunId | None = None, version: int | None = None
    ) -> O: ...
    @overload
    async def run_child(
        self,
        workflow: str | Callable[..., Awaitable[Any]],
        input: Any = None,
        *,
        run_id: RunId | None = None,
        version: int | None = None,
    ) -> Any: ...
    @operation
    async def run_child(
        self,
        workflow: Any,
        input: Any = None,  # noqa: A002
        *,
        run_id: RunId | None = None,
        version: int | None = None,
    ) -> Any:
        """Start another workflow, wait for its end, and return its result.

        The same as awaiting `start_child(...)`. Raises `WorkflowFailedError` if the child failed (was cancelled, terminated).

        >>> async def double(ctx, number):
        ...     return 2 * number
        >>> doubling = cluster.register_workflow("double", double)
        >>> async def four_times(ctx, number):
        ...     return await ctx.run_child("double", await ctx.run_child("double", number))
        >>> run(four_times, 3)
        12
        """
        return await (await self.start_child(workflow, input, run_id=run_id, version=version))
