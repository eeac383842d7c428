"""What runs in a Dask scheduler: it keeps tasks that somebody asked it to, whoever's connection ends, and knows which were begun.

A task of Dask lives for as long as a client wants it, and a client's wishes end with its connection. Here a client that has no
connection wants it too, from the very turn of the scheduler in which it is made: there is no moment in which it could be lost.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

from distributed.diagnostics.plugin import SchedulerPlugin

HOLD: Final = "raftoral_hold"
"""The annotation of tasks to be kept."""

KEEPER: Final = "raftoral"
"""The name of the client without a connection."""

MAX_BEGUN: Final = 100_000
"""Tasks that run at most once, of which it is remembered that they were begun; the oldest are forgotten first."""


class KeepingPlugin(SchedulerPlugin):
    """Keeps annotated tasks until they are released. One for each scheduler, whoever registers it."""

    name = "raftoral-nb-1"
    idempotent = True

    def __init__(self) -> None:
        self._scheduler: Any = None
        self._begun: dict[str, None] = {}

    async def start(self, scheduler: Any) -> None:
        """Add what clients and workers may ask."""
        self._scheduler = scheduler
        scheduler.handlers.update(
            raftoral_place=self.place,
            raftoral_release=self.release,
            raftoral_cancel=self.cancel,
            raftoral_begin=self.begin,
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

    async def place(self) -> dict[str, Any]:
        """Return which scheduler this is, and the keys of all tasks that it keeps."""
        keeper = self._scheduler.clients.get(KEEPER)
        return {
            "id": self._scheduler.id,
            "held": [] if keeper is None else [task.key for task in keeper.wants_what if isinstance(task.key, str)],
        }

    async def release(self, keys: Collection[str]) -> None:
        """Keep tasks no longer."""
        kept = self._kept(keys)
        if kept:
            self._scheduler.client_releases_keys(kept, KEEPER)

    async def cancel(self, keys: Collection[str]) -> None:
        """Forget tasks for everybody. A function that runs is not interrupted, and what comes of it is dropped."""
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
