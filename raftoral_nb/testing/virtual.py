"""Time and threads that are not real: one loop on a virtual clock stands where a cluster has its threads."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar, TypeVarTuple, Unpack, cast

from ..errors import BlockingCallError, ClusterError, StalledError
from ..limits import MAX_CANCEL_SECONDS
from ..threads.loop_thread import LoopThread, unstarted
from ..virtual_time.clock import VirtualClockLoop
from ..virtual_time.nested_loop import without_outer_loop

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

MAX_RESTLESS_SECONDS: Final = 600.0
"""Virtual seconds that consensus may run without coming to rest: then there is no majority."""

_owner: contextvars.ContextVar[VirtualThread | None] = contextvars.ContextVar("owner", default=None)


class _Loop(VirtualClockLoop):
    """Asks the world before its clock moves."""

    def __init__(self, world: VirtualTime) -> None:
        super().__init__(start=0.0)
        self._world = world

    def _find_work(self, due: float | None) -> bool:
        return self._world.about_to_wait(due)


class VirtualTime:
    """The virtual clock that everything of one test runs on, and its turning: time passes only while somebody waits here.

    Consensus has clocks of its own. They stand still while all is at rest, so that thirty days of sleep take not millions of
    heartbeats, but none. `at_rest` says whether consensus has nothing to do; `rest` and `wake` stop and start its clocks.
    """

    def __init__(self, at_rest: Callable[[], bool], rest: Callable[[], None], wake: Callable[[], None]) -> None:
        self.loop = _Loop(self)
        self.loop.set_task_factory(cast("Any", _owned_task))
        self.loop.set_exception_handler(self._unhandled)
        self._at_rest = at_rest
        self._rest = rest
        self._wake = wake
        self._resting = False
        self._restless_since = 0.0
        self._settling: asyncio.Future[None] | None = None
        self._tidying = False
        self._errors: list[BaseException] = []

    def wake(self) -> None:
        """Let consensus's clocks run: something was asked of it."""
        if self._resting:
            self._resting = False
            self._restless_since = self.loop.time()
            self._wake()

    def about_to_wait(self, due: float | None) -> bool:
        """Tell whether there is something else to do than to let the clock move to the next timer, at `due`."""
        if self._tidying:
            self.loop.stop()
            return True
        if not self._resting:
            if self._at_rest():
                self._resting = True
                self._rest()
                return True
            if due is not None and self.loop.time() - self._restless_since > MAX_RESTLESS_SECONDS:
                raise StalledError("no leader can be elected: a majority of the nodes must run, unpaused; restart some")
        elif self._settling is not None:
            self._settling.set_result(None)
            self._settling = None
            return True
        if due is None:
            raise StalledError("nothing is left to wait for: no step, no timer, no message")
        return False

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Let time pass until the coroutine has ended. Raises `StalledError` if that would be never."""
        if self.loop.is_running():
            coroutine.close()
            raise BlockingCallError(
                "a call that waits for the test's cluster was made by the test's own workflow or step: it would wait for itself"
            )
        if self.loop.is_closed():
            coroutine.close()
            raise ClusterError("the test's cluster has stopped")
        self.wake()
        self._restless_since = self.loop.time()
        task = contextvars.Context().run(self.loop.create_task, coroutine)
        with without_outer_loop():
            try:
                result = self.loop.run_until_complete(task)
            except BaseException:
                task.cancel()
                self._tidy_up()
                raise
        if self._errors:
            raise self._errors.pop()
        return result

    def _tidy_up(self) -> None:
        """Let what was cancelled end, without the clock moving."""
        self._tidying = True
        try:
            self.loop.run_forever()
        finally:
            self._tidying = False

    def settle(self) -> None:
        """Let everything happen that can without the clock of the workflows moving on."""

        async def settled() -> None:
            self._settling = self.loop.create_future()
            await self._settling

        try:
            self.run(settled())
        finally:
            self._settling = None

    def close(self) -> None:
        """End everything that still runs."""
        if self.loop.is_closed():
            return
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        for task in tasks:
            coroutine = task.get_coro()
            with contextlib.suppress(BaseException):
                if coroutine is not None:
                    coroutine.close()
            asyncio.tasks._unregister_task(task)
        self.loop.close()

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:  # noqa: ARG002
        error = context.get("exception")
        if isinstance(error, Exception):
            self._errors.append(error)


def _owned_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
    owner = _owner.get()
    if owner is not None:
        owner.own(task)
    return task


class VirtualThread(LoopThread):
    """Stands where a cluster has a thread with a loop of its own: everything it is given runs on the world's loop."""

    def __init__(self, name: str, world: VirtualTime, *, wakes: bool = False) -> None:
        super().__init__(name)
        self._world = world
        self._wakes = wakes
        self._state = "new"
        # A dict for its order: what is cancelled first must not depend on where objects lie in memory.
        self._tasks: dict[asyncio.Task[Any], None] = {}

    def start(self) -> None:
        """Do nothing: it has begun already."""
        self._state = "running"

    def stop(self, timeout: float) -> bool:  # noqa: ARG002 - as of a thread
        """Cancel what runs, and wait for it unless the loop itself asks."""
        self._state = "stopped"
        tasks = tuple(self._tasks)
        for task in tasks:
            if unstarted(task):
                # Cancelled before its first turn, it would never await what it wraps, and Python would complain of that.
                if not self._world.loop.is_closed():
                    self._world.loop.call_soon(task.cancel)
            else:
                task.cancel()
        if tasks and not self._world.loop.is_running() and not self._world.loop.is_closed():
            with contextlib.suppress(StalledError):
                self._world.run(_ended(tasks))
        return True

    def own(self, task: asyncio.Task[Any]) -> None:
        """Note that a task was made by what runs here."""
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    @property
    def thread_ident(self) -> int | None:
        """None: there is no thread."""
        return None

    @property
    def alive(self) -> bool:
        """True if it takes work."""
        return self._state == "running"

    def where(self) -> str | None:
        """Nowhere: who asks is not running user code."""
        return None

    def post(self, fn: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        """Call `fn(*args)` in the loop's next turn, in order."""
        if self._state != "running" or self._world.loop.is_closed():
            return
        if self._wakes:
            self._world.wake()
        context = contextvars.Context()
        context.run(_owner.set, self)
        self._world.loop.call_soon(self._called, fn, args, context=context)

    def _called(self, fn: Callable[..., object], args: tuple[object, ...]) -> None:
        if self._state == "running":
            fn(*args)

    def call(self, fn: Callable[[Unpack[Ts]], T], *args: *Ts, timeout: float | None = None) -> T:  # noqa: ARG002
        """Call `fn(*args)`: nothing else runs meanwhile, and no time passes."""
        if not self.alive:
            raise ClusterError(f"the thread {self.name!r} is not running")
        if self._wakes:
            self._world.wake()
        context = contextvars.Context()
        context.run(_owner.set, self)
        return context.run(fn, *args)

    def run(
        self, async_fn: Callable[[Unpack[Ts]], Coroutine[Any, Any, T]], *args: *Ts, timeout: float | None = None
    ) -> T:
        """Let time pass until `async_fn(*args)` has ended; at most `timeout` virtual seconds."""
        if not self.alive:
            raise ClusterError(f"the thread {self.name!r} is not running")

        async def body() -> T:
            async with asyncio.timeout(timeout):
                return await async_fn(*args)

        return self._world.run(body())


async def _ended(tasks: tuple[asyncio.Task[Any], ...]) -> None:
    await asyncio.wait(tasks, timeout=2 * MAX_CANCEL_SECONDS)
