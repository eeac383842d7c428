"""Dask as a `StepAdapter`: tasks are kept by its scheduler (`dask_plugin`), and found again by their keys.

One thread a node, with an asynchronous client on it. A task is submitted as often as it takes: to a scheduler that has it that is
no more than attaching.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import dask
from distributed import Client, wait
from distributed.scheduler import KilledWorker

from ..errors import ClusterError, UnknownExecutorError, WorkerDiedError
from ..threads.loop_thread import LoopThread
from ..workflow.codec.values import describe
from ..workflow.execution.elsewhere import RanElsewhere
from .dask_plugin import HOLD, TOPIC, KeepingPlugin
from .dask_task import run_on_dask
from .on_thread import on_thread
from .step_adapter import Keeps
from .step_work import (
    CheckpointAnswer,
    Hear,
    Said,
    Work,
    WorkAnswer,
    decoded_checkpoint,
    encoded_answer,
    encoded_checkpoint_answer,
)

T = TypeVar("T")

logger = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 10.0
"""The time that a scheduler may take to answer."""

AGAIN_SECONDS: Final = 1.0
"""The time between two attempts to reach a scheduler that was lost (seconds)."""

RELEASE_SECONDS: Final = 0.05
"""The time for which keys to be released are gathered: a request takes longer than most steps' records."""

CLOSE_SECONDS: Final = 1.0
"""The time that letting go of a scheduler may take."""

_LOST: Final = ("cancelled", "lost")

_dask: Final[Any] = dask
_Client: Final[Any] = Client
_wait: Final[Any] = wait


class _DaskTask:
    """One task that somebody waits for here."""

    def __init__(self, key: str, work: Work) -> None:
        self.key = key
        self.once = work.head.once
        self.packed = work.packed()
        self.place = work.head.place
        """The scheduler where it may have begun; "" if it has not anywhere."""
        self.latest = b""
        """What its function saved last, as far as it was passed on here."""
        self.fetching = False
        self.fetch_again = False
        self.submitted = False
        self.runs: asyncio.Task[bytes] | None = None


class _Connection:
    """A client of one scheduler, with which it ends."""

    def __init__(
        self, client: Any, place: str, held: Sequence[str], said: dict[str, Said], saved: Sequence[str]
    ) -> None:
        self.client = client
        self.place = place
        self._comm = client.scheduler_comm
        self.held = tuple(held)
        self.said = said
        """The latest progress of tasks, as they told it before there was this connection."""
        self.saved = set(saved)
        """Tasks that had saved something by then, until that is fetched."""

    @property
    def holds(self) -> bool:
        """Whether it is the connection that it was: a client connects again by itself, perhaps to another scheduler."""
        return self.client.status == "running" and self.client.scheduler_comm is self._comm


class DaskAdapter:
    """The tasks of one node on a Dask cluster. See `dask_factory.dask_executor`."""

    keeps: Keeps = "running and done"

    def __init__(self, address: str, options: dict[str, Any]) -> None:
        self._address = address
        self._options = options
        self._thread = LoopThread(f"dask-{address}")
        self._thread.start()
        # The rest belongs to that thread.
        self._tasks: dict[str, _DaskTask] = {}
        self._hears: dict[str, Hear] = {}
        self._connecting: asyncio.Task[_Connection] | None = None
        self._connection: _Connection | None = None
        self._to_release: list[str] = []
        self._asking: set[asyncio.Task[None]] = set()
        # Invariant: tasks of which something was heard since the connection is made that there is not yet.
        self._heard_since: set[str] = set()
        self._closed = False

    # --- see `StepAdapter`; on the node's loop

    async def place(self) -> str:
        """Connect to the scheduler, and return which one it is. Raises `UnknownExecutorError`."""
        return (await self._there(self._connected)).place

    async def submit(self, key: str, work: Work) -> None:
        """Submit a task, which is no more than attaching to one that there is."""
        task = _DaskTask(key, work)
        del work
        await self._there(self._begin, task)

    async def outcome(self, key: str) -> bytes:
        """Return what came of a task. Raises `WorkerDiedError` if its workers died too often."""
        return await self._there(self._outcome, key)

    def progress(self, key: str, hear: Hear) -> None:
        """See `StepAdapter`."""
        self._thread.post(self._listen, key, hear)

    def cancel(self, key: str) -> None:
        """Have the scheduler forget a task. One that runs is not interrupted; what comes of it is dropped."""
        self._thread.post(self._cancel, key)

    def release(self, keys: Sequence[str]) -> None:
        """Have the scheduler forget tasks, soon."""
        self._thread.post(self._release, tuple(keys))

    def held(self) -> Sequence[str]:
        """See `StepAdapter`."""
        connection = self._connection
        return () if connection is None else connection.held

    def close(self) -> None:
        """Let go of the scheduler, which keeps what it has."""
        with contextlib.suppress(TimeoutError, ClusterError):
            self._thread.run(self._close, timeout=CLOSE_SECONDS)
        self._thread.stop(CLOSE_SECONDS)

    async def _there(self, fn: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Run `await fn(*args)` on the client's thread."""
        return await on_thread(self._thread, fn, *args)

    # --- on the client's thread

    async def _connected(self) -> _Connection:
        """Return the connection there is, or a new one. Raises `UnknownExecutorError`."""
        if self._connection is not None and self._connection.holds:
            return self._connection
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
            self._connecting.add_done_callback(self._connect_ended)
        return await asyncio.shield(self._connecting)

    def _connect_ended(self, task: asyncio.Task[_Connection]) -> None:
        self._connecting = None
        _looked_at(task)

    async def _connect(self) -> _Connection:
        before, self._connection = self._connection, None
        self._heard_since.clear()
        if before is not None:
            await _closed(before.client)
        client: Any = _Client(
            self._address, asynchronous=True, set_as_default=False, timeout=CONNECT_SECONDS, **self._options
        )
        try:
            await client
            await client.register_plugin(KeepingPlugin())
            client.subscribe_topic(TOPIC, self._heard)
            there = await client.scheduler.raftoral_place(client=client.id)
            events = await client.get_events(TOPIC)
        except BaseException as error:
            await _closed(client)
            if not isinstance(error, Exception):
                raise
            raise UnknownExecutorError(
                f"the Dask scheduler at {self._address} cannot be used: {describe(error)}. It must run, have raftoral-nb installed, and "
                "allow plugins (distributed.scheduler.pickle)"
            ) from error
        said = {event["key"]: _said(event) for _, event in events if event.get("kind") == "progress"}
        for key in self._heard_since:
            said.pop(key, None)  # it is newer already
        self._connection = _Connection(client, there["id"], there["held"], said, there["saved"])
        return self._connection

    async def _begin(self, task: _DaskTask) -> None:
        if self._closed:
            raise ClusterError(f"step {task.key!r} cannot run: its node has stopped")
        if task.key not in self._tasks:
            self._tasks[task.key] = task
            task.runs = asyncio.get_running_loop().create_task(self._run(task))
            task.runs.add_done_callback(_looked_at)

    async def _outcome(self, key: str) -> bytes:
        task = self._tasks.get(key)
        if task is None or task.runs is None:
            raise WorkerDiedError(f"step {key!r} was cancelled on Dask")
        return await asyncio.shield(task.runs)

    async def _run(self, task: _DaskTask) -> bytes:
        """See a task through, whatever becomes of schedulers."""
        while True:
            answer = await self._ask(task)
            if answer is not None:
                task.packed = b""
                return answer
            await asyncio.sleep(AGAIN_SECONDS)

    async def _ask(self, task: _DaskTask) -> bytes | None:
        """Submit a task once, and return what came of it; None if the scheduler was lost."""
        try:
            connection = await self._connected()
        except UnknownExecutorError as error:
            if not task.submitted:
                raise
            logger.warning("%s; asked again for %r", error, task.key)
            return None
        if task.place and task.place != connection.place and task.once:
            # Whether it was begun only the scheduler knew that is gone.
            return encoded_answer(WorkAnswer(RanElsewhere(begun_before=True)))
        task.place, task.submitted = connection.place, True
        if (said := connection.said.pop(task.key, None)) is not None and task.key in self._hears:
            self._hears[task.key](said)
        if task.key in connection.saved:
            connection.saved.discard(task.key)
            self._fetch(task.key)
        elif task.latest:
            await _asked(connection.client, "raftoral_seed", key=task.key, data=task.latest)
        with _dask.annotate(**{HOLD: True}):
            future = connection.client.submit(run_on_dask, task.packed, key=task.key, pure=False)
        try:
            with connection.client.as_current():
                await _waited(future)
            if future.status == "finished":
                data: bytes = await future
                return data
            if future.status in _LOST or future.status == "pending":
                return None
            raise _failure(task.key, await future.exception())
        finally:
            future.release()

    def _heard(self, event: Any) -> None:
        """Take what a function said, wherever it runs."""
        _, message = event
        key = message.get("key", "")
        hear = self._hears.get(key)
        if hear is None:
            return
        if self._connection is None:
            self._heard_since.add(key)
        else:
            self._connection.said.pop(key, None)
        if message["kind"] == "saved":
            self._fetch(key)
        else:
            hear(_said(message))

    def _fetch(self, key: str) -> None:
        """Have what a function saved last brought here; once more, if it saves something meanwhile."""
        task = self._tasks.get(key)
        if task is None:
            return
        if task.fetching:
            task.fetch_again = True
            return
        task.fetching = True
        self._ask_soon(self._bring(task))

    async def _bring(self, task: _DaskTask) -> None:
        try:
            try:
                connection = await self._connected()
                found = await connection.client.scheduler.raftoral_saved(key=task.key)
            except (OSError, UnknownExecutorError) as error:  # it is gone: what comes next is seeded with what is here
                logger.info("a checkpoint of %r was not fetched: %s", task.key, error)
                return
            hear = self._hears.get(task.key)
            if found is None or hear is None:
                return
            number, task.latest = found
            hear.save(decoded_checkpoint(task.latest), partial(self._answer_soon, task.key, number))
        finally:
            task.fetching = False
            if task.fetch_again:
                task.fetch_again = False
                self._fetch(task.key)

    def _answer_soon(self, key: str, number: int, answer: CheckpointAnswer) -> None:
        """Answer a checkpoint. From any thread."""
        self._thread.post(self._answer, key, number, answer)

    def _answer(self, key: str, number: int, answer: CheckpointAnswer) -> None:
        connection = self._connection
        if connection is not None and key in self._tasks:
            data = encoded_checkpoint_answer(answer)
            self._ask_soon(_asked(connection.client, "raftoral_answer", key=key, number=number, data=data))

    def _listen(self, key: str, hear: Hear) -> None:
        self._hears[key] = hear

    def _cancel(self, key: str) -> None:
        self._forget([key])
        self._request("raftoral_cancel", [key])

    def _release(self, keys: Sequence[str]) -> None:
        self._forget(keys)
        if not self._to_release:
            asyncio.get_running_loop().call_later(RELEASE_SECONDS, self._release_all)
        self._to_release.extend(keys)

    def _release_all(self) -> None:
        keys, self._to_release = self._to_release, []
        if keys:
            self._request("raftoral_release", keys)

    def _forget(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._hears.pop(key, None)
            task = self._tasks.pop(key, None)
            if task is not None and task.runs is not None:
                task.runs.cancel()

    def _request(self, handler: str, keys: Sequence[str]) -> None:
        connection = self._connection
        if connection is not None:
            self._ask_soon(_asked(connection.client, handler, keys=list(keys)))

    def _ask_soon(self, asks: Coroutine[Any, Any, None]) -> None:
        asking = asyncio.get_running_loop().create_task(asks)
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)

    async def _close(self) -> None:
        self._closed = True
        for task in tuple(self._tasks.values()):
            if task.runs is not None:
                task.runs.cancel()
        self._release_all()
        if self._asking:
            await asyncio.wait(tuple(self._asking), timeout=CLOSE_SECONDS / 2)
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait((self._connecting,), timeout=CLOSE_SECONDS / 2)
        if self._connection is not None:
            await _closed(self._connection.client)


def _looked_at(task: asyncio.Task[Any]) -> None:
    """Whoever waits for a task gets what it raised; nobody may."""
    if not task.cancelled():
        task.exception()


async def _asked(client: Any, handler: str, **what: Any) -> None:
    try:
        await getattr(client.scheduler, handler)(**what)
    except Exception as error:  # it is gone, and what it kept with it; or it is told again by the next node
        logger.info("%s was not answered: %s", handler, error)


async def _waited(future: Any) -> None:
    """Wait until a future of Dask is decided, or was cancelled."""
    try:
        await _wait([future])
    except (asyncio.CancelledError, concurrent.futures.CancelledError):
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise


async def _closed(client: Any) -> None:
    with contextlib.suppress(Exception):
        await client.close(timeout=CLOSE_SECONDS / 2)
    client.status = "closed"  # or it would try again when it is collected, on a loop that is gone


def _said(event: dict[str, Any]) -> Said:
    return Said(event["kind"], event["text"], event["fraction"])


def _failure(key: str, error: BaseException) -> Exception:
    if isinstance(error, KilledWorker):
        return WorkerDiedError(
            f"the Dask workers on which step {key!r} ran died, again and again ({describe(error)}): that attempt is lost, and may have done "
            "a part of its work. With retry=Retry(...) it is tried again"
        )
    return UnknownExecutorError(
        f"Dask could not run step {key!r}: {describe(error)}. Its workers need this version of raftoral-nb, and the packages of the workflow"
    )
