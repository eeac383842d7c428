"""The context that a workflow gets as `ctx`: the operations whose results are replicated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from ...core.records import RunId
from ...threads.seconds import Seconds
from ..execution.renewal import ContinueAsNew
from ..execution.running_step import current_step
from ..shipping.definitions import Workflow
from . import branches as parallel
from . import child_runs, randomness, steps, timers
from .child_runs import ChildRun, OnCancel
from .messaging_context import MessagingContext
from .sagas import Saga
from .unawaited import operation
from .version_gates import patched

if TYPE_CHECKING:
    import random
    import uuid

    from .variables import ReplicatedVar

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")
I = TypeVar("I")  # noqa: E741 - input and output are I and O everywhere
O = TypeVar("O")  # noqa: E741


class WorkflowContext(MessagingContext):
    """The first argument of every workflow, one per node and run.

    The acting node records the result of a step, once. All nodes, the acting one too, take it from the record, in the order of the log.
    Plain asyncio needs no context: `asyncio.sleep`, `timeout`, `gather`, `TaskGroup`, locks, queues and cancellation are durable as they are.

    Operations may be called in any task of the run, those that asyncio makes too. Elsewhere (in a step, in a thread, in a query) they
    raise `WrongTaskError`. A step's key names it in logs and views, and must be a non-empty string.
    """

    # --- steps

    @overload
    async def compute(self, key: str, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    async def compute(self, key: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @operation
    async def compute(self, key: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run `fn(*args, **kwargs)` on the acting node and record what it returns or raises.

        An async `fn` runs on the node's loop, a synchronous one on a worker thread. The result must survive pickling; one
        that takes more than `max_value_bytes` holds the run until that is raised. What is returned is the decoded record, on the acting node too. What `fn` raises is
        raised here, on every node. Does *not* promise that `fn` runs once: if the leader dies or is deposed before the
        record is committed, the next one runs it again. `ValueNotShippableError` if the result does not pickle.

        `fn` works on copies: of its arguments, of the object whose method it is, and of what it closes over if the workflow
        made it. If it changes one of them without returning it, `LostChangeError` is raised, which names it; an argument
        may be changed by a function that returns something else. What does not pickle is passed on as it is, and so is what
        takes more than `MAX_COPIED_BYTES`: what `fn` changes there is changed on the acting node alone.

        Retries, a timeout and at-most-once are options of the function: see `step`.

        >>> from raftoral_nb import Retry, step
        >>> async def book(ctx, city):
        ...     name = await ctx.compute("name", str.title, city)
        ...     return await ctx.compute("greet", step("hello {}".format, timeout=5, retry=Retry(attempts=2)), name)
        >>> run(book, "lisbon")
        'hello Lisbon'
        """
        return await steps.compute(self._execution, key, fn, args, kwargs)

    def progress(self, fraction: float, text: str = "") -> None:
        """Say from within a step's function how far it has come, from 0 to 1. Shown live, not recorded; see `RunningStep`.

        >>> async def train(ctx, epochs):
        ...     def fit():
        ...         for epoch in range(epochs):
        ...             ctx.progress((epoch + 1) / epochs, f"epoch {epoch + 1}")
        ...         return "fitted"
        ...     return await ctx.compute("fit", fit)
        >>> run(train, 3)
        'fitted'
        """
        current_step().progress(fraction, text)

    # --- variables

    @operation
    async def patched(self, name: str) -> bool:
        """Return whether this run executes the new code named `name`.

        False for a run that had come to this point before the gate existed.

        To change the code of unfinished runs: write `if await ctx.patched("mail"): <new> else: <old>`, register it as a
        new version, and move the run to it. A run that comes here for the first time records True, as a step of its own. In a run that
        was moved, the answer is False up to where it stood then, and the gate leaves no trace: the steps around it keep their names. A
        gate in a loop answers for each round anew. Once all runs from before have ended, the `if`
        and its old side may go from new versions; runs that recorded the gate keep theirs.

        >>> from raftoral_nb.testing import workflow_test
        >>> async def order(ctx, item):
        ...     return f"{item} wrapped" if await ctx.patched("wrapping") else item
        >>> with workflow_test() as test:
        ...     test.finish(test.start(order, "A1"))
        'A1 wrapped'
        """
        return await patched(self, name)

    @operation
    async def var(self, key: str, value: T) -> ReplicatedVar[T]:
        """Make a replicated variable that starts with `value` (recorded as a step). See `ReplicatedVar`.

        >>> async def count(ctx, words):
        ...     letters = await ctx.var("letters", 0)
        ...     for word in words:
        ...         await letters.update(lambda number: number + len(word))
        ...     return letters.value
        >>> run(count, ["a", "bc"])
        3
        """
        from .variables import ReplicatedVar

        return await ReplicatedVar.with_value(key, self, value)

    @operation
    async def create_replicated_var(self, key: str, value: T) -> ReplicatedVar[T]:
        """Return the same as `var`, under the original's name.

        >>> async def order(ctx, item):
        ...     status = await ctx.create_replicated_var("status", "pending")
        ...     return await status.set(f"{item} sent")
        >>> run(order, "tea")
        'tea sent'
        """
        return await self.var(key, value)

    # --- time

    @operation
    async def now(self) -> datetime:
        """Return the run's time, in UTC and with that time zone: that of the record whose turn it is. It never goes back.

        Costs nothing, records nothing, and stands still between two records: two calls without a record between them
        return the same. `time.time()` would differ from node to node; `asyncio.get_running_loop().time()` is this time in Unix seconds.

        >>> async def stamped(ctx, _):
        ...     return (await ctx.now()).tzname()
        >>> run(stamped)
        'UTC'
        """
        return timers.now(self)

    @operation
    async def sleep(self, seconds: Seconds, *, key: str = "sleep") -> None:
        """Wait for so many seconds (or a `timedelta`) of the run's time, as `asyncio.sleep` does.

        `key` names it in views. Never less than that, by the acting node's clock; not promised how much more.

        What is left of it survives the failure of a leader, and a restart of all nodes. A node whose system clock is
        set back continues from the time it has shown, so it does not wait longer for that. Raises `BadArgumentError`
        for what is no length of time.

        >>> async def patient(ctx, seconds):
        ...     before = await ctx.now()
        ...     await ctx.sleep(seconds)
        ...     return (await ctx.now() - before).total_seconds() >= seconds
        >>> run(patient, 0.05)
        True
        """
        await timers.sleep(self, seconds, key)

    @operation
    async def sleep_until(self, when: datetime, *, key: str = "sleep") -> None:
        """Wait until a time of day, which must have a time zone; one that is past is over at once.

        Raises `BadArgumentError` for a time without a zone.

        >>> from datetime import timedelta
        >>> async def shortly(ctx, _):
        ...     tomorrow = await ctx.now() + timedelta(milliseconds=50)
        ...     await ctx.sleep_until(tomorrow)
        ...     return await ctx.now() >= tomorrow
        >>> run(shortly)
        True
        """
        await timers.sleep_until(self, when, key)

    def deadline(self, seconds: Seconds) -> AbstractAsyncContextManager[datetime]:
        """Open a block that has so many seconds (or a `timedelta`) of the run's time.

        As `asyncio.timeout`, but the block raises `DeadlineExceededError` (a `TimeoutError`), and gives the time that it has until:
        `async with ctx.deadline(5) as due:`. What the block waits for then is cancelled, on every node in the same turn; what cleans
        up after that has all the time it needs.

        >>> from raftoral_nb import DeadlineExceededError
        >>> async def hasty(ctx, _):
        ...     try:
        ...         async with ctx.deadline(0.05):
        ...             await ctx.sleep(3600)
        ...     except DeadlineExceededError:
        ...         return "too late"
        >>> run(hasty)
        'too late'
        """
        return timers.deadline(self, seconds)

    # --- randomness and identity

    @property
    def rng(self) -> random.Random:
        """Random numbers that are the same on every node: seeded by the run and the task. Not for secrets.

        They follow from the `run_id`: another run under the same id, in another cluster, has the same ones.

        >>> async def draw(ctx, items):
        ...     return ctx.rng.choice(items) in items, 0.0 <= ctx.random() < 1.0
        >>> run(draw, ["a", "b"])
        (True, True)
        """
        return randomness.dice(self)

    def random(self) -> float:
        """Draw a random number from 0 to below 1, the same on every node; `rng` has the other distributions.

        >>> async def draw(ctx, _):
        ...     return 0.0 <= ctx.random() < 1.0
        >>> run(draw)
        True
        """
        return randomness.dice(self).random()

    def uuid4(self) -> uuid.UUID:
        """Draw a random UUID, the same on every node and in every replay of this run. Not for secrets; see `rng`.

        >>> async def name(ctx, _):
        ...     return ctx.uuid4().version, ctx.uuid4() != ctx.uuid4()
        >>> run(name)
        (4, True)
        """
        return randomness.uuid4(self)

    # --- parallel branches

    @overload
    async def gather(
        self, *branches: Callable[[WorkflowContext], Awaitable[T]] | Callable[[], Awaitable[T]]
    ) -> list[T]: ...
    @overload
    async def gather(self, *branches: Callable[[], T]) -> list[T]: ...
    @operation
    async def gather(self, *branches: Callable[..., Any]) -> list[Any]:
        """Run `branch(ctx)` for every branch in parallel, each in a task of its own; results in the order given.

        A function without parameters, or a `@step`, is run as one step, as by `map`. Step ids depend on a branch's place in the
        call, not on timing. If a branch raises, the others still run to their ends; then the exceptions are raised as an
        ExceptionGroup, which names the first and has it as its cause. `task_group` cancels the others. (`asyncio.gather` takes
        coroutines, and is as durable; this names the branches for the view.)

        >>> async def both(ctx, _):
        ...     async def left(ctx):
        ...         return await ctx.compute("left", lambda: 1)
        ...     async def right(ctx):
        ...         return await ctx.compute("right", lambda: 2)
        ...     return await ctx.gather(left, right)
        >>> run(both)
        [1, 2]
        """
        return await parallel.gather(self, branches)

    @overload
    async def map(
        self, fn: Callable[[WorkflowContext, A], Awaitable[T]], items: Iterable[A], /, *, limit: int | None = None
    ) -> list[T]: ...
    @overload
    async def map(
        self, fn: Callable[[A], Awaitable[T]], items: Iterable[A], /, *, limit: int | None = None
    ) -> list[T]: ...
    @overload
    async def map(self, fn: Callable[[A], T], items: Iterable[A], /, *, limit: int | None = None) -> list[T]: ...
    @operation
    async def map(self, fn: Callable[..., Any], items: Iterable[Any], /, *, limit: int | None = None) -> list[Any]:
        """Run `fn` for every item, at most `limit` at the same time; results in the order of the items.

        A branch, `async def fn(ctx, item)`, may take many steps; it has step ids of its own, whenever it runs. A
        plain function, `fn(item)`, synchronous or not, or a `@step`, is one step under its own name. What could be called both
        ways is a branch if its first parameter is named `ctx` (or `context`) or annotated as one.

        If some raise, the others still run; then the exceptions are raised as an ExceptionGroup, which names the first and has
        it as its cause. Raises `BadArgumentError` for a limit below 1, `WorkflowDefinitionError` for what is no such function.

        >>> async def lengths(ctx, words):
        ...     async def one(ctx, word):
        ...         return await ctx.compute("length", len, word)
        ...     return await ctx.map(one, words, limit=2), await ctx.map(len, words)
        >>> run(lengths, ["a", "bc", "def"])
        ([1, 2, 3], [1, 2, 3])
        """
        return await parallel.map_(self, fn, items, limit)

    @overload
    async def race(self, *branches: Callable[[WorkflowContext], Awaitable[T]] | Callable[[], Awaitable[T]]) -> T: ...
    @overload
    async def race(self, *branches: Callable[[], T]) -> T: ...
    @operation
    async def race(self, *branches: Callable[..., Any]) -> Any:
        """Run `branch(ctx)` for every branch in parallel; return the result of the first one to end, or raise its exception.

        A function without parameters, or a `@step`, is run as one step, as by `map`. The losers are cancelled at once, before any of
        them runs again, may clean up, and are waited for; what they raise then is raised in an ExceptionGroup. No message is lost to a
        loser: one that it has not taken waits for the next `receive`. `BadArgumentError` without branches.

        >>> async def fastest(ctx, _):
        ...     async def quick(ctx):
        ...         return await ctx.compute("quick", lambda: "quick")
        ...     async def slow(ctx):
        ...         await ctx.sleep(3600)
        ...         return "slow"
        ...     return await ctx.race(quick, slow)
        >>> run(fastest)
        'quick'
        """
        return await parallel.race(self, branches)

    def task_group(self) -> parallel.TaskGroup:
        """Open a block in which branches are started, and which ends when all of them have ended.

        `group.start(branch, *args)` runs `branch(ctx, *args)` in a task of its own.

        A function of `args` alone, or a `@step`, is run as one step, as by `map`. If a branch or the block itself raises, the
        others are cancelled, and may clean up; then what was raised is raised as an ExceptionGroup, which names the first and has it
        as its cause. (`asyncio.TaskGroup` takes coroutines, and is as durable.)

        >>> async def parts(ctx, words):
        ...     async def one(ctx, word):
        ...         return await ctx.compute("length", len, word)
        ...     async with ctx.task_group() as group:
        ...         tasks = [group.start(one, word) for word in words]
        ...     return [task.result for task in tasks]
        >>> run(parts, ["a", "bc"])
        [1, 2]
        """
        return parallel.TaskGroup(self)

    def saga(self) -> Saga:
        """Open a block that undoes what it has done if it fails.

        Call `saga.on_failure(key, fn, *args)` after each step that can be undone.

        If the block raises, or is cancelled, what was named runs in reverse, each as a step, with the
        retries that its function has, whatever is cancelled meanwhile; then the exception is raised further. If an
        undoing step fails, the others run all the same, and its exception is raised together with the original one, which
        comes first in an ExceptionGroup. To raise `ctx.continue_as_new(...)` is no failure: it undoes nothing.

        >>> async def trip(ctx, city):
        ...     done = []
        ...     try:
        ...         async with ctx.saga() as saga:
        ...             done.append(await ctx.compute("book", lambda: "booked"))
        ...             saga.on_failure("cancel", lambda: "cancelled")
        ...             await ctx.compute("pay", lambda: 1 / 0)
        ...     except ZeroDivisionError:
        ...         done.append("not paid")
        ...     return done
        >>> run(trip, "Lisbon")
        ['booked', 'not paid']
        """
        return Saga(self)

    # --- beginning anew

    def continue_as_new(self, input: Any = None) -> ContinueAsNew:  # noqa: A002
        """Make the exception to raise, or to return, to begin this run anew with another input.

        This is for loops that never end.

        The run keeps its run_id, version, and the signals it has not received; its history starts over, so that it does
        not grow. Callers that wait for the run continue to wait. Children are cancelled unless they are detached.

        >>> async def countdown(ctx, count):
        ...     if count:
        ...         raise ctx.continue_as_new(await ctx.compute("one less", lambda: count - 1))
        ...     return "done"
        >>> run(countdown, 5)
        'done'
        """
        return ContinueAsNew(input)

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
        on_cancel: OnCancel = "wait",
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
        on_cancel: OnCancel = "wait",
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
        on_cancel: OnCancel = "wait",
    ) -> ChildRun[Any]:
        """Start another workflow, and continue; `await child` waits for its result.

        `workflow` must be registered; without a `version` the latest is taken. The child's run_id is `parent/place`, the same
        whichever node leads, so that it is started once; with a `run_id` of its own, a run of that id that was started
        with the same input is waited for, and its result used again. If it was evicted (`keep_runs`, `keep_bytes`) or deleted it is run again, unless it
        is `detached`: what must happen once, ever, has to see to that itself. A child is cancelled when its parent is, or ends, or begins anew; a
        `detached` one is not, and cannot be awaited. If the task that waits for the child is cancelled, the child is asked to end, and
        waited for (`on_cancel="wait"`), only asked to end ("ask"), or left alone ("leave"). Raises `WorkflowNotFoundError`, `RunConflictError`,
        `TooManyChildrenError`, `ValueNotShippableError`, and `InputTypeError` if the input is not what the child's
        annotation asks for, before anything is started.

        >>> async def ship(ctx, item):
        ...     return f"{item} shipped"
        >>> shipping = cluster.register_workflow("ship", ship)
        >>> async def order(ctx, item):
        ...     parcel = await ctx.start_child("ship", item)
        ...     return [await ctx.compute("charge", lambda: "charged"), await parcel]
        >>> run(order, "tea")
        ['charged', 'tea shipped']
        """
        return await child_runs.start(self._execution, workflow, input, run_id, version, detached, on_cancel)

    @overload
    async def run_child(
        self,
        workflow: Workflow[I, O],
        input: I,
        *,
        run_id: RunId | None = None,
        version: int | None = None,
        on_cancel: OnCancel = "wait",
    ) -> O: ...
    @overload
    async def run_child(
        self,
        workflow: str | Callable[..., Awaitable[Any]],
        input: Any = None,
        *,
        run_id: RunId | None = None,
        version: int | None = None,
        on_cancel: OnCancel = "wait",
    ) -> Any: ...
    @operation
    async def run_child(
        self,
        workflow: Any,
        input: Any = None,  # noqa: A002
        *,
        run_id: RunId | None = None,
        version: int | None = None,
        on_cancel: OnCancel = "wait",
    ) -> Any:
        """Start another workflow, wait for its end, and return its result.

        The same as awaiting `start_child(...)`. With a `run_id` that says what of, it is computed once, as long as its result is kept: each use puts its
        eviction off. Raises `WorkflowFailedError` if the child failed (was cancelled, terminated).

        >>> async def double(ctx, number):
        ...     return 2 * number
        >>> doubling = cluster.register_workflow("double", double)
        >>> async def four_times(ctx, number):
        ...     return await ctx.run_child("double", await ctx.run_child("double", number))
        >>> run(four_times, 3)
        12
        """
        child = await self.start_child(workflow, input, run_id=run_id, version=version, on_cancel=on_cancel)
        return await child
