"""Ray as a `StepAdapter`: each attempt is a detached actor, which Ray finds again by its name, our key.

One thread a node. Ray's connection is one for the whole process: whoever made it first, this adapter or the notebook, it is used by all.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import ray
from ray.exceptions import RayActorError, RayError
from ray.util import list_named_actors

from ..errors import ClusterError, UnknownExecutorError, WorkerDiedError
from ..threads.loop_thread import LoopThread
from ..workflow.codec.values import describe
from .on_thread import on_thread
from .ray_task import StepActor
from .step_adapter import Keeps
from .step_work import (
    CheckpointAnswer,
    Hear,
    Work,
    decoded_checkpoint,
    decoded_said,
    encoded_checkpoint_answer,
)

logger = logging.getLogger(__name__)

NAMESPACE: Final = "raftoral-nb"
"""Where the names of our actors are."""

CLOSE_SECONDS: Final = 1.0
"""The time that letting go of Ray may take."""

MAX_CALLS: Final = 1000
"""Calls that an actor serves at a time: nodes that died may still wait there."""

_ray: Final[Any] = ray
_connecting: Final = threading.Lock()
# Invariant: adapters that use the connection that one of them made; None if none of them did.
_users: set[RayAdapter] | None = None


class _RayTask:
    """One attempt that somebody waits for here."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.runs: asyncio.Task[bytes] | None = None
        self.listens: asyncio.Task[None] | None = None


class RayAdapter:
    """The tasks of one node on Ray. See `ray_factory.ray_executor`."""

    keeps: Keeps = "running and done"

    def __init__(self, address: str, options: dict[str, Any]) -> None:
        self._address = address
        self._options = {"num_cpus": 1, **options}
        self._thread = LoopThread("ray")
        self._thread.start()
        # The rest belongs to that thread.
        self._made: Any = None
        self._tasks: dict[str, _RayTask] = {}
        self._hears: dict[str, Hear] = {}
        self._held: tuple[str, ...] = ()
        self._closed = False

    # --- see `StepAdapter`; on the node's loop

    async def place(self) -> str:
        """Connect, and return "": an actor that died leaves no trace, so none that runs at most once is asked for again."""
        await on_thread(self._thread, self._connect)
        return ""

    async def submit(self, key: str, work: Work) -> None:
        """Make an actor, or find the one of that name."""
        await on_thread(self._thread, self._begin, key, work.packed())

    async def outcome(self, key: str) -> bytes:
        """Return what came of a task. Raises `WorkerDiedError` if its actor died."""
        return await on_thread(self._thread, self._outcome, key)

    def progress(self, key: str, hear: Hear) -> None:
        """See `StepAdapter`."""
        self._thread.post(self._hears.__setitem__, key, hear)

    def cancel(self, key: str) -> None:
        """Kill the actor, and with it the function."""
        self._thread.post(self._let_go, (key,))

    def release(self, keys: Sequence[str]) -> None:
        """Kill the actors: their outcomes are recorded."""
        self._thread.post(self._let_go, tuple(keys))

    def held(self) -> Sequence[str]:
        """See `StepAdapter`."""
        return self._held

    def close(self) -> None:
        """Let go of Ray, which keeps what it has."""
        with contextlib.suppress(TimeoutError, ClusterError):
            self._thread.run(self._close, timeout=CLOSE_SECONDS)
        self._thread.stop(CLOSE_SECONDS)
        _disconnect(self)

    # --- on the thread

    async def _connect(self) -> None:
        if self._closed:
            raise ClusterError("no step can run on Ray: its node has stopped")
        if self._made is not None:
            return
        try:
            _connect(self, self._address)
            names = list_named_actors(all_namespaces=True)
        except Exception as error:  # of many kinds
            raise UnknownExecutorError(
                f"the Ray cluster at {self._address} cannot be used: {describe(error)}. It must run, and be of this version of Ray and of Python"
            ) from error
        self._held = tuple(one["name"] for one in names if one["namespace"] == NAMESPACE)
        self._made = _ray.remote(StepActor)

    async def _begin(self, key: str, packed: bytes) -> None:
        await self._connect()
        if key in self._tasks:
            return
        options = {"max_concurrency": MAX_CALLS, **self._options}
        actor = self._made.options(
            name=key, namespace=NAMESPACE, lifetime="detached", get_if_exists=True, **options
        ).remote()
        task = self._tasks[key] = _RayTask(actor)
        if key in self._hears:
            task.listens = asyncio.ensure_future(self._listen(key, task))
        task.runs = asyncio.ensure_future(self._run(task, packed))
        task.runs.add_done_callback(_looked_at)

    async def _listen(self, key: str, task: _RayTask) -> None:
        """Pass on what the function says, as it says it."""
        with contextlib.suppress(RayError):  # the actor is gone, which the outcome says
            since, saved, ended = -1, 0, False
            while not ended:
                since, said, saved, data, ended = await _awaited(task.actor.hear.remote(since, saved))
                hear = self._hears.get(key)
                if hear is None:
                    return
                for one in said:
                    hear(decoded_said(one))
                if data:
                    hear.save(decoded_checkpoint(data), partial(self._answer_soon, task, saved))

    async def _run(self, task: _RayTask, packed: bytes) -> bytes:
        """Return what came of an attempt, when everything is heard that it said before."""
        data: bytes = await _awaited(task.actor.run.remote(packed))
        if task.listens is not None:
            await asyncio.wait((task.listens,))
        return data

    def _answer_soon(self, task: _RayTask, number: int, answer: CheckpointAnswer) -> None:
        """Answer a checkpoint. From any thread."""
        self._thread.post(self._answer, task, number, answer)

    def _answer(self, task: _RayTask, number: int, answer: CheckpointAnswer) -> None:
        with contextlib.suppress(RayError):
            task.actor.answer.remote(number, encoded_checkpoint_answer(answer))

    async def _outcome(self, key: str) -> bytes:
        task = self._tasks.get(key)
        if task is None or task.runs is None:
            raise WorkerDiedError(f"step {key!r} was cancelled on Ray")
        try:
            return await asyncio.shield(task.runs)
        except RayActorError as error:
            raise WorkerDiedError(
                f"the Ray worker on which step {key!r} ran died ({describe(error).splitlines()[0]}): that attempt is lost, and may have done a part of "
                "its work. With retry=Retry(...) it is tried again"
            ) from None
        except RayError as error:
            raise UnknownExecutorError(
                f"Ray could not run step {key!r}: {describe(error)}. Its workers need this version of raftoral-nb, and the packages of the workflow"
            ) from None

    def _let_go(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._hears.pop(key, None)
            task = self._tasks.pop(key, None)
            if task is not None and task.listens is not None:
                task.listens.cancel()
            try:
                actor = task.actor if task is not None else _ray.get_actor(key, namespace=NAMESPACE)
                _ray.kill(actor)
            except (ValueError, RayError) as error:  # it is not there any more
                logger.info("the actor of %r was not ended: %s", key, describe(error))

    async def _close(self) -> None:
        self._closed = True
        for task in self._tasks.values():
            for one in (task.listens, task.runs):
                if one is not None:
                    one.cancel()


async def _awaited(asked: Any) -> Any:
    return await asyncio.wrap_future(asked.future())


def _looked_at(task: asyncio.Task[bytes]) -> None:
    """Whoever waits for a task gets what it raised; nobody may."""
    if not task.cancelled():
        task.exception()


def _connect(adapter: RayAdapter, address: str) -> None:
    """Connect this process to Ray, unless it is."""
    global _users
    with _connecting:
        if not _ray.is_initialized():
            _ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False)
            _users = set()
        if _users is not None:
            _users.add(adapter)


def _disconnect(adapter: RayAdapter) -> None:
    """End the connection of this process, if adapters made it and this is the last one."""
    global _users
    with _connecting:
        if _users is not None and adapter in _users:
            _users.discard(adapter)
            if not _users:
                _users = None
                _ray.shutdown()
