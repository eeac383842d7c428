"""The event loop of one execution of one run: a queue of callbacks that a driver runs until it is at rest.

It has no thread, no selector and no clock. Between two records it runs until nothing in it can go on without another one; what the
time is, and which timers are due, the driver says. Nothing in it depends on addresses, on the garbage collector or on other runs:
given the same code, seed and records, it does the same on every node.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
import contextlib
import hashlib
import logging
import math
import sys
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from heapq import heappop, heappush
from itertools import islice
from types import MethodType
from typing import Any, Final, TypeVarTuple, Unpack

from anyio._backends._asyncio import CancelScope, _task_states

from ...errors import BadArgumentError, ExecutionDropped, QueryFailedError, RestlessError
from ...limits import MAX_TURN_CALLBACKS
from ...threads.user_code import short_file_name
from .closing import end_coroutine, end_generator, leave_it
from .entering import EnterableLoop, EnteredLoop
from .refusals import RefusingLoop
from .run_future import RunFuture, set_outside
from .run_handles import Context, DurableTimer, ReadyHandle

Ts = TypeVarTuple("Ts")

REDELIVERIES: Final = 100
"""Times that anyio's re-delivered cancellations are run in a turn as often as anyio asks for it."""

REDELIVERY_ROUNDS: Final = 4
"""Rounds of them that each turn has, however many scopes ask."""

SPARSE_ROUND: Final = 16
"""After that, they are run in each 16th cycle: code that spins until it is cancelled still gets to know."""

_get_ident: Final = threading.get_ident
_current_task: Final[Any] = (
    vars(asyncio.tasks)["_current_tasks"].get if sys.version_info < (3, 12) else asyncio.current_task
)
"""That of 3.11 is written in Python, and this is asked several times for each operation."""
_DELIVER: Final = CancelScope._deliver_cancellation
_EAGER: Final[Any] = getattr(asyncio, "eager_task_factory", None)
"""From Python 3.12 on."""
_logger: Final = logging.getLogger("asyncio")


class RunTask(asyncio.Task[Any]):
    """A task of a workflow: a branch. Its hash is an ordinal, so sets of tasks have the same order on every node."""

    __slots__ = ("_n", "children", "path", "state")

    _n: int
    path: str
    """Its name among the run's tasks: "" for the main task, else that of its parent and its number there. The same on every node."""
    children: int
    """Plain tasks that it has made."""
    state: Any
    """For the execution's own use; None at first."""

    def __hash__(self) -> int:
        return self._n


def _query_changes() -> QueryFailedError:
    return QueryFailedError(
        "a query may look at the workflow, not change it: it was about to begin or wake something, on this node alone"
    )


class RunLoop(RefusingLoop, EnterableLoop):
    """The loop of one execution of one run.

    `seed` is part of the run: orders of sets of its tasks and futures depend on it, so it is the same on every node and in every
    replay. `now` is the run's time in Unix seconds; `run_id` names it in logs. Not thread-safe: one thread at a time drives it.
    """

    in_callback: bool
    """Whether code of the workflow is running, not the driver."""
    dead: bool
    """Whether the execution was dropped (`close_run`)."""

    def __init__(self, seed: str, now: float, run_id: str = "") -> None:
        self._whose = f"run {run_id!r}" if run_id else "a workflow"
        self.dead = False
        self.in_callback = False
        self.is_entered = False
        self.thread = None
        # What to raise in place of a new task, callback or timer.
        self._refusal: Callable[[], BaseException] | None = None
        self._now = now
        # Up to Python 3.13 the tasks of all loops of a process are in one set, and anyio's in one dictionary: if each run counted
        # from 1, they would all collide there. Fits into 63 bits with any ordinal added.
        self._ordinal = int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=7).digest(), "big")
        self._ready: deque[Any] = deque()
        self._redeliveries: list[Any] = []
        # Invariant: holds every unfinished task, in the order of their ordinals.
        self._tasks: dict[int, RunTask] = {}
        # What `end_other_tasks` has cancelled; None before.
        self._ending: list[RunTask] | None = None
        self._next_path: str | None = None
        self._outside = 0  # tasks that were made in callbacks
        self._eager = False
        self._handler: Any = None
        # Invariant: holds every begun and unfinished async generator, in the order in which they were begun.
        self._generators: list[AsyncGenerator[Any, Any]] = []
        self._generators_swept_at = 16
        # Live timers by due time and ordinal. Invariant: no dictionary in it is empty, and each key is in `_dues`, a heap, which may
        # hold others. `_queued` has what `_dues` has, each once.
        self._timers: dict[float, dict[int, DurableTimer]] = {}
        self._dues: list[float] = []
        self._queued: set[float] = set()
        self._timer_ordinal = 0
        # Due times of cancelled timers, as a set and as a heap. Invariant: the same in both.
        self._cancelled_dues: set[float] = set()
        self._cancelled_heap: list[float] = []
        self._entry = EnteredLoop(self, (self._generator_begun, leave_it))

    # --- for the driver

    def entered(self) -> contextlib.AbstractContextManager[None]:
        """Make this the running loop of the thread, until the block ends; what ran here is put aside, and put back.

        Works within a callback or a running task of another loop. It costs about a microsecond, so enter once for turns in a row.
        Not to be nested.
        """
        return self._entry

    def run_until_rest(self) -> None:
        """Run what is ready, and what that makes ready, until nothing is. To be called inside of `entered`.

        Raises `RestlessError` past `MAX_TURN_CALLBACKS` callbacks; the execution can only be dropped then. Does not raise what the
        code of the workflow raises: that is in its tasks.

        anyio asks for a cancellation to be delivered again and again while its scope has tasks in it, which would never rest. It
        gets a limited number of times in a turn; what is left is delivered in the next one.
        """
        ready = self._ready
        allowed = MAX_TURN_CALLBACKS
        delivered = rounds = cycles = 0
        self.in_callback = True
        try:
            while True:
                # In batches, as asyncio does it: anyio relies on it.
                count = len(ready)
                allowed -= count
                if allowed < 0:
                    raise RestlessError(MAX_TURN_CALLBACKS, self._place())
                for _ in range(count):
                    handle = ready.popleft()
                    if not handle._cancelled:
                        try:
                            handle._context.run(handle._callback, *handle._args)
                        except BaseException as error:
                            self._callback_failed(handle, error)
                if not self._redeliveries:
                    if not ready:
                        return
                    continue
                cycles += 1
                if delivered < REDELIVERIES or rounds < REDELIVERY_ROUNDS:
                    delivered += len(self._redeliveries)
                    rounds += 1
                elif not ready:
                    return
                elif cycles % SPARSE_ROUND:
                    continue
                self._deliver_again()
                if not ready:
                    return  # nothing was moved by it, and nothing will be
        finally:
            self.in_callback = False

    def set_time(self, now: float) -> None:
        """Set the run's time, in Unix seconds. It never goes back. Fires nothing."""
        self._now = max(self._now, now)

    def fire(self, now: float) -> Iterator[None]:
        """Set the time, and make the callback of each due timer ready, one at a time, by due time and ordinal.

        For each there is one iteration, in which the driver runs the loop until it is at rest; what that cancels does not fire.
        """
        self.set_time(now)
        dues = self._dues
        while dues and dues[0] <= self._now:
            timers = self._timers.get(dues[0])
            if timers is None:
                self._queued.discard(heappop(dues))
                continue
            self._ready.append(self._take(timers))
            yield
        while self._cancelled_heap and self._cancelled_heap[0] <= self._now:
            self._cancelled_dues.discard(heappop(self._cancelled_heap))

    @property
    def next_due(self) -> float | None:
        """The due time of the earliest live timer, in Unix seconds."""
        dues = self._dues
        while dues and dues[0] not in self._timers:
            self._queued.discard(heappop(dues))
        return dues[0] if dues else None

    def has_set(self, due: float) -> bool:
        """Return whether a timer of exactly this due time was set and has not fired: it is live, or it was cancelled.

        Cancelled ones are remembered until timers of their time have fired (`fire`): their record may be on its way, whatever
        other records say about the time before it.
        """
        return due in self._timers or due in self._cancelled_dues

    def tasks(self) -> list[RunTask]:
        """Return the unfinished tasks, in the order in which they were made."""
        return [task for task in tuple(self._tasks.values()) if not task.done()]

    @property
    def task_count(self) -> int:
        """The number of unfinished tasks. From any thread."""
        return len(self._tasks)

    def some_tasks(self, most: int) -> tuple[RunTask, ...]:
        """Return the unfinished tasks that were made first, at most so many. From any thread."""
        return tuple(islice(self._tasks.values(), most))

    @property
    def has_timers(self) -> bool:
        """True if a timer is set. From any thread."""
        return bool(self._timers)

    def some_timers(self, most: int) -> tuple[DurableTimer, ...]:
        """Return live timers, at most so many: those whose due times were set first. From any thread."""
        groups = tuple(islice(self._timers.values(), most))
        return tuple(timer for group in groups for timer in tuple(islice(group.values(), most)))[:most]

    @property
    def current(self) -> RunTask | None:
        """The task of this loop that is running now. None in a callback, and in a task that `asyncio.Task()` itself made."""
        task = None if self.thread is None else _current_task(self)
        return task if isinstance(task, RunTask) else None

    def create_branch(
        self, coro: Coroutine[Any, Any, Any], *, path: str, name: str, context: Context = None
    ) -> RunTask:
        """Make a task with a given path, which does not count as a child of the task that makes it."""
        return self._make_task(coro, path, name, context, {})

    @contextlib.contextmanager
    def naming(self, path: str) -> Iterator[None]:
        """Give the next task that is made in the block this path. It does not count as a child of the task that makes it."""
        self._next_path = path
        try:
            yield
        finally:
            self._next_path = None

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """For a query: until the block ends, whatever would make a task, a future, a callback or a timer raises `QueryFailedError`.

        It would do so on one node alone, and shift the ordinals of all that comes after it.
        """
        before, self._refusal = self._refusal, _query_changes
        try:
            yield
        finally:
            self._refusal = before

    def close_run(self) -> None:
        """Drop the execution: end unfinished tasks, then begun async generators, in the order in which they were made.

        `ExecutionDropped` is raised where they stand. Their `finally` blocks run, here and now, and can begin nothing: that raises it
        again, and so does an `await`. What they raise is dropped; what they print is the caller's business. To be called on the thread
        that drives the loop, inside or outside of `entered`. Nothing of the run is left to the garbage collector.
        """
        if self.dead:
            return
        self.dead = True
        self._refusal = ExecutionDropped
        if self.is_entered:
            self._close_code()
        else:
            with self._entry:
                self._close_code()
        self._ready.clear()
        self._redeliveries.clear()
        self._timers.clear()
        self._dues.clear()
        self._queued.clear()
        self._cancelled_dues.clear()
        self._cancelled_heap.clear()

    # --- for the workflow

    def time(self) -> float:
        """Return the run's time in Unix seconds: that of the last record."""
        return self._now

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context = None
    ) -> asyncio.Handle:
        """Run a callback after those that are ready, in this turn.

        Raises `WrongTaskError` outside of it: a step or a thread would wake the workflow on one node alone.
        """
        if self._refusal is not None:
            raise self._refusal()
        if _get_ident() != self.thread:
            raise set_outside()
        handle = ReadyHandle(callback, args, self, context)
        if type(callback) is MethodType and callback.__func__ is _DELIVER:
            self._redeliveries.append(handle)
        else:
            self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context = None
    ) -> asyncio.Handle:
        """Do as `call_soon` from within the workflow; from anywhere else, raise `NotInWorkflowError`."""
        if _get_ident() != self.thread:
            raise self.refusal("loop.call_soon_threadsafe() from outside of the workflow's turn")
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context = None
    ) -> asyncio.TimerHandle:
        """Set a durable timer, due `delay` seconds after the run's time. One of 0 is a callback, and leaves no record."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context = None
    ) -> asyncio.TimerHandle:
        """Set a durable timer, due at `when` (Unix seconds). One that is due already is a callback.

        Raises `BadArgumentError` if `when` is not a number. A timer of infinity never fires, and is not open.
        """
        if self._refusal is not None:
            raise self._refusal()
        due = float(when)
        if math.isnan(due):
            raise BadArgumentError("a timer was set to a time that is not a number (nan)")
        timer = DurableTimer(due, callback, args, self, context)
        if due <= self._now:
            self._ready.append(timer)
        elif due != math.inf:
            self._timer_ordinal += 1
            timer.number = self._timer_ordinal
            timers = self._timers.get(due)
            if timers is None:
                timers = self._timers[due] = {}
                if due not in self._queued:
                    self._queued.add(due)
                    heappush(self._dues, due)
            timers[timer.number] = timer
        return timer

    def create_future(self) -> RunFuture:
        """Make a future of this loop. `asyncio.Future()` itself would have its address as hash."""
        if self._refusal is not None and not self.dead:
            raise self._refusal()
        future = RunFuture(loop=self)
        self._ordinal += 1
        future._n = self._ordinal
        return future

    def next_ordinal(self) -> int:
        """Return the hash of the next task or future."""
        self._ordinal += 1
        return self._ordinal

    def create_task(
        self,
        coro: Generator[Any, None, Any] | Coroutine[Any, Any, Any],
        *,
        name: object = None,
        context: Context = None,
        **options: Any,
    ) -> RunTask:
        """Make a task: a branch, whose path is that of the running task and its number there.

        One that is made in a callback, outside of any task, has a path of its own. `options` are `asyncio.Task`'s (`eager_start`).
        """
        parent = self.current
        given, self._next_path = self._next_path, None
        if given is not None:
            path = given
        elif parent is not None:
            parent.children += 1
            path = f"{parent.path}t{parent.children}."
        else:
            self._outside += 1
            path = f"c{self._outside}."
        if self._eager:
            options.setdefault("eager_start", True)
        return self._make_task(coro, path, path[:-1] if name is None else str(name), context, options)

    def set_task_factory(self, factory: object) -> None:
        """Set no factory (None), or `asyncio.eager_task_factory`. Raises `BadArgumentError` for any other."""
        if factory is not None and factory is not _EAGER:
            raise BadArgumentError(
                "the tasks of a workflow are made by its loop: set_task_factory takes None or asyncio.eager_task_factory"
            )
        self._eager = factory is not None

    def get_task_factory(self) -> Any:
        """Return what was set."""
        return _EAGER if self._eager else None

    def is_running(self) -> bool:
        """Return whether it is the running loop of a thread."""
        return self.is_entered

    def is_closed(self) -> bool:
        """Return whether the execution was dropped."""
        return self.dead

    def get_debug(self) -> bool:
        """Return False: debug mode shifts what is counted."""
        return False

    def set_debug(self, enabled: bool) -> None:
        """Do nothing."""

    async def end_other_tasks(self) -> None:
        """Cancel all tasks but the one that runs, wait for them, then close the async generators, as `asyncio.run` does at its end.

        If this is cancelled, it can be called again: no task is cancelled twice by it.
        """
        if self._ending is None:
            self._ending = [task for task in self.tasks() if task is not self.current]
            for task in self._ending:
                task.cancel()
        if left := [task for task in self._ending if not task.done()]:
            await asyncio.wait(left)
        await self.shutdown_asyncgens()

    async def shutdown_asyncgens(self) -> None:
        """Close the async generators that were begun and not finished."""
        self._sweep_generators()
        closings = [generator.aclose() for generator in self._generators]
        outcomes = await asyncio.gather(*closings, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                self.call_exception_handler(
                    {"message": "an async generator failed while it was closed", "exception": outcome}
                )

    def get_exception_handler(self) -> Any:
        """Return the handler that was set."""
        return self._handler

    def set_exception_handler(self, handler: Any) -> None:
        """Keep the handler. It is not called: the collector would call it, at any time and on any thread."""
        self._handler = handler

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log the message and the exception, as error of `asyncio`."""
        self.call_exception_handler(context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Log the message and the exception, as error of `asyncio`; nothing once the execution was dropped."""
        if not self.dead:
            message, error = context.get("message") or "unhandled exception", context.get("exception")
            if error is not None and isinstance(context.get("future"), RunTask):
                message = "a task failed, and nothing has awaited it"
            _logger.error("%s: %s", self._whose, message, exc_info=error or False)

    # --- inside

    def _make_task(self, coro: Any, path: str, name: str, context: Context, options: dict[str, Any]) -> RunTask:
        if self._refusal is not None:
            coro.close()  # or Python warns that it was never awaited
            raise self._refusal()
        task: RunTask = RunTask.__new__(RunTask)
        task._n = self.next_ordinal()
        task.path = path
        task.children = 0
        task.state = None
        # Before the rest is made, which puts the task into a set, and may run it (eagerly).
        self._tasks[task._n] = task
        try:
            task.__init__(coro, loop=self, name=name, context=context, **options)  # type: ignore[misc]
        except BaseException:
            del self._tasks[task._n]
            raise
        if task.done():
            del self._tasks[task._n]
        else:
            task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Future[Any]) -> None:
        self._tasks.pop(hash(task), None)

    def _deliver_again(self) -> None:
        """Run anyio's re-deliveries that have been asked for. What they ask for in turn is for the next round."""
        handles, self._redeliveries = self._redeliveries, []
        for handle in handles:
            if not handle._cancelled:
                handle._run()

    def _callback_failed(self, handle: Any, error: BaseException) -> None:
        """Go on after an exception of a callback. SystemExit and KeyboardInterrupt come out of a task too, which has it."""
        if isinstance(error, SystemExit | KeyboardInterrupt) and isinstance(
            getattr(handle._callback, "__self__", None), RunTask
        ):
            return
        self.call_exception_handler({"message": "a callback of a workflow failed", "exception": error})

    def _take(self, timers: dict[int, DurableTimer]) -> DurableTimer:
        """Take the first timer of those with one due time."""
        timer = timers.pop(next(iter(timers)))
        timer.number = 0
        if not timers:
            del self._timers[timer._when]
        return timer

    def _timer_cancelled(self, timer: DurableTimer) -> None:
        due = timer._when
        timers = self._timers.get(due)
        if timers is None or timers.pop(timer.number, None) is None:
            return
        timer.number = 0
        if not timers:
            del self._timers[due]
        if due not in self._cancelled_dues:
            self._cancelled_dues.add(due)
            heappush(self._cancelled_heap, due)

    def _generator_begun(self, generator: AsyncGenerator[Any, Any]) -> None:
        generators = self._generators
        if len(generators) >= self._generators_swept_at:
            # As often as their number doubled, so that it costs little; counted, so on every node at the same place.
            self._sweep_generators()
            self._generators_swept_at = 2 * len(generators) + 16
        generators.append(generator)

    def _sweep_generators(self) -> None:
        """Let go of the async generators that have finished."""
        self._generators[:] = [begun for begun in self._generators if begun.ag_frame is not None]  # type: ignore[attr-defined]

    def _place(self) -> str:
        """Return the line of the workflow that the next ready task stands at, or "" if there is none."""
        for handle in self._ready:
            task = getattr(handle._callback, "__self__", None)
            if isinstance(task, RunTask):
                place = ""
                code: Any = task.get_coro()
                while code is not None:
                    frame = getattr(code, "cr_frame", None)
                    if frame is not None and not str(frame.f_globals.get("__name__")).startswith(
                        ("asyncio.", "anyio.")
                    ):
                        where = frame.f_code
                        place = f"{short_file_name(where.co_filename)}:{frame.f_lineno} in {where.co_qualname}"
                    code = getattr(code, "cr_await", None)
                return place
        return ""

    def _close_code(self) -> None:
        """End coroutines, then async generators, both in the order in which they were made."""
        tasks, generators = self.tasks(), self._generators
        self._tasks, self._generators, self._ending = {}, [], None
        self.in_callback = True
        try:
            for task in tasks:
                unfinished: Any = task
                unfinished._log_destroy_pending = False
                asyncio.tasks._enter_task(self, task)
                try:
                    end_coroutine(task.get_coro())
                finally:
                    asyncio.tasks._leave_task(self, task)
                # It is never done, and nothing is to wait for it: not in `asyncio.all_tasks` of a debugger either.
                asyncio.tasks._unregister_task(task)
                # It is never done, so anyio would not forget it; and what anyio has of it holds it for ever.
                _task_states.pop(task, None)
            for generator in generators:
                end_generator(generator)
        finally:
            self.in_callback = False


# What drives a workflow may itself be imported.
RunLoop.DRIVER = frozenset({RunLoop.run_until_rest.__code__, RunLoop._close_code.__code__})
