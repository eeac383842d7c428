"""Runners of steps' functions: a pool of daemon threads for synchronous ones, which may be abandoned but not interrupted."""

from __future__ import annotations

import asyncio
import contextvars
import decimal
import queue
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypeVar

import anyio.lowlevel

from ..errors import ClusterError
from .step_tasks import StepTasks
from .user_code import where_is

T = TypeVar("T")

MAX_STEP_THREADS: Final = 32
"""Synchronous steps of one node that run at the same time, abandoned ones included."""

MAX_IDLE_STEP_THREADS: Final = 4
"""Step threads of one node that are kept for the next step."""

_DECIMALS: Final = "decimal_context"
"""The name of the context variable of the module `decimal`."""

MAX_CLOSE_SECONDS: Final = 1.0
"""The time that `close` waits for threads that have nothing to do but to end."""


class Steps(Protocol):
    """A runner of steps' functions for tasks of an event loop."""

    async def run(self, fn: Callable[..., T], /, *args: Any, name: str, **kwargs: Any) -> T:
        """Run `fn(*args, **kwargs)`, which is synchronous, and return its result, or raise what it raised."""
        ...

    async def run_async(
        self, fn: Callable[[], Awaitable[T]], /, *, name: str, abandoned: Callable[[], object] | None = None
    ) -> T:
        """Run `await fn()` and return its result, or raise what it raised. See `StepTasks.run_async`."""
        ...

    def stuck(self) -> tuple[str, ...]:
        """Return the functions that have not returned yet: name, thread or task, and where they are now."""
        ...

    def close(self) -> None:
        """Take no more work."""
        ...


def _own_context() -> contextvars.Context:
    """Return a copy of the current context, with a decimal context of its own: what a function does to that stays with it."""
    context = contextvars.copy_context()
    if any(variable.name == _DECIMALS for variable in context):  # a copy of the context holds the same one
        context.run(_copy_decimals)
    return context


def _copy_decimals() -> None:
    decimal.setcontext(decimal.getcontext().copy())


class _Job:
    """One function to run, with its outcome. Set by the worker thread, then read on the loop after `done`."""

    __slots__ = (
        "abandoned",
        "context",
        "done",
        "error",
        "fn",
        "ident",
        "loop",
        "name",
        "refused",
        "result",
        "thread_name",
    )

    def __init__(self, fn: Callable[[], Any], name: str) -> None:
        self.fn: Callable[[], Any] | None = fn
        self.name = name
        self.context = _own_context()
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self.loop.create_future()
        """First: a slot was given; then a fresh one: the function has returned."""
        self.result: Any = None
        self.error: BaseException | None = None
        self.abandoned = False
        self.refused = False
        self.ident: int | None = None
        self.thread_name = ""

    def __str__(self) -> str:
        where = where_is(self.ident)
        how = ", abandoned" if self.abandoned else ""
        return f"{self.name} ({self.thread_name}{how}) at {where or 'an unknown place'}"


class StepThreads(StepTasks):
    """A pool of daemon threads for synchronous step functions: at most `limit` at once, at most `idle` kept for later.

    Asynchronous ones run on the loop, in tasks of their own.

    Used from tasks of asyncio loops (directly or through anyio). A function whose task is cancelled is abandoned: it
    continues, its result is dropped, and it counts towards `limit` until it returns.
    """

    def __init__(self, name: str = "step", *, limit: int = MAX_STEP_THREADS, idle: int = MAX_IDLE_STEP_THREADS) -> None:
        super().__init__()
        self._name = name
        self._limit = limit
        self._max_idle = idle
        # Guards what follows. A lock of the interpreter's own, held for a few instructions only, and never while waiting or
        # calling others: `with` on it is safe against interrupts in the main thread.
        self._lock = threading.Lock()
        self._jobs: dict[_Job, None] = {}
        self._waiting: deque[_Job] = deque()
        self._idle: list[tuple[threading.Thread, queue.SimpleQueue[_Job | None]]] = []
        self._threads: dict[threading.Thread, _Job | None] = {}
        self._made = 0
        # Invariant: by loop that was told and has not come to it yet, the jobs whose `done` it is to set.
        self._woken: dict[asyncio.AbstractEventLoop, list[_Job]] = {}

    async def run(self, fn: Callable[..., T], /, *args: Any, name: str, **kwargs: Any) -> T:
        """Run `fn(*args, **kwargs)` in a thread, with a copy of the current context variables.

        Returns its result or raises what it raised; exceptions that would mean something to the event loop (StopIteration,
        SystemExit, KeyboardInterrupt, a CancelledError of its own) arrive as RuntimeError, with the original as the cause.
        If the awaiting task is cancelled, returns at once and abandons the function. Raises ClusterError after `close`.
        A function with a parameter `name` is passed as `functools.partial(fn, name=...)`.
        """
        job = _Job(lambda: fn(*args, **kwargs), name)
        await self._take_slot(job)
        try:
            self._hand_over(job)
        except BaseException:
            self._return_slot(job)
            raise
        try:
            await job.done
        except BaseException:
            job.abandoned = True
            raise
        if job.error is not None:
            try:
                raise _for_the_loop(job.error, name)
            finally:
                job.error = None  # or the exception would hold itself through this frame
        result: T = job.result
        return result

    def stuck(self) -> tuple[str, ...]:
        """Return the functions that run now, abandoned ones included.

        Each as "name (thread[, abandoned]) at file:line in function"; an asynchronous one has "a task" for a thread.
        """
        with self._lock:
            running = [job for job in self._jobs if job.ident is not None]
        return (*(str(job) for job in running), *self.stuck_tasks())

    def close(self) -> None:
        """End idle threads now, refuse what waits for a thread; a busy thread ends when its function returns.

        May be called again, and from any thread. Does not wait for functions.
        """
        with self._lock:
            self.closed = True
            idle, self._idle = self._idle, []
            waiting, self._waiting = self._waiting, deque()
            ending = [thread for thread, job in self._threads.items() if job is None]
        for job in waiting:
            job.refused = True
            self._wake(job)
        for _, jobs in idle:
            jobs.put(None)
        until = time.monotonic() + MAX_CLOSE_SECONDS
        for thread in ending:
            if thread is not threading.current_thread() and thread.is_alive():
                thread.join(max(0.0, until - time.monotonic()))

    # --- slots: at most `limit` jobs in `_jobs`; a freed one goes to the first in line

    async def _take_slot(self, job: _Job) -> None:
        with self._lock:
            job.refused = self.closed
            taken = not self.closed and len(self._jobs) < self._limit
            if taken:
                self._jobs[job] = None
            elif not self.closed:
                self._waiting.append(job)
        if taken:
            return
        if not job.refused:
            try:
                await job.done
            except BaseException:
                with self._lock:
                    if job in self._waiting:
                        self._waiting.remove(job)
                self._return_slot(job)
                raise
        if job.refused:
            raise ClusterError(f"the step {job.name!r} cannot run: its node has stopped")
        job.done = job.loop.create_future()

    def _return_slot(self, job: _Job) -> None:
        with self._lock:
            after = self._free(job)
        if after is not None:
            self._wake(after)

    def _free(self, job: _Job) -> _Job | None:
        """Give the job's slot, if it has one, to the first in line, which is returned. Called with the lock held."""
        if job not in self._jobs:
            return None
        del self._jobs[job]
        if not self._waiting:
            return None
        after = self._waiting.popleft()
        self._jobs[after] = None
        return after

    # --- threads

    def _hand_over(self, job: _Job) -> None:
        with self._lock:
            if self.closed:
                raise ClusterError(f"the step {job.name!r} cannot run: its node has stopped")
            if self._idle:
                thread, jobs = self._idle.pop()
                self._threads[thread] = job
                jobs.put(job)
                return
            self._made += 1
            number = self._made
        jobs = queue.SimpleQueue()
        jobs.put(job)
        thread = threading.Thread(target=self._work, args=(jobs,), name=f"{self._name}-{number}", daemon=True)
        with self._lock:
            self._threads[thread] = job
        try:
            thread.start()
        except BaseException:
            with self._lock:
                del self._threads[thread]
            raise

    def _work(self, jobs: queue.SimpleQueue[_Job | None]) -> None:
        thread = threading.current_thread()
        try:
            while self._work_once(jobs, thread):
                pass
        finally:
            with self._lock:
                self._threads.pop(thread, None)

    def _work_once(self, jobs: queue.SimpleQueue[_Job | None], thread: threading.Thread) -> bool:
        """Do one job; False if there is to be no other. A frame of its own: an idle thread must not keep a result alive."""
        job = jobs.get()
        if job is None:
            return False
        fn = job.fn
        assert fn is not None
        job.thread_name = thread.name
        job.ident = threading.get_ident()
        try:
            job.result = job.context.run(fn)
        except BaseException as error:
            job.error = error
        del fn
        job.fn = None
        if job.abandoned:
            job.result = job.error = None
        with self._lock:
            self._threads[thread] = None
            after = self._free(job)
            stays = not self.closed and len(self._idle) < self._max_idle
            if stays:
                self._idle.append((thread, jobs))  # before the task wakes, so that its next step finds this thread
        self._wake(job)
        if after is not None:
            self._wake(after)
        return stays

    # --- waking tasks. To wake a loop takes a system call and a turn of it: what is done until then goes along.

    def _wake(self, job: _Job) -> None:
        """Set `done` on the job's loop, from any thread. On a loop that is closed nothing waits."""
        with self._lock:
            woken = self._woken.get(job.loop)
            if woken is not None:
                woken.append(job)
                return
            self._woken[job.loop] = [job]
        try:
            job.loop.call_soon_threadsafe(self._wake_all, job.loop)
        except RuntimeError:
            with self._lock:
                del self._woken[job.loop]
            if not job.loop.is_closed():
                raise

    def _wake_all(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            woken = self._woken.pop(loop)
        for job in woken:
            if not job.done.done():
                job.done.set_result(None)


class InlineSteps(StepTasks):
    """The same interface, running each function at once on the caller's own thread: for simulations, where no thread may be."""

    async def run(self, fn: Callable[..., T], /, *args: Any, name: str, **kwargs: Any) -> T:
        """Run `fn(*args, **kwargs)` here, with a copy of the current context variables. Outcomes are as in StepThreads."""
        await anyio.lowlevel.checkpoint()
        if self.closed:
            raise ClusterError(f"the step {name!r} cannot run: its node has stopped")
        try:
            return contextvars.copy_context().run(fn, *args, **kwargs)
        except BaseException as error:
            translated = _for_the_loop(error, name)
            if translated is error:
                raise
            raise translated from error

    def stuck(self) -> tuple[str, ...]:
        """Return the asynchronous functions that have not ended: a caller is not running a synchronous one."""
        return self.stuck_tasks()

    def close(self) -> None:
        """Take no more work."""
        self.closed = True


def _for_the_loop(error: BaseException, name: str) -> BaseException:
    """Return the exception, or a RuntimeError in its place if it would end or confuse the awaiting task's loop."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    replacement = RuntimeError(f"the step {name!r} raised {text}")
    replacement.__cause__ = error
    return replacement
