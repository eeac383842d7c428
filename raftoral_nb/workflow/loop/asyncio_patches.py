"""What asyncio and anyio do differently from one node to the next, mended; and what only a step may do, refused.

Some of their code iterates over sets whose order is that of addresses, or begins something that no event loop is asked for. Each
mend acts only while a workflow's loop is the running one, and leaves all other loops of the process as they are. A name that was
imported (`from asyncio import as_completed`) before `install` is not mended: the look at code before it runs tells of it.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
import functools
import inspect
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any, Final

import anyio._backends._asyncio as anyio_backend

from .run_loop import RunLoop

_get_running_loop: Final = asyncio._get_running_loop

REFUSED_EVENTS: Final = {
    "_thread.start_new_thread": "starting a thread",
    "_thread.start_joinable_thread": "starting a thread",
    "os.exec": "os.exec...()",
    "os.fork": "os.fork()",
    "os.forkpty": "os.forkpty()",
    "os.posix_spawn": "os.posix_spawn()",
    "os.spawn": "os.spawn...()",
    "os.system": "os.system()",
    "socket.bind": "socket.bind()",
    "socket.connect": "socket.connect()",
    "socket.getaddrinfo": "socket.getaddrinfo()",
    "socket.gethostbyaddr": "socket.gethostbyaddr()",
    "socket.gethostbyname": "socket.gethostbyname()",
    "socket.getnameinfo": "socket.getnameinfo()",
    "socket.sendmsg": "socket.sendmsg()",
    "socket.sendto": "socket.sendto()",
    "subprocess.Popen": "subprocess",
    "time.sleep": "time.sleep()",
}
"""Audit events that the code of a workflow may not raise, and what it did. Before Python 3.12 threads raise none, and before 3.13 `time.sleep`."""

_IMPORTING: Final = "<frozen importlib._bootstrap>"


class _ScopesInOrder(dict[Any, None]):
    """The scopes in an anyio scope, in the order in which they were entered, in place of a set by address."""

    def add(self, scope: object) -> None:
        """Add a scope."""
        self[scope] = None

    def discard(self, scope: object) -> None:
        """Remove a scope, if it is there."""
        self.pop(scope, None)

    def remove(self, scope: object) -> None:
        """Remove a scope. Raises `KeyError` if it is not there."""
        del self[scope]


def refuse_in_workflow(what: str) -> None:
    """Raise `NotInWorkflowError` if it is the code of a workflow that runs here, and it is not importing a module."""
    loop = _get_running_loop()
    if isinstance(loop, RunLoop) and loop.in_callback and not _is_importing():
        raise loop.refusal(what)


def _is_importing() -> bool:
    """Return whether code of the workflow is importing a module: what that does, it does once in a process."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code not in RunLoop.DRIVER:
        if frame.f_code.co_filename == _IMPORTING:
            return True
        frame = frame.f_back
    return False


def _in_workflow() -> RunLoop | None:
    loop = _get_running_loop()
    return loop if isinstance(loop, RunLoop) else None


def _refusing(original: Callable[..., Any], what: str) -> Callable[..., Any]:
    """Return the function, refused in a workflow."""

    @functools.wraps(original)
    def refusing(*args: Any, **options: Any) -> Any:
        refuse_in_workflow(what)
        return original(*args, **options)

    if sys.version_info >= (3, 12) and inspect.iscoroutinefunction(original):
        inspect.markcoroutinefunction(refusing)
    return refusing


def _mended_as_completed(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return `asyncio.as_completed` that makes its tasks in the order in which they were given."""

    def lazily(fs: Iterable[Any], timeout: float | None) -> Iterator[Any]:
        yield from original(_tasks_in_order(fs), timeout=timeout)

    @functools.wraps(original)
    def as_completed(fs: Any, *, timeout: float | None = None) -> Any:
        if _in_workflow() is None or asyncio.isfuture(fs) or asyncio.iscoroutine(fs):
            return original(fs, timeout=timeout)
        if sys.version_info >= (3, 13):
            return original(_tasks_in_order(fs), timeout=timeout)
        return lazily(fs, timeout)  # a generator, which makes its tasks when it is first asked

    return as_completed


def _tasks_in_order(fs: Iterable[Any]) -> list[asyncio.Future[Any]]:
    return [asyncio.ensure_future(one) for one in dict.fromkeys(fs)]


def _mended_all_tasks(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return `asyncio.all_tasks` that, for a workflow's loop, adds the tasks to its set in their order."""

    @functools.wraps(original)
    def all_tasks(loop: asyncio.AbstractEventLoop | None = None) -> Any:
        asked = _get_running_loop() if loop is None else loop
        return set(asked.tasks()) if isinstance(asked, RunLoop) else original(loop)

    return all_tasks


def _mended_wait_for(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return `asyncio.wait_for` of Python 3.12 and later, for workflows on 3.11.

    That of 3.11 makes a task, so paths of branches would differ, and drops a cancellation that comes in the turn of the result.
    """

    @functools.wraps(original)
    async def wait_for(fut: Any, timeout: float | None) -> Any:
        if _in_workflow() is None:
            return await original(fut, timeout)
        if timeout is not None and timeout <= 0:
            # What is done is done; anything else has no time.
            fut = asyncio.ensure_future(fut)
            if not fut.done():
                fut.cancel()
                await asyncio.wait([fut])
            try:
                return fut.result()
            except asyncio.CancelledError as error:
                raise TimeoutError from error
        async with asyncio.timeout(timeout):
            return await fut

    return wait_for


def _mended_gathering_future(original: Any) -> Any:
    """Return the future of `asyncio.gather`, with an ordinal as hash if a workflow made it."""

    class GatheringFuture(original):  # type: ignore[misc]
        def __init__(self, children: Any, *, loop: asyncio.AbstractEventLoop) -> None:
            self._n = loop.next_ordinal() if isinstance(loop, RunLoop) else None
            super().__init__(children, loop=loop)

        def __hash__(self) -> int:
            return super().__hash__() if self._n is None else self._n

    # Its name is in its repr.
    GatheringFuture.__name__ = original.__name__
    GatheringFuture.__qualname__ = original.__qualname__
    GatheringFuture.__module__ = original.__module__
    return GatheringFuture


def _mended_scope_init(original: Callable[..., None]) -> Callable[..., None]:
    """Return `CancelScope.__init__` with its inner scopes in order."""

    @functools.wraps(original)
    def init(self: Any, *args: Any, **options: Any) -> None:
        original(self, *args, **options)
        if _in_workflow() is not None:
            self._child_scopes = _ScopesInOrder()

    return init


def _audit_hook() -> Callable[[str, Any], None]:
    """Return the audit hook. It is called for every audited event of the process, so it looks at the name and goes."""
    events, refuse = (
        dict(REFUSED_EVENTS),
        refuse_in_workflow,
    )  # in the closure: a module's names are gone before the hook is

    def hook(event: str, _args: Any) -> None:
        if event in events:
            refuse(events[event])

    return hook


_installed = False


def install() -> None:
    """Install the mends and refusals in this process; once, however often it is called. They are never taken back.

    For code that no workflow's loop runs, all is as before, but that each audited event takes a tenth of a microsecond longer.
    """
    global _installed
    if _installed:
        return
    _installed = True
    tasks: Any = asyncio.tasks
    everywhere: Any = asyncio
    tasks.as_completed = everywhere.as_completed = _mended_as_completed(tasks.as_completed)
    mended_all_tasks = _mended_all_tasks(tasks.all_tasks)
    tasks.all_tasks = everywhere.all_tasks = mended_all_tasks
    backend_module: Any = anyio_backend
    backend_module.all_tasks = mended_all_tasks
    tasks._GatheringFuture = _mended_gathering_future(tasks._GatheringFuture)
    if sys.version_info < (3, 12):
        tasks.wait_for = everywhere.wait_for = _mended_wait_for(tasks.wait_for)
    scope: Any = anyio_backend.CancelScope
    scope.__init__ = _mended_scope_init(scope.__init__)
    backend: Any = anyio_backend.AsyncIOBackend
    backend.run_sync_in_worker_thread = classmethod(
        _refusing(backend.run_sync_in_worker_thread.__func__, "anyio.to_thread.run_sync()")
    )
    everywhere.to_thread = asyncio.threads.to_thread = _refusing(asyncio.to_thread, "asyncio.to_thread()")
    pool: Any = ThreadPoolExecutor
    # A thread that is there already starts none.
    pool.submit = _refusing(pool.submit, "ThreadPoolExecutor.submit()")
    if sys.version_info < (3, 12):
        thread: Any = threading.Thread
        thread.start = _refusing(thread.start, "starting a thread")
    sys.addaudithook(_audit_hook())
