"""Runners of steps' functions: a pool of daemon threads for synchronous ones, which may be abandoned but not interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import decimal
import queue
import threading
import time
from collections import OrderedDict
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
        """Set when the function has returned, or is refused."""
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


class _Worker:
    """One thread of a pool."""

    __slots__ = ("busy", "comes", "signal", "thread")

    def __init__(self, name: str, work: Callable[[_Worker], None]) -> None:
        self.thread = threading.Thread(target=work, args=(self,), name=name, daemon=True)
        self.signal: queue.SimpleQueue[None] = queue.SimpleQueue()
        """Something is put into it to have the thread look for work again, or for the end."""
        self.busy = False
        self.comes = True
        """Whether it was started or woken for the first in line, and has not come yet."""


class StepThreads(StepTasks):
    """A pool of daemon threads for synchronous step functions: at most `limit` at once, at most `idle` kept for later.

    Asynchronous ones run on the loop, in tasks of their own.

    Functions stand in line, and each thread takes the first, again and again. One thread at a time is on its way for the line; before
    it begins with what it took, it has another one come if more are waiting. So none waits behind one that takes long, and many
    that are short are done by few threads: to wake one costs more than they do.

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
        # Invariant: those whose functions run, abandoned ones included; at most `limit`, one for each busy thread.
        self._jobs: dict[_Job, None] = {}
        self._waiting: OrderedDict[_Job, None] = OrderedDict()
        # Invariant: threads that have not ended; at most `limit`.
        self._workers: dict[_Worker, None] = {}
        # Invariant: those of them that wait for their signal, and were not told to come; at most `idle`.
        self._idle: list[_Worker] = []
        # Invariant: whether one of them comes.
        self._one_comes = False
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
        self._put(job)
        try:
            await job.done
        except BaseException:
            self._leave(job)
            raise
        if job.refused:
            raise _stopped(name)
        if job.error is not None:
            try:
                raise for_the_loop(job.error, name)
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
            waiting, self._waiting = self._waiting, OrderedDict()
            ending = [worker.thread for worker in self._workers if not worker.busy]
        for job in waiting:
            job.refused = True
            self._wake(job)
        for worker in idle:
            worker.signal.put(None)
        until = time.monotonic() + MAX_CLOSE_SECONDS
        for thread in ending:
            if thread is not threading.current_thread() and thread.is_alive():
                thread.join(max(0.0, until - time.monotonic()))

    # --- the line

    def _put(self, job: _Job) -> None:
        with self._lock:
            if self.closed:
                raise _stopped(job.name)
            self._waiting[job] = None
            worker = self._one_more()
        try:
            self._bring(worker)
        except BaseException:
            self._leave(job)
            raise

    def _leave(self, job: _Job) -> None:
        """Note that nobody waits for a job any more."""
        with self._lock:
            job.abandoned = True
            self._waiting.pop(job, None)

    # --- threads

    def _one_more(self) -> _Worker | None:
        """Return a thread that is to come for the first in line; None if none has to, or none may. Called with the lock held."""
        if self._one_comes or not self._waiting:
            return None
        if self._idle:
            worker = self._idle.pop()
            worker.comes = True
        elif len(self._workers) < self._limit:
            self._made += 1
            worker = _Worker(f"{self._name}-{self._made}", self._work)
            self._workers[worker] = None
        else:
            return None
        self._one_comes = True
        return worker

    def _bring(self, worker: _Worker | None) -> None:
        """Start or wake a thread. Raises what starting it raises."""
        if worker is None:
            return
        if worker.thread.ident is not None:
            worker.signal.put(None)
            return
        try:
            worker.thread.start()
        except BaseException:
            with self._lock:
                del self._workers[worker]
                self._one_comes = False
            raise

    def _work(self, worker: _Worker) -> None:
        try:
            while self._serve(worker):
                worker.signal.get()
        finally:
            with self._lock:
                self._workers.pop(worker, None)

    def _serve(self, worker: _Worker) -> bool:
        """Do what is in line. True if the thread is idle then, False if it is to end. A frame of its own, so that an idle thread keeps no result."""
        done: _Job | None = None
        while True:
            another: _Worker | None = None
            with self._lock:
                if worker.comes:
                    worker.comes = self._one_comes = False
                if done is not None:
                    del self._jobs[done]
                job = self._waiting.popitem(last=False)[0] if self._waiting else None
                worker.busy = job is not None
                stays = job is None and not self.closed and len(self._idle) < self._max_idle
                if stays:
                    self._idle.append(worker)  # before the task wakes, so that its next step finds this thread
                elif job is not None:
                    self._jobs[job] = None
                    another = self._one_more()
            if done is not None:
                self._wake(done)
                done = None
            if job is None:
                return stays
            with contextlib.suppress(
                RuntimeError
            ):  # no thread is to be had: whoever waits is served by one of those there are
                self._bring(another)
            _do(job, worker.thread.name)
            done = job

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


def _do(job: _Job, thread_name: str) -> None:
    fn = job.fn
    assert fn is not None
    job.thread_name = thread_name
    job.ident = threading.get_ident()
    try:
        job.result = job.context.run(fn)
    except BaseException as error:
        job.error = error
    del fn
    job.fn = None
    if job.abandoned:
        job.result = job.error = None


class InlineSteps(StepTasks):
    """The same interface, running each function at once on the caller's own thread: for simulations, where no thread may be."""

    async def run(self, fn: Callable[..., T], /, *args: Any, name: str, **kwargs: Any) -> T:
        """Run `fn(*args, **kwargs)` here, with a copy of the current context variables. Outcomes are as in StepThreads."""
        await anyio.lowlevel.checkpoint()
        if self.closed:
            raise _stopped(name)
        try:
            return contextvars.copy_context().run(fn, *args, **kwargs)
        except BaseException as error:
            translated = for_the_loop(error, name)
            if translated is error:
                raise
            raise translated from error

    def stuck(self) -> tuple[str, ...]:
        """Return the asynchronous functions that have not ended: a caller is not running a synchronous one."""
        return self.stuck_tasks()

    def close(self) -> None:
        """Take no more work."""
        self.closed = True


def _stopped(name: str) -> ClusterError:
    return ClusterError(f"the step {name!r} cannot run: its node has stopped")


def for_the_loop(error: BaseException, name: str) -> BaseException:
    """Return the exception, or a RuntimeError in its place if it would end or confuse the awaiting task's loop."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    replacement = RuntimeError(f"the step {name!r} raised {text}")
    replacement.__cause__ = error
    return replacement
