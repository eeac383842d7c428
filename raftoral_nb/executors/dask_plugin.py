"""What runs in a Dask scheduler: it keeps tasks that somebody asked it to, whoever's connection ends, and knows which were begun.

A task of Dask lives for as long as a client wants it, and a client's wishes end with its connection. Here a client that has no
connection wants it too, from the very turn of the scheduler in which it is made: there is no moment in which it could be lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from typing import Any, Final

from distributed.diagnostics.plugin import SchedulerPlugin

HOLD: Final = "raftoral_hold"
"""The annotation of tasks to be kept."""

KEEPER: Final = "raftoral"
"""The name of the client without a connection."""

TOPIC: Final = "raftoral-nb"
"""The topic of Dask's events under which functions say how far they are, what they print, and that they saved something."""

MAX_BEGUN: Final = 100_000
"""Tasks that run at most once, of which it is remembered that they were begun; the oldest are forgotten first."""


class KeepingPlugin(SchedulerPlugin):
    """Keeps annotated tasks until they are released. One for each scheduler, whoever registers it."""

    name = "raftoral-nb-2"
    idempotent = True

    def __init__(self) -> None:
        self._scheduler: Any = None
        self._begun: dict[str, None] = {}
        # Invariant: by task that is kept, or about to be, the checkpoint that its function saved last.
        self._saved: dict[str, tuple[int, bytes]] = {}
        # Invariant: by task that is kept, the number of the checkpoint that its node answered last, and the answer.
        self._answered: dict[str, tuple[int, bytes]] = {}
        # Invariant: by task that is kept, the functions that wait for a checkpoint to be recorded.
        self._waiting: dict[str, list[tuple[int, asyncio.Future[bytes]]]] = {}

    async def start(self, scheduler: Any) -> None:
        """Add what clients and workers may ask."""
        self._scheduler = scheduler
        scheduler.handlers.update(
            raftoral_place=self.place,
            raftoral_release=self.release,
            raftoral_cancel=self.cancel,
            raftoral_begin=self.begin,
            raftoral_save=self.save,
            raftoral_saved=self.saved,
            raftoral_seed=self.seed,
            raftoral_recorded=self.recorded,
            raftoral_answer=self.answer,
        )

    def update_graph(self, scheduler: Any, *, keys: Collection[Any], annotations: Any, **_: Any) -> None:
        """Want the new tasks that are to be kept."""
        kept = [key for key in annotations.get(HOLD, {}) if key in keys]
        if kept:
            scheduler.client_desires_keys(kept, KEEPER)

    def _kept(self, keys: Iterable[str]) -> list[str]:
        keeper = self._scheduler.clients.get(KEEPER)
        tasks = self._scheduler.tasks
        return [] if keeper is None else [key for key in keys if key in tasks and tasks[key] in keeper.wants_what]

    async def place(self, client: str = "") -> dict[str, Any]:
        """Return which scheduler this is, and the keys of all tasks that it keeps. From now on that client hears what functions say."""
        if client:  # its own subscription goes another way, and may come later than what it asks for next
            self._scheduler.subscribe_topic(TOPIC, client)
        keeper = self._scheduler.clients.get(KEEPER)
        return {
            "id": self._scheduler.id,
            "held": [] if keeper is None else [task.key for task in keeper.wants_what if isinstance(task.key, str)],
            "saved": list(self._saved),
        }

    async def release(self, keys: Collection[str]) -> None:
        """Keep tasks no longer."""
        self._forget(keys)
        kept = self._kept(keys)
        if kept:
            self._scheduler.client_releases_keys(kept, KEEPER)

    async def cancel(self, keys: Collection[str]) -> None:
        """Forget tasks for everybody. A function that runs is not interrupted, and what comes of it is dropped."""
        self._forget(keys)
        kept = self._kept(keys)
        if kept:
            self._scheduler.stimulus_cancel(
                kept, client=KEEPER, force=True, reason="raftoral-nb", msg="the step was given up"
            )

    async def begin(self, key: str) -> bool:
        """Return whether a task that runs at most once may begin: it never did."""
        if key in self._begun:
            return False
        while len(self._begun) >= MAX_BEGUN:
            del self._begun[next(iter(self._begun))]
        self._begun[key] = None
        return True

    # --- checkpoints: the latest of each task, for its node, and for a worker that begins it again

    async def save(self, key: str, data: bytes) -> int:
        """Keep what a function saved, and tell its node. Return its number; 0 if nobody waits for that task any more."""
        if not self._kept([key]):
            return 0
        number = self._saved.get(key, (0, b""))[0] + 1
        self._saved[key] = number, data
        self._scheduler.log_event(TOPIC, {"key": key, "kind": "saved"})
        return number

    async def saved(self, key: str) -> tuple[int, bytes] | None:
        """Return what a function saved last, with its number."""
        return self._saved.get(key)

    async def seed(self, key: str, data: bytes) -> None:
        """Take in what a function saved last, before its task is made: the scheduler that had it is gone."""
        self._saved.setdefault(key, (1, data))

    async def recorded(self, key: str, number: int) -> bytes:
        """Return what the node answers to a checkpoint, or a later one, when it does; b"" if it never will."""
        if not self._kept([key]):
            return b""
        known, data = self._answered.get(key, (0, b""))
        if known >= number:
            return data
        waits: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append((number, waits))
        return await waits

    async def answer(self, key: str, number: int, data: bytes) -> None:
        """Tell those who wait for a checkpoint what became of it."""
        if not self._kept([key]):
            return
        self._answered[key] = number, data
        left = []
        for waited, waits in self._waiting.pop(key, ()):
            if waited > number:
                left.append((waited, waits))
            elif not waits.done():
                waits.set_result(data)
        if left:
            self._waiting[key] = left

    def _forget(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._saved.pop(key, None)
            self._answered.pop(key, None)
            for _, waits in self._waiting.pop(key, ()):
                if not waits.done():
                    waits.set_result(b"")
