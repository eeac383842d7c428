"""Threads of the engine: one that runs an asyncio loop, and (from `step_threads`) a pool for synchronous steps.

All of them are daemons: user code that never returns must not keep the interpreter from exiting. Nothing here holds a lock
while it waits or while it calls code of others, so an interrupt in the main thread (Ctrl-C, the notebook's stop button)
leaves no lock behind that another thread would wait for.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, TypeVar, TypeVarTuple, Unpack

from ..errors import BlockingCallError, ClusterError
from ..limits import MAX_CANCEL_SECONDS
from .step_tasks import StepTask
from .step_threads import InlineSteps, Steps, StepThreads
from .user_code import where_is

__all__ = [
    "InlineSteps",
    "LoopThread",
    "StepThreads",
    "Steps",
    "do_all",
    "mark_own_thread",
    "on_own_thread",
    "refuse_on_own_thread",
    "where_is",
]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

MIN_CANCEL_SECONDS: Final = 0.05
"""The least time that a cancelled task gets before it is cancelled again."""

# --- whose thread is this


_forks = 0
"""The forks between the first process and this one: a thread belongs to the process that started it. The process's id, which tells
the same, takes a system call."""


def _count_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


class _Own(threading.local):
    """The mark of the engine's own threads. A thread-local, because idents are used again after a thread has ended."""

    forks: int | None = None


_own = _Own()


def mark_own_thread() -> None:
    """Say that the calling thread is one of the cluster's own: blocking calls are refused on it until it ends."""
    _own.forks = _forks


def on_own_thread() -> bool:
    """Return whether the calling thread is one of the cluster's own (a forked child has none of them)."""
    return _own.forks == _forks


def refuse_on_own_thread(what: str) -> None:
    """Raise BlockingCallError when called on one of the cluster's own threads; `what` names the call."""
    if on_own_thread():
        name = threading.current_thread().name
        raise BlockingCallError(
            f"{what} waits for the cluster, and would do so on {name!r}, one of the cluster's own threads, which would then "
            "wait for itself; await the asynchronous form there, or call it from another thread"
        )


# --- cleaning up


def do_all(*stages: Callable[[], object]) -> None:
    """Call each of them in order, whatever the ones before raise (an interrupt in the main thread, say); then raise that.

    Of several exceptions the last is raised, in the context of the others. Each call must be able to follow one that
    was half done.
    """
    with contextlib.ExitStack() as left:
        for stage in reversed(stages):
            left.callback(stage)


# --- a thread with a loop


class _Call(Generic[T]):
    """One blocking call: the lock is released once, when the outcome is there.

    A bare lock, not a Future: an interrupt inside a Future's own lock would leave it locked for the loop's thread.
    """

    __slots__ = ("abandoned", "error", "ready", "result", "task", "told")

    def __init__(self, told: Callable[[_Call[T]], None] | None = None) -> None:
        self.told = told
        """Called in place of a caller who waits."""
        self.ready = threading.Lock()
        self.ready.acquire()
        self.result: T
        self.error: BaseException | None = None
        self.task: asyncio.Task[None] | None = None
        self.abandoned = False


class LoopThread:
    """A daemon thread that runs an asyncio event loop, on which anyio's asyncio backend works too.

    Callbacks and tasks that it is given start in an empty context: nothing of the caller's context variables reaches them.
    What user code starts through `asyncio.to_thread` runs on threads of Python's own, which are not daemons.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._forks = _forks
        self._calls: set[_Call[Any]] = set()
        # Invariant: what was posted and not called yet, in order; if there is any, the loop was told (`_told`), or is about to be.
        self._posted: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._told = False
        self._halt: asyncio.Future[None] | None = None
        self._stopping = False
        self._ended = False
        self._end = threading.Lock()  # held until the thread has ended
        self._deadline = 0.0

    # --- life

    def start(self) -> None:
        """Start the thread. Raises ClusterError if it was started or stopped before."""
        if self._thread is not None or self._stopping:
            raise ClusterError(f"the thread {self.name!r} was started before; make a new one")
        self._forks = _forks
        loop = asyncio.new_event_loop()
        self._end.acquire()
        self._loop = loop
        self._halt = loop.create_future()
        self._thread = threading.Thread(target=self._main, args=(loop, self._halt), name=self.name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._thread = None
            self._stopping = True
            loop.close()
            raise

    def stop(self, timeout: float) -> bool:
        """Cancel what runs, close the loop and end the thread; True once it has ended, within `timeout` seconds.

        False means that user code keeps the thread busy: it ends by itself as soon as that code returns, and `where` tells
        where it is. Tasks that refuse to be cancelled for `MAX_CANCEL_SECONDS` are dropped. May be called again, from any thread but the cluster's own
        (BlockingCallError).
        """
        refuse_on_own_thread("stop()")
        until = time.monotonic() + timeout
        if not self._stopping:
            self._deadline = until
            self._stopping = True
        thread, loop, halt = self._thread, self._loop, self._halt
        if thread is None or loop is None or halt is None or self._forks != _forks:
            return True  # never started, or left behind in the process that forked this one
        if thread.ident is None:  # an interrupt hit start()
            loop.close()
            return True
        self.post(_finish, halt)
        if not self._ended and self._end.acquire(timeout=_bounded(timeout)):
            self._end.release()
        if not self._ended:
            self._fail_calls()
            return False
        thread.join(_bounded(until - time.monotonic()))  # only its last few instructions are left
        return True

    @property
    def thread_ident(self) -> int | None:
        """The thread's ident, None before the start."""
        return self._thread.ident if self._thread is not None else None

    @property
    def alive(self) -> bool:
        """True if the thread takes work: started, not told to stop, not ended."""
        return self._thread is not None and not self._stopping and not self._ended and self._forks == _forks

    def where(self) -> str | None:
        """Return where user code on this thread is now ("file:line in function"); None if it runs none."""
        return None if self._ended else where_is(self.thread_ident)

    # --- work

    def post(self, fn: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        """Have the loop call `fn(*args)` soon, in order; from any thread. Silently does nothing before start and after stop."""
        self._post(fn, *args)

    def call(self, fn: Callable[[Unpack[Ts]], T], *args: *Ts, timeout: float | None = None) -> T:
        """Run `fn(*args)` on the loop and return its result, or raise what it raised.

        Raises TimeoutError after `timeout` seconds, ClusterError if the thread is not running or stops meanwhile, and
        BlockingCallError on one of the cluster's own threads. After a timeout or an interrupt `fn` is not called any more
        unless it already was; its result is dropped.
        """
        call = _Call[T]()

        def begin() -> None:
            if call.abandoned:
                return
            try:
                call.result = fn(*args)
            except BaseException as error:
                call.error = error
            self._done(call)

        return self._wait(call, begin, _name(fn), timeout)

    def run(
        self, async_fn: Callable[[Unpack[Ts]], Coroutine[Any, Any, T]], *args: *Ts, timeout: float | None = None
    ) -> T:
        """Run `await async_fn(*args)` in a task on the loop and return its result, or raise what it raised.

        As `call`; on a timeout or an interrupt the task is cancelled, and the caller does not wait until it has ended.
        """
        call = _Call[T]()
        return self._wait(call, self._in_task(call, async_fn, args), _name(async_fn), timeout)

    def begin(
        self,
        async_fn: Callable[[Unpack[Ts]], Coroutine[Any, Any, T]],
        *args: *Ts,
        done: Callable[[T | None, BaseException | None], None],
    ) -> None:
        """Run `await async_fn(*args)` in a task on the loop, and return at once.

        `done(result, None)` or `done(None, error)` is called once, on the loop or on the thread that stops it; it must neither wait nor
        raise. Raises ClusterError, and calls nothing, if the thread is not running.
        """

        def told(call: _Call[T]) -> None:
            done(None if call.error is not None else call.result, call.error)

        call = _Call[T](told)
        self._start(call, self._in_task(call, async_fn, args), _name(async_fn))

    def _in_task(
        self, call: _Call[T], async_fn: Callable[[Unpack[Ts]], Coroutine[Any, Any, T]], args: tuple[*Ts]
    ) -> Callable[[], None]:
        async def body() -> None:
            try:
                call.result = await async_fn(*args)
            except asyncio.CancelledError as error:
                call.error = self._stopped_error() if self._stopping else error
            except BaseException as error:
                call.error = error
            self._done(call)

        def begin() -> None:
            if not call.abandoned:
                call.task = asyncio.get_running_loop().create_task(body(), name=_name(async_fn))

        return begin

    def _post(self, fn: Callable[[Unpack[Ts]], object], *args: *Ts) -> bool:
        loop = self._loop
        if loop is None or self._forks != _forks:
            return False
        try:
            # To wake a loop takes a system call and a turn of it: what is posted until it has come to that goes along.
            self._posted.append((fn, args))
            if not self._told:
                self._told = True
                self._tell(loop)
        except RuntimeError:
            if not loop.is_closed():
                raise
            self._forget_posted()
            return False
        except KeyboardInterrupt:  # perhaps between queueing and waking the loop
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._run_posted)
            raise
        return True

    def _forget_posted(self) -> None:
        """Let go of what nobody takes any more: the loop is closed."""
        self._told = False  # whoever posts next finds out, too
        self._posted.clear()

    def _tell(self, loop: asyncio.AbstractEventLoop) -> None:
        if threading.get_ident() == self.thread_ident:
            loop.call_soon(self._run_posted, context=contextvars.Context())
        else:
            loop.call_soon_threadsafe(self._run_posted, context=contextvars.Context())

    def _wait(self, call: _Call[T], begin: Callable[[], None], what: str, timeout: float | None) -> T:
        refuse_on_own_thread(f"{what}()")
        finished = False
        try:
            self._start(call, begin, what)
            finished = call.ready.acquire(timeout=-1 if timeout is None else _bounded(timeout))
        finally:
            if not finished:
                call.abandoned = True
                self._calls.discard(call)
                self._post(_cancel, call)
        if not finished:
            raise TimeoutError(f"{what}() was not done within {timeout} s on the thread {self.name!r}")
        if call.error is not None:
            try:
                raise call.error
            finally:
                del call  # or the exception would hold itself through this frame
        return call.result

    def _start(self, call: _Call[Any], begin: Callable[[], None], what: str) -> None:
        if not self.alive:
            raise ClusterError(f"{what}() cannot be done: the thread {self.name!r} is not running")
        self._calls.add(call)
        if not self._post(begin):
            self._calls.discard(call)
            raise ClusterError(f"{what}() cannot be done: the thread {self.name!r} has ended")
        if self._stopping:  # the thread that stops it may already have failed the calls it knew of
            self._fail_calls()

    def _done(self, call: _Call[Any]) -> None:
        try:
            self._calls.remove(call)  # one atomic operation: whoever removes it, releases it
        except KeyError:
            return
        call.ready.release()
        if call.told is not None:
            call.told(call)

    def _fail_calls(self) -> None:
        for call in tuple(self._calls):
            if call.error is None:
                call.error = self._stopped_error()
            self._done(call)

    def _stopped_error(self) -> ClusterError:
        return ClusterError(f"the thread {self.name!r} was stopped before the call was done")

    # --- on the thread

    def _run_posted(self) -> None:
        """Make the calls that were posted until now, in order, each in a context of its own."""
        loop, posted = self._loop, self._posted
        assert loop is not None
        # Before anything is taken: what is posted from now on tells the loop again.
        self._told = False
        for _ in range(len(posted)):
            fn, args = posted.popleft()
            try:
                contextvars.Context().run(fn, *args)
            except (SystemExit, KeyboardInterrupt):
                if posted and not self._told:
                    self._told = True
                    self._tell(loop)
                raise
            except BaseException as error:
                loop.call_exception_handler(
                    {"message": f"Exception in {_name(fn)}(), which was posted", "exception": error}
                )

    def _main(self, loop: asyncio.AbstractEventLoop, halt: asyncio.Future[None]) -> None:
        mark_own_thread()
        try:
            root = loop.create_task(self._root(halt), name=self.name)
            while not root.done():
                try:
                    loop.run_until_complete(root)
                except (
                    SystemExit,
                    KeyboardInterrupt,
                ):  # raised by a task, which keeps it as its outcome; the loop continues
                    continue
        finally:
            try:
                loop.close()
            finally:
                self._forget_posted()
                self._fail_calls()
                self._ended = True
                self._end.release()

    async def _root(self, halt: asyncio.Future[None]) -> None:
        """Run until told to stop, then cancel every other task, again and again if need be, for a while.

        Not the functions of steps: whoever waits for one cancels it, once.
        """
        await halt
        own = asyncio.current_task()
        deadline = max(self._deadline, time.monotonic() + 2 * MIN_CANCEL_SECONDS) - MIN_CANCEL_SECONDS
        patience = min(deadline, time.monotonic() + MAX_CANCEL_SECONDS + MIN_CANCEL_SECONDS)
        while tasks := [task for task in asyncio.all_tasks() if task is not own and not _is_abandoned(task)]:
            left = patience - time.monotonic()
            if left <= 0:
                break
            if any(map(unstarted, tasks)):
                # Cancelled before its first step, a task would never await what it wraps, and Python would complain of that.
                await asyncio.sleep(0)
                continue
            for task in tasks:
                if not isinstance(task, StepTask):
                    task.cancel()
            await asyncio.wait(tasks, timeout=max(MIN_CANCEL_SECONDS, left / 4))
        for task in asyncio.all_tasks() - {own}:
            if isinstance(task, StepTask):
                task.leave()
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coroutine = task.get_coro()
            # Unwound here and quietly: later, the garbage collector would do it, and complain of what that raises.
            with contextlib.suppress(BaseException):
                if coroutine is not None:
                    coroutine.close()
            # It will never be done: whoever lists the tasks of the process must not find it for as long as somebody holds it.
            asyncio.tasks._unregister_task(task)
        with contextlib.suppress(TimeoutError):
            left = max(MIN_CANCEL_SECONDS, deadline - time.monotonic())
            await asyncio.wait_for(asyncio.get_running_loop().shutdown_asyncgens(), left)


def _bounded(timeout: float) -> float:
    return min(max(timeout, 0.0), threading.TIMEOUT_MAX)


def _name(fn: Callable[..., object]) -> str:
    return getattr(fn, "__name__", None) or type(fn).__name__


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _is_abandoned(task: asyncio.Task[Any]) -> bool:
    return isinstance(task, StepTask) and task.abandoned


def unstarted(task: asyncio.Task[Any]) -> bool:
    """Return whether a task has not had its first turn yet."""
    coro = task.get_coro()
    return inspect.iscoroutine(coro) and inspect.getcoroutinestate(coro) == inspect.CORO_CREATED


def _cancel(call: _Call[Any]) -> None:
    if call.task is not None:
        call.task.cancel()
