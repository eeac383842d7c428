"""Any `concurrent.futures.Executor` as a `StepAdapter`: it keeps nothing, and cancels only what has not begun."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from ..errors import WorkerDiedError
from ..workflow.codec.values import describe
from . import calling
from .node_channel import NodeChannels
from .step_adapter import Keeps
from .step_work import Hear, Work


class PoolAdapter:
    """An executor of somebody else's. One that broke is made anew for the next task.

    What functions say and save comes at once if they run on the node's machine (`node_channel`). From elsewhere, what they print comes when they
    have ended, and their progress is not seen.
    """

    keeps: Keeps = "nothing"

    def __init__(self, name: str, pool: concurrent.futures.Executor, again: Callable[[], Awaitable[object]]) -> None:
        self._name = name
        self._pool = pool
        self._again = again
        """Makes another one."""
        self._futures: dict[str, concurrent.futures.Future[bytes]] = {}
        self._ways = NodeChannels(name)

    async def place(self) -> str:
        """Nothing is kept."""
        return ""

    async def submit(self, key: str, work: Work) -> None:
        """Submit a task, unless it is there."""
        if key in self._futures:
            return
        data = self._ways.lead(key, work, socket=type(self._pool) is not ThreadPoolExecutor).packed()
        try:
            future = self._pool.submit(calling.call, data)
        except concurrent.futures.BrokenExecutor:
            await self._renew()
            future = self._pool.submit(calling.call, data)
        self._futures[key] = future

    async def _renew(self) -> None:
        made = await self._again()
        if not isinstance(made, concurrent.futures.Executor):
            raise WorkerDiedError(f"executor {self._name!r} broke, and its function made no other one, but {made!r}")
        self._pool.shutdown(wait=False)
        self._pool = made

    async def outcome(self, key: str) -> bytes:
        """See `StepAdapter`."""
        try:
            return await asyncio.wrap_future(self._futures[key])
        except concurrent.futures.BrokenExecutor as error:
            raise WorkerDiedError(
                f"executor {self._name!r} broke while step {key!r} ran on it ({describe(error)}): that attempt is lost, and may have "
                "done a part of its work. The next one gets a new executor; with retry=Retry(...) this step is tried again on it"
            ) from None
        except (asyncio.CancelledError, concurrent.futures.CancelledError):
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise WorkerDiedError(f"executor {self._name!r} cancelled step {key!r}: it was shut down") from None

    def progress(self, key: str, hear: Hear) -> None:
        """See `StepAdapter`."""
        self._ways.listen(key, hear)

    def cancel(self, key: str) -> None:
        """Cancel a task that has not begun; one that has goes on, and what comes of it is dropped."""
        future = self._futures.pop(key, None)
        self._ways.forget(key)
        if future is not None:
            future.cancel()

    def release(self, keys: Sequence[str]) -> None:
        """See `StepAdapter`."""
        for key in keys:
            self._futures.pop(key, None)
            self._ways.forget(key)

    def held(self) -> Sequence[str]:
        """Nothing is kept."""
        return ()

    def close(self) -> None:
        """Shut the executor down; what runs on it goes on."""
        self._futures.clear()
        self._ways.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
