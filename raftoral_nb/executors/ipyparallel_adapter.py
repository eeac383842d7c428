"""Engines of ipyparallel as a `StepAdapter`: the controller keeps tasks under labels, which are our keys.

One thread a node, which alone uses the client. A client is told only of tasks that it submitted itself; of those that another one did it asks
the controller again and again, as the library itself does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final, TypeVar, cast

import ipyparallel
from ipyparallel import error as errors_of_engines

from ..errors import ClusterError, UnknownExecutorError, WorkerDiedError
from ..threads.loop_thread import LoopThread
from ..workflow.codec.values import describe
from .calling import call
from .node_channel import NodeChannels
from .on_thread import on_thread
from .step_adapter import Keeps
from .step_work import Hear, Work

T = TypeVar("T")

logger = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 10.0
"""The time that a controller may take to answer."""

LOOK_SECONDS: Final = 0.5
"""The time between two looks at a task that another client submitted (seconds)."""

CLOSE_SECONDS: Final = 1.0
"""The time that letting go of a controller may take."""

_LABEL: Final = "raftoral-nb:"
"""How our labels begin."""


class _EngineTask:
    """One task that somebody waits for here."""

    def __init__(self) -> None:
        self.message = ""
        """The number under which the controller knows it."""
        self.outcome: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.looks: asyncio.Task[None] | None = None


class IpyparallelAdapter:
    """The tasks of one node on engines of ipyparallel. See `ipyparallel_factory.ipyparallel_executor`."""

    keeps: Keeps = "by label"

    def __init__(self, connection_file: str | None, options: dict[str, Any]) -> None:
        self._file = connection_file
        self._options = options
        self._ways = NodeChannels("ipyparallel")
        self._thread = LoopThread("ipyparallel")
        self._thread.start()
        # The rest belongs to that thread.
        self._client: Any = None
        self._view: Any = None
        self._tasks: dict[str, _EngineTask] = {}
        # Invariant: by key, the numbers of tasks that the controller had when it was asked for all.
        self._held: dict[str, str] = {}
        # Invariant: numbers of tasks that go on, and are forgotten when they have ended.
        self._given_up: set[str] = set()
        self._closed = False

    # --- see `StepAdapter`; on the node's loop

    async def place(self) -> str:
        """Connect, and return "": no controller knows for certain that a task was never begun, so none is asked to begin one again."""
        await self._there(self._connect)
        return ""

    async def submit(self, key: str, work: Work) -> None:
        """Submit a task, or find the one of that label."""
        await self._there(self._begin, key, self._ways.lead(key, work, socket=True).packed())

    async def outcome(self, key: str) -> bytes:
        """Return what came of a task. Raises `WorkerDiedError` if its engine died."""
        return await self._there(self._outcome, key)

    def progress(self, key: str, hear: Hear) -> None:
        """See `StepAdapter`. Heard is what runs on the node's machine, and was submitted here."""
        self._ways.listen(key, hear)

    def cancel(self, key: str) -> None:
        """Abort a task that has not begun. One that runs is not interrupted; what comes of it is dropped."""
        self._ways.forget(key)
        self._thread.post(self._cancel, key)

    def release(self, keys: Sequence[str]) -> None:
        """Have the controller forget tasks."""
        for key in keys:
            self._ways.forget(key)
        self._thread.post(self._release, tuple(keys))

    def held(self) -> Sequence[str]:
        """See `StepAdapter`."""
        return tuple(self._held)

    def close(self) -> None:
        """Let go of the controller, which keeps what it has."""
        self._ways.close()
        with contextlib.suppress(TimeoutError, ClusterError):
            self._thread.run(self._close, timeout=CLOSE_SECONDS)
        self._thread.stop(CLOSE_SECONDS)

    async def _there(self, fn: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Run `await fn(*args)` on the client's thread."""
        return await on_thread(self._thread, fn, *args)

    # --- on the client's thread

    async def _connect(self) -> None:
        """Connect, if there is no connection. Raises `UnknownExecutorError`."""
        if self._closed:
            raise ClusterError("no step can run on engines: its node has stopped")
        if self._client is not None:
            return
        client: Any = None
        try:
            client = ipyparallel.Client(self._file, timeout=CONNECT_SECONDS, **self._options)
            rows = client.db_query({"label": {"$ne": None}}, keys=["msg_id", "label"])
        except Exception as error:  # of many kinds: files, sockets, the controller's own
            if client is not None:
                client.close(linger=0)
            raise UnknownExecutorError(
                f"the ipyparallel controller {self._file or 'of the default profile'} cannot be used: {describe(error)}. It must run, and keep tasks in a "
                "database (its default, DictDB, does)"
            ) from error
        self._held = {
            row["label"].removeprefix(_LABEL): row["msg_id"] for row in rows if str(row["label"]).startswith(_LABEL)
        }
        self._client, self._view = client, client.load_balanced_view()

    async def _begin(self, key: str, packed: bytes) -> None:
        await self._connect()
        if key in self._tasks:
            return
        task = _EngineTask()
        rows = self._client.db_query({"label": _LABEL + key}, keys=["msg_id"])
        if rows:
            task.message = rows[-1]["msg_id"]
            task.looks = asyncio.get_running_loop().create_task(self._look(key, task))
        else:
            with self._view.temp_flags(label=_LABEL + key, block=False):
                asked: Any = self._view.apply_async(call, packed)
            (task.message,) = asked.msg_ids
            loop = asyncio.get_running_loop()

            def done(ended: Any) -> None:
                with contextlib.suppress(RuntimeError):  # the thread has ended
                    loop.call_soon_threadsafe(self._ended, key, task, ended)

            asked.add_done_callback(done)
        self._tasks[key] = task

    async def _look(self, key: str, task: _EngineTask) -> None:
        """Ask for a task of another client until it has ended."""
        try:
            while True:
                found = self._client.get_result(task.message, block=False)
                if found.ready():
                    self._ended(key, task, found)
                    return
                await asyncio.sleep(LOOK_SECONDS)
        except Exception as error:  # the controller forgot it
            if not task.outcome.done():
                task.outcome.set_exception(_failure(key, error))

    def _ended(self, key: str, task: _EngineTask, ended: Any) -> None:
        if task.message in self._given_up:
            self._given_up.discard(task.message)
            self._purge([task.message])
        if task.outcome.done():
            return
        try:
            data: bytes = ended.get(timeout=0)
        except Exception as error:
            task.outcome.set_exception(_failure(key, error))
            task.outcome.exception()  # nobody may ask for it
        else:
            task.outcome.set_result(data)

    async def _outcome(self, key: str) -> bytes:
        task = self._tasks.get(key)
        if task is None:
            raise WorkerDiedError(f"step {key!r} was cancelled on its engines")
        return await asyncio.shield(task.outcome)

    def _cancel(self, key: str) -> None:
        task = self._tasks.pop(key, None)
        if task is None or self._client is None:
            return
        if task.outcome.done():
            self._purge([task.message])
            return
        self._given_up.add(task.message)
        with contextlib.suppress(Exception):  # there may be no engines
            self._client.abort(task.message, block=False)

    def _release(self, keys: Sequence[str]) -> None:
        gone: list[str] = []
        for key in keys:
            task = self._tasks.pop(key, None)
            held = self._held.pop(key, None)
            if task is not None and task.looks is not None:
                task.looks.cancel()
            if task is not None:
                gone.append(task.message)
            elif held is not None:
                gone.append(held)
        self._purge(gone)

    def _purge(self, messages: Iterable[str]) -> None:
        for message in messages:
            try:
                self._client.purge_results(jobs=[message])
            except Exception as error:  # it is not there, or runs still
                logger.info("task %s was not purged: %s", message, describe(error))

    async def _close(self) -> None:
        self._closed = True
        for task in self._tasks.values():
            if task.looks is not None:
                task.looks.cancel()
        client, self._client = self._client, None
        if client is not None:
            client.close(linger=int(CLOSE_SECONDS * 500))


def _failure(key: str, error: BaseException) -> Exception:
    if isinstance(error, errors_of_engines.EngineError) or getattr(error, "ename", "") == "EngineError":
        return WorkerDiedError(
            f"the engine on which step {key!r} ran died: that attempt is lost, and may have done a part of its work. With retry=Retry(...) it is "
            "tried again"
        )
    if isinstance(error, errors_of_engines.TaskAborted | KeyError):
        return WorkerDiedError(f"step {key!r} was aborted, or forgotten by its controller ({describe(error)})")
    return UnknownExecutorError(
        f"ipyparallel could not run step {key!r}: {describe(cast('Exception', error))}. Its engines need this version of raftoral-nb, and the "
        "packages of the workflow"
    )
