"""The operations of a context that exchange messages: with whoever holds a handle on the run, and with other runs. Part of `context`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ...threads.seconds import Seconds
from ..execution.mailbox import Unfinished
from . import messages, other_runs
from .identity import ContextIdentity
from .messages import MISSING, Update
from .unawaited import operation

if TYPE_CHECKING:
    from ...core.records import RunId

F = TypeVar("F", bound=Callable[..., Any])


class MessagingContext(ContextIdentity):
    """The operations of a context that exchange messages."""

    # --- messages

    @operation
    async def receive(self, *names: str, timeout: Seconds | None = None, default: Any = MISSING) -> Any:
        """Wait for the signal of that name, and return what was sent with it (`run.signal(name, value)`).

        With several names: wait for whichever comes first, and return its name and what was sent with it.

        Signals of one name are received in the order in which they were recorded, each once; one that came before is there at once. After
        `timeout` seconds (or a `timedelta`) of the run's time it returns `default`, or raises `ReceiveTimeoutError` if none was
        given. A signal that comes later, or while what waits is cancelled, is for the next `receive`: none is ever lost.

        >>> async def order(ctx, item):
        ...     return item if await ctx.receive("approve", timeout=60, default=False) else "not approved"
        >>> id = cluster.start_workflow(order, "tea", run_id="tea").signal("approve", True)
        >>> cluster.run("tea").wait_for_completion()
        'tea'
        """
        return await messages.receive(self._execution, names, timeout, default)

    @operation
    async def receive_update(self, *names: str, timeout: Seconds | None = None) -> Update:
        """Wait for the update of that name (or the first of several): a signal whose sender waits for an answer (`run.update(name, value)`).

        As `receive` otherwise. Answer every update, or `reject` it: until then, or until the run's end, its sender waits. An update of a
        name that has a handler (`on_update`) goes to that.

        >>> async def account(ctx, limit):
        ...     update = await ctx.receive_update("set limit")
        ...     await update.answer(f"{limit} before, {update.value} now")
        >>> cluster.start_workflow(account, 10).update("set limit", 20)
        '10 before, 20 now'
        """
        return await messages.receive_update(self._execution, names, timeout)

    @overload
    def on_update(
        self,
        name: str,
        handler: None = None,
        *,
        validator: Callable[[Any], object] | None = None,
        unfinished: Unfinished = "wait",
    ) -> Callable[[F], F]: ...
    @overload
    def on_update(
        self,
        name: str,
        handler: F,
        *,
        validator: Callable[[Any], object] | None = None,
        unfinished: Unfinished = "wait",
    ) -> F: ...
    def on_update(
        self,
        name: str,
        handler: Any = None,
        *,
        validator: Callable[[Any], object] | None = None,
        unfinished: Unfinished = "wait",
    ) -> Any:
        """Have `handler(value)` answer each update of that name, in a task of its own; also as a decorator.

        The handler, async or not, begins in the turn of its update, also beside others that still run; for updates that came before,
        it begins now. What it returns is the answer; what it raises fails the update and nothing else. A handler that still runs when
        the workflow's function has ended is waited for, or cancelled (`unfinished="cancel"`), and its sender told so; when the
        run is cancelled all are. An update that comes later begins no handler: its sender is told that the run has ended, or the next
        generation gets it (`continue_as_new`). Registered again, a name has the new handler from then on.

        A `validator(value)` refuses an update by raising: its sender gets `UpdateRefusedError`. It looks at the value and at what the
        workflow knows, changes and awaits nothing. `run.update` has the acting node ask it before anything is recorded, and
        every node asks it again in the turn of the update, so that no handler begins with what it refuses. Not promised: that
        nothing is recorded of what is refused. If no node can be asked, if the workflow has not come to its `on_update`, or if what it
        knows has changed meanwhile, the update is refused by its turn, and that is recorded.

        >>> async def account(ctx, limit):
        ...     async def set_limit(value):
        ...         nonlocal limit
        ...         limit = await ctx.compute("checked", lambda: value)
        ...         return limit
        ...     def positive(value):
        ...         if value <= 0:
        ...             raise ValueError("a limit is over 0")
        ...     ctx.on_update("set limit", set_limit, validator=positive)
        ...     await ctx.receive("close")
        ...     return limit
        >>> account = cluster.start_workflow(account, 10)
        >>> account.update("set limit", 20)
        20
        >>> account.update("set limit", -1)
        Traceback (most recent call last):
        raftoral_nb.errors.UpdateRefusedError: run 'account-1' refused the update 'set limit': a limit is over 0
        """
        if handler is None:
            return lambda fn: self.on_update(name, fn, validator=validator, unfinished=unfinished)
        messages.on_update(self._execution, name, handler, validator, unfinished)
        return handler

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

    # --- other runs

    @operation
    async def signal(self, run_id: RunId, name: str, value: Any = None) -> None:
        """Send another run the signal `name`, as a recorded step: it is sent once, whoever leads and however often this is replayed.

        The step and the signal are one entry of the log. Within a step's function there is `current_step().signal(...)`, which leaves
        no record here. Raises `RunNotFoundError`, `RunEndedError`, `SignalRefusedError` if too many wait for that run already, and
        `ValueNotShippableError`, the same on every node. Not promised: that the run receives it before it ends.

        >>> async def kitchen(ctx, _):
        ...     return await ctx.receive("order")
        >>> async def waiter(ctx, item):
        ...     await ctx.signal("kitchen", "order", item)
        >>> cooking = cluster.start_workflow(kitchen, run_id="kitchen")
        >>> run(waiter, "soup")
        >>> cooking.wait_for_completion()
        'soup'
        """
        await other_runs.signal(self._execution, run_id, name, value)

    @operation
    async def cancel(self, run_id: RunId, reason: str = "") -> None:
        """Ask another run to end, as `run.cancel(reason)` does, as a recorded step. Does not wait for its end.

        A run that was asked before is not asked again. Raises `RunNotFoundError` and `RunEndedError`, the same on every node.

        >>> async def endless(ctx, _):
        ...     await ctx.receive("never")
        >>> async def supervisor(ctx, run_id):
        ...     await ctx.cancel(run_id, "enough")
        >>> watched = cluster.start_workflow(endless, run_id="watched")
        >>> run(supervisor, "watched")
        >>> watched.wait_for_completion()
        Traceback (most recent call last):
        raftoral_nb.errors.WorkflowCancelledError: run 'watched' was cancelled: enough
        """
        await other_runs.cancel(self._execution, run_id, reason)
